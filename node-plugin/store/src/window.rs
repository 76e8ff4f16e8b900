//! A window over a segment: its records in the order of their places, without the whole file in memory.

use holdfast_log::bytes::round_up;
use holdfast_log::seam::ReplicaError;
use holdfast_ports::{AlignedBuffer, File};

use crate::failure::disk_error;

/// What one read fetches: long enough that a disk is at its full rate.
const WINDOW_BYTES: usize = 1 << 20;

/// The bytes of a file around the place that was looked at last. The memory is kept for the next file.
#[derive(Default)]
pub(crate) struct Window {
    bytes: AlignedBuffer,
    start: usize,
}

impl Window {
    /// Looks at another file.
    pub fn reset(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// The record of `length` bytes at `offset`; `None` where the file ends before it does. Whole sectors are read, on
    /// from the one that the record starts in.
    pub fn record(
        &mut self,
        file: &dyn File,
        sector: usize,
        offset: usize,
        length: usize,
    ) -> Result<Option<&[u8]>, ReplicaError> {
        if offset < self.start || offset + length > self.start + self.bytes.len() {
            self.start = offset / sector * sector;
            let rest = (file.len().map_err(disk_error)? as usize / sector * sector).saturating_sub(self.start);
            let needed = round_up(offset + length - self.start, sector);
            self.bytes.resize(needed.max(WINDOW_BYTES).min(rest), 0);
            file.read_at(self.start as u64, &mut self.bytes).map_err(disk_error)?;
        }
        let from = offset - self.start;
        Ok(self.bytes.get(from..from + length))
    }
}

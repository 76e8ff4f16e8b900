//! The RAM disk of the CPU-bound rows, with its memory touched beforehand.
//!
//! Memory that a process never used costs a page fault for each 4 KiB, on many machines more than to seal them. A real disk
//! has no such cost, so the disk is made to hold its memory before the clock starts.

use std::sync::Arc;

use holdfast_disk::{AlignedBuffer, Disk, MemoryDisk};

use crate::Outcome;

/// What a [`MemoryDisk`] keeps of removed files for new ones. A timed run that writes more pays for page faults.
pub const WARM_BYTES: u64 = 256 << 20;

const WRITE_BYTES: usize = 1 << 20;

/// A warm disk.
pub struct RamDisk(MemoryDisk);

impl RamDisk {
    /// A disk whose memory was touched.
    pub fn new() -> Outcome<Self> {
        let disk = Self(MemoryDisk::new());
        disk.write_file("warm")?;
        disk.clear()?;
        Ok(disk)
    }

    /// As the port.
    pub fn handle(&self) -> Arc<dyn Disk> {
        self.0.handle()
    }

    /// Removes every file; their memory stays.
    pub fn clear(&self) -> Outcome<()> {
        for name in self.0.list()? {
            self.0.remove(&name)?;
        }
        Ok(())
    }

    /// Writes one file through the port, and gives its bytes.
    pub fn write_file(&self, name: &str) -> Outcome<u64> {
        let bytes = AlignedBuffer::with_len(WRITE_BYTES);
        let file = self.0.create(name)?;
        for piece in 0..WARM_BYTES / WRITE_BYTES as u64 {
            file.write_at(piece * WRITE_BYTES as u64, &bytes)?;
        }
        Ok(WARM_BYTES)
    }
}

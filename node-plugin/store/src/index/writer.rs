//! Pages on their way to an index file: one behind the other, each from a sector of its own.

use std::sync::Arc;

use holdfast_log::bytes::round_up;
use holdfast_log::node::PageRef;
use holdfast_ports::{AlignedBuffer, Disk, DiskError, File};

use super::pages::file_name;

/// Bytes that are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// The end of a file that only this process has written to, and that nobody else appends to.
#[derive(Clone)]
pub struct Tail {
    pub number: u32,
    pub file: Arc<dyn File>,
    pub end: u64,
}

/// Appends pages to one file.
pub struct PageWriter {
    tail: Tail,
    sector: usize,
    /// Where the file ended when the writer began.
    began: u64,
    fresh: bool,
    buffer: AlignedBuffer,
}

impl PageWriter {
    /// Goes on behind the last page of a file.
    pub fn append(disk: &dyn Disk, tail: Tail) -> Self {
        Self { began: tail.end, tail, sector: disk.sector_bytes(), fresh: false, buffer: AlignedBuffer::new() }
    }

    /// Begins a file.
    pub fn create(disk: &dyn Disk, number: u32) -> Result<Self, DiskError> {
        let file = disk.create(&file_name(number))?;
        let tail = Tail { number, file, end: 0 };
        Ok(Self { tail, sector: disk.sector_bytes(), began: 0, fresh: true, buffer: AlignedBuffer::new() })
    }

    /// The file's number.
    pub const fn number(&self) -> u32 {
        self.tail.number
    }

    /// Appends a page.
    pub fn put(&mut self, page: &[u8]) -> Result<PageRef, DiskError> {
        if self.buffer.len() + page.len() > BUFFER_BYTES {
            self.flush()?;
        }
        let offset = self.tail.end + self.buffer.len() as u64;
        self.buffer.extend_from_slice(page);
        let padded = round_up(self.buffer.len(), self.sector);
        self.buffer.resize(padded, 0);
        Ok(PageRef { file: self.tail.number, offset, bytes: page.len() as u32 })
    }

    fn flush(&mut self) -> Result<(), DiskError> {
        if !self.buffer.is_empty() {
            self.tail.file.write_at(self.tail.end, &self.buffer)?;
            self.tail.end += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Makes everything durable, the file's name included. Answers where the file ends.
    pub fn finish(&mut self, disk: &dyn Disk) -> Result<Tail, DiskError> {
        self.flush()?;
        self.tail.file.sync()?;
        if self.fresh {
            disk.sync_names()?;
        }
        Ok(self.tail.clone())
    }

    /// Gives back the room of pages that nobody will refer to. What fails here is swept up with unused files.
    pub fn discard(self, disk: &dyn Disk) {
        let _ = if self.fresh { disk.remove(&file_name(self.tail.number)) } else { self.tail.file.set_len(self.began) };
    }

    /// Memory that the buffer takes at most.
    pub const fn memory_bytes() -> usize {
        BUFFER_BYTES
    }
}

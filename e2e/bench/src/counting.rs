//! A disk that counts what passes through it: what the engine says of its own writes is checked against this.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_disk::{Disk, DiskError, File};

/// What passed.
#[derive(Debug, Default)]
pub struct Counts {
    /// Bytes of writes.
    pub written_bytes: AtomicU64,
    /// Reads.
    pub reads: AtomicU64,
}

impl Counts {
    /// Bytes of writes so far.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}

/// The disk below, counted.
pub struct CountingDisk {
    below: Arc<dyn Disk>,
    counts: Arc<Counts>,
}

impl CountingDisk {
    /// Counts what goes to `below`.
    pub fn over(below: Arc<dyn Disk>) -> (Arc<dyn Disk>, Arc<Counts>) {
        let counts = Arc::new(Counts::default());
        (Arc::new(Self { below, counts: Arc::clone(&counts) }), counts)
    }

    fn file(&self, below: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(CountingFile { below, counts: Arc::clone(&self.counts) })
    }
}

impl Disk for CountingDisk {
    fn open(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        self.below.open(name).map(|file| self.file(file))
    }
    fn create(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        self.below.create(name).map(|file| self.file(file))
    }
    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.below.remove(name)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.below.rename(from, to)
    }
    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.below.list()
    }
    fn sync_names(&self) -> Result<(), DiskError> {
        self.below.sync_names()
    }
    fn free_bytes(&self) -> Result<u64, DiskError> {
        self.below.free_bytes()
    }
    fn sector_bytes(&self) -> usize {
        self.below.sector_bytes()
    }
}

struct CountingFile {
    below: Arc<dyn File>,
    counts: Arc<Counts>,
}

impl File for CountingFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.counts.reads.fetch_add(1, Ordering::Relaxed);
        self.below.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.counts.written_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.below.write_at(offset, bytes)
    }
    fn len(&self) -> Result<u64, DiskError> {
        self.below.len()
    }
    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.below.set_len(len)
    }
    fn allocate(&self, len: u64) -> Result<(), DiskError> {
        self.below.allocate(len)
    }
    fn punch(&self, offset: u64, len: u64) -> Result<(), DiskError> {
        self.below.punch(offset, len)
    }
    fn sync(&self) -> Result<(), DiskError> {
        self.below.sync()
    }
}

//! A process, as a disk sees it: when it is killed, nothing that it still tries takes effect, not even what it does while
//! it is being dropped. What the machine holds for it, un-synced, stays until the machine loses its power.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_disk::{Disk, DiskError, DiskOperation, File};

/// The life of a process. Clones are the same process.
#[derive(Clone, Default)]
pub struct Process {
    killed: Arc<AtomicBool>,
}

impl Process {
    /// Kills it.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::Relaxed);
    }

    /// The disk as this process sees it.
    #[must_use]
    pub fn disk(&self, inner: Arc<dyn Disk>) -> Arc<dyn Disk> {
        Arc::new(Seen { inner, process: self.clone() })
    }

    fn alive(&self, operation: DiskOperation, file: &str) -> Result<(), DiskError> {
        if !self.killed.load(Ordering::Relaxed) {
            return Ok(());
        }
        Err(DiskError {
            operation,
            file: file.to_owned(),
            offset: None,
            kind: ErrorKind::Interrupted,
            detail: "the process was killed".to_owned(),
        })
    }
}

struct Seen {
    inner: Arc<dyn Disk>,
    process: Process,
}

struct SeenFile {
    inner: Arc<dyn File>,
    process: Process,
    name: String,
}

impl Seen {
    fn file(&self, name: &str, inner: Arc<dyn File>) -> Arc<dyn File> {
        Arc::new(SeenFile { inner, process: self.process.clone(), name: name.to_owned() })
    }
}

impl Disk for Seen {
    fn open(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        self.process.alive(DiskOperation::Open, name)?;
        Ok(self.file(name, self.inner.open(name)?))
    }
    fn create(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        self.process.alive(DiskOperation::Create, name)?;
        Ok(self.file(name, self.inner.create(name)?))
    }
    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.process.alive(DiskOperation::Remove, name)?;
        self.inner.remove(name)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.process.alive(DiskOperation::Rename, from)?;
        self.inner.rename(from, to)
    }
    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.process.alive(DiskOperation::List, "")?;
        self.inner.list()
    }
    fn sync_names(&self) -> Result<(), DiskError> {
        self.process.alive(DiskOperation::SyncNames, "")?;
        self.inner.sync_names()
    }
    fn free_bytes(&self) -> Result<u64, DiskError> {
        self.process.alive(DiskOperation::FreeBytes, "")?;
        self.inner.free_bytes()
    }
    fn sector_bytes(&self) -> usize {
        self.inner.sector_bytes()
    }
}

impl File for SeenFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.process.alive(DiskOperation::Read, &self.name)?;
        self.inner.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.process.alive(DiskOperation::Write, &self.name)?;
        self.inner.write_at(offset, bytes)
    }
    fn len(&self) -> Result<u64, DiskError> {
        self.process.alive(DiskOperation::Length, &self.name)?;
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.process.alive(DiskOperation::SetLength, &self.name)?;
        self.inner.set_len(len)
    }
    fn allocate(&self, len: u64) -> Result<(), DiskError> {
        self.process.alive(DiskOperation::Allocate, &self.name)?;
        self.inner.allocate(len)
    }
    fn punch(&self, offset: u64, len: u64) -> Result<(), DiskError> {
        self.process.alive(DiskOperation::Punch, &self.name)?;
        self.inner.punch(offset, len)
    }
    fn sync(&self) -> Result<(), DiskError> {
        self.process.alive(DiskOperation::Sync, &self.name)?;
        self.inner.sync()
    }
}

//! The compaction copy: everything into a new file under a new key, read back and compared, and only then renamed.
//!
//! A crash at any step leaves one whole store: the old file until the rename is durable, the new one from then on. What
//! lay in the freed pages of the old file goes with it.

use std::sync::Arc;

use holdfast_seal::StorageKey;

use crate::database::OpenFile;
use crate::error::StoreError;
use crate::fault::Fault;
use crate::store::{BESIDE_FILE, CONTROL_FILE, ControlStore, close, remove_beside};
use crate::transaction::sealed::Sealed;
use crate::transaction::{META, ReadTransaction};

/// What a compaction did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactReport {
    /// Records that were copied.
    pub records: u64,
    /// Pages before.
    pub pages_before: u64,
    /// Pages after.
    pub pages_after: u64,
}

const BATCH: usize = 256;

impl ControlStore {
    /// Copies, verifies and swaps. Writers wait; readers that have begun go on with the old file. `key` must be the key
    /// that the store was opened with.
    pub fn compact_to_copy(&self, key: &StorageKey) -> Result<CompactReport, StoreError> {
        let _writing = self.writing.lock();
        let old = self.current();
        old.usable()?;
        let (records, new) = match self.copied(&old, key) {
            Ok(copied) => copied,
            Err(error) => {
                // What is left of it goes at the next opening if it does not go now.
                let _ = remove_beside(&*self.disk);
                return Err(old.explain(error));
            }
        };
        let report = CompactReport { records, pages_before: old.paged.pages(), pages_after: new.paged.pages() };
        let stopped = |error: holdfast_ports::DiskError| {
            // Which of the two files has the name, nobody knows: the next opening finds out.
            old.paged.note(&Fault::Disk(error.clone()));
            new.paged.note(&Fault::Disk(error.clone()));
            StoreError::from(error)
        };
        self.disk.rename(BESIDE_FILE, CONTROL_FILE).map_err(stopped)?;
        let synced = self.disk.sync_names().map_err(stopped);
        *self.file.write() = Arc::new(new);
        *self.cursor.lock() = Default::default();
        synced.map(|()| report)
    }

    /// The copy, closed, opened again and compared.
    fn copied(&self, old: &OpenFile, key: &StorageKey) -> Result<(u64, OpenFile), StoreError> {
        remove_beside(&*self.disk)?;
        let cache_bytes = self.options.cache_bytes;
        let new = OpenFile::create(&*self.disk, &self.random, BESIDE_FILE, key, cache_bytes)?;
        let read = old.begin_read()?;
        let filled = fill(&new, &read);
        filled.map_err(|error| new.explain(error))?;
        close(new)?;
        let new = OpenFile::open(&*self.disk, &self.random, BESIDE_FILE, key, cache_bytes)?;
        let records = compare(&new, &read).map_err(|error| new.explain(error))?;
        Ok((records, new))
    }
}

fn fill(new: &OpenFile, read: &ReadTransaction) -> Result<(), StoreError> {
    let mut write = new.begin_write(read.revision)?;
    for (name, value) in meta(read)? {
        write.set_meta(&name, &value)?;
    }
    let mut start = Vec::new();
    loop {
        let entries = read.scan(&start, &[], BATCH)?;
        for (name, envelope) in &entries {
            write.insert(name, envelope)?;
        }
        match entries.last() {
            Some((name, _)) => start = [name.as_slice(), &[0]].concat(),
            None => break,
        }
    }
    new.commit(write)
}

/// How many records both have, when they have the same.
fn compare(new: &OpenFile, read: &ReadTransaction) -> Result<u64, StoreError> {
    let differs =
        || StoreError::Engine("the compaction's copy differs from its original; the original stays".to_owned());
    let copy = new.begin_read()?;
    if meta(&copy)? != meta(read)? {
        return Err(differs());
    }
    let (mut start, mut records) = (Vec::new(), 0);
    loop {
        let entries = read.scan(&start, &[], BATCH)?;
        if copy.scan(&start, &[], BATCH)? != entries {
            return Err(differs());
        }
        records += entries.len() as u64;
        match entries.last() {
            Some((name, _)) => start = [name.as_slice(), &[0]].concat(),
            None => return Ok(records),
        }
    }
}

fn meta(read: &ReadTransaction) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    use redb::ReadableTable;
    let mut all = Vec::new();
    for entry in read.inner.open_table(META)?.iter()? {
        let (name, value) = entry?;
        all.push((name.value().to_owned(), value.value().to_vec()));
    }
    Ok(all)
}

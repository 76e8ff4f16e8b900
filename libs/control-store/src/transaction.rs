//! Transactions: all or nothing over every repository, and readers that see one commit and no other.

use std::fmt;

use redb::{ReadableTable, Table, TableDefinition};

use crate::error::StoreError;
use crate::record::Revision;

/// Every record: `kind ‖ 0 ‖ key` to its envelope.
pub(crate) const RECORDS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("records");
/// What the store says of itself.
pub(crate) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

/// One entry of the table of records.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

/// What can be read from: a transaction of either sort. Only this crate has any.
pub trait View: sealed::Sealed {}

pub(crate) mod sealed {
    use super::{Entry, StoreError};

    pub trait Sealed {
        fn get(&self, name: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;
        /// Entries from `start` on whose names begin with `prefix`, at most `limit`.
        fn scan(&self, start: &[u8], prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError>;
    }
}

/// One commit, for reading.
pub struct ReadTransaction {
    pub(crate) inner: redb::ReadTransaction,
    pub(crate) revision: Revision,
}

/// A commit in the making. It reads what it wrote.
pub struct WriteTransaction {
    pub(crate) inner: redb::WriteTransaction,
    pub(crate) revision: Revision,
    pub(crate) has_changed: bool,
}

impl ReadTransaction {
    /// The commit that is read.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }
}

impl WriteTransaction {
    /// The revision that this will be if it is committed.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn insert(&mut self, name: &[u8], envelope: &[u8]) -> Result<(), StoreError> {
        self.inner.open_table(RECORDS)?.insert(name, envelope)?;
        self.has_changed = true;
        Ok(())
    }

    pub(crate) fn remove(&mut self, name: &[u8]) -> Result<bool, StoreError> {
        let was_there = self.inner.open_table(RECORDS)?.remove(name)?.is_some();
        self.has_changed |= was_there;
        Ok(was_there)
    }

    pub(crate) fn set_meta(&mut self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.inner.open_table(META)?.insert(name, value)?;
        self.has_changed = true;
        Ok(())
    }
}

fn get(table: &impl ReadableTable<&'static [u8], &'static [u8]>, name: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(table.get(name)?.map(|found| found.value().to_vec()))
}

fn scan(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
    start: &[u8],
    prefix: &[u8],
    limit: usize,
) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    for entry in table.range::<&[u8]>(start..)? {
        let (name, envelope) = entry?;
        if entries.len() == limit || !name.value().starts_with(prefix) {
            break;
        }
        entries.push((name.value().to_vec(), envelope.value().to_vec()));
    }
    Ok(entries)
}

impl sealed::Sealed for ReadTransaction {
    fn get(&self, name: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        get(&self.inner.open_table(RECORDS)?, name)
    }

    fn scan(&self, start: &[u8], prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError> {
        scan(&self.inner.open_table(RECORDS)?, start, prefix, limit)
    }
}

impl sealed::Sealed for WriteTransaction {
    fn get(&self, name: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let table: Table<'_, &[u8], &[u8]> = self.inner.open_table(RECORDS)?;
        get(&table, name)
    }

    fn scan(&self, start: &[u8], prefix: &[u8], limit: usize) -> Result<Vec<Entry>, StoreError> {
        let table: Table<'_, &[u8], &[u8]> = self.inner.open_table(RECORDS)?;
        scan(&table, start, prefix, limit)
    }
}

impl View for ReadTransaction {}
impl View for WriteTransaction {}

impl fmt::Debug for ReadTransaction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ReadTransaction(revision {})", self.revision)
    }
}

impl fmt::Debug for WriteTransaction {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "WriteTransaction(revision {})", self.revision)
    }
}

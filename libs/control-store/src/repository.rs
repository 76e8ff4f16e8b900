//! All records of one type.

use std::fmt;
use std::marker::PhantomData;

use crate::error::{Problem, StoreError};
use crate::record::{Record, Revision, Stored, decode, encode, revision_of, split_table_key, table_key, wrong};
use crate::transaction::{View, WriteTransaction};

/// The records of type `T`. It holds nothing: make one wherever it is needed.
pub struct Repository<T>(PhantomData<fn() -> T>);

impl<T: Record> Repository<T> {
    /// The repository of `T`.
    #[must_use]
    pub const fn new() -> Self {
        Self(PhantomData)
    }

    /// A record, if there is one.
    pub fn get(&self, view: &impl View, key: &str) -> Result<Option<Stored<T>>, StoreError> {
        view.get(&table_key(T::KIND, key)?)?.map(|envelope| decode(key, &envelope)).transpose()
    }

    /// Writes a record, whatever was there.
    pub fn put(&self, transaction: &mut WriteTransaction, key: &str, value: &T) -> Result<Revision, StoreError> {
        let name = table_key(T::KIND, key)?;
        let revision = transaction.revision();
        transaction.insert(&name, &encode(key, value, revision)?)?;
        Ok(revision)
    }

    /// Writes a record if it is still at the revision that was read; `None` stands for "there is none".
    pub fn compare_and_set(
        &self,
        transaction: &mut WriteTransaction,
        key: &str,
        expected: Option<Revision>,
        value: &T,
    ) -> Result<Revision, StoreError> {
        self.expect(transaction, key, expected)?;
        self.put(transaction, key, value)
    }

    /// Removes a record, whatever it was; whether there was one.
    pub fn remove(&self, transaction: &mut WriteTransaction, key: &str) -> Result<bool, StoreError> {
        transaction.remove(&table_key(T::KIND, key)?)
    }

    /// Removes a record if it is still at the revision that was read.
    pub fn compare_and_remove(
        &self,
        transaction: &mut WriteTransaction,
        key: &str,
        expected: Revision,
    ) -> Result<(), StoreError> {
        self.expect(transaction, key, Some(expected))?;
        self.remove(transaction, key).map(|_| ())
    }

    /// Records whose keys begin with `prefix`, in the order of their keys' bytes, at most `limit`; those behind `after`
    /// if it is given. Ask again with the last key for more.
    pub fn list(
        &self,
        view: &impl View,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Stored<T>)>, StoreError> {
        let within = [T::KIND.as_bytes(), &[0], prefix.as_bytes()].concat();
        let start = match after {
            // The next name in the order of bytes is the same with a zero behind it.
            Some(after) => [T::KIND.as_bytes(), &[0], after.as_bytes(), &[0]].concat().max(within.clone()),
            None => within.clone(),
        };
        let mut records = Vec::new();
        for (name, envelope) in view.scan(&start, &within, limit)? {
            let unreadable = || wrong(T::KIND, "", Problem::Unreadable { what: "key", column: 0 });
            let (_, key) = split_table_key(&name).ok_or_else(unreadable)?;
            records.push((key.to_owned(), decode(key, &envelope)?));
        }
        Ok(records)
    }

    fn expect(&self, view: &impl View, key: &str, expected: Option<Revision>) -> Result<(), StoreError> {
        let found = view.get(&table_key(T::KIND, key)?)?;
        let found = found.map(|envelope| revision_of(T::KIND, key, &envelope)).transpose()?;
        match found == expected {
            true => Ok(()),
            false => Err(wrong(T::KIND, key, Problem::Conflict { expected, found })),
        }
    }
}

impl<T: Record> Default for Repository<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Record> fmt::Debug for Repository<T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Repository({})", T::KIND)
    }
}

//! A typed record: JSON in an envelope. What a record may be is said once, by its type, and checked on both ways.
//!
//! ```text
//! 0..4   version of the record's type, little-endian
//! 4..12  revision of the commit that wrote it, little-endian
//! 12..   JSON
//! ```
//!
//! JSON, because a record outlives the type that wrote it: migrations work on named fields, and records are few and
//! small. A type that gains a field gets a higher version, so that an older release refuses the record and does not drop
//! what it does not know.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::error::{Problem, StoreError};

/// The longest key.
pub const KEY_BYTES_MAX: usize = 512;
/// The longest record as JSON.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

const HEAD_BYTES: usize = 12;

/// Counts the commits of a store. A record has that of the commit that wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A rule of a record that it breaks. The text is shown to people: it names the rule, never the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its field {field} {rule}")]
pub struct Invalid {
    /// The field.
    pub field: &'static str,
    /// What must hold: "must not be empty".
    pub rule: &'static str,
}

/// What can be stored.
pub trait Record: Serialize + DeserializeOwned {
    /// The kind's name, for ever: lower-case letters, digits and hyphens.
    const KIND: &'static str;
    /// The version of the type, from 1; higher with every change of what is stored.
    const VERSION: u32;

    /// The record's own rules. Asked before each write and after each read.
    fn validate(&self) -> Result<(), Invalid>;

    /// Turns what an older version stored into what this one reads.
    fn migrate(from: u32, stored: Value) -> Result<Value, Invalid> {
        let _ = (from, stored);
        Err(Invalid { field: "version", rule: "is older than what this release migrates; use a release in between" })
    }
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored<T> {
    /// The commit that wrote it: what [`crate::Repository::compare_and_set`] compares.
    pub revision: Revision,
    /// The record.
    pub value: T,
}

/// The name under which a record lies in the table.
pub(crate) fn table_key(kind: &str, key: &str) -> Result<Vec<u8>, StoreError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(wrong(kind, key, Problem::Key(key.len())));
    }
    Ok([kind.as_bytes(), &[0], key.as_bytes()].concat())
}

/// Kind and key of such a name.
pub(crate) fn split_table_key(name: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(name).ok()?.split_once('\0')
}

pub(crate) fn wrong(kind: &str, key: &str, problem: Problem) -> StoreError {
    // A key that is too long is not repeated in full.
    let key = key.chars().take(KEY_BYTES_MAX).collect();
    StoreError::Record { kind: kind.to_owned(), key, problem }
}

/// The revision in an envelope.
pub(crate) fn revision_of(kind: &str, key: &str, envelope: &[u8]) -> Result<Revision, StoreError> {
    head(envelope).map(|(_, revision)| revision).map_err(|problem| wrong(kind, key, problem))
}

fn head(envelope: &[u8]) -> Result<(u32, Revision), Problem> {
    let short = Problem::Unreadable { what: "envelope", column: 0 };
    let (head, _) = envelope.split_first_chunk::<HEAD_BYTES>().ok_or(short)?;
    let version = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
    let mut revision = [0; 8];
    revision.copy_from_slice(&head[4..]);
    Ok((version, Revision(u64::from_le_bytes(revision))))
}

pub(crate) fn encode<T: Record>(key: &str, value: &T, revision: Revision) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let refused = |problem| wrong(T::KIND, key, problem);
    value.validate().map_err(|invalid| refused(invalid.into()))?;
    let mut envelope = Zeroizing::new([&T::VERSION.to_le_bytes()[..], &revision.0.to_le_bytes()].concat());
    serde_json::to_writer(&mut *envelope, value).map_err(|_| refused(Problem::Unwritable))?;
    match envelope.len() - HEAD_BYTES {
        length if length > RECORD_BYTES_MAX => Err(refused(Problem::TooLong(length))),
        _ => Ok(envelope),
    }
}

pub(crate) fn decode<T: Record>(key: &str, envelope: &[u8]) -> Result<Stored<T>, StoreError> {
    decoded(envelope).map_err(|problem| wrong(T::KIND, key, problem))
}

fn decoded<T: Record>(envelope: &[u8]) -> Result<Stored<T>, Problem> {
    let (version, revision) = head(envelope)?;
    if version > T::VERSION {
        return Err(Problem::Newer { found: version, known: T::VERSION });
    }
    let json = &envelope[HEAD_BYTES..];
    let value: T = if version == T::VERSION {
        serde_json::from_slice(json).map_err(unreadable)?
    } else {
        let stored = serde_json::from_slice(json).map_err(unreadable)?;
        serde_json::from_value(T::migrate(version, stored)?).map_err(unreadable)?
    };
    value.validate()?;
    Ok(Stored { revision, value })
}

/// Only where: serde's own words may quote the content, and that may be a secret.
fn unreadable(error: serde_json::Error) -> Problem {
    Problem::Unreadable { what: "JSON", column: error.column() }
}

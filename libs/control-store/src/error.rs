//! What can go wrong. A message names the file or the record, and what to do; a record's content is never in it.

use holdfast_ports::DiskError;

use crate::owner::Owner;
use crate::record::{Invalid, Revision};
use crate::store::CONTROL_FILE;

/// Why the store did not do what was asked. Nothing was changed, unless the variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// There is no store here.
    #[error(
        "{CONTROL_FILE} is missing; if this owner never had a store, create one, else restore it or have it rebuilt \
         from the registry"
    )]
    Missing,
    /// There is one already.
    #[error("{CONTROL_FILE} exists already and is not replaced; open it")]
    Exists,
    /// The file is not what was written.
    #[error("{CONTROL_FILE} is damaged: {what}; set it aside and have it rebuilt from the registry")]
    Damaged {
        /// What was found.
        what: String,
    },
    /// The key is not the one.
    #[error("{CONTROL_FILE} is sealed under another storage key; unlock with the keyring that belongs to it")]
    WrongKey,
    /// It is another owner's.
    #[error("{CONTROL_FILE} belongs to {found}, and this is {expected}; check whose directory this is")]
    ForeignOwner {
        /// Whose it is.
        found: Box<Owner>,
        /// Who asked.
        expected: Box<Owner>,
    },
    /// A newer release wrote the file.
    #[error("{CONTROL_FILE} has format {found}, and this release knows {known}; use the release that wrote it")]
    NewerFormat {
        /// What the file says.
        found: u16,
        /// What is known here.
        known: u16,
    },
    /// A newer release wrote the records.
    #[error("{CONTROL_FILE} has schema {found}, and this release knows {known}; use the release that wrote it")]
    NewerSchema {
        /// What the store says.
        found: u32,
        /// What is known here.
        known: u32,
    },
    /// There is no way from the stored schema to the known one.
    #[error("{CONTROL_FILE} has schema {from}, and no migration leads on from it; open it with a release in between")]
    NoMigration {
        /// Where it ends.
        from: u32,
    },
    /// The whole store is older than the caller knows it to have been.
    #[error(
        "{CONTROL_FILE} is at revision {found}, but was at {expected} before: it was put back; rebuild it from the registry"
    )]
    RolledBack {
        /// What it is at.
        found: Revision,
        /// What it was at.
        expected: Revision,
    },
    /// The disk failed. After a failed commit nobody knows whether it is durable: open the store again and look.
    #[error("{0}; open the control store again and see what it holds")]
    Disk(DiskError),
    /// The disk is full.
    #[error("no room for {CONTROL_FILE} ({0}); free some and open the control store again")]
    NoSpace(DiskError),
    /// Something failed earlier, and the store takes nothing since.
    #[error("the control store stopped after an earlier failure ({first}); open it again")]
    Stopped {
        /// The first failure.
        first: String,
    },
    /// The database refused.
    #[error("the database refused: {0}; open the control store again, and report this if it stays")]
    Engine(String),
    /// A record is not as it must be.
    #[error("record {kind}/{key}: {problem}")]
    Record {
        /// Its kind.
        kind: String,
        /// Its key.
        key: String,
        /// What is wrong.
        problem: Problem,
    },
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Its own rules.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// The bytes are no such record.
    #[error("its {what} cannot be read (at column {column}); have it rebuilt from the registry")]
    Unreadable {
        /// Which part.
        what: &'static str,
        /// Where in the text.
        column: usize,
    },
    /// A newer release wrote it. It is not read, because writing it back would drop what is not known here.
    #[error("it has version {found}, and this release knows {known}; use the release that wrote it")]
    Newer {
        /// What it says.
        found: u32,
        /// What is known here.
        known: u32,
    },
    /// Somebody else was faster.
    #[error("it is at {}, but {} was expected; read it again and decide anew", at(*found), at(*expected))]
    Conflict {
        /// What the caller saw.
        expected: Option<Revision>,
        /// What is there.
        found: Option<Revision>,
    },
    /// The key is empty or too long.
    #[error("a key has 1 to {most} bytes; this one has {0}", most = crate::KEY_BYTES_MAX)]
    Key(usize),
    /// The record is too long.
    #[error("a record has at most {most} bytes as JSON; this one has {0}", most = crate::RECORD_BYTES_MAX)]
    TooLong(usize),
    /// It cannot be written as JSON.
    #[error("it cannot be written as JSON: a map's keys must be text and its numbers finite")]
    Unwritable,
}

fn at(revision: Option<Revision>) -> String {
    revision.map_or_else(|| "no revision (absent)".to_owned(), |revision| format!("revision {revision}"))
}

//! What can go wrong with an index: always with the file, and where in it.

use std::fmt;

use holdfast_log::bytes::{FormatError, Problem};
use holdfast_ports::DiskError;

/// Why the index could not answer. It never answers with something damaged instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexError {
    /// The disk failed.
    Disk(DiskError),
    /// A page is not what its parent says it is.
    Damaged {
        /// The index file.
        file: String,
        /// The first byte of the page in it.
        offset: u64,
        /// What is wrong with the page.
        error: FormatError,
    },
    /// A step of the merge was called out of order. A bug of the caller; nothing was changed.
    OutOfOrder(&'static str),
}

impl IndexError {
    pub(super) fn damaged(file: String, offset: u64, structure: &'static str, field: &'static str) -> Self {
        Self::Damaged { file, offset, error: FormatError { structure, offset: 0, problem: Problem::Field(field) } }
    }
}

impl From<DiskError> for IndexError {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl fmt::Display for IndexError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(out),
            Self::Damaged { file, offset, error } => write!(out, "{file} at byte {offset}: {error}"),
            Self::OutOfOrder(what) => write!(out, "the index was asked out of order: {what}"),
        }
    }
}

impl std::error::Error for IndexError {}

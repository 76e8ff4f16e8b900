//! From what a disk or a decoder says to what a session hears, always with file and offset.

use holdfast_log::bytes::FormatError;
use holdfast_log::seam::ReplicaError;
use holdfast_ports::DiskError;

use crate::index::IndexError;

/// A failed disk operation.
pub fn disk_error(error: DiskError) -> ReplicaError {
    if error.is_no_space() {
        return ReplicaError::NoSpace { wanted: 0, free: 0 };
    }
    let file = if error.file.is_empty() { "the store's directory".to_owned() } else { error.file.clone() };
    ReplicaError::Disk { file, offset: error.offset, detail: error.to_string() }
}

/// Bytes of `file` from `start` that are not what they should be.
pub fn damaged(file: &str, start: u64, error: &FormatError) -> ReplicaError {
    ReplicaError::Damaged { file: file.to_owned(), offset: start + error.offset as u64, problem: error.to_string() }
}

impl From<IndexError> for ReplicaError {
    fn from(error: IndexError) -> Self {
        match error {
            IndexError::Disk(error) => disk_error(error),
            IndexError::Damaged { file, offset, error } => damaged(&file, offset, &error),
            IndexError::OutOfOrder(_) => Self::Faulted { cause: error.to_string() },
        }
    }
}

//! What can be done to a disk, as values: recorded, replayed and looked at.

use std::fmt;
use std::sync::Arc;

/// A file apart from its names, as an inode is. Numbers are given in order of creation and never twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId(pub u64);

/// One change to a disk, or one promise that changes are kept. Reads change nothing and are not among them.
#[derive(Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub enum Operation {
    Create { file: FileId, name: Arc<str> },
    Remove { file: FileId, name: Arc<str> },
    Rename { file: FileId, from: Arc<str>, to: Arc<str> },
    Write { file: FileId, offset: u64, bytes: Arc<[u8]> },
    SetLen { file: FileId, len: u64 },
    Allocate { file: FileId, len: u64 },
    Punch { file: FileId, offset: u64, len: u64 },
    Sync { file: FileId },
    SyncNames,
}

impl fmt::Debug for Operation {
    /// One short line: a failing history is read by people, and the bytes written would bury it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { file, name } => write!(out, "create {name} as file {}", file.0),
            Self::Remove { file, name } => write!(out, "remove {name}, file {}", file.0),
            Self::Rename { file, from, to } => write!(out, "rename {from} to {to}, file {}", file.0),
            Self::Write { file, offset, bytes } => write!(out, "write {offset}+{} in file {}", bytes.len(), file.0),
            Self::SetLen { file, len } => write!(out, "set length {len} of file {}", file.0),
            Self::Allocate { file, len } => write!(out, "allocate {len} in file {}", file.0),
            Self::Punch { file, offset, len } => write!(out, "punch {offset}+{len} in file {}", file.0),
            Self::Sync { file } => write!(out, "sync file {}", file.0),
            Self::SyncNames => write!(out, "sync names"),
        }
    }
}

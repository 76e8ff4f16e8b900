//! What went wrong on a disk: which operation, on which file, where.

use std::fmt;

/// The operation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub enum DiskOperation {
    Open,
    Create,
    Remove,
    Rename,
    List,
    SyncNames,
    FreeBytes,
    Read,
    Write,
    Length,
    SetLength,
    Allocate,
    Punch,
    Sync,
    Lock,
}

/// A failed disk operation. The file and the offset are always named, because "I/O error" alone helps nobody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// What was asked.
    pub operation: DiskOperation,
    /// The file's name in its directory; empty for the directory itself.
    pub file: String,
    /// Where in the file, if the operation has a place.
    pub offset: Option<u64>,
    /// What the system answered.
    pub kind: std::io::ErrorKind,
    /// The system's own words.
    pub detail: String,
}

impl DiskError {
    /// The device or the quota is full: the one failure that leaves what was there before untouched.
    pub fn is_no_space(&self) -> bool {
        matches!(self.kind, std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
    }
    /// The file is not there.
    pub fn is_not_found(&self) -> bool {
        self.kind == std::io::ErrorKind::NotFound
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.operation {
            DiskOperation::Open => "open",
            DiskOperation::Create => "create",
            DiskOperation::Remove => "remove",
            DiskOperation::Rename => "rename",
            DiskOperation::List => "list",
            DiskOperation::SyncNames => "sync the directory of",
            DiskOperation::FreeBytes => "ask the free space of",
            DiskOperation::Read => "read",
            DiskOperation::Write => "write",
            DiskOperation::Length => "ask the length of",
            DiskOperation::SetLength => "set the length of",
            DiskOperation::Allocate => "allocate room for",
            DiskOperation::Punch => "punch a hole in",
            DiskOperation::Sync => "sync",
            DiskOperation::Lock => "lock",
        };
        let file = if self.file.is_empty() { "the store's directory" } else { &self.file };
        write!(out, "cannot {verb} {file}")?;
        if let Some(offset) = self.offset {
            write!(out, " at byte {offset}")?;
        }
        write!(out, ": {}", self.detail)
    }
}

impl std::error::Error for DiskError {}

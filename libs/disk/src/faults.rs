//! What a simulated disk does wrong: how often, or at which operation.

use crate::DiskOperation;

/// One way in which a disk fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A read fails; the next one may succeed.
    ReadError,
    /// A write fails, and any of its sectors may have been written.
    WriteError,
    /// A sync fails, and what was un-synced is by chance durable, gone, or visible and yet never to be written.
    SyncError,
    /// There is no space for what needs new space.
    NoSpace,
    /// A write is acknowledged and lands elsewhere: in the named file at the offset, or where chance decides.
    MisdirectedWrite {
        /// A file's name and an offset, which must be whole sectors.
        to: Option<(String, u64)>,
    },
    /// A write is acknowledged and never happens.
    LostWrite,
    /// The power goes: this operation and all later ones fail, and whether this one took effect, nobody knows.
    PowerCut,
}

impl Fault {
    /// Whether an operation can fail in this way.
    pub(crate) fn fits(&self, operation: DiskOperation, needs_space: bool) -> bool {
        match self {
            Self::ReadError => operation == DiskOperation::Read,
            Self::WriteError | Self::MisdirectedWrite { .. } | Self::LostWrite => operation == DiskOperation::Write,
            Self::SyncError => matches!(operation, DiskOperation::Sync | DiskOperation::SyncNames),
            Self::NoSpace => needs_space,
            Self::PowerCut => true,
        }
    }
}

/// How a simulated disk fails. The default never does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// How likely a read fails.
    pub read_error: f64,
    /// How likely a write fails.
    pub write_error: f64,
    /// How likely a sync, of a file or of names, fails.
    pub sync_error: f64,
    /// How likely an operation that needs new space finds none.
    pub no_space: f64,
    /// How likely a write lands elsewhere.
    pub misdirected_write: f64,
    /// How likely a write never happens, as long as `lost_writes_max` allows it.
    pub lost_write: f64,
    /// How many writes may be lost by chance: no design survives a disk that forgets without limit.
    pub lost_writes_max: u32,
    /// How many bytes the disk holds, counted in blocks of 4096; without it, any number.
    pub capacity: Option<u64>,
    /// Faults at certain operations, counted from 1 as `operations()` does. A fault that does not fit its operation
    /// waits for the next one that it fits.
    pub script: Vec<(u64, Fault)>,
}

impl Faults {
    /// A disk that never fails.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The same with one more fault in the script.
    #[must_use]
    pub fn at(mut self, operation: u64, fault: Fault) -> Self {
        self.script.push((operation, fault));
        self
    }
}

/// A fault that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injected {
    /// The number of the operation that it struck.
    pub operation: u64,
    /// What it was; a misdirected write says where it went.
    pub fault: Fault,
    /// The file of the operation; empty for the directory.
    pub file: String,
    /// Where in the file the operation was aimed.
    pub offset: Option<u64>,
}

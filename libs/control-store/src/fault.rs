//! What went wrong below the database: the first such thing is kept, because the database itself says only "I/O".

use std::fmt;

use holdfast_ports::DiskError;

/// Something below the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The disk failed.
    Disk(DiskError),
    /// The file is not what was written.
    Damage(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(error) => error.fmt(out),
            Self::Damage(what) => out.write_str(what),
        }
    }
}

impl std::error::Error for Fault {}

impl From<DiskError> for Fault {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<Fault> for std::io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Disk(error) => Self::new(error.kind, Fault::Disk(error)),
            Fault::Damage(what) => Self::new(std::io::ErrorKind::InvalidData, Fault::Damage(what)),
        }
    }
}

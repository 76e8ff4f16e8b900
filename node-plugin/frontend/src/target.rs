//! The port: what a frontend asks of a volume.

use thiserror::Error;

/// Why a request failed, in the words that a block device has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// The session is over, a block does not authenticate, a replica failed: an I/O error for whoever asked.
    #[error("input/output error")]
    Io,
    /// No room; nothing was written.
    #[error("no space left on the volume's stores")]
    NoSpace,
    /// The volume is open for reading only.
    #[error("the volume is open for reading only")]
    ReadOnly,
    /// Not whole blocks, or outside of the volume.
    #[error("the request is not made of whole blocks of the volume")]
    Invalid,
}

/// An open volume. Many threads call it at once. Offsets and lengths are multiples of 4096.
pub trait Target: Send + Sync {
    /// Bytes; grows only.
    fn size(&self) -> u64;
    /// Whether writes are refused.
    fn read_only(&self) -> bool;
    /// Fills `out`. After an error nothing of `out` is to be used.
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), TargetError>;
    /// When it returns, every read sees the bytes; after the next flush they are durable.
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), TargetError>;
    /// Every write that returned before this call is durable when it returns.
    fn flush(&self) -> Result<(), TargetError>;
    /// Whole blocks read as zeros afterwards, and their room is given back.
    fn discard(&self, offset: u64, length: u64) -> Result<(), TargetError>;
    /// Whole blocks read as zeros afterwards.
    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), TargetError>;
}

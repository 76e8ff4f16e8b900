//! The disk port.
//!
//! A store sees one flat directory of files and nothing else of the machine. The port says exactly what a
//! crash may do, so that every disk behind it, real or simulated, can be held to the same words:
//!
//! - A **write** is in the file at once for later reads, but survives a crash only after `File::sync` on that
//!   file returned. Before that, any subset of its 512-byte sectors may survive, in any order against others.
//! - A **name** (create, remove, rename) survives a crash only after `Disk::sync_names` returned. A rename is atomic:
//!   after a crash the new name holds the old or the new file, never neither.
//! - `File::sync` covers the content and the length of the file, not its name.
//! - `File::set_len`, `File::allocate` and `File::punch` are changes like writes: until the sync, each may survive or
//!   not, a punch also in parts.
//! - After a failed `sync` nothing is known about any write since the last good one, and asking again proves
//!   nothing: the caller must treat the disk as faulted.
//!
//! What must never be here: a format, a key, a retry.

use std::sync::Arc;

use crate::DiskError;

/// One directory of files: all that a store may touch. Names are plain file names without separators.
pub trait Disk: Send + Sync {
    /// Opens a file that exists, for reading and writing.
    fn open(&self, name: &str) -> Result<Arc<dyn File>, DiskError>;
    /// Creates a file that does not exist.
    fn create(&self, name: &str) -> Result<Arc<dyn File>, DiskError>;
    /// Removes a file. Handles that are open keep working on what they had.
    fn remove(&self, name: &str) -> Result<(), DiskError>;
    /// Renames a file, replacing what had the new name.
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError>;
    /// Every name, sorted.
    fn list(&self) -> Result<Vec<String>, DiskError>;
    /// Makes creates, removes and renames that returned before this call survive a crash.
    fn sync_names(&self) -> Result<(), DiskError>;
    /// Bytes that new allocations may still take.
    fn free_bytes(&self) -> Result<u64, DiskError>;
    /// Offsets and lengths of every read and write are multiples of this (512 or 4096); a write of one such
    /// sector is never torn inside it.
    fn sector_bytes(&self) -> usize;
}

/// An open file. Offsets and lengths are multiples of the disk's sector; memory comes from [`crate::AlignedBuffer`].
#[expect(clippy::len_without_is_empty, reason = "a length can fail, and nobody asks whether a file is empty")]
pub trait File: Send + Sync {
    /// Fills `buffer` from `offset`; reading past the end is an error, never a short answer.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;
    /// Writes all of `bytes` at `offset`, growing the file if needed. After an error, any part of them may be there.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;
    /// The length in bytes.
    fn len(&self) -> Result<u64, DiskError>;
    /// Cuts or extends (with a hole) to `len`.
    fn set_len(&self, len: u64) -> Result<(), DiskError>;
    /// Takes room for `[0, len)` now, so that later writes there cannot run out of space; extends the length.
    fn allocate(&self, len: u64) -> Result<(), DiskError>;
    /// Gives the room of a range back; it reads as zeros afterwards.
    fn punch(&self, offset: u64, len: u64) -> Result<(), DiskError>;
    /// Makes every write that returned before this call survive a crash.
    fn sync(&self) -> Result<(), DiskError>;
}

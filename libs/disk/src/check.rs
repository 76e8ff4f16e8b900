//! What every disk refuses, in the same words: bad names, bad alignment, places past the end.
//!
//! Real hardware refuses unaligned direct I/O; the disks in memory do so as well, or code would pass its tests there
//! and fail on the first real machine.

use std::io::ErrorKind;

use crate::{DiskError, DiskOperation};

/// The name that a real directory uses to keep a second process out. Reserved on every disk.
pub(crate) const LOCK_NAME: &str = "lock";

/// The longest name that Linux file systems take.
const NAME_BYTES_MAX: usize = 255;

pub(crate) fn error(
    operation: DiskOperation,
    file: &str,
    offset: Option<u64>,
    kind: ErrorKind,
    detail: impl Into<String>,
) -> DiskError {
    DiskError { operation, file: file.to_owned(), offset, kind, detail: detail.into() }
}

/// A plain file name: no separators, no directory entries of the system, not the lock.
pub(crate) fn name(operation: DiskOperation, name: &str) -> Result<(), DiskError> {
    let fault = match name {
        "" => "a file needs a name",
        "." | ".." => "this name belongs to the directory itself",
        LOCK_NAME => "this name is reserved for the directory's lock",
        _ if name.len() > NAME_BYTES_MAX => "a name has at most 255 bytes",
        _ if name.contains(['/', '\0']) => "a name holds no separator and no zero byte",
        _ => return Ok(()),
    };
    Err(error(operation, name, None, ErrorKind::InvalidInput, fault))
}

/// A range in a file: whole sectors, and within what a file offset can say.
pub(crate) fn range(
    operation: DiskOperation,
    file: &str,
    offset: u64,
    len: u64,
    sector: usize,
) -> Result<(), DiskError> {
    let sector = sector as u64;
    if !offset.is_multiple_of(sector) || !len.is_multiple_of(sector) {
        let detail = format!("offset {offset} and length {len} must be multiples of {sector}");
        return Err(error(operation, file, Some(offset), ErrorKind::InvalidInput, detail));
    }
    // File offsets are signed on Linux.
    if offset.checked_add(len).is_none_or(|end| end > i64::MAX as u64) {
        let detail = format!("a file cannot reach to {offset} + {len}");
        return Err(error(operation, file, Some(offset), ErrorKind::InvalidInput, detail));
    }
    Ok(())
}

/// A range together with the memory it goes to or comes from.
pub(crate) fn memory(
    operation: DiskOperation,
    file: &str,
    offset: u64,
    bytes: &[u8],
    sector: usize,
) -> Result<(), DiskError> {
    range(operation, file, offset, bytes.len() as u64, sector)?;
    if !bytes.is_empty() && !bytes.as_ptr().addr().is_multiple_of(sector) {
        let detail = format!("the memory must begin at a multiple of {sector}: take it from an AlignedBuffer");
        return Err(error(operation, file, Some(offset), ErrorKind::InvalidInput, detail));
    }
    Ok(())
}

/// A read must lie inside the file.
pub(crate) fn inside(file: &str, offset: u64, wanted: usize, len: u64) -> Result<(), DiskError> {
    if wanted != 0 && offset + wanted as u64 > len {
        return Err(past_end(file, offset, wanted, len));
    }
    Ok(())
}

pub(crate) fn past_end(file: &str, offset: u64, wanted: usize, len: u64) -> DiskError {
    let detail = format!("{wanted} bytes were asked for, but the file ends at byte {len}");
    error(DiskOperation::Read, file, Some(offset), ErrorKind::UnexpectedEof, detail)
}

pub(crate) fn not_found(operation: DiskOperation, file: &str) -> DiskError {
    error(operation, file, None, ErrorKind::NotFound, "no such file")
}

pub(crate) fn exists(file: &str) -> DiskError {
    error(DiskOperation::Create, file, None, ErrorKind::AlreadyExists, "the file exists already")
}

pub(crate) fn full(operation: DiskOperation, file: &str, offset: Option<u64>) -> DiskError {
    error(operation, file, offset, ErrorKind::StorageFull, "no space left on the disk")
}

//! A directory with one file: what each request is answered with.
//!
//! There is no state but the volume's: whoever continues on a connection gives the same answers to the same numbers.
//! Three kinds of request must never be answered with `ENOSYS`: the kernel would remember FSYNC, WRITE or FALLOCATE as
//! "not needed here" and report success for each later one.

use std::ops::Range;
use std::sync::Arc;

use rustix::io::Errno;

use super::abi::{self, Attributes, Body, Header, Operation, ROOT};
use super::blocks::{BLOCK_BYTES, Blocks, Clearing};
use super::memory::Workspace;
use crate::target::{Target, TargetError};

/// The file's number.
const FILE: u64 = 2;
const NAME_BYTES_MAX: usize = 255;
/// The name never changes, so the kernel may keep it as long as it likes.
const NAME_SECONDS: u64 = 1 << 31;

const MODE_DIRECTORY: u32 = 0o040_700;
const MODE_FILE: u32 = 0o100_600;
const MODE_FILE_READ_ONLY: u32 = 0o100_400;
const KIND_DIRECTORY: u32 = 4;
const KIND_FILE: u32 = 8;

/// `O_ACCMODE`; 0 is reading only.
const ACCESS_MASK: u32 = 3;
const SEEK_DATA: u32 = 3;
const SEEK_HOLE: u32 = 4;
/// `POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM`: a file is always ready.
const ALWAYS_READY: u32 = 0x0145;

/// What goes back to the kernel.
#[derive(Debug)]
pub(crate) enum Reply {
    /// The kernel expects no answer.
    None,
    Error(Errno),
    Body(Body),
    /// The bytes that lie there in the workspace's space.
    Data(Range<usize>),
}

impl From<Result<Self, Errno>> for Reply {
    fn from(result: Result<Self, Errno>) -> Self {
        result.unwrap_or_else(Self::Error)
    }
}

/// The volume as a file, and the directory that it is in.
pub(crate) struct VolumeFile {
    name: Vec<u8>,
    blocks: Blocks,
}

/// Whether a file may be called so.
pub(crate) fn is_name(name: &str) -> bool {
    let is_short = (1..=NAME_BYTES_MAX).contains(&name.len());
    is_short && name != "." && name != ".." && !name.contains(['/', '\0'])
}

impl VolumeFile {
    pub(crate) fn new(name: &str, target: Arc<dyn Target>, requests: usize) -> Self {
        Self { name: name.as_bytes().to_vec(), blocks: Blocks::new(target, requests) }
    }

    /// Serves one request, whose bytes are in `work`.
    pub(crate) fn serve(&self, header: &Header, operation: Operation, work: &mut Workspace) -> Reply {
        if ![ROOT, FILE].contains(&header.node) && !matches!(operation, Operation::Unanswered) {
            return self.elsewhere(&operation);
        }
        let is_file = header.node == FILE;
        match operation {
            Operation::Unanswered => Reply::None,
            Operation::Lookup(_) if is_file => Reply::Error(Errno::NOTDIR),
            Operation::Lookup(name) if work.request(header.length)[name.clone()] == *self.name => {
                Reply::Body(abi::entry(self.file(), NAME_SECONDS))
            }
            Operation::Lookup(_) => Reply::Error(Errno::NOENT),
            Operation::GetAttr => Reply::Body(abi::attributes(self.attributes(is_file))),
            Operation::SetAttr { valid, size } => self.set_attributes(is_file, valid, size).into(),
            Operation::Open(flags) if is_file => self.open(flags).into(),
            Operation::Open(_) => Reply::Error(Errno::ISDIR),
            Operation::OpenDir => Reply::Body(abi::opened(0)),
            Operation::Nothing => Reply::Body(Body::empty()),
            Operation::Fsync => outcome(self.blocks.flush()).map(|()| Reply::Body(Body::empty())).into(),
            Operation::Read { .. } | Operation::Write { .. } | Operation::Fallocate { .. } if !is_file => {
                Reply::Error(Errno::ISDIR)
            }
            Operation::Read { offset, size } => {
                outcome(self.blocks.read(offset, size, work.space())).map(Reply::Data).into()
            }
            Operation::Write { offset, data } => self.write(offset, data, work).into(),
            Operation::Fallocate { offset, length, mode } => self.fallocate(offset, length, mode, work).into(),
            Operation::Seek { offset, whence } => self.seek(offset, whence).into(),
            Operation::StatFs => self.file_system(),
            Operation::ReadDir { offset, size } => self.entries(offset, size, work),
            Operation::Ioctl => Reply::Error(Errno::NOTTY),
            Operation::Poll(events) => Reply::Body(abi::ready(events & ALWAYS_READY)),
            Operation::ChangeDirectory => Reply::Error(Errno::PERM),
            // It came before us, and comes once.
            Operation::Init(_) => Reply::Error(Errno::PROTO),
            Operation::Unknown => Reply::Error(Errno::NOSYS),
        }
    }

    /// Requests that name no file of ours; the kernel sends some with the number 0.
    fn elsewhere(&self, operation: &Operation) -> Reply {
        match operation {
            Operation::Nothing => Reply::Body(Body::empty()),
            Operation::StatFs => self.file_system(),
            Operation::Unknown => Reply::Error(Errno::NOSYS),
            _ => Reply::Error(Errno::STALE),
        }
    }

    fn attributes(&self, is_file: bool) -> Attributes {
        if is_file { self.file() } else { Attributes { node: ROOT, size: 0, mode: MODE_DIRECTORY, links: 2 } }
    }

    fn file(&self) -> Attributes {
        let mode = if self.blocks.is_read_only() { MODE_FILE_READ_ONLY } else { MODE_FILE };
        Attributes { node: FILE, size: self.blocks.size(), mode, links: 1 }
    }

    /// Times may be set, and are forgotten. A size may be set to what it is: a volume is not shortened by a file's
    /// owner, so `O_TRUNC` (which comes as a size of 0) is refused as well.
    fn set_attributes(&self, is_file: bool, valid: u32, size: u64) -> Result<Reply, Errno> {
        let fixed = abi::setattr::MODE | abi::setattr::UID | abi::setattr::GID;
        let resizes = valid & abi::setattr::SIZE != 0 && (!is_file || size != self.blocks.size());
        if valid & fixed != 0 || resizes {
            return Err(Errno::PERM);
        }
        Ok(Reply::Body(abi::attributes(self.attributes(is_file))))
    }

    /// Past the page cache, and many writes at once. A cache here would be a second one below the file system's own, and
    /// would go on living when the volume has moved to another node. Closing means nothing to us, so the kernel need not
    /// tell (`NOFLUSH`, Linux 5.16), and nobody's close waits during a hand-over.
    fn open(&self, flags: u32) -> Result<Reply, Errno> {
        use abi::open::{DIRECT_IO, NOFLUSH, PARALLEL_DIRECT_WRITES};
        if flags & ACCESS_MASK != 0 && self.blocks.is_read_only() {
            return Err(Errno::ROFS);
        }
        Ok(Reply::Body(abi::opened(DIRECT_IO | NOFLUSH | PARALLEL_DIRECT_WRITES)))
    }

    fn write(&self, offset: u64, data: Range<usize>, work: &mut Workspace) -> Result<Reply, Errno> {
        let (bytes, scratch) = work.request_and_scratch(data);
        let written = outcome(self.blocks.write(offset, bytes, scratch))?;
        // At most 1 MiB.
        Ok(Reply::Body(abi::written(written as u32)))
    }

    fn fallocate(&self, offset: u64, length: u64, mode: u32, work: &mut Workspace) -> Result<Reply, Errno> {
        use abi::fallocate::{KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE};
        let how = match mode ^ KEEP_SIZE {
            PUNCH_HOLE => Clearing::Discard,
            ZERO_RANGE => Clearing::WriteZeroes,
            _ => return Err(Errno::OPNOTSUPP),
        };
        let (_, scratch) = work.request_and_scratch(0..0);
        outcome(self.blocks.clear(offset, length, how, scratch))?;
        Ok(Reply::Body(Body::empty()))
    }

    /// All of it is data: what is unmapped is the volume's secret and costs a walk through its tree.
    fn seek(&self, offset: u64, whence: u32) -> Result<Reply, Errno> {
        let size = self.blocks.size();
        match whence {
            SEEK_DATA | SEEK_HOLE if offset >= size => Err(Errno::NXIO),
            SEEK_DATA => Ok(Reply::Body(abi::found(offset))),
            SEEK_HOLE => Ok(Reply::Body(abi::found(size))),
            _ => Err(Errno::INVAL),
        }
    }

    fn file_system(&self) -> Reply {
        let blocks = self.blocks.size() / BLOCK_BYTES as u64;
        Reply::Body(abi::file_system(blocks, BLOCK_BYTES as u32, NAME_BYTES_MAX as u32))
    }

    fn entries(&self, offset: u64, size: usize, work: &mut Workspace) -> Reply {
        let space = work.space();
        let room = size.min(space.len());
        let all = [(ROOT, KIND_DIRECTORY, &b"."[..]), (ROOT, KIND_DIRECTORY, b".."), (FILE, KIND_FILE, &self.name)];
        let mut end = 0;
        for ((node, kind, name), next) in all.into_iter().zip(1_u64..).skip(usize::try_from(offset).unwrap_or(3)) {
            match abi::directory_entry(&mut space[..room], end, node, next, kind, name) {
                Some(behind) => end = behind,
                None => break,
            }
        }
        Reply::Data(0..end)
    }
}

/// The words of the port in those of the kernel. None of them becomes `ENOSYS`.
fn outcome<T>(result: Result<T, TargetError>) -> Result<T, Errno> {
    result.map_err(|error| match error {
        TargetError::Io => Errno::IO,
        TargetError::NoSpace => Errno::NOSPC,
        TargetError::ReadOnly => Errno::ROFS,
        TargetError::Invalid => Errno::INVAL,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_a_directory_can_hold() {
        assert!(is_name("volume") && is_name("..."));
        for bad in ["", ".", "..", "a/b", "a\0b", &"x".repeat(256)] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}

//! The memory that requests are read into, and what keeps the kernel from waiting for itself.
//!
//! A node short of memory writes dirty pages back: to this very device, and so to a serving thread. If that thread then
//! needs memory, the kernel may wait for the write that the thread is to answer. Two ways out. A thread in the state
//! `IO_FLUSHER` gets its memory without such waiting; that needs a capability which containers rarely have. Otherwise
//! everything that a request needs is allocated before the first one and locked. [`protection`] says which it is.

use rustix::io::Errno;
use thiserror::Error;

use super::abi::{IN_HEADER_BYTES, WRITE_IN_BYTES};
use super::blocks::BLOCK_BYTES;
use holdfast_ports::AlignedBuffer;

/// What a serving thread has against waiting for its own device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
pub enum Protection {
    /// The kernel knows the threads as parts of the I/O path. Their allocations never wait for write-back.
    #[error("serving threads are IO_FLUSHER")]
    IoFlusher,
    /// The request buffers are locked in memory; other allocations of the target may still wait.
    #[error("request buffers are locked in memory (CAP_SYS_RESOURCE would allow IO_FLUSHER, which is stronger)")]
    Locked,
    /// Neither was granted.
    #[error(
        "nothing keeps serving threads from waiting for their own device when memory is short: \
         grant CAP_SYS_RESOURCE (for IO_FLUSHER) or CAP_IPC_LOCK, or raise the limit of locked memory (ulimit -l)"
    )]
    Nothing,
}

/// What is in force for threads that are started now: tries both, on a thread of its own, and undoes it.
#[must_use]
pub fn protection() -> Protection {
    // The state belongs to a thread and is inherited, so the caller must not be the one that tries.
    let tried = std::thread::Builder::new().name("holdfast-probe".to_owned()).spawn(|| {
        let mut probe = Workspace::new(BLOCK_BYTES);
        probe.protect()
    });
    tried.ok().and_then(|thread| thread.join().ok()).unwrap_or(Protection::Nothing)
}

/// What stands before the data of a write.
const PREFIX_BYTES: usize = IN_HEADER_BYTES + WRITE_IN_BYTES;
/// Where data begins: a request is read to just before, so that a write's data is aligned without a copy.
const DATA_AT: usize = BLOCK_BYTES;
const REQUEST_AT: usize = DATA_AT - PREFIX_BYTES;

/// One thread's memory: a request, its data, and a block for changing a part of one.
pub(crate) struct Workspace {
    buffer: AlignedBuffer,
    is_locked: bool,
}

impl Workspace {
    /// For requests with so much data. Data that begins and ends inside of a block touches one block more.
    pub(crate) fn new(request_bytes_max: usize) -> Self {
        Self { buffer: AlignedBuffer::with_len(DATA_AT + request_bytes_max + 3 * BLOCK_BYTES), is_locked: false }
    }

    /// Takes the calling thread, which must be the one that serves, and this memory out of the kernel's way.
    pub(crate) fn protect(&mut self) -> Protection {
        // Written once, so that the pages exist before the first request.
        self.buffer.fill(0);
        if rustix::process::configure_io_flusher_behavior(true).is_ok() {
            return Protection::IoFlusher;
        }
        match self.lock() {
            Ok(()) => Protection::Locked,
            Err(_) => Protection::Nothing,
        }
    }

    fn lock(&mut self) -> Result<(), Errno> {
        // SAFETY: the range is the buffer's own memory, valid for its whole length; locking does not change a byte of it.
        #[allow(unsafe_code)]
        unsafe {
            rustix::mm::mlock(self.buffer.as_mut_ptr().cast(), self.buffer.len())?;
        }
        self.is_locked = true;
        Ok(())
    }

    /// Where the next request goes.
    pub(crate) fn incoming(&mut self) -> &mut [u8] {
        let end = self.buffer.len() - BLOCK_BYTES;
        &mut self.buffer[REQUEST_AT..end]
    }

    /// The request of `length` bytes that was read.
    pub(crate) fn request(&self, length: usize) -> &[u8] {
        &self.buffer[REQUEST_AT..REQUEST_AT + length]
    }

    /// Aligned room for an answer's data. It overwrites the request's data, if it has any.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        let end = self.buffer.len() - BLOCK_BYTES;
        &mut self.buffer[DATA_AT..end]
    }

    /// What was put into [`Workspace::space`].
    pub(crate) fn answer(&self, range: std::ops::Range<usize>) -> &[u8] {
        &self.buffer[DATA_AT + range.start..DATA_AT + range.end]
    }

    /// Bytes of the request, and a block for our own use.
    pub(crate) fn request_and_scratch(&mut self, range: std::ops::Range<usize>) -> (&[u8], &mut [u8]) {
        let end = self.buffer.len() - BLOCK_BYTES;
        let (request, scratch) = self.buffer.split_at_mut(end);
        (&request[REQUEST_AT + range.start..REQUEST_AT + range.end], scratch)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if self.is_locked {
            // The allocator may keep the pages for others, who do not need them locked. If unlocking fails, they stay
            // locked, which harms nobody.
            // SAFETY: as in `lock`.
            #[allow(unsafe_code)]
            let _ = unsafe { rustix::mm::munlock(self.buffer.as_mut_ptr().cast(), self.buffer.len()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_of_a_write_is_aligned_where_it_was_read() {
        let mut work = Workspace::new(1 << 20);
        let incoming = work.incoming();
        assert!(incoming.len() >= PREFIX_BYTES + (1 << 20));
        incoming[PREFIX_BYTES] = 7;
        let (data, scratch) = work.request_and_scratch(PREFIX_BYTES..PREFIX_BYTES + 4096);
        assert!(data[0] == 7 && data.as_ptr().addr().is_multiple_of(4096));
        assert!(scratch.len() == 4096 && scratch.as_ptr().addr().is_multiple_of(4096));
        assert!(work.space().len() >= (1 << 20) + 4096);
    }

    #[test]
    fn one_of_the_three_is_in_force_and_the_caller_stays_as_it_was() {
        let before = rustix::process::is_io_flusher();
        println!("{}", protection());
        assert_eq!(rustix::process::is_io_flusher(), before);
    }
}

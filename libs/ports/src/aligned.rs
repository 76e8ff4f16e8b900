//! Memory that direct I/O accepts: bytes on the heap that start on a 4096-byte boundary.
//!
//! `Vec<u8>` promises no alignment, and a vector of aligned blocks can only grow by whole blocks, so this owns its
//! allocation. Every byte below `touched` has been written once, which is all that the safe interface rests on.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Growable bytes whose first byte lies at a multiple of [`AlignedBuffer::ALIGNMENT`].
///
/// A slice of it that begins at a multiple of the disk's sector is what [`crate::File`] takes.
pub struct AlignedBuffer {
    start: NonNull<u8>,
    len: usize,
    /// How many bytes from the start have ever been written; at least `len`. The rest is uninitialised.
    touched: usize,
    capacity: usize,
}

// SAFETY: the buffer owns its bytes alone, as a `Vec<u8>` does; the pointer is never shared.
#[allow(unsafe_code)]
unsafe impl Send for AlignedBuffer {}
// SAFETY: through a shared reference the bytes can only be read.
#[allow(unsafe_code)]
unsafe impl Sync for AlignedBuffer {}

impl AlignedBuffer {
    /// A page: the strictest that any disk asks for, and what lets the kernel map the memory without copying.
    pub const ALIGNMENT: usize = 4096;

    /// An empty buffer that holds no memory.
    #[must_use]
    pub const fn new() -> Self {
        Self { start: Self::NOWHERE, len: 0, touched: 0, capacity: 0 }
    }

    /// `len` zeros.
    #[must_use]
    pub fn with_len(len: usize) -> Self {
        let capacity = Self::rounded(len);
        Self { start: Self::take(capacity, true), len, touched: capacity, capacity }
    }

    /// An empty buffer with room for `capacity` bytes; nothing is cleared until it is used.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        let capacity = Self::rounded(capacity);
        Self { start: Self::take(capacity, false), len: 0, touched: 0, capacity }
    }

    /// How many bytes are in it.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many bytes fit without another allocation.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets the bytes and keeps the room.
    pub const fn clear(&mut self) {
        self.len = 0;
    }

    /// Shortens to `len`; does nothing if it is shorter already.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Makes room for `more` bytes behind the present end.
    pub fn reserve(&mut self, more: usize) {
        let Some(needed) = self.len.checked_add(more) else { too_large() };
        if needed > self.capacity {
            // Doubling keeps a long series of small appends linear.
            self.grow_to(Self::rounded(needed.max(self.capacity.saturating_mul(2))));
        }
    }

    /// Shortens or lengthens to `len`; what is new is `value`.
    pub fn resize(&mut self, len: usize, value: u8) {
        let old = self.len;
        self.resize_stale(len);
        if len > old {
            self[old..].fill(value);
        }
    }

    /// Shortens or lengthens to `len` without clearing: what is new holds either what the buffer once held there or
    /// zeros. For a buffer that is filled from disk next, clearing it would be waste.
    pub fn resize_stale(&mut self, len: usize) {
        if len > self.len {
            self.reserve(len - self.len);
            if len > self.touched {
                // SAFETY: `touched..len` lies inside the allocation, because `reserve` made `capacity` at least `len`.
                #[allow(unsafe_code)]
                unsafe {
                    self.start.as_ptr().add(self.touched).write_bytes(0, len - self.touched);
                }
                self.touched = len;
            }
        }
        self.len = len;
    }

    /// Appends a copy of `bytes`.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        // SAFETY: `reserve` made room for `bytes.len()` behind `len`; `bytes` cannot overlap what we hold exclusively.
        #[allow(unsafe_code)]
        unsafe {
            self.start.as_ptr().add(self.len).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        self.len += bytes.len();
        self.touched = self.touched.max(self.len);
    }

    /// Where its memory starts, and how much of it was ever written.
    pub(crate) const fn raw_parts(&mut self) -> (NonNull<u8>, usize) {
        (self.start, self.touched)
    }

    /// Notes that the first `touched` bytes were written through [`Self::raw_parts`], and makes `len` of them count.
    pub(crate) fn set_initialised(&mut self, touched: usize, len: usize) {
        assert!(len <= touched && self.touched <= touched && touched <= self.capacity, "more than there is");
        (self.touched, self.len) = (touched, len);
    }

    /// An aligned address that no byte is ever read from: where a buffer without memory points.
    const NOWHERE: NonNull<u8> = NonNull::<Page>::dangling().cast();

    fn rounded(bytes: usize) -> usize {
        match bytes.checked_next_multiple_of(Self::ALIGNMENT) {
            Some(rounded) => rounded,
            None => too_large(),
        }
    }

    fn layout(capacity: usize) -> Layout {
        match Layout::from_size_align(capacity, Self::ALIGNMENT) {
            Ok(layout) => layout,
            Err(_) => too_large(),
        }
    }

    fn take(capacity: usize, zeroed: bool) -> NonNull<u8> {
        if capacity == 0 {
            return Self::NOWHERE;
        }
        let layout = Self::layout(capacity);
        // SAFETY: the layout's size is not zero.
        #[allow(unsafe_code)]
        let start = unsafe { if zeroed { alloc_zeroed(layout) } else { alloc(layout) } };
        NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout))
    }

    fn grow_to(&mut self, capacity: usize) {
        let start = Self::take(capacity, false);
        // SAFETY: both allocations hold at least `len` bytes, they are distinct, and the first `len` are initialised.
        #[allow(unsafe_code)]
        unsafe {
            start.as_ptr().copy_from_nonoverlapping(self.start.as_ptr(), self.len);
        }
        self.release();
        self.start = start;
        self.touched = self.len;
        self.capacity = capacity;
    }

    /// Gives the allocation back; the caller replaces `start` and `capacity` or is being dropped.
    fn release(&mut self) {
        if self.capacity != 0 {
            // SAFETY: `start` came from `take` with this very capacity and is not used again.
            #[allow(unsafe_code)]
            unsafe {
                dealloc(self.start.as_ptr(), Self::layout(self.capacity));
            }
        }
    }
}

/// Only for the address of [`AlignedBuffer::NOWHERE`].
#[repr(align(4096))]
struct Page;

#[cold]
fn too_large() -> ! {
    panic!("a buffer larger than the address space was asked for")
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        self.release();
    }
}

impl Default for AlignedBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the first `len` bytes are allocated and initialised (`len` <= `touched` <= `capacity`).
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.start.as_ptr(), self.len)
        }
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the exclusive borrow of the buffer is one of its bytes.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len)
        }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl AsMut<[u8]> for AlignedBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl From<&[u8]> for AlignedBuffer {
    fn from(bytes: &[u8]) -> Self {
        let mut buffer = Self::with_capacity(bytes.len());
        buffer.extend_from_slice(bytes);
        buffer
    }
}

impl Clone for AlignedBuffer {
    fn clone(&self) -> Self {
        Self::from(&**self)
    }
}

impl PartialEq for AlignedBuffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for AlignedBuffer {}

impl fmt::Debug for AlignedBuffer {
    // The content may be somebody's data, and is long: neither belongs into a log.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "AlignedBuffer({} bytes of {})", self.len, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::AlignedBuffer;

    fn aligned(buffer: &AlignedBuffer) -> bool {
        buffer.as_ptr().addr().is_multiple_of(AlignedBuffer::ALIGNMENT)
    }

    #[test]
    fn every_way_to_make_one_is_aligned() {
        for len in [0, 1, 512, 4096, 4097, 1 << 20] {
            let zeroed = AlignedBuffer::with_len(len);
            assert!(aligned(&zeroed) && zeroed.len() == len && zeroed.iter().all(|byte| *byte == 0));
            let empty = AlignedBuffer::with_capacity(len);
            assert!(aligned(&empty) && empty.is_empty() && empty.capacity() >= len);
        }
        assert!(aligned(&AlignedBuffer::new()));
    }

    #[test]
    fn appending_keeps_the_bytes_and_reallocates_seldom() {
        let mut buffer = AlignedBuffer::new();
        let mut expected = Vec::new();
        let mut moves = 0;
        for step in 0..40_000_u32 {
            let before = buffer.capacity();
            buffer.extend_from_slice(&step.to_le_bytes());
            expected.extend_from_slice(&step.to_le_bytes());
            moves += usize::from(buffer.capacity() != before);
        }
        assert_eq!(&*buffer, &*expected);
        assert!(aligned(&buffer));
        assert!(moves <= 7, "{moves} reallocations for 160 kB");
    }

    #[test]
    fn resize_fills_only_what_is_new_and_stale_bytes_need_asking_for() {
        let mut buffer = AlignedBuffer::from(&[7_u8; 100][..]);
        buffer.resize(200, 9);
        assert!(buffer[..100].iter().all(|byte| *byte == 7) && buffer[100..].iter().all(|byte| *byte == 9));
        buffer.clear();
        buffer.resize(200, 0);
        assert!(buffer.iter().all(|byte| *byte == 0));
        buffer.fill(5);
        buffer.truncate(10);
        buffer.resize_stale(4000);
        assert!(buffer[..200].iter().all(|byte| *byte == 5) && buffer[200..].iter().all(|byte| *byte == 0));
        buffer.truncate(10);
        buffer.resize_stale(5000);
        assert!(buffer[..10].iter().all(|byte| *byte == 5) && buffer[10..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn copies_are_equal_and_apart() {
        let mut first = AlignedBuffer::from(&b"holdfast"[..]);
        let second = first.clone();
        assert_eq!(first, second);
        first[0] = b'H';
        assert_ne!(first, second);
    }
}

//! One buffer that several threads fill at once, each a range of its own.
//!
//! Ranges are handed out from front to back and never twice, so no two of them overlap. The buffer comes back when the
//! last of them is gone; until then nothing reads it as a whole.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

use crate::AlignedBuffer;

/// A buffer that is being handed out in ranges.
pub struct Carving {
    owner: Arc<Owner>,
    /// Where the next range starts.
    at: usize,
    /// Bytes from the start that were written once; behind them memory is not initialised.
    touched: usize,
}

/// Keeps the memory where it is.
struct Owner {
    /// Not looked into as long as a range of it may be.
    buffer: AlignedBuffer,
    start: NonNull<u8>,
}

// SAFETY: the pointer is used only through `Carved`, whose ranges never overlap, and by `Carving` beyond all of them.
#[allow(unsafe_code)]
unsafe impl Send for Owner {}
// SAFETY: as above; a shared `Owner` gives access to nothing.
#[allow(unsafe_code)]
unsafe impl Sync for Owner {}

/// A range of a buffer, owned by whoever holds this.
pub struct Carved {
    owner: Arc<Owner>,
    start: usize,
    len: usize,
}

impl Carving {
    /// Begins with an empty buffer with room for `capacity` bytes.
    #[must_use]
    pub fn new(mut buffer: AlignedBuffer, capacity: usize) -> Self {
        buffer.clear();
        buffer.reserve(capacity);
        let (start, touched) = buffer.raw_parts();
        Self { owner: Arc::new(Owner { buffer, start }), at: 0, touched }
    }

    /// The next `len` bytes; `None` if the buffer has no room for them. They hold something, but nothing that means
    /// anything.
    pub fn carve(&mut self, len: usize) -> Option<Carved> {
        let start = self.at;
        let end = start.checked_add(len).filter(|end| *end <= self.owner.buffer.capacity())?;
        if end > self.touched {
            // SAFETY: `touched..end` lies inside the allocation and behind every range that was handed out.
            #[allow(unsafe_code)]
            unsafe {
                self.owner.start.add(self.touched).write_bytes(0, end - self.touched);
            }
            self.touched = end;
        }
        self.at = end;
        Some(Carved { owner: Arc::clone(&self.owner), start, len })
    }

    /// The whole buffer, as long as all that was handed out. `Err` while somebody holds a range of it.
    pub fn into_buffer(self) -> Result<AlignedBuffer, Self> {
        let (at, touched) = (self.at, self.touched);
        match Arc::try_unwrap(self.owner) {
            Ok(mut owner) => {
                owner.buffer.set_initialised(touched, at);
                Ok(owner.buffer)
            }
            Err(owner) => Err(Self { owner, at, touched }),
        }
    }
}

impl Carved {
    /// Where it starts in the buffer.
    #[must_use]
    pub const fn start(&self) -> usize {
        self.start
    }
}

impl Deref for Carved {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: the range lies inside the allocation, which `owner` keeps; it is initialised and nobody else's.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts(self.owner.start.add(self.start).as_ptr(), self.len)
        }
    }
}

impl DerefMut for Carved {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the exclusive borrow of the range is one of its bytes.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.owner.start.add(self.start).as_ptr(), self.len)
        }
    }
}

impl fmt::Debug for Carving {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Carving({} bytes handed out)", self.at)
    }
}

impl fmt::Debug for Carved {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Carved({} bytes from {})", self.len, self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::{Carved, Carving};
    use crate::AlignedBuffer;

    #[test]
    fn ranges_lie_behind_one_another_and_the_buffer_comes_back_with_all_of_them() {
        let mut carving = Carving::new(AlignedBuffer::new(), 10_000);
        let ranges: Vec<Carved> = [1000, 0, 4112, 3000].map(|len| carving.carve(len).unwrap()).into();
        assert_eq!(ranges.iter().map(Carved::start).collect::<Vec<_>>(), [0, 1000, 1000, 5112]);
        assert!(carving.carve(5000).is_none(), "there is no more than was asked for");
        std::thread::scope(|scope| {
            for (number, mut range) in ranges.into_iter().enumerate() {
                scope.spawn(move || range.fill(number as u8 + 1));
            }
        });
        let buffer = carving.into_buffer().unwrap();
        assert_eq!(buffer.len(), 8112);
        assert!(buffer[..1000].iter().all(|byte| *byte == 1));
        assert!(buffer[1000..5112].iter().all(|byte| *byte == 3));
        assert!(buffer[5112..].iter().all(|byte| *byte == 4));
    }

    #[test]
    fn a_buffer_stays_away_as_long_as_a_range_of_it_is_held() {
        let mut carving = Carving::new(AlignedBuffer::with_capacity(8192), 8192);
        let mut range = carving.carve(100).unwrap();
        let carving = carving.into_buffer().unwrap_err();
        range.fill(7);
        drop(range);
        assert_eq!(*carving.into_buffer().unwrap(), [7; 100]);
    }

    #[test]
    fn what_a_reused_buffer_held_is_overwritten_and_fresh_memory_is_zero() {
        let mut buffer = AlignedBuffer::with_capacity(8192);
        buffer.extend_from_slice(&[9; 50]);
        let mut carving = Carving::new(buffer, 8192);
        let range = carving.carve(60).unwrap();
        assert_eq!((&range[..50], &range[50..]), (&[9; 50][..], &[0; 10][..]));
        drop(range);
        assert_eq!(carving.into_buffer().unwrap().len(), 60);
    }
}

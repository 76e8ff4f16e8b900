//! The memory of one connection: a stated number of buffers in two sizes, made when first needed and used again.
//!
//! Each connection has its own, so that one that does not read its answers holds back nobody else. Who finds none
//! waits: that is only ever the connection's own reader, so its client is not read from until answers have left.

use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

/// Enough for what file systems mostly ask for.
pub(crate) const SMALL_BYTES: usize = 64 * 1024;
/// The unit in which longer requests are cut; what the log puts into one group.
pub(crate) const LARGE_BYTES: usize = 1 << 20;

/// Buffers that are spare, and how many more may be made.
pub(crate) struct Buffers {
    state: Mutex<[Shelf; 2]>,
    returned: Condvar,
}

struct Shelf {
    spare: Vec<Vec<u8>>,
    unmade: usize,
    bytes: usize,
}

/// A buffer in use; it goes back when dropped. Its bytes are some earlier request's until they are overwritten.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Arc<Buffers>,
}

impl Buffers {
    pub(crate) fn new(small: usize, large: usize) -> Arc<Self> {
        let shelf = |unmade, bytes| Shelf { spare: Vec::new(), unmade, bytes };
        Arc::new(Self {
            state: Mutex::new([shelf(small, SMALL_BYTES), shelf(large, LARGE_BYTES)]),
            returned: Condvar::new(),
        })
    }

    /// One buffer of at least `length` bytes, which are at most [`LARGE_BYTES`]. Waits for it.
    pub(crate) fn take(self: &Arc<Self>, length: usize) -> Buffer {
        let size = usize::from(length > SMALL_BYTES);
        let mut state = self.state.lock();
        loop {
            if let Some(bytes) = state[size].take() {
                return Buffer { bytes, home: self.clone() };
            }
            self.returned.wait(&mut state);
        }
    }

    /// So many large buffers at once, so that nobody waits while holding half of what it needs. There are that many.
    pub(crate) fn take_large(self: &Arc<Self>, count: usize) -> Vec<Buffer> {
        let mut state = self.state.lock();
        while state[1].count() < count {
            self.returned.wait(&mut state);
        }
        let taken = (0..count).filter_map(|_| state[1].take());
        taken.map(|bytes| Buffer { bytes, home: self.clone() }).collect()
    }
}

impl Shelf {
    fn count(&self) -> usize {
        self.spare.len() + self.unmade
    }

    fn take(&mut self) -> Option<Vec<u8>> {
        if let Some(bytes) = self.spare.pop() {
            return Some(bytes);
        }
        self.unmade = self.unmade.checked_sub(1)?;
        Some(vec![0; self.bytes])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let size = usize::from(bytes.len() > SMALL_BYTES);
        self.home.state.lock()[size].spare.push(bytes);
        self.home.returned.notify_one();
    }
}

impl std::ops::Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::ops::DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_are_made_than_stated_and_all_come_back() {
        let buffers = Buffers::new(2, 3);
        for _ in 0..3 {
            let small = [buffers.take(1), buffers.take(SMALL_BYTES)];
            let large = buffers.take_large(3);
            assert!(small.iter().all(|buffer| buffer.len() == SMALL_BYTES));
            assert!(large.iter().all(|buffer| buffer.len() == LARGE_BYTES));
            assert!(buffers.state.lock().iter().all(|shelf| shelf.count() == 0));
        }
        assert_eq!(buffers.state.lock().each_ref().map(|shelf| (shelf.count(), shelf.unmade)), [(2, 0), (3, 0)]);
    }

    #[test]
    fn who_finds_none_waits_for_one() {
        let buffers = Buffers::new(1, 1);
        let held = buffers.take(1);
        std::thread::scope(|scope| {
            let other = scope.spawn(|| buffers.take(1).len());
            std::thread::sleep(std::time::Duration::from_millis(20));
            assert!(!other.is_finished());
            drop(held);
            assert_eq!(other.join().unwrap(), SMALL_BYTES);
        });
    }
}

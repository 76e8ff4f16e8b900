//! Work that waits for a worker, first come first served over all connections. Its length is bounded by what
//! connections may have in flight.

use std::collections::VecDeque;

use parking_lot::{Condvar, Mutex};

/// A queue that many put into and many take from.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { state: Mutex::new(State { waiting: VecDeque::new(), closed: false }), changed: Condvar::new() }
    }
}

impl<T> Queue<T> {
    /// Puts one in. After the end it is dropped: nobody would take it.
    pub(crate) fn put(&self, one: T) {
        let mut state = self.state.lock();
        if state.closed {
            // Outside of the lock: dropping it may take others.
            drop(state);
            drop(one);
            return;
        }
        state.waiting.push_back(one);
        drop(state);
        self.changed.notify_one();
    }

    /// Takes the oldest, and waits for it; nothing when the queue is closed and empty.
    pub(crate) fn take(&self) -> Option<T> {
        let mut state = self.state.lock();
        loop {
            if let Some(one) = state.waiting.pop_front() {
                return Some(one);
            }
            if state.closed {
                return None;
            }
            self.changed.wait(&mut state);
        }
    }

    /// What waits is still taken; nothing is added.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }
}

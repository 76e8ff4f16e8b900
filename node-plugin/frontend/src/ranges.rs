//! Who may work on which bytes: writes of whole blocks share, a write of a part of a block is alone on it.
//!
//! A part of a block is written by reading the block, changing it and writing it back. Whatever another request wrote in
//! between would be undone, so nobody else may write there meanwhile. Requests that touch the same bytes get their turn
//! in the order in which they came, so nobody starves and nothing can deadlock: each holds one range.

use std::ops::Range;

use parking_lot::{Condvar, Mutex};

struct Claim {
    ticket: u64,
    range: Range<u64>,
    is_alone: bool,
}

struct State {
    next_ticket: u64,
    /// In the order of arrival, those that wait as well.
    claims: Vec<Claim>,
    waiting: usize,
}

/// All ranges of one file that somebody works on.
pub(crate) struct Ranges {
    state: Mutex<State>,
    freed: Condvar,
}

impl Ranges {
    /// Room for so many requests at once; more would allocate.
    pub(crate) fn with_capacity(requests: usize) -> Self {
        let state = State { next_ticket: 0, claims: Vec::with_capacity(requests), waiting: 0 };
        Self { state: Mutex::new(state), freed: Condvar::new() }
    }

    /// Waits until nobody works there who must not be there as well.
    pub(crate) fn claim(&self, range: Range<u64>, is_alone: bool) -> Claimed<'_> {
        let mut state = self.state.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.claims.push(Claim { ticket, range: range.clone(), is_alone });
        while state.claims.iter().take_while(|earlier| earlier.ticket != ticket).any(|earlier| {
            (earlier.is_alone || is_alone) && earlier.range.start < range.end && range.start < earlier.range.end
        }) {
            state.waiting += 1;
            self.freed.wait(&mut state);
            state.waiting -= 1;
        }
        Claimed { ranges: self, ticket }
    }
}

/// Works on its range until it is dropped.
pub(crate) struct Claimed<'a> {
    ranges: &'a Ranges,
    ticket: u64,
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        let mut state = self.ranges.state.lock();
        // Not `swap_remove`: the order is the order of turns.
        state.claims.retain(|claim| claim.ticket != self.ticket);
        if state.waiting > 0 {
            self.ranges.freed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn sharers_do_not_wait_for_each_other_nor_for_other_blocks() {
        let ranges = Ranges::with_capacity(4);
        let first = ranges.claim(0..8192, false);
        let second = ranges.claim(4096..8192, false);
        let elsewhere = ranges.claim(8192..12288, true);
        drop((first, second, elsewhere));
        assert!(ranges.state.lock().claims.is_empty());
    }

    #[test]
    fn whoever_is_alone_is_alone() {
        let ranges = Ranges::with_capacity(4);
        let counter = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (ranges, counter) = (&ranges, &counter);
                scope.spawn(move || {
                    for round in 0..2000_u64 {
                        let _claimed = ranges.claim(round % 3..round % 3 + 4, thread != 0);
                        if thread != 0 {
                            let seen = counter.load(Ordering::Relaxed);
                            std::hint::spin_loop();
                            counter.store(seen + 1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(counter.into_inner(), 6000);
    }
}

//! One limit on memory for everything on a node that keeps what it could do without.
//!
//! Caches, overlays and buffers of all volumes share one [`MemoryBudget`]. Who takes memory charges it; who keeps pages
//! that could be read again registers as a [`Reclaim`], so that a busy volume can have what an idle one no longer
//! needs. The budget never refuses: what must be kept (changes not yet in an index) is charged although the cap is
//! reached, and everybody else gives way.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// What it costs to do without a piece of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worth {
    /// One read brings it back: leaf pages, data.
    Cheap,
    /// Many later reads would each cost more without it: inner nodes.
    Dear,
}

/// Something that can give memory back.
pub trait Reclaim: Send + Sync {
    /// Gives back about `bytes`, nothing dearer than `worth`; answers how many it gave. It is called without any lock
    /// of the budget held, by any thread that took memory.
    fn reclaim(&self, bytes: usize, worth: Worth) -> usize;
}

struct Shared {
    cap: usize,
    used: AtomicUsize,
    /// Whose turn it is to give way first, so that no volume always pays for the others.
    turn: AtomicUsize,
    sources: Mutex<Vec<Weak<dyn Reclaim>>>,
}

/// A cap on memory, shared by cloning.
#[derive(Clone)]
pub struct MemoryBudget {
    shared: Arc<Shared>,
}

impl MemoryBudget {
    /// The cap of a node that was told nothing else.
    pub const DEFAULT_CAP_BYTES: usize = 32 << 20;

    /// A budget of `cap` bytes.
    #[must_use]
    pub fn new(cap: usize) -> Self {
        let shared = Shared { cap, used: AtomicUsize::new(0), turn: AtomicUsize::new(0), sources: Default::default() };
        Self { shared: Arc::new(shared) }
    }

    /// The cap in bytes.
    #[must_use]
    pub fn cap(&self) -> usize {
        self.shared.cap
    }

    /// Bytes charged now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.shared.used.load(Ordering::Relaxed)
    }

    /// Whether somebody should give way.
    #[must_use]
    pub fn over(&self) -> bool {
        self.excess() > 0
    }

    /// Bytes that should be given back. A sixteenth below the cap is kept free for what is charged between one
    /// [`Self::relieve`] and the next: tables grow by doubling, and threads charge side by side.
    #[must_use]
    pub fn excess(&self) -> usize {
        self.used().saturating_sub(self.shared.cap - self.shared.cap / 16)
    }

    /// Charges `bytes` until the charge is dropped. Never refuses; call [`Self::relieve`] afterwards.
    #[must_use]
    pub fn charge(&self, bytes: usize) -> Charge {
        let charge = Charge { shared: Arc::clone(&self.shared), bytes: AtomicUsize::new(0) };
        charge.add(bytes);
        charge
    }

    /// Adds somebody who can give memory back, for as long as it lives.
    pub fn register(&self, source: Weak<dyn Reclaim>) {
        let mut sources = self.shared.sources.lock();
        sources.retain(|source| source.strong_count() > 0);
        sources.push(source);
    }

    /// Brings the use well under the cap, if anybody can still give something: first what is cheap everywhere, then what
    /// is dear. Call it with no lock held that a [`Reclaim`] could need.
    pub fn relieve(&self) {
        if !self.over() {
            return;
        }
        let sources: Vec<Arc<dyn Reclaim>> = {
            let sources = self.shared.sources.lock();
            sources.iter().filter_map(Weak::upgrade).collect()
        };
        let first = self.shared.turn.fetch_add(1, Ordering::Relaxed);
        for worth in [Worth::Cheap, Worth::Dear] {
            // The first round shares the burden, the second takes what is left to take.
            for share in [sources.len().max(1), 1] {
                for offset in 0..sources.len() {
                    let excess = self.excess();
                    if excess == 0 {
                        return;
                    }
                    sources[(first.wrapping_add(offset)) % sources.len()].reclaim(excess.div_ceil(share), worth);
                }
            }
        }
    }
}

impl fmt::Debug for MemoryBudget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "MemoryBudget({} of {} bytes)", self.used(), self.cap())
    }
}

/// Bytes charged to a budget by one owner; given back when dropped.
pub struct Charge {
    shared: Arc<Shared>,
    bytes: AtomicUsize,
}

impl Charge {
    /// Bytes this charge holds now.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Charges more.
    pub fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives some back; never more than it holds.
    pub fn sub(&self, bytes: usize) {
        let mut given = 0;
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
            given = held.min(bytes);
            Some(held - given)
        });
        self.shared.used.fetch_sub(given, Ordering::Relaxed);
    }

    /// Makes it hold exactly `bytes`. Only for a charge that one owner changes.
    pub fn resize(&self, bytes: usize) {
        let held = self.bytes();
        if bytes >= held { self.add(bytes - held) } else { self.sub(held - bytes) }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.shared.used.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Charge({} bytes)", self.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pages(Charge, Worth);

    impl Reclaim for Pages {
        fn reclaim(&self, bytes: usize, worth: Worth) -> usize {
            if worth != self.1 {
                return 0;
            }
            let before = self.0.bytes();
            self.0.sub(bytes);
            before - self.0.bytes()
        }
    }

    #[test]
    fn a_charge_ends_with_its_owner() {
        let budget = MemoryBudget::new(160);
        let charge = budget.charge(60);
        charge.resize(155);
        assert_eq!((budget.used(), budget.excess()), (155, 5));
        charge.sub(1000);
        assert_eq!(budget.used(), 0);
        charge.add(7);
        drop(charge);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn the_cheap_gives_way_before_the_dear_and_all_share() {
        let budget = MemoryBudget::new(160);
        let dear = Arc::new(Pages(budget.charge(150), Worth::Dear));
        let cheap: Vec<_> = (0..2).map(|_| Arc::new(Pages(budget.charge(50), Worth::Cheap))).collect();
        let sources: [Arc<dyn Reclaim>; 3] = [dear.clone(), cheap[0].clone(), cheap[1].clone()];
        sources.iter().for_each(|source| budget.register(Arc::downgrade(source)));
        drop(sources);
        budget.relieve();
        assert_eq!((budget.used(), dear.0.bytes()), (150, 150));
        let must = budget.charge(40);
        budget.relieve();
        assert_eq!((budget.used(), dear.0.bytes()), (150, 110));
        drop((dear, cheap));
        must.resize(500);
        budget.relieve();
        assert_eq!(budget.excess(), 350);
    }
}

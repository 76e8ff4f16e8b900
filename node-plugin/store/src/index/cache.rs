//! Pages in memory, as packed as on the disk: leaves give way first, nodes only when no leaf is left.
//!
//! A leaf is cached by its number, so that a lookup that hits needs no walk through the nodes. Each cached leaf carries
//! the base that last found it right. After a base changed, the first lookup of a leaf compares places once: where the
//! new base names the same page, the page is as good as before. Pages are never overwritten, and no file number is
//! used twice, so that equal places are equal pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use holdfast_log::leaf::LeafPage;
use holdfast_log::node::{NodePage, PageRef};
use holdfast_ports::budget::{Charge, MemoryBudget, Reclaim, Worth};
use parking_lot::RwLock;

use super::arena::mix;
use super::clock::Clock;

const SHARDS: usize = 16;
/// What an allocator adds to a page: its own head, and the counts of the `Arc`.
const ALLOCATION_BYTES: usize = 48;

struct CachedLeaf {
    base: AtomicU64,
    at: PageRef,
    page: Arc<LeafPage>,
    /// What a merge made of it: the page of the next base, if that comes to be.
    next: Option<(PageRef, Arc<LeafPage>)>,
}

impl CachedLeaf {
    fn bytes(&self) -> usize {
        let next = self.next.as_ref().map_or(0, |(_, page)| leaf_bytes(page));
        leaf_bytes(&self.page) + next + Clock::<u64, Self>::SLOT_BYTES
    }
}

fn leaf_bytes(page: &LeafPage) -> usize {
    page.memory_bytes() + ALLOCATION_BYTES
}

fn node_hash(page: PageRef) -> u64 {
    mix(page.offset ^ mix(page.file.into()))
}

type NodeClock = Clock<(u32, u64), Arc<NodePage>>;

/// The cached pages of one index.
pub struct PageCache {
    leaves: [RwLock<Clock<u64, CachedLeaf>>; SHARDS],
    nodes: [RwLock<NodeClock>; SHARDS],
    /// Where the search for victims goes on.
    turn: AtomicUsize,
    charge: Charge,
}

impl PageCache {
    /// Nothing cached.
    pub fn new(budget: &MemoryBudget) -> Self {
        let charge = budget.charge(size_of::<Self>());
        Self { leaves: Default::default(), nodes: Default::default(), turn: AtomicUsize::new(0), charge }
    }

    /// Bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.charge.bytes()
    }

    fn leaves(&self, number: u64) -> &RwLock<Clock<u64, CachedLeaf>> {
        &self.leaves[number as usize % SHARDS]
    }

    /// Asks a cached leaf that `base` found right before.
    #[inline]
    pub fn known_leaf<T>(&self, base: u64, number: u64, ask: impl FnOnce(&Arc<LeafPage>) -> T) -> Option<T> {
        let leaves = self.leaves(number).read();
        let cached = leaves.get(mix(number), number)?;
        (cached.base.load(Ordering::Relaxed) == base).then(|| ask(&cached.page))
    }

    /// A cached leaf, if it is the page at `at`; `base` finds it right from now on.
    pub fn leaf_at(&self, base: u64, number: u64, at: PageRef) -> Option<Arc<LeafPage>> {
        {
            let leaves = self.leaves(number).read();
            let cached = leaves.get(mix(number), number)?;
            if cached.at == at {
                cached.base.fetch_max(base, Ordering::Relaxed);
                return Some(Arc::clone(&cached.page));
            }
            cached.next.as_ref().filter(|(next, _)| *next == at)?;
        }
        let mut leaves = self.leaves(number).write();
        let (cached, bytes) = leaves.get_mut(mix(number), number)?;
        let (at, page) = cached.next.take_if(|(next, _)| *next == at)?;
        (cached.at, cached.page, *cached.base.get_mut()) = (at, Arc::clone(&page), base);
        let now = cached.bytes();
        self.charge.sub(bytes.saturating_sub(now));
        *bytes = now;
        Some(page)
    }

    /// A cached leaf, if it is the page at `at`; a look that leaves no trace.
    pub fn peek_leaf(&self, number: u64, at: PageRef) -> Option<Arc<LeafPage>> {
        let leaves = self.leaves(number).read();
        leaves.get(mix(number), number).filter(|cached| cached.at == at).map(|cached| Arc::clone(&cached.page))
    }

    /// Keeps a leaf that was read for `base`. A leaf of a later base is not displaced.
    pub fn keep_leaf(&self, base: u64, number: u64, at: PageRef, page: &Arc<LeafPage>) {
        let new = CachedLeaf { base: AtomicU64::new(base), at, page: Arc::clone(page), next: None };
        let bytes = new.bytes();
        let mut leaves = self.leaves(number).write();
        match leaves.get_mut(mix(number), number) {
            Some((cached, old)) => {
                if *cached.base.get_mut() <= base {
                    *cached = new;
                    self.charge.add(bytes);
                    self.charge.sub(std::mem::replace(old, bytes));
                }
            }
            None => {
                leaves.insert(mix(number), number, new, bytes);
                self.charge.add(bytes);
            }
        }
    }

    /// Keeps what a merge made of a leaf beside the leaf, if that is cached.
    pub fn keep_next(&self, number: u64, at: PageRef, page: &Arc<LeafPage>) {
        let mut leaves = self.leaves(number).write();
        if let Some((cached, bytes)) = leaves.get_mut(mix(number), number) {
            cached.next = Some((at, Arc::clone(page)));
            let now = cached.bytes();
            self.charge.add(now);
            self.charge.sub(std::mem::replace(bytes, now));
        }
    }

    /// A cached node.
    pub fn node(&self, at: PageRef) -> Option<Arc<NodePage>> {
        let hash = node_hash(at);
        let nodes = self.nodes[hash as usize % SHARDS].read();
        nodes.get(hash, (at.file, at.offset)).map(Arc::clone)
    }

    /// Keeps a node.
    pub fn keep_node(&self, at: PageRef, node: &Arc<NodePage>) {
        let hash = node_hash(at);
        let mut nodes = self.nodes[hash as usize % SHARDS].write();
        if nodes.get(hash, (at.file, at.offset)).is_none() {
            let bytes = node.memory_bytes() + ALLOCATION_BYTES + NodeClock::SLOT_BYTES;
            nodes.insert(hash, (at.file, at.offset), Arc::clone(node), bytes);
            self.charge.add(bytes);
        }
    }

    /// Forgets nodes that no base needs: being dear, they would push out every leaf before they went themselves.
    pub fn drop_nodes(&self, pages: &[PageRef]) {
        for &at in pages {
            let hash = node_hash(at);
            let freed = self.nodes[hash as usize % SHARDS].write().forget(hash, (at.file, at.offset));
            self.charge.sub(freed.unwrap_or(0));
        }
    }

    /// How many leaves and nodes are cached.
    pub fn counts(&self) -> (usize, usize) {
        (
            self.leaves.iter().map(|leaves| leaves.read().len()).sum(),
            self.nodes.iter().map(|nodes| nodes.read().len()).sum(),
        )
    }
}

/// Evicts from one shard after the other until `bytes` are given back or nothing is left.
fn evict<K: Copy + Eq, V>(shards: &[RwLock<Clock<K, V>>], turn: &AtomicUsize, bytes: usize) -> usize {
    let (mut given, mut empty) = (0, 0);
    while given < bytes && empty < shards.len() {
        let shard = &shards[turn.fetch_add(1, Ordering::Relaxed) % shards.len()];
        match shard.write().evict() {
            Some(freed) => (given, empty) = (given + freed, 0),
            None => empty += 1,
        }
    }
    given
}

impl Reclaim for PageCache {
    fn reclaim(&self, bytes: usize, worth: Worth) -> usize {
        let given = match worth {
            Worth::Cheap => evict(&self.leaves, &self.turn, bytes),
            Worth::Dear => evict(&self.nodes, &self.turn, bytes),
        };
        self.charge.sub(given);
        given
    }
}

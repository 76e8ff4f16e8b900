//! The trusted tree: pages of the replica's base, believed only as far as their hashes lead up to the trusted root.
//!
//! A page that was verified is kept as long as the node's memory budget allows. It carries the hash it was verified
//! against, so that one of an older base is never taken for one of a newer; and a stamp, so that a leaf that was found
//! under the present root is found again without walking down to it.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashMap;
use holdfast_log::hash::TreeHash;
use holdfast_log::leaf::LeafPage;
use holdfast_log::node::{NodePage, ROOT_LEVEL, child_towards, node_above};
use holdfast_log::seam::Replica;
use holdfast_ports::budget::{Charge, MemoryBudget, Reclaim, Worth};
use parking_lot::Mutex;

use crate::changes::{Changes, Mix};
use crate::error::{SessionError, TreeFault};

/// What a read goes by. It changes as a whole when a base begins and when one is taken over.
#[derive(Clone)]
pub(crate) struct View {
    /// Counts bases.
    pub base: u64,
    /// The root of the base.
    pub root: TreeHash,
    /// Changes since; writers add to it.
    pub active: Arc<Changes>,
    /// Changes that the next base takes in, while one is being made.
    pub frozen: Option<Arc<Changes>>,
}

#[derive(Clone)]
enum Page {
    Leaf(Arc<LeafPage>),
    Node(Arc<NodePage>),
}

impl Page {
    fn memory_bytes(&self) -> usize {
        // The slot in the map and in the queue come on top.
        64 + match self {
            Self::Leaf(page) => page.memory_bytes(),
            Self::Node(page) => size_of::<NodePage>() + 48 * page.len(),
        }
    }
}

struct Slot {
    hash: TreeHash,
    /// The base under which it was last found.
    stamp: u64,
    /// Used since the clock's hand passed.
    used: bool,
    page: Page,
}

#[derive(Default)]
struct Shard {
    slots: HashMap<u64, Slot, Mix>,
    /// The clock: leaves and nodes turn apart, because nodes give way last.
    leaves: VecDeque<u64>,
    nodes: VecDeque<u64>,
}

const SHARDS: usize = 16;

pub(crate) struct TrustCache {
    shards: Box<[Mutex<Shard>]>,
    charge: Charge,
}

/// A page's key: its level above its number.
const fn key(level: u8, index: u64) -> u64 {
    (level as u64) << 56 | index
}

impl TrustCache {
    pub(crate) fn new(budget: &MemoryBudget) -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let cache = Arc::new(Self { shards, charge: budget.charge(0) });
        let source: Arc<dyn Reclaim> = cache.clone();
        budget.register(Arc::downgrade(&source));
        cache
    }

    fn shard(&self, key: u64) -> &Mutex<Shard> {
        // Neighbouring leaves are read together; that they lie in different shards keeps threads apart.
        &self.shards[(key ^ key >> 56) as usize % SHARDS]
    }

    /// A leaf that was found under this very base.
    fn stamped_leaf(&self, number: u64, base: u64) -> Option<Arc<LeafPage>> {
        let mut shard = self.shard(number).lock();
        let slot = shard.slots.get_mut(&number).filter(|slot| slot.stamp == base)?;
        slot.used = true;
        match &slot.page {
            Page::Leaf(page) => Some(Arc::clone(page)),
            Page::Node(_) => None,
        }
    }

    /// A page that was verified against this hash. It is stamped with the base that led here.
    fn verified(&self, key: u64, hash: TreeHash, base: u64) -> Option<Page> {
        let mut shard = self.shard(key).lock();
        let slot = shard.slots.get_mut(&key).filter(|slot| slot.hash == hash)?;
        slot.used = true;
        slot.stamp = slot.stamp.max(base);
        Some(slot.page.clone())
    }

    fn holds(&self, key: u64) -> bool {
        self.shard(key).lock().slots.contains_key(&key)
    }

    /// Keeps a page that was verified, in place of an older one.
    fn keep(&self, key: u64, hash: TreeHash, base: u64, page: Page) {
        let mut shard = self.shard(key).lock();
        self.charge.add(page.memory_bytes());
        let is_leaf = matches!(page, Page::Leaf(_));
        let slot = Slot { hash, stamp: base, used: true, page };
        match shard.slots.insert(key, slot) {
            Some(old) => self.charge.sub(old.page.memory_bytes()),
            None if is_leaf => shard.leaves.push_back(key),
            None => shard.nodes.push_back(key),
        }
    }
}

impl Shard {
    /// Turns the clock until about `bytes` are given back.
    fn evict(&mut self, bytes: usize, worth: Worth) -> usize {
        let Self { slots, leaves, nodes } = self;
        let queue = if worth == Worth::Cheap { leaves } else { nodes };
        let mut given = 0;
        // Twice around at most: the first turn takes the marks away.
        for _ in 0..2 * queue.len() {
            if given >= bytes {
                break;
            }
            let Some(key) = queue.pop_front() else { break };
            match slots.get_mut(&key) {
                Some(slot) if slot.used => {
                    slot.used = false;
                    queue.push_back(key);
                }
                Some(slot) => {
                    given += slot.page.memory_bytes();
                    slots.remove(&key);
                }
                None => {}
            }
        }
        given
    }
}

impl Reclaim for TrustCache {
    fn reclaim(&self, bytes: usize, worth: Worth) -> usize {
        let mut given = 0;
        for shard in &self.shards {
            if given >= bytes {
                break;
            }
            let share = (bytes / SHARDS).max(1).min(bytes - given);
            let freed = shard.lock().evict(share, worth);
            self.charge.sub(freed);
            given += freed;
        }
        given
    }
}

/// The tree below one root.
pub(crate) struct Trust<'a> {
    pub cache: &'a TrustCache,
    pub replica: &'a dyn Replica,
    pub budget: &'a MemoryBudget,
    pub root: TreeHash,
    pub base: u64,
}

impl Trust<'_> {
    /// A verified leaf; `None` when the tree says that nothing in it is mapped.
    pub(crate) fn leaf(&self, number: u64) -> Result<Option<Arc<LeafPage>>, SessionError> {
        if self.root == TreeHash::EMPTY {
            return Ok(None);
        }
        if let Some(page) = self.cache.stamped_leaf(number, self.base) {
            return Ok(Some(page));
        }
        let Some(expected) = self.leaf_hash(number)? else {
            return Ok(None);
        };
        if let Some(Page::Leaf(page)) = self.cache.verified(key(0, number), expected, self.base) {
            return Ok(Some(page));
        }
        let page = self.replica.leaf(number).map_err(SessionError::Replica)?;
        let got = page.state_hash();
        if got != expected {
            return Err(TreeFault::Leaf { number, expected, got }.into());
        }
        self.cache.keep(key(0, number), expected, self.base, Page::Leaf(Arc::clone(&page)));
        self.budget.relieve();
        Ok(Some(page))
    }

    /// What a leaf must hash to; `None` when nothing in it is mapped.
    pub(crate) fn leaf_hash(&self, number: u64) -> Result<Option<TreeHash>, SessionError> {
        let mut expected = self.root;
        for level in (1..=ROOT_LEVEL).rev() {
            if expected == TreeHash::EMPTY {
                return Ok(None);
            }
            let node = self.node(level, node_above(level, number), expected)?;
            match node.child(child_towards(level, number)) {
                Some(child) => expected = child.hash,
                None => return Ok(None),
            }
        }
        Ok(Some(expected))
    }

    /// The verified node at a place; `None` when nothing below it is mapped.
    pub(crate) fn node_at(&self, level: u8, index: u64) -> Result<Option<Arc<NodePage>>, SessionError> {
        let leaf = index << (8 * u32::from(level));
        let mut expected = self.root;
        for above in (level..=ROOT_LEVEL).rev() {
            if expected == TreeHash::EMPTY {
                return Ok(None);
            }
            let node = self.node(above, node_above(above, leaf), expected)?;
            if above == level {
                return Ok(Some(node));
            }
            match node.child(child_towards(above, leaf)) {
                Some(child) => expected = child.hash,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// A node that hashes to `expected`.
    pub(crate) fn node(&self, level: u8, index: u64, expected: TreeHash) -> Result<Arc<NodePage>, SessionError> {
        if let Some(Page::Node(page)) = self.cache.verified(key(level, index), expected, self.base) {
            return Ok(page);
        }
        let page = self.replica.node(level, index).map_err(SessionError::Replica)?;
        let got = page.hash();
        if got != expected || page.level() != level {
            return Err(TreeFault::Node { level, index, expected, got }.into());
        }
        self.cache.keep(key(level, index), expected, self.base, Page::Node(Arc::clone(&page)));
        self.budget.relieve();
        Ok(page)
    }

    /// The first leaf at `from` or right of it in which anything is mapped.
    pub(crate) fn mapped_leaf_from(&self, from: u64) -> Result<Option<u64>, SessionError> {
        self.mapped_below(ROOT_LEVEL, 0, self.root, from)
    }

    fn mapped_below(&self, level: u8, index: u64, hash: TreeHash, from: u64) -> Result<Option<u64>, SessionError> {
        if hash == TreeHash::EMPTY {
            return Ok(None);
        }
        if level == 0 {
            return Ok(Some(index));
        }
        let node = self.node(level, index, hash)?;
        let first = index << (8 * u32::from(level));
        let mut child = if from <= first { 0 } else { ((from - first) >> (8 * (u32::from(level) - 1))).min(256) };
        while child <= 255 {
            let Some((found, below)) = node.first_from(child as u8) else { break };
            let index = index << 8 | u64::from(found);
            if let Some(leaf) = self.mapped_below(level - 1, index, below.hash, from)? {
                return Ok(Some(leaf));
            }
            child = u64::from(found) + 1;
        }
        Ok(None)
    }

    /// Whether this page is the verified one, without hashing it again.
    pub(crate) fn is_cached_leaf(&self, number: u64, expected: TreeHash, page: &Arc<LeafPage>) -> bool {
        match self.cache.verified(key(0, number), expected, self.base) {
            Some(Page::Leaf(known)) => Arc::ptr_eq(&known, page) || known == *page,
            Some(Page::Node(_)) | None => false,
        }
    }

    /// Whether a page of this leaf is in the cache, so that its successor is worth keeping too.
    pub(crate) fn has_leaf(&self, number: u64) -> bool {
        self.cache.holds(key(0, number))
    }

    /// The same of a node.
    pub(crate) fn has_node(&self, level: u8, index: u64) -> bool {
        self.cache.holds(key(level, index))
    }

    /// Keeps a leaf whose hash was computed here.
    pub(crate) fn keep_leaf(&self, number: u64, hash: TreeHash, page: Arc<LeafPage>) {
        self.cache.keep(key(0, number), hash, self.base, Page::Leaf(page));
    }

    /// Keeps a node that was computed here.
    pub(crate) fn keep_node(&self, index: u64, hash: TreeHash, page: NodePage) {
        self.cache.keep(key(page.level(), index), hash, self.base, Page::Node(Arc::new(page)));
    }
}

impl crate::Session {
    pub(crate) fn current_view(&self) -> View {
        View::clone(&self.view.load())
    }

    /// Decides something by the present view, and anew when a base was taken over meanwhile: the replica switches a
    /// moment before this session does, and in between its pages do not fit the view.
    pub(crate) fn by_view<T>(&self, decide: impl Fn(&View) -> Result<T, SessionError>) -> Result<T, SessionError> {
        loop {
            let view = self.view.load();
            let decided = decide(&view);
            if decided.is_ok() {
                return decided;
            }
            // Whoever switches holds this from before the replica does it until the view says so.
            drop(self.switching.lock());
            if self.view.load().base == view.base {
                return decided;
            }
        }
    }

    /// The tree that a view goes by.
    pub(crate) fn trust<'a>(&'a self, view: &View) -> Trust<'a> {
        Trust { cache: &self.trust, replica: &*self.replica, budget: &self.budget, root: view.root, base: view.base }
    }
}

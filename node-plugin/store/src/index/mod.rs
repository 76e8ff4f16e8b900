//! The index: where the newest version of each block lies, and the state tree over all of them.
//!
//! ```text
//!   put, unmap, relocate ──► active ─freeze─► frozen ─merge─► next base
//!   lookup: active ──► frozen ──► base, the newest seq wins
//! ```
//!
//! The **base** is immutable: pages in index files, leaves of 512 blocks under four levels of nodes, whose hashes are
//! the state tree. It holds exactly the versions up to a committed seq, so a checkpoint can name it. Everything newer is
//! in memory, in one or two generations of an **overlay**. A **merge** makes the next base of the old one and the frozen
//! generation, in steps, while lookups and changes go on.
//!
//! - [`root`]: what a checkpoint remembers of a base; [`base`], [`pages`]: ways through it;
//! - [`overlay`] = [`shard`]s of [`record`]s in [`arena`]s, and [`ranges`];
//! - [`merge`], [`writer`], [`live`]: the next base;
//! - [`cache`], [`clock`]: pages in memory, under one budget for the whole node;
//! - and [`verify`], the scrub.
//!
//! Rules that hold throughout: of two changes of a block the one with the higher seq wins, whichever came first; a
//! relocation is compare-and-set, and what it does not find it leaves alone; a page that is not what its parent says is
//! an error with file and offset, never an entry.

mod arena;
mod base;
mod cache;
mod clock;
mod error;
mod live;
mod merge;
mod overlay;
mod pages;
mod ranges;
mod record;
mod root;
mod shard;
mod superseded;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

pub use error::IndexError;
pub use live::LiveMaps;
pub use root::{IndexFile, IndexRoot};
pub use verify::IndexReport;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_log::leaf::{LEAF_BLOCKS, LeafPage};
use holdfast_log::node::{NodePage, ROOT_LEVEL, leaf_of, node_above};
use holdfast_log::place::{Entry, Place, Version};
use holdfast_log::seam::MergedLeaf;
use holdfast_ports::Disk;
use holdfast_ports::budget::{MemoryBudget, Reclaim};
use holdfast_vocabulary::{BlockIndex, Seq, VolumeSize};
use parking_lot::{Mutex, RwLock};

use base::{Base, Pages};
use cache::PageCache;
use merge::{Merge, Target};
use overlay::{Overlay, Seen};
use record::Change;
use writer::Tail;

/// The index of one store.
pub struct Index {
    disk: Arc<dyn Disk>,
    pages: Pages,
    state: RwLock<State>,
    /// Held through every step of a merge; locked before `state`, if both are.
    workshop: Mutex<Workshop>,
    garbage_bytes: u64,
}

/// What a lookup needs, always consistent.
struct State {
    base: Arc<Base>,
    frozen: Option<Arc<Overlay>>,
    active: Arc<Overlay>,
    /// Everything up to this seq is in `frozen` or `base` already.
    floor: Seq,
}

struct Workshop {
    merge: Option<Merge>,
    tail: Option<Tail>,
    next_file: u32,
}

/// Figures of an index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Leaf pages that had to be read from the disk.
    pub cold_reads: u64,
    /// Nodes that had to be read from the disk.
    pub node_reads: u64,
    /// Leaf pages in memory.
    pub cached_leaves: usize,
    /// Nodes in memory, without the root.
    pub cached_nodes: usize,
    /// Bytes of memory that cached pages take.
    pub cache_bytes: usize,
    /// Bytes of memory that changes take.
    pub overlay_bytes: usize,
}

/// Dead pages that are never worth a rewrite, however large the store is.
const GARBAGE_BYTES_MAX: u64 = 1 << 20;

impl Index {
    /// The index of a store that never had one.
    pub fn empty(disk: Arc<dyn Disk>, budget: &MemoryBudget) -> Result<Self, IndexError> {
        Self::open(disk, &IndexRoot::default(), budget)
    }

    /// The index as of a base. What came later must be replayed into it.
    pub fn open(disk: Arc<dyn Disk>, root: &IndexRoot, budget: &MemoryBudget) -> Result<Self, IndexError> {
        let base = Base::open(&*disk, root)?;
        // A crash may have left files behind that no root knows. Their numbers are not used again, so that a page's
        // place means one page for ever.
        let names = disk.list()?;
        let left = names.iter().filter_map(|name| pages::file_number(name)).max();
        let next_file = left.map_or(0, |number| number.saturating_add(1)).max(root.next_file);
        let cache = Arc::new(PageCache::new(budget));
        let source: Arc<dyn Reclaim> = Arc::clone(&cache) as Arc<dyn Reclaim>;
        budget.register(Arc::downgrade(&source));
        let (leaf_reads, node_reads) = (AtomicU64::new(0), AtomicU64::new(0));
        let state =
            State { floor: root.through, base: Arc::new(base), frozen: None, active: Arc::new(Overlay::new(budget)) };
        Ok(Self {
            disk,
            pages: Pages { cache, budget: budget.clone(), leaf_reads, node_reads },
            state: RwLock::new(state),
            workshop: Mutex::new(Workshop { merge: None, tail: None, next_file }),
            garbage_bytes: GARBAGE_BYTES_MAX,
        })
    }

    /// Sets how many bytes of dead pages are not worth a rewrite, for a store that has no room to spare.
    #[must_use]
    pub fn with_garbage_bytes(self, bytes: u64) -> Self {
        Self { garbage_bytes: bytes.min(GARBAGE_BYTES_MAX), ..self }
    }

    /// A block holds a version. Ignored if a newer version of the block, or a base that covers it, is known. The block
    /// must be below [`VolumeSize::BLOCKS_MAX`].
    #[inline]
    pub fn put(&self, block: BlockIndex, entry: Entry) {
        self.change(entry.version.seq, |active| active.set(block.0, &Change::Put(entry)));
    }

    /// The same for blocks that were written together, by rising seq.
    pub fn put_all(&self, puts: &[(BlockIndex, Entry)]) {
        let Some((_, first)) = puts.first() else { return };
        self.change(first.version.seq, |active| active.put_all(puts));
    }

    /// Blocks are unmapped, except those of which a newer version is known. What lies beyond the largest volume is cut.
    pub fn unmap(&self, first: BlockIndex, count: u64, version: Version) {
        let end = first.0.saturating_add(count).min(VolumeSize::BLOCKS_MAX);
        if first.0 < end {
            self.change(version.seq, |active| active.unmap(first.0, end, version));
        }
    }

    /// A block's version lies elsewhere now, if it is the block's newest version and lies at `from`; otherwise nothing
    /// happens. Never maps a block.
    pub fn relocate(&self, block: BlockIndex, version: Version, from: Place, to: Place) {
        let grown = self.state.read().active.relocate(block.0, version, from, to);
        if grown {
            self.pages.budget.relieve();
        }
    }

    #[inline]
    fn change(&self, seq: Seq, act: impl FnOnce(&Overlay) -> bool) {
        let grown = {
            let state = self.state.read();
            seq > state.floor && act(&state.active)
        };
        if grown {
            self.pages.budget.relieve();
        }
    }

    /// What a block holds, newest version, committed or not.
    #[inline]
    pub fn lookup(&self, block: BlockIndex) -> Result<Option<Entry>, IndexError> {
        let (number, position) = (leaf_of(block.0), block.0 as usize % LEAF_BLOCKS);
        let (seen, base) = {
            let state = self.state.read();
            let seen = match state.see(number, block.0) {
                Below::Final(entry) => return Ok(entry),
                Below::Base(seen) => seen,
            };
            // Short of a clone of the base, which all threads would count on in one place.
            if let Some(entry) = self.pages.cache.known_leaf(state.base.number, number, |page| page.get(position)) {
                return Ok(seen.over(entry));
            }
            (seen, Arc::clone(&state.base))
        };
        Ok(seen.over(base.leaf(&self.pages, number)?.get(position)))
    }

    /// Appends what each of `count` blocks holds, at the price of one access a leaf.
    pub fn lookup_range(&self, first: BlockIndex, count: u32, out: &mut Vec<Option<Entry>>) -> Result<(), IndexError> {
        let end = first.0.saturating_add(count.into());
        let mut block = first.0;
        out.reserve(count as usize);
        while block < end {
            let number = leaf_of(block);
            let stop = end.min((number + 1) * LEAF_BLOCKS as u64);
            self.lookup_in_leaf(number, block, stop, out)?;
            block = stop;
        }
        Ok(())
    }

    fn lookup_in_leaf(
        &self,
        number: u64,
        start: u64,
        stop: u64,
        out: &mut Vec<Option<Entry>>,
    ) -> Result<(), IndexError> {
        // What is final goes to its slot at once; what depends on the base waits for the leaf.
        let mut waiting = Vec::new();
        let base = {
            let state = self.state.read();
            let active = state.active.leaf(number);
            let frozen = state.frozen.as_ref().map(|frozen| frozen.leaf(number));
            for block in start..stop {
                match combine(active.get(block), || frozen.as_ref().map(|frozen| frozen.get(block))) {
                    Below::Final(entry) => out.push(entry),
                    Below::Base(seen) => {
                        waiting.push((out.len(), block, seen));
                        out.push(None);
                    }
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            Arc::clone(&state.base)
        };
        let page = base.leaf(&self.pages, number)?;
        for (slot, block, seen) in waiting {
            out[slot] = seen.over(page.get(block as usize % LEAF_BLOCKS));
        }
        Ok(())
    }

    fn base(&self) -> Arc<Base> {
        Arc::clone(&self.state.read().base)
    }

    /// The root of the base.
    #[must_use]
    pub fn base_root(&self) -> IndexRoot {
        self.base().root.clone()
    }

    /// A leaf of the base; empty where nothing is mapped.
    pub fn base_leaf(&self, number: u64) -> Result<Arc<LeafPage>, IndexError> {
        if node_above(ROOT_LEVEL, number) > 0 {
            return Ok(LeafPage::empty());
        }
        self.base().leaf(&self.pages, number)
    }

    /// A node of the base, by level (1 to 4) and number in its level; without children where nothing is mapped.
    pub fn base_node(&self, level: u8, number: u64) -> Result<Arc<NodePage>, IndexError> {
        let leaf = number.checked_shl(8 * u32::from(level)).unwrap_or(u64::MAX);
        if !(1..=ROOT_LEVEL).contains(&level) || node_above(ROOT_LEVEL, leaf) > 0 || node_above(level, leaf) != number {
            return Ok(Arc::new(NodePage::empty(level)));
        }
        self.base().node(&self.pages, level, leaf)
    }

    /// How many changes are above the base.
    #[must_use]
    pub fn records(&self) -> usize {
        let state = self.state.read();
        state.active.len() + state.frozen.as_ref().map_or(0, |frozen| frozen.len())
    }

    /// Figures.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        let (cached_leaves, cached_nodes) = self.pages.cache.counts();
        let state = self.state.read();
        let frozen = state.frozen.as_ref().map_or(0, |frozen| frozen.memory_bytes());
        IndexStats {
            cold_reads: self.pages.leaf_reads.load(Ordering::Relaxed),
            node_reads: self.pages.node_reads.load(Ordering::Relaxed),
            cached_leaves,
            cached_nodes,
            cache_bytes: self.pages.cache.memory_bytes(),
            overlay_bytes: state.active.memory_bytes() + frozen,
        }
    }

    /// Begins the next base, which will hold exactly the versions up to `through`: every one of them must have been put
    /// and must be committed. Refused while another is in the making, or if something newer was put already.
    pub fn freeze(&self, through: Seq) -> Result<(), IndexError> {
        let _workshop = self.workshop.lock();
        let mut state = self.state.write();
        if state.frozen.is_some() {
            return Err(IndexError::OutOfOrder("a base is in the making already"));
        }
        if through < state.floor || through < state.active.newest() {
            return Err(IndexError::OutOfOrder("the next base would not hold what is in the index already"));
        }
        let next = Arc::new(Overlay::new(&self.pages.budget));
        state.frozen = Some(std::mem::replace(&mut state.active, next));
        state.floor = through;
        Ok(())
    }

    /// Merges leaves from left to right until `leaves_max` of them have changed; none if all are done. Tells `live` of
    /// each entry that changes, which must be forgotten again unless [`Self::merge_finish`] succeeds.
    pub fn merge_step(&self, leaves_max: usize, live: &mut dyn LiveMaps) -> Result<Vec<MergedLeaf>, IndexError> {
        let mut workshop = self.workshop.lock();
        if workshop.merge.is_none() {
            let (base, frozen, through) = {
                let state = self.state.read();
                (Arc::clone(&state.base), state.frozen.clone(), state.floor)
            };
            let frozen = frozen.ok_or(IndexError::OutOfOrder("nothing was frozen"))?;
            workshop.merge = Some(Merge::new(&self.pages, base, frozen, through, self.garbage_bytes));
        }
        let Workshop { merge, tail, next_file } = &mut *workshop;
        let mut target = Target { disk: &*self.disk, pages: &self.pages, tail: tail.as_ref(), next_file };
        match merge {
            Some(merge) => merge.step(&mut target, leaves_max, live),
            None => Ok(Vec::new()),
        }
    }

    /// Makes the next base durable, and then the base. Every step must have been made. After an error nothing has
    /// changed, and the merge can only be abandoned.
    pub fn merge_finish(&self) -> Result<IndexRoot, IndexError> {
        let mut workshop = self.workshop.lock();
        let Workshop { merge, tail, next_file } = &mut *workshop;
        let Some(making) = merge else {
            return Err(IndexError::OutOfOrder("no merge was begun"));
        };
        let mut target = Target { disk: &*self.disk, pages: &self.pages, tail: tail.as_ref(), next_file };
        let (base, next_tail) = making.finish(&mut target)?;
        *tail = next_tail;
        *merge = None;
        let root = base.root.clone();
        let mut state = self.state.write();
        state.base = Arc::new(base);
        let merged = state.frozen.take();
        drop(state);
        // Half a million records are freed while nobody waits.
        drop(merged);
        Ok(root)
    }

    /// Takes back [`Self::freeze`] and all that followed: the index is as if there had been none.
    pub fn merge_abandon(&self) {
        let mut workshop = self.workshop.lock();
        let Workshop { merge, tail, next_file } = &mut *workshop;
        if let Some(merge) = merge.take() {
            // What may have been written is not appended to again.
            let target = Target { disk: &*self.disk, pages: &self.pages, tail: None, next_file };
            merge.discard(&target);
            *tail = None;
        }
        let mut state = self.state.write();
        if let Some(frozen) = state.frozen.take() {
            frozen.absorb(&state.active);
            state.active = frozen;
            state.floor = state.base.root.through;
        }
    }

    /// Forgets everything above the base, so that another tail can be replayed over it. Abandons a merge.
    pub fn forget_changes(&self) {
        self.merge_abandon();
        self.state.write().active = Arc::new(Overlay::new(&self.pages.budget));
    }

    /// Removes every index file that neither one of `roots` nor the present base needs, and answers how many. All that
    /// a recovery could start from must be among `roots`.
    pub fn remove_files_not_in(&self, roots: &[&IndexRoot]) -> Result<usize, IndexError> {
        let workshop = self.workshop.lock();
        let base = self.base();
        let mut kept: Vec<u32> = roots.iter().flat_map(|root| &root.files).map(|file| file.number).collect();
        kept.extend(workshop.merge.as_ref().and_then(Merge::file));
        let mut removed = 0;
        for name in self.disk.list()? {
            let unused = |number: &u32| !kept.contains(number) && !base.files.contains(*number);
            if pages::file_number(&name).filter(unused).is_some() {
                self.disk.remove(&name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl State {
    #[inline]
    fn see(&self, number: u64, block: u64) -> Below {
        let active = self.active.leaf(number).get(block);
        combine(active, || self.frozen.as_ref().map(|frozen| frozen.leaf(number).get(block)))
    }
}

/// What both generations say of a block.
enum Below {
    /// This, whatever the base says.
    Final(Option<Entry>),
    /// What the base says, seen through this.
    Base(Seen),
}

#[inline]
fn combine(active: Seen, frozen: impl FnOnce() -> Option<Seen>) -> Below {
    let mut later = match active {
        Seen::Final(entry) => return Below::Final(entry),
        Seen::Below(moves) => moves,
    };
    match frozen() {
        None => Below::Base(Seen::Below(later)),
        Some(Seen::Final(entry)) => Below::Final(Seen::Below(later).over(entry)),
        Some(Seen::Below(mut moves)) => {
            moves.append(&mut later);
            Below::Base(Seen::Below(moves))
        }
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Index(base through {}, {} changes above it)", self.base().root.through, self.records())
    }
}

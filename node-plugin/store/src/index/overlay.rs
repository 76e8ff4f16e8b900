//! One generation of changes above a base: the newest of each block, whatever order they came in.

use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_log::node::leaf_of;
use holdfast_log::place::{Entry, Place, Version};
use holdfast_ports::budget::{Charge, MemoryBudget};
use holdfast_vocabulary::{BlockIndex, Seq};
use parking_lot::{RwLock, RwLockReadGuard};

use super::ranges::Ranges;
use super::record::{Change, Move, newer};
use super::shard::Shard;

const SHARDS: usize = 16;

/// Changes above a base, or above an older generation.
pub struct Overlay {
    /// By leaf, so that a range of blocks costs one lock a leaf.
    shards: [RwLock<Shard>; SHARDS],
    /// Locked after a shard, if both are.
    ranges: RwLock<Ranges>,
    /// So that a volume that nobody discards on never locks `ranges`.
    range_count: AtomicUsize,
    points: AtomicUsize,
    charge: Charge,
}

/// What a generation says of a block.
#[derive(Debug)]
pub enum Seen {
    /// This, whatever is below.
    Final(Option<Entry>),
    /// What is below, after these moves.
    Below(Vec<Move>),
}

impl Seen {
    /// The block's entry, given the one below.
    pub fn over(self, below: Option<Entry>) -> Option<Entry> {
        match self {
            Self::Final(entry) => entry,
            Self::Below(moves) => below.map(|mut entry| {
                moves.iter().for_each(|step| step.apply(&mut entry));
                entry
            }),
        }
    }
}

/// The changes of one leaf, held still.
pub struct LeafView<'a> {
    shard: RwLockReadGuard<'a, Shard>,
    ranges: Option<RwLockReadGuard<'a, Ranges>>,
}

impl LeafView<'_> {
    /// What the generation says of a block of the leaf.
    #[inline]
    pub fn get(&self, block: u64) -> Seen {
        let unmapped = self.ranges.as_ref().and_then(|ranges| ranges.get(block));
        match (self.shard.point(block), unmapped) {
            (Some(change), Some(unmapped)) if newer(unmapped, change.version()) => Seen::Final(None),
            (Some(Change::Put(entry)), _) => Seen::Final(Some(entry)),
            (Some(Change::Unmap(_)), _) | (None, Some(_)) => Seen::Final(None),
            (None, None) => Seen::Below(self.shard.moves(block)),
        }
    }
}

impl Overlay {
    /// No changes.
    pub fn new(budget: &MemoryBudget) -> Self {
        Self {
            shards: Default::default(),
            ranges: RwLock::default(),
            range_count: AtomicUsize::new(0),
            points: AtomicUsize::new(0),
            charge: budget.charge(size_of::<Self>()),
        }
    }

    fn shard(&self, block: u64) -> &RwLock<Shard> {
        &self.shards[leaf_of(block) as usize % SHARDS]
    }

    fn ranges(&self) -> Option<RwLockReadGuard<'_, Ranges>> {
        (self.range_count.load(Ordering::Acquire) > 0).then(|| self.ranges.read())
    }

    /// Holds the changes of one leaf.
    #[inline]
    pub fn leaf(&self, number: u64) -> LeafView<'_> {
        let shard = self.shards[number as usize % SHARDS].read();
        LeafView { shard, ranges: self.ranges() }
    }

    /// Changes a shard, and keeps the books. Answers whether it took more memory.
    fn change(&self, block: u64, act: impl FnOnce(&mut Shard)) -> bool {
        let mut shard = self.shard(block).write();
        let (bytes, count) = (shard.memory_bytes(), shard.len());
        act(&mut shard);
        self.points.fetch_add(shard.len() - count, Ordering::Relaxed);
        let grown = shard.memory_bytes().saturating_sub(bytes);
        if grown > 0 {
            self.charge.add(grown);
        }
        grown > 0
    }

    /// Keeps a change of one block. Answers whether it took more memory.
    #[inline]
    pub fn set(&self, block: u64, change: &Change) -> bool {
        self.change(block, |shard| shard.set(block, change))
    }

    /// Keeps what blocks hold now, in the order of the slice. Neighbours share a lock. Answers whether it took more
    /// memory.
    pub fn put_all(&self, puts: &[(BlockIndex, Entry)]) -> bool {
        let shard_of = |put: &(BlockIndex, Entry)| leaf_of(put.0.0) as usize % SHARDS;
        let mut grown = false;
        for row in puts.chunk_by(|one, next| shard_of(one) == shard_of(next)) {
            let act =
                |shard: &mut Shard| row.iter().for_each(|(block, entry)| shard.set(block.0, &Change::Put(*entry)));
            grown |= self.change(row[0].0.0, act);
        }
        grown
    }

    /// Unmaps `[start, end)`, except where a newer change is known. Answers whether it took more memory.
    pub fn unmap(&self, start: u64, end: u64, version: Version) -> bool {
        if start.checked_add(1) == Some(end) {
            return self.set(start, &Change::Unmap(version));
        }
        let mut ranges = self.ranges.write();
        let before = ranges.memory_bytes();
        ranges.insert(start, end, version);
        self.range_count.store(ranges.len(), Ordering::Release);
        let after = ranges.memory_bytes();
        self.charge.add(after.saturating_sub(before));
        self.charge.sub(before.saturating_sub(after));
        after > before
    }

    /// Moves a block's entry, if it is the one that is meant. Answers whether it took more memory.
    pub fn relocate(&self, block: u64, version: Version, from: Place, to: Place) -> bool {
        let step = Move { version, from, to };
        self.change(block, |shard| {
            let unmapped = self.ranges().and_then(|ranges| ranges.get(block));
            shard.relocate(block, &step, unmapped);
        })
    }

    /// The newest seq that changed anything.
    pub fn newest(&self) -> Seq {
        let ranges = self.ranges.read().iter().map(|(_, _, version)| version.seq).max();
        let points = self.shards.iter().map(|shard| shard.read().newest()).max();
        ranges.max(points).unwrap_or_default()
    }

    /// How many changes there are.
    pub fn len(&self) -> usize {
        self.points.load(Ordering::Relaxed) + self.range_count.load(Ordering::Relaxed)
    }

    /// Every block that was changed by itself, rising.
    pub fn blocks(&self) -> Vec<u64> {
        let mut blocks = Vec::with_capacity(self.points.load(Ordering::Relaxed));
        for shard in &self.shards {
            blocks.extend(shard.read().blocks());
        }
        blocks.sort_unstable();
        blocks.dedup();
        blocks
    }

    /// Every leaf that an unmapped range touches, as first leaf and last leaf, rising.
    pub fn unmapped_leaves(&self) -> Vec<(u64, u64)> {
        let ranges = self.ranges.read();
        ranges.iter().map(|(start, end, _)| (leaf_of(start), leaf_of(end - 1))).collect()
    }

    /// Adds all changes of a later generation, as if they had come here in the first place.
    pub fn absorb(&self, later: &Self) {
        for (start, end, version) in later.ranges.read().iter() {
            self.unmap(start, end, version);
        }
        for shard in &later.shards {
            let shard = shard.read();
            for block in shard.blocks() {
                if let Some(change) = shard.point(block) {
                    self.set(block, &change);
                }
                for step in shard.moves(block) {
                    self.relocate(block, step.version, step.from, step.to);
                }
            }
        }
    }

    /// Bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.charge.bytes()
    }
}

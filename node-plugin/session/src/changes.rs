//! What changed since the trusted root: block → the seq of its newest record.
//!
//! Writers of many threads add to it while readers look up, so single blocks lie in sharded maps, a stretch of
//! neighbours in one shard. Unmaps of more than a few blocks lie in one ordered map. Nothing is ever taken out: where
//! several records name a block, the highest seq wins, in whatever order they were put in.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};

use hashbrown::HashMap;
use holdfast_log::leaf::LEAF_BLOCKS;
use holdfast_log::node::leaf_of;
use holdfast_ports::budget::{Charge, MemoryBudget};
use holdfast_vocabulary::Seq;
use parking_lot::RwLock;

use crate::limits::UNMAP_POINTS_MAX;

const SHARDS: usize = 64;
/// Neighbours that share a shard: a long write takes one lock for so many blocks.
const STRETCH: u64 = 32;
/// The highest bit of a stored seq says that the block became unmapped. No log gets that long.
const UNMAPPED: u64 = 1 << 63;

/// What the newest record of a block did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Mapped(Seq),
    Unmapped(Seq),
}

impl Change {
    const fn unpack(packed: u64) -> Self {
        if packed & UNMAPPED == 0 { Self::Mapped(Seq(packed)) } else { Self::Unmapped(Seq(packed & !UNMAPPED)) }
    }

    pub(crate) const fn seq(self) -> Seq {
        match self {
            Self::Mapped(seq) | Self::Unmapped(seq) => seq,
        }
    }
}

/// A fixed mixing of block numbers: the same map in every run, and no secret is needed, because an attacker who chooses
/// the blocks pays for each collision with a sealed write of its own volume.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mix;

pub(crate) struct Mixer(u64);

impl BuildHasher for Mix {
    type Hasher = Mixer;
    fn build_hasher(&self) -> Mixer {
        Mixer(0)
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.0 ^ u64::from(*byte)));
    }
    fn write_u64(&mut self, value: u64) {
        let wide = u128::from(value ^ 0x9e37_79b9_7f4a_7c15) * u128::from(0xd6e8_feb8_6659_fd93_u64);
        self.0 = (wide >> 64) as u64 ^ wide as u64;
    }
}

type Points = HashMap<u64, u64, Mix>;

pub(crate) struct Changes {
    shards: Box<[RwLock<Points>]>,
    /// First block → (the block after the last, seq). Never overlapping.
    ranges: RwLock<BTreeMap<u64, (u64, u64)>>,
    /// Spares every reader a lock while there is no range, which is nearly always.
    any_range: AtomicBool,
    charge: Charge,
}

/// Bytes of a map's slot, with the share of slots that stay empty.
const SLOT_BYTES: usize = 17;

impl Changes {
    pub(crate) fn new(budget: &MemoryBudget) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            ranges: RwLock::default(),
            any_range: AtomicBool::new(false),
            charge: budget.charge(0),
        }
    }

    fn shard(&self, block: u64) -> &RwLock<Points> {
        let mut mixer = Mixer(0);
        mixer.write_u64(block / STRETCH);
        // The map inside uses the low bits of another mixing; these are the high ones of this.
        &self.shards[(mixer.finish() >> 58) as usize % SHARDS]
    }

    /// `count` blocks in a row were written by as many records in a row.
    pub(crate) fn map(&self, first: u64, count: u64, seq: Seq) {
        self.put(first, count, |offset| seq.0 + offset);
    }

    /// One record unmapped `count` blocks.
    pub(crate) fn unmap(&self, first: u64, count: u64, seq: Seq) {
        if count <= UNMAP_POINTS_MAX {
            self.put(first, count, |_| seq.0 | UNMAPPED);
        } else {
            self.put_range(first, first + count, seq.0);
        }
    }

    fn put(&self, first: u64, count: u64, packed: impl Fn(u64) -> u64) {
        let end = first + count;
        let mut block = first;
        while block < end {
            let stop = end.min((block / STRETCH + 1) * STRETCH);
            let mut shard = self.shard(block).write();
            let before = shard.capacity();
            for at in block..stop {
                let new = packed(at - first);
                let held = shard.entry(at).or_insert(new);
                if *held & !UNMAPPED < new & !UNMAPPED {
                    *held = new;
                }
            }
            let grown = shard.capacity() - before;
            if grown > 0 {
                self.charge.add(grown * SLOT_BYTES);
            }
            block = stop;
        }
    }

    fn put_range(&self, first: u64, end: u64, seq: u64) {
        let mut ranges = self.ranges.write();
        let before = ranges.range(..first).next_back().filter(|(_, (stop, _))| *stop > first).map(|(start, _)| *start);
        let from = before.unwrap_or(first);
        let overlapping: Vec<_> = ranges.range(from..end).map(|(start, (stop, old))| (*start, *stop, *old)).collect();
        // What is newer than this record stays; this record fills what is left between.
        let mut at = first;
        for (start, stop, old) in overlapping {
            ranges.remove(&start);
            if start < first {
                ranges.insert(start, (first, old));
            }
            if stop > end {
                ranges.insert(end, (stop, old));
            }
            if old > seq {
                let (start, stop) = (start.max(first), stop.min(end));
                if at < start {
                    ranges.insert(at, (start, seq));
                }
                ranges.insert(start, (stop, old));
                at = stop;
            }
        }
        if at < end {
            ranges.insert(at, (end, seq));
        }
        // A node of the ordered map holds a few ranges; 64 bytes each is about right.
        self.charge.add(64);
        self.any_range.store(true, Ordering::Release);
    }

    /// The newest change of a block, if there is one.
    pub(crate) fn get(&self, block: u64) -> Option<Change> {
        let point = self.shard(block).read().get(&block).copied();
        if !self.any_range.load(Ordering::Acquire) {
            return point.map(Change::unpack);
        }
        let ranges = self.ranges.read();
        let range = ranges.range(..=block).next_back().filter(|(_, (stop, _))| *stop > block);
        match (point, range) {
            (Some(packed), Some((_, (_, seq)))) if packed & !UNMAPPED < *seq => Some(Change::Unmapped(Seq(*seq))),
            (Some(packed), _) => Some(Change::unpack(packed)),
            (None, Some((_, (_, seq)))) => Some(Change::Unmapped(Seq(*seq))),
            (None, None) => None,
        }
    }

    /// Takes over all that `older` knows.
    pub(crate) fn absorb(&self, older: &Self) {
        let sorted = older.sorted();
        for (block, packed) in sorted.points {
            self.put(block, 1, |_| packed);
        }
        for (first, end, seq) in sorted.ranges {
            self.put_range(first, end, seq.0);
        }
    }

    /// Everything, in order of blocks.
    pub(crate) fn sorted(&self) -> SortedChanges {
        let mut points: Vec<(u64, u64)> = Vec::new();
        for shard in &self.shards {
            points.extend(shard.read().iter().map(|(block, packed)| (*block, *packed)));
        }
        points.sort_unstable();
        let ranges = self.ranges.read().iter().map(|(first, (end, seq))| (*first, *end, Seq(*seq))).collect();
        SortedChanges { points, ranges }
    }
}

/// All changes of a frozen map, in order.
pub(crate) struct SortedChanges {
    points: Vec<(u64, u64)>,
    /// First block, the block after the last, seq.
    pub(crate) ranges: Vec<(u64, u64, Seq)>,
}

impl SortedChanges {
    /// The leaves of single blocks, in order. Those of ranges are for the tree to say.
    pub(crate) fn leaves_of_points(&self) -> Vec<u64> {
        let mut leaves: Vec<_> = self.points.iter().map(|(block, _)| leaf_of(*block)).collect();
        leaves.dedup();
        leaves
    }

    /// Calls `change` for every block of a leaf that changed, with its position there: ranges first, then points; the
    /// higher seq is the one that counts.
    pub(crate) fn of_leaf(&self, leaf: u64, mut change: impl FnMut(usize, Change)) {
        let (first, end) = (leaf * LEAF_BLOCKS as u64, (leaf + 1) * LEAF_BLOCKS as u64);
        let from = self.ranges.partition_point(|(_, stop, _)| *stop <= first);
        for (start, stop, seq) in self.ranges[from..].iter().take_while(|(start, _, _)| *start < end) {
            for block in (*start).max(first)..(*stop).min(end) {
                change((block - first) as usize, Change::Unmapped(*seq));
            }
        }
        let from = self.points.partition_point(|(block, _)| *block < first);
        for (block, packed) in self.points[from..].iter().take_while(|(block, _)| *block < end) {
            change((block - first) as usize, Change::unpack(*packed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Puts the same changes in several orders and compares each block with the plain rule: the highest seq wins.
    #[test]
    fn the_highest_seq_wins_in_any_order() {
        const BLOCKS: u64 = 300;
        let mut state = 7_u64;
        let mut next = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        for _ in 0..200 {
            let mut records = Vec::new();
            let mut expected = vec![None; BLOCKS as usize];
            for seq in 1..=40 {
                let first = next(BLOCKS);
                let count = 1 + next((BLOCKS - first).min(90));
                let unmap = next(2) == 0;
                let count = if unmap { count } else { 1 };
                records.push((first, count, seq, unmap));
                for block in first..first + count {
                    let seq = Seq(seq);
                    expected[block as usize] = Some(if unmap { Change::Unmapped(seq) } else { Change::Mapped(seq) });
                }
            }
            for place in (1..records.len()).rev() {
                records.swap(place, next(place as u64 + 1) as usize);
            }
            let budget = MemoryBudget::new(1 << 20);
            let (whole, left, right) = (Changes::new(&budget), Changes::new(&budget), Changes::new(&budget));
            for (first, count, seq, unmap) in records {
                for changes in [&whole, if next(2) == 0 { &left } else { &right }] {
                    if unmap { changes.unmap(first, count, Seq(seq)) } else { changes.map(first, 1, Seq(seq)) }
                }
            }
            right.absorb(&left);
            let mut by_leaf = vec![None; LEAF_BLOCKS];
            whole.sorted().of_leaf(0, |position, change| {
                let held: &mut Option<Change> = &mut by_leaf[position];
                if held.is_none_or(|held| held.seq() < change.seq()) {
                    *held = Some(change);
                }
            });
            for block in 0..BLOCKS {
                assert_eq!(whole.get(block), expected[block as usize], "block {block}");
                assert_eq!(right.get(block), expected[block as usize], "block {block} after absorbing");
                assert_eq!(by_leaf[block as usize], expected[block as usize], "block {block} by leaf");
            }
        }
    }
}

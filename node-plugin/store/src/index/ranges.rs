//! Unmapped ranges: each block's newest unmap, kept as ranges however wide they are.

use std::collections::BTreeMap;

use holdfast_log::place::Version;

use super::record::newer;

/// Disjoint ranges of blocks, each with the version that unmapped it.
#[derive(Default)]
pub struct Ranges {
    /// First block → (first block behind it, version).
    by_start: BTreeMap<u64, (u64, Version)>,
}

/// Bytes that one range costs in a B-tree that is three quarters full, roughly.
const RANGE_BYTES: usize = 48;

impl Ranges {
    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    /// Bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        self.len() * RANGE_BYTES
    }

    /// The newest unmap of a block.
    pub fn get(&self, block: u64) -> Option<Version> {
        let (_, &(end, version)) = self.by_start.range(..=block).next_back()?;
        (block < end).then_some(version)
    }

    /// Every range, as first block, first block behind it, version; rising.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64, Version)> {
        self.by_start.iter().map(|(&start, &(end, version))| (start, end, version))
    }

    /// Unmaps `[start, end)`, except where a newer unmap is known already.
    pub fn insert(&mut self, start: u64, end: u64, version: Version) {
        if start >= end {
            return;
        }
        self.split(start);
        self.split(end);
        // Every range is now wholly inside or wholly outside.
        let inside: Vec<(u64, u64, Version)> =
            self.by_start.range(start..end).map(|(&start, &(end, version))| (start, end, version)).collect();
        let mut free = start;
        for (old_start, old_end, old_version) in inside {
            if newer(version, old_version) {
                self.by_start.remove(&old_start);
            } else {
                self.add(free, old_start, version);
                free = old_end;
            }
        }
        self.add(free, end, version);
    }

    fn add(&mut self, start: u64, end: u64, version: Version) {
        if start < end {
            self.by_start.insert(start, (end, version));
        }
    }

    /// Makes `at` the start of a range, if it lies inside one.
    fn split(&mut self, at: u64) {
        if let Some((_, range)) = self.by_start.range_mut(..at).next_back()
            && range.0 > at
        {
            let (end, version) = std::mem::replace(range, (at, range.1));
            self.by_start.insert(at, (end, version));
        }
    }
}

#[cfg(test)]
mod tests {
    use holdfast_vocabulary::{Epoch, Seq};

    use super::*;

    fn version(seq: u64) -> Version {
        Version { epoch: Epoch(1), seq: Seq(seq) }
    }

    #[test]
    fn the_newest_unmap_of_each_block_wins_in_any_order() {
        let mut state = 7u64;
        for _ in 0..300 {
            let mut ranges = Ranges::default();
            let mut model = [0; 64];
            let mut seqs: Vec<u64> = (1..=20).collect();
            for _ in 0..20 {
                state = super::super::arena::mix(state);
                let seq = seqs.swap_remove(state as usize % seqs.len());
                let (start, end) = ((state >> 8) % 64, (state >> 16) % 65);
                ranges.insert(start, end, version(seq));
                (start..end).for_each(|block| model[block as usize] = seq.max(model[block as usize]));
            }
            for (block, &seq) in model.iter().enumerate() {
                assert_eq!(ranges.get(block as u64), (seq != 0).then(|| version(seq)));
            }
            assert!(ranges.len() <= 41);
        }
    }

    #[test]
    fn a_range_costs_the_same_however_wide_it_is() {
        let mut ranges = Ranges::default();
        ranges.insert(0, 1 << 40, version(1));
        ranges.insert(5, 6, version(2));
        assert_eq!(
            ranges.iter().collect::<Vec<_>>(),
            [(0, 5, version(1)), (5, 6, version(2)), (6, 1 << 40, version(1))]
        );
        ranges.insert(0, 1 << 40, version(3));
        assert_eq!(ranges.len(), 1);
    }
}

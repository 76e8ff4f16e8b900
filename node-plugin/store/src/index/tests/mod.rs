//! Tests of the index.

mod damage;
mod history;
mod memory;
mod model;
mod speed;

use std::collections::BTreeMap;

use holdfast_log::place::{Entry, Place, Shape, Version};
use holdfast_vocabulary::{BlockIndex, Epoch, PeriodNumber, SegmentNumber, Seq};

use super::arena::mix;
use super::{Index, IndexRoot};

/// xorshift64*: the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

fn version(seq: u64) -> Version {
    Version { epoch: Epoch(1 + seq / 40), seq: Seq(seq) }
}

fn place(number: u64) -> Place {
    Place { segment: SegmentNumber(1 + (number >> 16) as u32), offset: (number & 0xffff) as u32 * 16 }
}

/// An entry that nothing but its seq and its place decide.
fn entry(seq: u64, place: Place) -> Entry {
    let shape = if seq.is_multiple_of(5) { Shape::compressed(1 + (seq % 4000) as u16).unwrap() } else { Shape::WHOLE };
    Entry { version: version(seq), place, period: PeriodNumber(1 + (seq / 25) as u32), shape }
}

/// A block, and its entry in the old base and in the next.
type Told = (u64, Option<Entry>, Option<Entry>);

/// Merges to the end, and gives the changes of entries that it told.
fn merge(index: &Index, leaves_max: usize) -> (IndexRoot, Vec<Told>) {
    let mut told = Vec::new();
    let mut last = None;
    loop {
        let mut live = |block: BlockIndex, old: Option<&Entry>, new: Option<&Entry>| {
            told.push((block.0, old.copied(), new.copied()));
        };
        let leaves = index.merge_step(leaves_max, &mut live).unwrap();
        if leaves.is_empty() {
            return (index.merge_finish().unwrap(), told);
        }
        assert!(leaves.len() <= leaves_max);
        for leaf in leaves {
            assert!(last.is_none_or(|last| last < leaf.number), "leaves come from left to right");
            last = Some(leaf.number);
            assert_eq!(leaf.new.state_hash(), leaf.new_hash);
            assert_ne!(leaf.old, leaf.new);
        }
    }
}

/// Every entry of the base.
fn contents(index: &Index) -> BTreeMap<u64, Entry> {
    let mut entries = BTreeMap::new();
    index
        .walk_base(&mut |number, page| {
            assert!(!page.is_empty(), "an empty leaf has no page");
            entries.extend(page.entries().map(|(position, entry)| (number * 512 + position as u64, entry)));
        })
        .unwrap();
    entries
}

//! What the index takes of memory, and what a lookup takes of the disk.

use std::sync::Arc;

use holdfast_disk::MemoryDisk;
use holdfast_ports::budget::MemoryBudget;
use holdfast_vocabulary::{BlockIndex, Seq};

use super::{Random, entry, merge, place};
use crate::index::Index;

#[test]
fn a_change_costs_at_most_forty_bytes() {
    let budget = MemoryBudget::new(1 << 30);
    let index = Index::empty(MemoryDisk::new().handle(), &budget).unwrap();
    let mut random = Random(3);
    let mut report = Vec::new();
    for count in [64 << 10, 128 << 10, 256 << 10, 512 << 10] {
        let mut seq = index.records() as u64;
        while index.records() < count {
            seq += 1;
            index.put(BlockIndex(random.below(1 << 28)), entry(seq / 5000 + 1, place(random.below(1 << 28))));
        }
        report.push(index.stats().overlay_bytes as f64 / index.records() as f64);
    }
    println!("bytes a change at 64 Ki, 128 Ki, 256 Ki, 512 Ki: {report:.1?}");
    assert!(report[3] <= 40.0);
    assert_eq!(budget.used() - index.stats().overlay_bytes, index.stats().cache_bytes);
}

/// A volume of 16 GiB, filled in random order: its index is about twice what the budget allows.
#[test]
fn a_random_fill_stays_under_the_cap_and_costs_one_read_a_lookup() {
    let blocks: u64 = 4 << 20;
    let cap = 16 << 20;
    let disk = MemoryDisk::new().handle();
    let budget = MemoryBudget::new(cap);
    let index = Index::empty(Arc::clone(&disk), &budget).unwrap();
    // An odd factor permutes the blocks.
    let block = |seq: u64| seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) % blocks;
    let put = |seq: u64| index.put(BlockIndex(block(seq)), entry(seq, place(seq * 257 % (5000 << 16))));
    let mut peak = 0;
    let mut seq = 0;
    for _ in 0..12 {
        for _ in 0..128 << 10 {
            seq += 1;
            put(seq);
            if seq % 1024 == 0 {
                peak = peak.max(budget.used());
            }
        }
        index.freeze(Seq(seq)).unwrap();
        loop {
            let live = &mut |_: BlockIndex, _: Option<&_>, _: Option<&_>| ();
            if index.merge_step(64, live).unwrap().is_empty() {
                break;
            }
            peak = peak.max(budget.used());
        }
        let root = index.merge_finish().unwrap();
        index.remove_files_not_in(&[&root]).unwrap();
    }
    let root = index.base_root();
    assert!(root.live_bytes > cap as u64, "the index must not fit: {}", root.live_bytes);
    assert!(peak <= cap + (64 << 10), "{peak}");

    let before = index.stats();
    let lookups = 20_000;
    let mut random = Random(8);
    for _ in 0..lookups {
        let seq = 1 + random.below(seq);
        assert!(index.lookup(BlockIndex(block(seq))).unwrap().is_some());
        assert!(budget.used() <= cap);
    }
    let after = index.stats();
    let (leaves, nodes) = (after.cold_reads - before.cold_reads, after.node_reads - before.node_reads);
    println!("{lookups} lookups: {leaves} leaf reads, {nodes} node reads, {after:?}");
    assert!(leaves <= lookups && leaves > lookups / 10, "{leaves}");
    assert_eq!(nodes, 0, "leaves give way before nodes do");
}

/// A base that changed in a few leaves does not make the others cold.
#[test]
fn a_merge_leaves_the_cache_warm() {
    let budget = MemoryBudget::new(64 << 20);
    let index = Index::empty(MemoryDisk::new().handle(), &budget).unwrap();
    (1..=100_000).for_each(|seq| index.put(BlockIndex(seq), entry(seq, place(seq))));
    index.freeze(Seq(100_000)).unwrap();
    merge(&index, 1000);
    let read_all = || (1..=100_000).for_each(|block| assert!(index.lookup(BlockIndex(block)).unwrap().is_some()));
    read_all();
    let cold = index.stats().cold_reads;
    assert_eq!(cold, 196);
    for seq in 100_001..100_100 {
        index.put(BlockIndex(seq - 100_000), entry(seq, place(seq)));
        index.put(BlockIndex(50_000), entry(seq + 200, place(seq)));
    }
    index.freeze(Seq(200_000)).unwrap();
    merge(&index, 1000);
    read_all();
    assert_eq!(index.stats().cold_reads, cold);
}

#[test]
fn an_idle_volume_gives_its_pages_to_a_busy_one() {
    let budget = MemoryBudget::new(2 << 20);
    let fill = |budget: &MemoryBudget| {
        let index = Index::empty(MemoryDisk::new().handle(), budget).unwrap();
        let mut random = Random(5);
        for seq in 1..=300_000 {
            index.put(BlockIndex(seq), entry(random.below(1 << 31) + 1, place(random.below(1 << 28))));
        }
        index.freeze(Seq(1 << 32)).unwrap();
        merge(&index, 1000);
        index
    };
    let idle = fill(&budget);
    (1..=300_000).step_by(512).for_each(|block| assert!(idle.lookup(BlockIndex(block)).unwrap().is_some()));
    let had = idle.stats().cached_leaves;
    let busy = fill(&budget);
    for _ in 0..3 {
        (1..=300_000).step_by(512).for_each(|block| assert!(busy.lookup(BlockIndex(block)).unwrap().is_some()));
    }
    assert!(had > 100 && idle.stats().cached_leaves < had / 4, "{had}, {:?}", idle.stats());
    assert!(busy.stats().cached_leaves > had / 2, "{:?}", busy.stats());
    assert!(!budget.over());
}

//! Nanoseconds an operation. `cargo test --release -p holdfast-store index::tests::speed -- --ignored --nocapture`

use std::hint::black_box;

use holdfast_disk::MemoryDisk;
use holdfast_log::leaf::LeafPage;
use holdfast_log::place::{Entry, Place, Version};
use holdfast_ports::budget::MemoryBudget;
use holdfast_vocabulary::{BlockIndex, Epoch, Seq};

use super::{Random, entry, merge, place};
use crate::index::Index;

/// Nanoseconds that this thread was on a processor, so that a busy machine disturbs less.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

fn measure<T>(name: &str, count: u64, mut act: impl FnMut(u64) -> T) {
    let mut best = f64::MAX;
    for _ in 0..7 {
        let start = cpu_ns();
        (0..count).for_each(|at| drop(black_box(act(at))));
        best = best.min((cpu_ns() - start) as f64 / count as f64);
    }
    println!("{name:<50} {best:>9.1} ns");
}

#[test]
#[ignore = "measures; run it in release"]
fn nanoseconds() {
    let mut random = Random(1);
    let mut scattered = || plain_entry(1 + random.below(1 << 31)).at(place(random.below(5000 << 16)));
    let plain: Vec<Option<Entry>> = (0..512).map(|_| Some(scattered())).collect();
    let page = LeafPage::encode(&plain);
    println!("page of random writes: {} bytes, in memory {}", page.bytes().len(), page.memory_bytes());
    measure("leaf encode", 20_000, |_| LeafPage::encode(black_box(&plain)));
    measure("leaf decode", 20_000, |_| LeafPage::decode(page.bytes().to_vec()));
    measure("leaf state hash", 20_000, |_| page.state_hash());
    measure("leaf get", 5_000_000, |at| page.get((at * 7 % 512) as usize));

    let budget = MemoryBudget::new(1 << 30);
    let index = Index::empty(MemoryDisk::new().handle(), &budget).unwrap();
    let count = 512 << 10;
    let mut random = Random(2);
    let blocks: Vec<u64> = (0..count).map(|_| random.below(1 << 22)).collect();
    let start = cpu_ns();
    for (seq, &block) in blocks.iter().enumerate() {
        index.put(BlockIndex(block), plain_entry(seq as u64 + 1));
    }
    println!("{:<50} {:>9.1} ns", "put, random, new", (cpu_ns() - start) as f64 / count as f64);
    let mut seq = count;
    measure("put, random, over another", count, |at| {
        seq += 1;
        index.put(BlockIndex(blocks[at as usize]), plain_entry(seq));
    });
    measure("lookup in the overlay, random", count, |at| index.lookup(BlockIndex(blocks[at as usize])));
    let records = index.records();
    println!("overlay: {} records, {} bytes", records, index.stats().overlay_bytes);

    let start = cpu_ns();
    index.freeze(Seq(seq)).unwrap();
    println!("{:<50} {:>9.1} us", "freeze", (cpu_ns() - start) as f64 / 1e3);
    let start = cpu_ns();
    merge(&index, 64);
    let took = (cpu_ns() - start) as f64;
    println!("{:<50} {:>9.1} ns", "merge into nothing, a record", took / records as f64);
    println!("{:<50} {:>9.1} us", "  a leaf (8192 leaves)", took / 8192.0 / 1e3);
    blocks.iter().for_each(|&block| assert!(index.lookup(BlockIndex(block)).unwrap().is_some()));
    measure("lookup in a cached leaf, random", count, |at| index.lookup(BlockIndex(blocks[at as usize])));
    measure("lookup in a cached leaf, 64 MiB of the volume", count, |at| {
        index.lookup(BlockIndex(blocks[at as usize] & 0x3fff))
    });
    let mut out = Vec::new();
    measure("lookup of a range of 256, cached", 20_000, |at| {
        out.clear();
        index.lookup_range(BlockIndex(blocks[at as usize] & !255), 256, &mut out).unwrap();
    });
    let start = cpu_ns();
    let mut next = seq;
    for &block in &blocks {
        next += 1;
        index.put(BlockIndex(block), plain_entry(next));
    }
    println!("{:<50} {:>9.1} ns", "put, random, second generation", (cpu_ns() - start) as f64 / count as f64);
    index.freeze(Seq(next)).unwrap();
    let start = cpu_ns();
    merge(&index, 64);
    println!("{:<50} {:>9.1} us", "merge over full leaves, a leaf", (cpu_ns() - start) as f64 / 8192.0 / 1e3);
}

/// As most entries are: of few epochs and periods, and not compressed.
fn plain_entry(seq: u64) -> Entry {
    Entry { version: Version { epoch: Epoch(9), seq: Seq(seq) }, ..entry(1, place(seq * 257 % (5000 << 16))) }
}

trait At {
    fn at(self, place: Place) -> Self;
}

impl At for Entry {
    fn at(self, place: Place) -> Self {
        Self { place, ..self }
    }
}

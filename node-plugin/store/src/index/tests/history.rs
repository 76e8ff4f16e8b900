//! Stories that a random test might miss.

use std::sync::Arc;

use holdfast_disk::{Disk, MemoryDisk};
use holdfast_log::hash::TreeHash;
use holdfast_log::node::{child_towards, leaf_of};
use holdfast_ports::budget::MemoryBudget;
use holdfast_vocabulary::{BlockIndex, Epoch, Seq};

use super::{Random, contents, entry, merge, place, version};
use crate::index::{Index, IndexError};

fn new_index() -> (Arc<dyn Disk>, MemoryBudget, Index) {
    let disk = MemoryDisk::new().handle();
    let budget = MemoryBudget::new(8 << 20);
    let index = Index::empty(Arc::clone(&disk), &budget).unwrap();
    (disk, budget, index)
}

fn index_files(disk: &dyn Disk) -> Vec<String> {
    disk.list().unwrap().into_iter().filter(|name| name.starts_with("idx-")).collect()
}

/// The base was checkpointed after a record had moved from A to B. A replay that begins before that move must still
/// follow the next one, from B to C, or the index would name a segment that is gone.
#[test]
fn a_move_that_the_base_has_already_does_not_hide_the_next() {
    let (_, _, index) = new_index();
    let block = BlockIndex(77);
    let [a, b, c] = [place(1), place(2), place(3)];
    index.put(block, entry(1, a));
    index.relocate(block, version(1), a, b);
    index.freeze(Seq(1)).unwrap();
    merge(&index, 1);
    index.relocate(block, version(1), a, b);
    index.relocate(block, version(1), b, c);
    assert_eq!(index.lookup(block).unwrap().unwrap().place, c);
    index.freeze(Seq(1)).unwrap();
    merge(&index, 1);
    assert_eq!(contents(&index)[&77].place, c);
}

#[test]
fn a_relocation_never_maps_a_block() {
    let (_, _, index) = new_index();
    let block = BlockIndex(5);
    index.relocate(block, version(1), place(1), place(2));
    assert_eq!(index.lookup(block), Ok(None));
    index.put(block, entry(1, place(1)));
    assert_eq!(index.lookup(block).unwrap().unwrap().place, place(1), "the move came before its subject");
    index.unmap(block, 1, version(2));
    index.relocate(block, version(1), place(1), place(2));
    assert_eq!(index.lookup(block), Ok(None));
    index.freeze(Seq(2)).unwrap();
    index.relocate(block, version(1), place(1), place(2));
    let (root, told) = merge(&index, 10);
    assert_eq!((root.root, root.hash, told.len()), (None, TreeHash::EMPTY, 0));
    assert_eq!(index.lookup(block), Ok(None));
}

#[test]
fn the_highest_seq_wins_whatever_its_epoch_and_whenever_it_came() {
    let (_, _, index) = new_index();
    let block = BlockIndex(1);
    let at = |epoch: u64, seq: u64| {
        let mut entry = entry(seq, place(epoch * 100 + seq));
        entry.version.epoch = Epoch(epoch);
        entry
    };
    for (put, newest) in [((2, 9), (2, 9)), ((3, 7), (2, 9)), ((3, 9), (3, 9)), ((2, 9), (3, 9)), ((1, 10), (1, 10))] {
        index.put(block, at(put.0, put.1));
        assert_eq!(index.lookup(block), Ok(Some(at(newest.0, newest.1))));
    }
}

#[test]
fn a_discard_of_everything_visits_only_what_is_there() {
    let (_, _, index) = new_index();
    let last = (1u64 << 40) - 1;
    for (seq, block) in [0, 1 << 20, 1 << 33, last].into_iter().enumerate() {
        index.put(BlockIndex(block), entry(1 + seq as u64, place(seq as u64)));
    }
    index.freeze(Seq(4)).unwrap();
    let (root, _) = merge(&index, 100);
    assert_eq!(index.verify().leaves, 4);
    let node = index.base_node(4, 0).unwrap();
    assert!(node.child(child_towards(4, leaf_of(last))).is_some());
    assert!(index.base_node(1, 1).unwrap().is_empty());

    index.unmap(BlockIndex(0), u64::MAX, version(9));
    index.put(BlockIndex(3), entry(10, place(40)));
    assert_eq!(index.records(), 2);
    assert_eq!(index.lookup(BlockIndex(last)), Ok(None));
    index.freeze(Seq(10)).unwrap();
    let (smaller, told) = merge(&index, 1);
    assert_eq!(told.len(), 5);
    assert_eq!(contents(&index).into_keys().collect::<Vec<_>>(), [3]);
    let report = index.verify();
    assert_eq!((report.leaves, report.nodes), (1, 4), "empty leaves and nodes are gone");
    assert!(report.is_sound() && smaller.live_bytes < root.live_bytes);
}

#[test]
fn the_base_answers_as_before_until_the_next_one_is_finished() {
    let (_, _, index) = new_index();
    index.put(BlockIndex(1), entry(1, place(1)));
    index.freeze(Seq(1)).unwrap();
    let (first, _) = merge(&index, 1);
    index.put(BlockIndex(1), entry(2, place(2)));
    index.put(BlockIndex(600), entry(3, place(3)));
    assert!(matches!(index.freeze(Seq(2)), Err(IndexError::OutOfOrder(_))), "record 3 is there already");
    index.freeze(Seq(3)).unwrap();
    index.put(BlockIndex(1), entry(4, place(4)));
    assert!(matches!(index.merge_finish(), Err(IndexError::OutOfOrder(_))));
    let merged = index.merge_step(1, &mut |_: BlockIndex, _: Option<&_>, _: Option<&_>| ()).unwrap();
    assert_eq!((merged[0].number, merged[0].old.get(1)), (0, Some(entry(1, place(1)))));
    assert_eq!(merged[0].new.get(1), Some(entry(2, place(2))), "what is newer than the freeze is not in the next base");
    assert!(matches!(index.merge_finish(), Err(IndexError::OutOfOrder(_))), "one leaf is left");
    assert_eq!(index.base_leaf(0).unwrap().get(1), Some(entry(1, place(1))));
    assert!(index.base_leaf(1).unwrap().is_empty());
    assert_eq!(index.base_node(4, 0).unwrap().hash(), first.hash);
    assert_eq!(index.lookup(BlockIndex(1)), Ok(Some(entry(4, place(4)))));
    assert_eq!(index.lookup(BlockIndex(600)), Ok(Some(entry(3, place(3)))));
    let (second, _) = merge(&index, 1);
    assert_eq!(second.through, Seq(3));
    assert_eq!(index.base_leaf(0).unwrap().get(1), Some(entry(2, place(2))));
    assert_eq!(index.lookup(BlockIndex(1)), Ok(Some(entry(4, place(4)))));
}

#[test]
fn an_abandoned_merge_leaves_nothing_behind() {
    let (disk, _, index) = new_index();
    for (seq, block) in (0..20_000).step_by(7).enumerate() {
        index.put(BlockIndex(block), entry(1 + seq as u64, place(block)));
    }
    index.freeze(Seq(5000)).unwrap();
    index.merge_step(3, &mut |_: BlockIndex, _: Option<&_>, _: Option<&_>| ()).unwrap();
    assert_eq!(index_files(&*disk).len(), 1);
    index.merge_abandon();
    assert_eq!(index_files(&*disk).len(), 0);
    assert_eq!((index.base_root().root, index.records()), (None, 20_000usize.div_ceil(7)));
    index.freeze(Seq(5000)).unwrap();
    let (root, _) = merge(&index, 1000);
    let length = disk.open(&index_files(&*disk)[0]).unwrap().len().unwrap();
    assert_eq!(length, root.file_bytes());
    // The next one goes on behind, and gives the room back.
    index.put(BlockIndex(0), entry(5001, place(1)));
    index.freeze(Seq(5001)).unwrap();
    index.merge_step(3, &mut |_: BlockIndex, _: Option<&_>, _: Option<&_>| ()).unwrap();
    index.merge_abandon();
    assert_eq!(disk.open(&index_files(&*disk)[0]).unwrap().len().unwrap(), length);
    index.forget_changes();
    assert_eq!((index.records(), index.lookup(BlockIndex(0)).unwrap()), (0, Some(entry(1, place(0)))));
}

#[test]
fn files_of_garbage_are_rewritten_and_swept_up() {
    let (disk, budget, mut index) = new_index();
    let mut random = Random(9);
    let (mut seq, mut rewritten) = (0, 0);
    let mut older = index.base_root();
    let mut root = older.clone();
    for round in 0..60 {
        for _ in 0..300 {
            seq += 1;
            index.put(BlockIndex(random.below(300_000)), entry(seq, place(random.below(1 << 30))));
        }
        index.freeze(Seq(seq)).unwrap();
        older = std::mem::replace(&mut root, merge(&index, 50).0);
        if older.file_bytes() > older.live_bytes * 5 / 2 + (1 << 20) {
            rewritten += 1;
            assert_eq!(root.files.len(), 1, "everything was copied");
            assert_eq!(root.file_bytes(), root.live_bytes);
        }
        index.remove_files_not_in(&[&root, &older]).unwrap();
        let mut named: Vec<u32> = root.files.iter().chain(&older.files).map(|file| file.number).collect();
        named.sort_unstable();
        named.dedup();
        assert_eq!(index_files(&*disk).len(), named.len());
        if round % 9 == 0 {
            // The older root can still be opened, as recovery might.
            assert!(Index::open(Arc::clone(&disk), &older, &budget).unwrap().verify().is_sound());
            index = Index::open(Arc::clone(&disk), &root, &budget).unwrap();
            assert!(index.verify().is_sound());
        }
    }
    assert!(rewritten > 2, "{rewritten}");
    assert_eq!(index.verify().mapped as usize, contents(&index).len());
    drop(older);
}

#[test]
fn lookups_go_on_while_one_thread_writes_and_one_merges() {
    let (_, _, index) = new_index();
    let (blocks, rounds) = (5000u64, 20u64);
    let written = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for reader in 0..2u64 {
            let (index, written) = (&index, &written);
            scope.spawn(move || {
                let mut random = Random(7 + reader);
                loop {
                    let before = written.load(std::sync::atomic::Ordering::Acquire);
                    let block = random.below(blocks);
                    let found = index.lookup(BlockIndex(block * 37)).unwrap().map_or(0, |entry| entry.version.seq.0);
                    // Block b of round r is record r × blocks + b + 1: what was written before must be seen.
                    let must = if before > block { (before - block - 1) / blocks * blocks + block + 1 } else { 0 };
                    assert!(found >= must, "block {block}: {found} after {before} records");
                    if before == blocks * rounds {
                        break;
                    }
                }
            });
        }
        for round in 0..rounds {
            for block in 0..blocks {
                let seq = round * blocks + block + 1;
                index.put(BlockIndex(block * 37), entry(seq, place(seq)));
                written.store(seq, std::sync::atomic::Ordering::Release);
            }
            index.freeze(Seq((round + 1) * blocks)).unwrap();
            merge(&index, 16);
        }
    });
    assert_eq!(contents(&index).len() as u64, blocks);
}

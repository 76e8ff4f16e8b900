//! The right to seal: counted upwards, given out once, ended in time.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed, in its helpers too.

use std::collections::HashSet;
use std::thread;

use holdfast_seal::{FreshSalt, PERIOD_BLOCKS_MAX, PeriodSealer, RecordAad, VolumeKey};
use holdfast_vocabulary::{BlockIndex, Epoch, Seq, VolumeId};

fn sealer(first: u64) -> PeriodSealer {
    VolumeKey::from_bytes([1; 32]).begin_period(VolumeId([2; 16]), Epoch(3), FreshSalt::drawn([4; 32]), Seq(first))
}

#[test]
fn ranges_follow_each_other_without_hole_or_overlap() {
    let mut sealer = sealer(10);
    let mut first = sealer.reserve(3).unwrap();
    let second = sealer.reserve(2).unwrap();
    assert_eq!((first.first(), first.len(), second.first(), second.len()), (Seq(10), 3, Seq(13), 2));

    let mut seqs = Vec::new();
    while let Some(slot) = first.next_slot() {
        seqs.push(slot.seq().0);
    }
    assert_eq!(seqs, [10, 11, 12]);
    assert!(first.is_empty());
    assert!(sealer.reserve(0).unwrap().next_slot().is_none());
    assert_eq!(sealer.next_seq(), Seq(15));
}

#[test]
fn a_split_gives_every_slot_to_one_side() {
    let mut back = sealer(1).reserve(5).unwrap();
    let front = back.split_front(2).unwrap();
    assert_eq!((front.first(), front.len(), back.first(), back.len()), (Seq(1), 2, Seq(3), 3));
    assert!(back.split_front(4).is_none());
    assert_eq!(back.len(), 3, "a split that fails takes nothing");
    assert_eq!(back.split_front(3).unwrap().len(), 3);
    assert!(back.is_empty());
}

#[test]
fn a_period_ends() {
    let mut sealer = sealer(1);
    assert!(sealer.reserve(PERIOD_BLOCKS_MAX + 1).is_none());
    assert_eq!(sealer.reserve(PERIOD_BLOCKS_MAX - 1).unwrap().len(), PERIOD_BLOCKS_MAX - 1);
    assert!(sealer.reserve(2).is_none());
    assert_eq!(sealer.next_seq(), Seq(PERIOD_BLOCKS_MAX), "what is refused takes nothing");
    assert_eq!(sealer.reserve(1).unwrap().first(), Seq(PERIOD_BLOCKS_MAX));
    assert!(sealer.reserve(1).is_none());
}

#[test]
fn seqs_without_a_block_are_passed_over_and_cost_the_period_nothing() {
    let mut sealer = sealer(1);
    sealer.skip(PERIOD_BLOCKS_MAX);
    assert_eq!(sealer.next_seq(), Seq(1 + PERIOD_BLOCKS_MAX));
    assert_eq!(sealer.reserve(PERIOD_BLOCKS_MAX).unwrap().first(), Seq(1 + PERIOD_BLOCKS_MAX));
}

#[test]
fn the_seqs_themselves_may_run_out_but_never_wrap() {
    let mut sealer = sealer(u64::MAX - 1);
    assert!(sealer.reserve(2).is_none());
    sealer.skip(u64::MAX);
    assert_eq!(sealer.next_seq(), Seq(u64::MAX));
    assert!(sealer.reserve(1).is_none());
}

#[test]
fn several_threads_seal_parts_of_one_reservation() {
    let mut sealer = sealer(1);
    let mut range = sealer.reserve(64).unwrap();
    let key = sealer.key();
    let sealed: HashSet<Vec<u8>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let mut part = range.split_front(16).unwrap();
                scope.spawn(move || {
                    let mut sealed = Vec::new();
                    while let Some(slot) = part.next_slot() {
                        let seq = slot.seq();
                        let mut bytes = vec![0; 4096];
                        let tag = slot.seal(BlockIndex(9), 0, &[0x33; 4096], &mut bytes);
                        let aad = RecordAad {
                            origin: VolumeId([2; 16]),
                            block: BlockIndex(9),
                            length: 4096,
                            flags: 0,
                            epoch: Epoch(3),
                            seq,
                        };
                        let mut out = [0; 4096];
                        key.open(&aad, &bytes, &tag.0, &mut out).unwrap();
                        assert_eq!(out, [0x33; 4096]);
                        sealed.push(bytes);
                    }
                    sealed
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(sealed.len(), 64, "one content, 64 ciphertexts");
}

//! Many threads at once: every block carries a counter, and nobody ever sees one go back.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use holdfast_disk::{Random, SeededRandom};
use holdfast_log::period::Compression;
use holdfast_session::Session;
use holdfast_vocabulary::BLOCK_BYTES;
use support::evil::Evil;
use support::memory::Memory;
use support::{BLOCK, World, pattern, write};

const WRITERS: u64 = 3;
const BLOCKS_EACH: u64 = 700;

/// Bytes that say which block and which turn they are.
fn stamped(block: u64, counter: u64) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK_BYTES];
    SeededRandom::new(block << 32 | counter).fill(&mut bytes[16..]);
    bytes[..8].copy_from_slice(&block.to_le_bytes());
    bytes[8..16].copy_from_slice(&counter.to_le_bytes());
    bytes
}

/// The counter in a block, after checking that all of it belongs together. Zeros are turn 0.
fn counter_of(block: u64, bytes: &[u8]) -> u64 {
    if bytes.iter().all(|byte| *byte == 0) {
        return 0;
    }
    let counter = u64::from_le_bytes(bytes[8..16].try_into().unwrap());
    assert!(bytes == stamped(block, counter), "block {block} is a mixture");
    counter
}

struct Shared {
    session: Session,
    /// The newest acknowledged turn of each block.
    acknowledged: Vec<AtomicU64>,
    over: AtomicBool,
}

/// Writes its own blocks, alone and in rows, and reads each back.
fn writer(shared: &Shared, number: u64, turns: u64) {
    let dice = SeededRandom::new(number);
    let first = number * BLOCKS_EACH;
    for turn in 1..=turns {
        let count = if dice.below(20) == 0 { 1 + dice.below(300) } else { 1 };
        let block = first + dice.below(BLOCKS_EACH - count + 1);
        let bytes: Vec<u8> = (block..block + count).flat_map(|block| stamped(block, turn)).collect();
        shared.session.write(block * BLOCK, &bytes).unwrap();
        for block in block..block + count {
            shared.acknowledged[block as usize].store(turn, Ordering::SeqCst);
        }
        if dice.below(4) == 0 {
            let mut back = vec![0; BLOCK_BYTES];
            shared.session.read(block * BLOCK, &mut back).unwrap();
            assert_eq!(counter_of(block, &back), turn, "a writer reads what it wrote");
        }
        if dice.below(200) == 0 {
            shared.session.flush().unwrap();
        }
    }
}

/// Reads everybody's blocks; what was acknowledged before the read began is the least that it may see.
fn reader(shared: &Shared, number: u64) {
    let dice = SeededRandom::new(1000 + number);
    let all = WRITERS * BLOCKS_EACH;
    while !shared.over.load(Ordering::SeqCst) {
        let count = 1 + dice.below(40);
        let block = dice.below(all - count + 1);
        let least: Vec<u64> =
            (block..block + count).map(|block| shared.acknowledged[block as usize].load(Ordering::SeqCst)).collect();
        let mut bytes = vec![0; (count * BLOCK) as usize];
        shared.session.read(block * BLOCK, &mut bytes).unwrap();
        for (position, one) in bytes.chunks(BLOCK_BYTES).enumerate() {
            let block = block + position as u64;
            let counter = counter_of(block, one);
            assert!(counter >= least[position], "block {block} went back from {} to {counter}", least[position]);
        }
    }
}

fn stress(compression: Compression, group_records: usize, pending: u64) {
    let mut world = World::new(5);
    world.compression = compression;
    world.limits.group_records = group_records;
    world.limits.pending_bytes_max = pending;
    world.budget = Arc::new(holdfast_ports::budget::MemoryBudget::new(64 << 10));
    let replica = Arc::new(Memory::new());
    replica.state.lock().tail_due = 1500;
    replica.state.lock().tail_max = 6000;
    world.create(&replica, WRITERS * BLOCKS_EACH);
    let session = world.open(&replica).unwrap();
    let acknowledged = (0..WRITERS * BLOCKS_EACH).map(|_| AtomicU64::new(0)).collect();
    let shared = Shared { session, acknowledged, over: AtomicBool::new(false) };
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                scope.spawn({
                    let shared = &shared;
                    move || writer(shared, number, 1500)
                })
            })
            .collect();
        (0..2).for_each(|number| {
            drop(scope.spawn({
                let shared = &shared;
                move || reader(shared, number)
            }))
        });
        scope.spawn(|| {
            while !shared.over.load(Ordering::SeqCst) {
                world.clock.advance(std::time::Duration::from_millis(100));
                shared.session.tick().unwrap();
                thread::yield_now();
            }
        });
        let ends: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        shared.over.store(true, Ordering::SeqCst);
        ends.into_iter().for_each(|end| end.unwrap());
    });
    shared.session.flush().unwrap();
    assert!(shared.session.stats().advances > 0);
    let acknowledged: Vec<u64> = shared.acknowledged.iter().map(|turn| turn.load(Ordering::SeqCst)).collect();
    drop(shared);
    let session = world.open(&replica.crash(0)).unwrap();
    for (block, turn) in acknowledged.iter().enumerate() {
        let mut bytes = vec![0; BLOCK_BYTES];
        session.read(block as u64 * BLOCK, &mut bytes).unwrap();
        assert_eq!(counter_of(block as u64, &bytes), *turn, "block {block} after a crash behind a flush");
    }
    assert_eq!(session.scrub().unwrap().findings, vec![]);
}

#[test]
fn counters_never_go_back() {
    stress(Compression::None, 256, 32 << 20);
}

#[test]
fn counters_never_go_back_with_tiny_groups_and_hardly_any_room_for_pending_ones() {
    stress(Compression::Lz4, 5, 40_000);
}

#[test]
fn a_read_between_the_replicas_new_base_and_the_sessions_waits_for_it() {
    let mut world = World::new(6);
    // Nothing stays in the cache, so that every read asks the replica for its pages.
    world.budget = Arc::new(holdfast_ports::budget::MemoryBudget::new(0));
    let replica = Evil::new(Memory::new());
    world.create(&replica.inner, 100);
    let session = Arc::new(world.open(&replica).unwrap());
    write(&session, 7, 1);
    write(&session, 8, 1);
    session.checkpoint().unwrap();
    write(&session, 7, 2);
    let (done, ended) = std::sync::mpsc::channel();
    *replica.finished.lock() = Some(Box::new({
        let session = session.clone();
        move |()| {
            let (session, done) = (session.clone(), done.clone());
            let (begun, runs) = std::sync::mpsc::channel();
            thread::spawn(move || {
                begun.send(()).unwrap();
                let mut bytes = vec![0; BLOCK_BYTES];
                done.send(session.read(8 * BLOCK, &mut bytes).map(|()| bytes)).unwrap();
            });
            runs.recv().unwrap();
            // Time for the read to meet the new pages, while the session still goes by the old root.
            thread::sleep(std::time::Duration::from_millis(50));
        }
    }));
    session.checkpoint().unwrap();
    assert_eq!(ended.recv().unwrap().unwrap(), pattern(1));
}

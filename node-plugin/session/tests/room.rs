//! A store that is nearly full of garbage: writers wait for collection, and none hears that there is no room.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use holdfast_disk::{Disk, MemoryDisk, SeededRandom};
use holdfast_ports::budget::MemoryBudget;
use holdfast_session::{CreateOptions, Session};
use holdfast_store::{Store, StoreOptions};
use holdfast_vocabulary::VolumeSize;
use support::{BLOCK, VOLUME, World, key, pattern};

const BLOCKS: u64 = 1024;

#[test]
fn many_writers_on_a_store_full_of_garbage_all_get_their_turn() {
    let mut world = World::new(9);
    world.limits.group_records = 32;
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let size = VolumeSize::from_bytes(BLOCKS * BLOCK).unwrap();
    let options = CreateOptions { volume: VOLUME, size, compression: world.compression, key: key() };
    holdfast_store::create(&disk, &Session::first_header(&options, &world.grant())).unwrap();
    let mut options = StoreOptions::new(24 << 20, Arc::new(SeededRandom::new(1)), MemoryBudget::new(8 << 20));
    options.segment_bytes_max = 512 << 10;
    (options.tail_records_max, options.tail_records_due) = (4096, 3072);
    let session = world.open(&Arc::new(Store::open(disk, options).unwrap())).unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let upkeep = scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                session.tick().unwrap();
                thread::sleep(std::time::Duration::from_millis(1));
            }
        });
        let writers: Vec<_> = (0..8)
            .map(|number| {
                let session = &session;
                scope.spawn(move || {
                    let dice = SeededRandom::new(number);
                    (0..3000).try_for_each(|turn| session.write(dice.below(BLOCKS) * BLOCK, &pattern(turn)))
                })
            })
            .collect();
        let ends: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        is_over.store(true, Ordering::SeqCst);
        upkeep.join().unwrap();
        ends.into_iter().for_each(|end| end.unwrap());
    });
    assert!(session.stats().replica.freed_segments > 50, "{:?}", session.stats().replica);
    assert_eq!(session.scrub().unwrap().findings, vec![]);
}

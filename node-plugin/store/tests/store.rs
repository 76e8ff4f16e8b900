//! The store by itself: what goes in comes out, after reopening, merging, collecting and crashing.

#![allow(clippy::unwrap_used, reason = "a test may unwrap")]

mod support;

use std::sync::Arc;

use holdfast_disk::{Disk, MemoryDisk};
use holdfast_log::seam::{Replica, ReplicaError};
use holdfast_store::Store;
use support::{Change, Scribe, check, create, options};

fn disk() -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    create(&disk);
    disk
}

fn open(disk: &Arc<dyn Disk>, capacity: u64) -> Arc<Store> {
    Arc::new(Store::open(Arc::clone(disk), options(capacity)).unwrap())
}

#[test]
fn what_was_written_is_read_also_after_reopening() {
    let disk = disk();
    let mut scribe = Scribe::open(open(&disk, 64 << 20), 1).unwrap();
    scribe.write(&[Change::Put(1), Change::Put(2), Change::Put(3), Change::Put(900)]).unwrap();
    scribe.write(&[Change::Put(2), Change::Unmap(3, 5)]).unwrap();
    scribe.check(1000);
    scribe.flush().unwrap();
    let model = scribe.model.clone();
    drop(scribe);
    let store = open(&disk, 64 << 20);
    check(&store, &model, 1000);
    let mut scribe = Scribe::open(store, 2).unwrap();
    scribe.model = model;
    scribe.write(&[Change::Put(2), Change::Put(7)]).unwrap();
    scribe.advance().unwrap();
    scribe.check(1000);
    drop(scribe.store.clone());
    let model = scribe.model.clone();
    drop(scribe);
    check(&open(&disk, 64 << 20), &model, 1000);
}

#[test]
fn an_empty_store_is_small() {
    let disk = disk();
    let store = open(&disk, 64 << 20);
    let _scribe = Scribe::open(store, 1).unwrap();
    let bytes: u64 = disk.list().unwrap().iter().map(|name| disk.open(name).unwrap().len().unwrap()).sum();
    assert!(bytes <= 64 << 10, "{bytes} bytes");
}

#[test]
fn an_older_grant_is_refused() {
    let disk = disk();
    let store = open(&disk, 64 << 20);
    let mut old = Scribe::open(Arc::clone(&store), 1).unwrap();
    let _new = Scribe::open(Arc::clone(&store), 2).unwrap();
    assert!(matches!(old.write(&[Change::Put(1)]), Err(ReplicaError::Fenced { .. })));
    assert!(matches!(Scribe::open(store, 1), Err(ReplicaError::Fenced { .. })));
}

#[test]
fn collection_gives_room_back_and_loses_nothing() {
    let disk = disk();
    let mut scribe = Scribe::open(open(&disk, 8 << 20), 1).unwrap();
    let mut random = 1u64;
    for round in 0..400 {
        let changes: Vec<Change> = (0..16)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                Change::Put((random >> 33) % 900)
            })
            .collect();
        scribe.write(&changes).unwrap();
        if round % 20 == 19 {
            scribe.advance().unwrap();
            while scribe.store.pressure().collect_due && scribe.store.collect().unwrap() {}
        }
    }
    scribe.check(1000);
    let stats = scribe.store.stats();
    assert!(stats.freed_segments > 0, "{stats:?}");
    assert!(stats.moved_records > 0, "{stats:?}");
    assert!(stats.segment_bytes < 8 << 20, "{stats:?}");
    let scrub = scribe.store.scrub().unwrap();
    assert!(scrub.findings.is_empty(), "{:?}", scrub.findings);
    scribe.flush().unwrap();
    let model = scribe.model.clone();
    drop(scribe);
    check(&open(&disk, 8 << 20), &model, 1000);
}

#[test]
fn zeros_are_written_ahead_of_small_flushes_only_and_end_the_log_like_any_others() {
    let disk = disk();
    let mut scribe = Scribe::open(open(&disk, 64 << 20), 1).unwrap();
    let ahead = |scribe: &Scribe| scribe.store.stats().written_ahead_bytes;
    let opening = ahead(&scribe);
    for turn in 0..20 {
        scribe.write(&(0..32).map(|block| Change::Put(turn * 32 + block)).collect::<Vec<_>>()).unwrap();
        scribe.flush().unwrap();
    }
    assert_eq!(ahead(&scribe), opening, "128 KiB a flush need no help");
    for turn in 0..100 {
        scribe.write(&[Change::Put(turn)]).unwrap();
        scribe.flush().unwrap();
    }
    let (log, written) = (100 * 3 * 4096, ahead(&scribe) - opening);
    assert!(written > 0 && written < log + (256 << 10), "{written} bytes of zeros for {log} of groups");
    let model = scribe.model.clone();
    drop(scribe);
    check(&open(&disk, 64 << 20), &model, 1000);
}

//! One thing at a time: what each call promises.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use holdfast_log::header::Formatted;
use holdfast_log::period::Compression;
use holdfast_log::seam::Replica;
use holdfast_session::{CreateOptions, EndCause, OpenError, Session, SessionError};
use holdfast_vocabulary::{BLOCK_BYTES, Seq, VolumeSize};
use support::memory::{Faults, Memory};
use support::{BLOCK, VOLUME, World, key, pattern, read, write};

fn fresh(blocks: u64) -> (World, Arc<Memory>) {
    let mut world = World::new(1);
    let replica = Arc::new(Memory::new());
    world.create(&replica, blocks);
    (world, replica)
}

#[test]
fn what_is_written_is_read_before_and_after_flush_base_and_reopening() {
    for compression in [Compression::None, Compression::Lz4] {
        let mut world = World::new(1);
        world.compression = compression;
        let replica = Arc::new(Memory::new());
        world.create(&replica, 5000);
        let session = world.open(&replica).unwrap();
        let long: Vec<u8> = (0..700).flat_map(pattern).collect();
        session.write(1000 * BLOCK, &long).unwrap();
        write(&session, 3, 1);
        write(&session, 3, 2);
        session.discard(1100 * BLOCK, 20 * BLOCK).unwrap();
        session.write_zeroes(1200 * BLOCK, 3 * BLOCK).unwrap();
        let check = |session: &Session| {
            assert_eq!(read(session, 3), pattern(2));
            assert_eq!(read(session, 4), vec![0; BLOCK_BYTES]);
            let mut all = vec![1; 702 * BLOCK_BYTES];
            session.read(999 * BLOCK, &mut all).unwrap();
            for (position, block) in all.chunks(BLOCK_BYTES).enumerate() {
                let number = position as u64 + 999;
                let zero =
                    [999, 1700].contains(&number) || (1100..1120).contains(&number) || (1200..1203).contains(&number);
                let expected = if zero { vec![0; BLOCK_BYTES] } else { pattern(number - 1000) };
                assert_eq!(block, expected, "block {number}");
            }
        };
        check(&session);
        session.flush().unwrap();
        check(&session);
        session.checkpoint().unwrap();
        check(&session);
        let report = session.scrub().unwrap();
        assert_eq!((report.blocks, report.findings), (701 - 23, vec![]));
        session.close().unwrap();
        assert!(replica.state.lock().reserved == 0);
        let again = world.open(&replica).unwrap();
        check(&again);
    }
}

#[test]
fn requests_outside_of_blocks_or_volume_are_refused_and_empty_ones_are_not() {
    let (mut world, replica) = fresh(10);
    let session = world.open(&replica).unwrap();
    session.write(10 * BLOCK, &[]).unwrap();
    session.read(0, &mut []).unwrap();
    session.discard(BLOCK, 0).unwrap();
    let size = 10 * BLOCK;
    assert_eq!(
        session.write(9 * BLOCK, &vec![1; 2 * BLOCK_BYTES]),
        Err(SessionError::OutOfRange { offset: 9 * BLOCK, length: 2 * BLOCK, size })
    );
    assert_eq!(session.write(1, &[]), Err(SessionError::NotAligned { offset: 1, length: 0 }));
    assert_eq!(session.discard(0, 5), Err(SessionError::NotAligned { offset: 0, length: 5 }));
    let mut out = vec![9; BLOCK_BYTES];
    let offset = u64::MAX - BLOCK + 1;
    assert_eq!(session.read(offset, &mut out), Err(SessionError::OutOfRange { offset, length: BLOCK, size }));
    assert_eq!(out, vec![0; BLOCK_BYTES]);
    assert_eq!(session.stats().records, 0);
}

#[test]
fn a_flush_without_writes_costs_no_sync_and_concurrent_ones_share() {
    let (mut world, replica) = fresh(10);
    let session = world.open(&replica).unwrap();
    let before = session.stats().replica.syncs;
    session.flush().unwrap();
    session.flush().unwrap();
    assert_eq!(session.stats().replica.syncs, before);
    write(&session, 1, 1);
    session.flush().unwrap();
    session.flush().unwrap();
    assert_eq!(session.stats().replica.syncs, before + 1);
}

#[test]
fn opening_says_precisely_what_does_not_fit() {
    let (mut world, replica) = fresh(10);
    let mut wrong_key = world.options();
    wrong_key.key = holdfast_seal::VolumeKey::from_bytes([1; 32]);
    let (sealed, given) = (key().id(), wrong_key.key.id());
    let opened = Session::open(vec![replica.clone()], wrong_key);
    assert_eq!(opened.err(), Some(OpenError::WrongKey { sealed, given }));

    let mut foreign = world.options();
    foreign.volume = holdfast_vocabulary::VolumeId([1; 16]);
    let expected = foreign.volume;
    let opened = Session::open(vec![replica.clone()], foreign);
    assert_eq!(opened.err(), Some(OpenError::ForeignVolume { expected, found: VOLUME }));

    let two: Vec<Arc<dyn Replica>> = vec![replica.clone(), replica.clone()];
    let opened = Session::open(two, world.options());
    assert_eq!(opened.err(), Some(OpenError::Replicas { given: 2 }));
    assert_eq!(Session::open(vec![], world.options()).err(), Some(OpenError::Replicas { given: 0 }));

    let session = world.open(&replica).unwrap();
    drop(session);
    world.epoch -= 1;
    assert!(matches!(world.open(&replica).err(), Some(OpenError::OldGrant { .. })));
    world.epoch -= 1;
    let mut other = world.options();
    other.grant.session = holdfast_vocabulary::SessionId([9; 16]);
    assert!(matches!(Session::open(vec![replica.clone()], other).err(), Some(OpenError::Replica(_))));
}

#[test]
fn a_newer_session_ends_an_older_one_and_nothing_of_the_older_arrives() {
    let (mut world, replica) = fresh(10);
    let old = world.open(&replica).unwrap();
    write(&old, 1, 1);
    old.flush().unwrap();
    write(&old, 1, 2);
    let new = world.open(&replica).unwrap();
    assert_eq!(read(&new, 1), pattern(1));
    let ended = old.flush().unwrap_err();
    assert!(matches!(&ended, SessionError::SessionEnded { cause } if matches!(**cause, EndCause::Replica { .. })));
    assert_eq!(old.write(0, &pattern(1)), Err(ended.clone()));
    assert_eq!(old.read(0, &mut vec![0; BLOCK_BYTES]), Err(ended));
    write(&new, 1, 3);
    new.flush().unwrap();
    assert_eq!(read(&new, 1), pattern(3));
}

#[test]
fn every_failure_on_the_way_to_the_replica_ends_the_session() {
    let admit = Faults { admit: true, ..Faults::default() };
    let complete = Faults { complete: true, ..Faults::default() };
    let sync = Faults { sync: true, ..Faults::default() };
    for faults in [admit, complete, sync] {
        let (mut world, replica) = fresh(10);
        let session = world.open(&replica).unwrap();
        write(&session, 1, 1);
        session.flush().unwrap();
        write(&session, 1, 2);
        replica.fault(faults);
        let ended = session.flush().unwrap_err();
        assert!(matches!(ended, SessionError::SessionEnded { .. }), "{ended}");
        replica.fault(Faults::default());
        assert_eq!(session.flush(), Err(ended.clone()));
        assert_eq!(session.write(0, &pattern(1)), Err(ended.clone()));
        assert_eq!(session.close(), Err(ended));
        let again = world.open(&replica.crash(0)).unwrap();
        assert_eq!(read(&again, 1), pattern(1));
    }
}

#[test]
fn without_room_a_write_fails_before_it_takes_a_seq_and_discards_still_go() {
    let (mut world, replica) = fresh(100);
    let session = world.open(&replica).unwrap();
    write(&session, 1, 1);
    session.flush().unwrap();
    session.tick().unwrap();
    session.tick().unwrap();
    assert_eq!(replica.state.lock().reserved, 0, "an idle session holds no credit");
    let records = session.stats().records;
    replica.state.lock().room = Some(20_000);
    write(&session, 2, 2);
    let refused = session.write(3 * BLOCK, &vec![1; 4 * BLOCK_BYTES]).unwrap_err();
    assert!(matches!(refused, SessionError::NoSpace { .. }), "{refused}");
    assert_eq!(session.stats().records, records + 1);
    session.discard(0, 100 * BLOCK).unwrap();
    session.flush().unwrap();
    assert_eq!(read(&session, 2), vec![0; BLOCK_BYTES]);
    replica.state.lock().room = None;
    write(&session, 3, 3);
    assert_eq!(read(&session, 3), pattern(3));
}

#[test]
fn a_volume_grows_and_does_not_shrink_and_formatting_goes_forward_only() {
    let (mut world, replica) = fresh(10);
    let session = world.open(&replica).unwrap();
    assert_eq!(session.header().formatted, Formatted::Never);
    session.set_formatted(Formatted::Formatting).unwrap();
    session.set_formatted(Formatted::Formatted).unwrap();
    assert!(matches!(
        session.set_formatted(Formatted::Never),
        Err(SessionError::FormattedBackwards { now: Formatted::Formatted, .. })
    ));
    assert!(session.write(10 * BLOCK, &pattern(1)).is_err());
    session.resize(VolumeSize::from_bytes(20 * BLOCK).unwrap()).unwrap();
    write(&session, 19, 1);
    session.flush().unwrap();
    let shrunk = session.resize(VolumeSize::from_bytes(15 * BLOCK).unwrap());
    assert_eq!(shrunk, Err(SessionError::Shrink { size: 20 * BLOCK, wanted: 15 * BLOCK }));
    drop(session);
    let again = world.open(&replica).unwrap();
    assert_eq!(again.header().formatted, Formatted::Formatted);
    assert_eq!(read(&again, 19), pattern(1));
}

#[test]
fn ticks_close_sync_anchor_and_advance_by_the_clock() {
    let (mut world, replica) = fresh(2000);
    let session = world.open(&replica).unwrap();
    write(&session, 1, 1);
    session.tick().unwrap();
    assert_eq!(session.stats().replica.syncs, 1, "the start record's");
    world.clock.advance(Duration::from_millis(300));
    session.tick().unwrap();
    assert_eq!(replica.unsynced(), 1, "the group was closed and sent");
    world.clock.advance(Duration::from_secs(1));
    session.tick().unwrap();
    assert_eq!(replica.unsynced(), 0, "and synced");
    assert!(world.keeper.anchor.lock().is_none());
    world.clock.advance(Duration::from_secs(4));
    session.tick().unwrap();
    let anchor = world.keeper.anchor.lock().unwrap();
    assert_eq!(anchor.seq, Seq(1));
    world.clock.advance(Duration::from_secs(60));
    session.tick().unwrap();
    assert_eq!(session.stats().anchors, 1, "nothing new, nothing anchored");
    replica.state.lock().tail_due = 1;
    session.tick().unwrap();
    assert_eq!(session.stats().advances, 1);
    world.keeper.refuse.store(true, std::sync::atomic::Ordering::SeqCst);
    write(&session, 2, 2);
    assert!(matches!(session.anchor_now(), Err(SessionError::Anchor { seq: Seq(2), .. })));
    assert_eq!(read(&session, 2), pattern(2));
    world.keeper.refuse.store(false, std::sync::atomic::Ordering::SeqCst);
    session.tick().unwrap();
    session.close().unwrap();
    assert!(matches!(session.flush(), Err(SessionError::SessionEnded { cause }) if *cause == EndCause::Closed));
    assert_eq!(world.keeper.anchor.lock().unwrap().seq, Seq(2));
    world.open(&replica).unwrap();
}

#[test]
fn a_base_that_a_later_session_made_at_the_anchored_record_is_no_roll_back() {
    let (mut world, replica) = fresh(10);
    let session = world.open(&replica).unwrap();
    write(&session, 1, 1);
    session.anchor_now().unwrap();
    drop(session);
    let second = world.open(&replica).unwrap();
    second.advance().unwrap();
    drop(second);
    let third = world.open(&replica).unwrap();
    assert_eq!(read(&third, 1), pattern(1));
}

#[test]
fn a_failed_advance_leaves_everything_as_it_was() {
    let (mut world, replica) = fresh(3000);
    let session = world.open(&replica).unwrap();
    for block in 0..20 {
        write(&session, block * 100, block);
    }
    session.checkpoint().unwrap();
    write(&session, 0, 77);
    session.discard(100 * BLOCK, 400 * BLOCK).unwrap();
    replica.fault(Faults { finish: true, ..Faults::default() });
    assert!(matches!(session.advance(), Err(SessionError::Replica(_))));
    let check = |session: &Session| {
        assert_eq!(read(session, 0), pattern(77));
        assert_eq!(read(session, 200), vec![0; BLOCK_BYTES]);
        assert_eq!(read(session, 500), pattern(5));
    };
    check(&session);
    replica.fault(Faults::default());
    session.advance().unwrap();
    check(&session);
    drop(session);
    check(&world.open(&replica).unwrap());
}

#[test]
fn a_writer_that_the_replica_takes_nothing_more_from_makes_the_base_itself() {
    let (mut world, replica) = fresh(3000);
    world.limits.group_records = 4;
    replica.state.lock().tail_max = 16;
    let session = world.open(&replica).unwrap();
    for block in 0..200 {
        write(&session, block * 7, block);
    }
    assert!(session.stats().advances >= 10);
    (0..200).for_each(|block| assert_eq!(read(&session, block * 7), pattern(block)));
}

#[test]
fn nothing_secret_is_printed() {
    let (mut world, replica) = fresh(10);
    let session = world.open(&replica).unwrap();
    let options = CreateOptions {
        volume: VOLUME,
        size: VolumeSize::from_bytes(BLOCK).unwrap(),
        compression: Compression::None,
        key: key(),
    };
    let printed = format!("{session:?} {options:?}");
    assert!(!printed.contains("66, 66") && !printed.contains("4242"), "{printed}");
}

//! The stories of loss behind the design's rules, as far as one replica can tell them: each is a test by its name.

#![allow(clippy::unwrap_used, reason = "a test that unwraps a failure has found it")]

use std::sync::Arc;

use holdfast_disk::{Crash, Faults, Image, ManualClock, SeededRandom, SimulatedDisk};
use holdfast_log::period::Compression;
use holdfast_log::seam::ReplicaError;
use holdfast_session::{Limits, OpenError, Session, SessionError};
use holdfast_simulation::content::{self, Found};
use holdfast_simulation::exhaustive::{Letter, Plan, Variety, run_word};
use holdfast_simulation::registry::Registry;
use holdfast_simulation::site::{Opened, Refusal, Settings, Site};
use holdfast_vocabulary::BLOCK_BYTES;

const BLOCKS: u64 = 32;

fn site() -> Site {
    Site {
        settings: Settings {
            blocks: BLOCKS,
            compression: Compression::None,
            capacity_bytes: 4 << 20,
            segment_bytes_max: 64 << 10,
            tail_records: (1000, 800),
            garbage_permille_max: 300,
            budget_bytes: 1 << 20,
            limits: Limits { group_records: 1, credit_piece_max: 0, ..Limits::default() },
        },
        registry: Arc::new(Registry::default()),
        clock: ManualClock::new(),
        random: Arc::new(SeededRandom::new(1)),
        ledger: Arc::default(),
        mutant: None,
    }
}

fn disk(image: &Image) -> SimulatedDisk {
    SimulatedDisk::from_image(1, Faults::none(), image)
}

fn created(site: &Site) -> SimulatedDisk {
    let disk = disk(&Image::new());
    site.create(disk.handle()).unwrap();
    disk
}

fn open(site: &Site, disk: &SimulatedDisk) -> Result<Opened, Refusal> {
    site.open(disk.handle(), site.registry.grant(), site.registry.anchor())
}

fn write(opened: &Opened, block: u64, stamp: u64) {
    opened.session.write(block * BLOCK_BYTES as u64, &content::blocks(block, 1, stamp)).unwrap();
}

fn read(opened: &Opened, block: u64) -> Result<Found, SessionError> {
    let mut bytes = vec![0; BLOCK_BYTES];
    opened.session.read(block * BLOCK_BYTES as u64, &mut bytes)?;
    Ok(content::identify(block, &bytes))
}

/// Plays words with many samples at each crash point.
fn histories(words: &[&str]) {
    for variety in [Variety::Tight, Variety::Roomy] {
        let plan = Plan { variety, length: 0, samples: 24, shard: (0, 1), mutant: None };
        for word in words {
            if let Err(failure) = run_word(&plan, &Letter::word(word), 0) {
                panic!("{failure}");
            }
        }
    }
}

#[test]
fn scenario_02_an_epoch_holds_one_session() {
    let (site, grant) = (site(), Registry::grant_of(7));
    let disk = created(&site);
    let first = site.open(disk.handle(), grant, None).unwrap();
    write(&first, 1, 1);
    first.session.flush().unwrap();
    let mut twin = grant;
    twin.session.0[15] = 1;
    assert!(matches!(first.replica.promise(&twin), Err(ReplicaError::Fenced { .. })));
    let options = site.open_options(twin, None);
    let second = Session::open(vec![Arc::clone(&first.replica)], options);
    assert!(matches!(second, Err(OpenError::Replica(ReplicaError::Fenced { .. }))));
    // Nothing resumes: neither does the same session after its death.
    first.kill();
    assert!(site.open(disk.handle(), grant, None).is_err());
    assert!(site.open(disk.handle(), Registry::grant_of(8), None).is_ok());
}

#[test]
fn scenario_03_what_a_newer_epoch_voided_does_not_come_back() {
    let site = site();
    let disk = created(&site);
    let first = open(&site, &disk).unwrap();
    write(&first, 1, 1);
    first.session.flush().unwrap();
    (2..6).for_each(|stamp| write(&first, stamp, stamp));
    let (with_tail, without) = (disk.crash_image(&Crash::KeepAllUnsynced), disk.crash_image(&Crash::LoseAllUnsynced));
    first.kill();
    // The next session finds the log without its tail, and goes on.
    let disk = self::disk(&without);
    let second = open(&site, &disk).unwrap();
    assert_eq!(second.replica.report().head.0, 1);
    write(&second, 2, 10);
    second.session.flush().unwrap();
    second.kill();
    // The files of the epoch before come back as they were with it, longer than they should be.
    let mut image = disk.image();
    for (name, _) in with_tail.files().filter(|(name, _)| name.starts_with("seg-")) {
        if without.len_of(name).is_some() {
            image.insert(name, &with_tail.bytes(name).unwrap());
        }
    }
    let third = open(&site, &self::disk(&image)).unwrap();
    assert_eq!(third.replica.report().head.0, 2);
    let found: Vec<Found> = (1..6).map(|block| read(&third, block).unwrap()).collect();
    assert_eq!(found, [Found::Written(1), Found::Written(10), Found::Zeros, Found::Zeros, Found::Zeros]);
}

#[test]
fn scenario_04_unacknowledged_records_destroy_acknowledged_ones() {
    // An overwrite or a discard that nobody acknowledged, then collection, then the crash: the old version must be there.
    histories(&["ogog", "dgdg", "fogf", "fodg", "cogdg", "ocgogr", "dcgnogr"]);
}

#[test]
fn scenario_06_no_nonce_repeats_after_crash_retry_restore_fork() {
    let site = site();
    let disk = created(&site);
    let first = open(&site, &disk).unwrap();
    (0..4).for_each(|stamp| write(&first, stamp, 1 + stamp));
    first.session.flush().unwrap();
    let image = disk.crash_image(&Crash::LoseAllUnsynced);
    (0..4).for_each(|stamp| write(&first, stamp, 10 + stamp));
    first.kill();
    site.registry.forget_anchor();
    // Twins of one image, each going on with the same seqs and other content; and a crash that cuts what was sealed.
    let mut seqs = Vec::new();
    for twin in 0..3 {
        let disk = self::disk(&image);
        let opened = open(&site, &disk).unwrap();
        (0..4).for_each(|stamp| write(&opened, stamp, 100 * (twin + 1) + stamp));
        seqs.push(opened.replica.report().head.0);
        opened.kill();
        let opened = open(&site, &disk.crash(&Crash::LoseAllUnsynced)).unwrap();
        (0..4).for_each(|stamp| write(&opened, stamp, 1000 * (twin + 1) + stamp));
        seqs.push(opened.replica.report().head.0);
        opened.kill();
    }
    assert!(seqs.iter().all(|seq| *seq == 8), "all of them used the same seqs: {seqs:?}");
    let ledger = site.ledger.lock();
    assert_eq!(ledger.verdict(), Ok(()));
    assert_eq!(ledger.records(), 8 + 6 * 4);
}

#[test]
fn scenario_08_a_rotten_acknowledged_group_is_not_a_torn_tail() {
    let site = site();
    let disk = created(&site);
    let opened = open(&site, &disk).unwrap();
    for stamp in 1..=6 {
        write(&opened, stamp, stamp);
        opened.session.flush().unwrap();
    }
    opened.session.anchor_now().unwrap();
    opened.kill();
    let image = disk.image();
    let (mut refused, mut unread) = (0, 0);
    let names: Vec<(String, u64)> = image.files().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    for (name, bytes) in names.iter().filter(|(name, _)| name.starts_with("seg-")) {
        for offset in (0..*bytes).step_by(97) {
            let mut rotten = image.clone();
            rotten.flip(name, offset, 4);
            match open(&site, &self::disk(&rotten)) {
                Err(refusal) => {
                    let words = refusal.to_string();
                    assert!(words.contains("rebuild") || words.contains(name), "{name} at {offset}: {words}");
                    refused += 1;
                }
                Ok(opened) => {
                    assert_eq!(opened.replica.report().head.0, 6, "{name} at {offset}: cut");
                    let mut wrong = 0;
                    for block in 1..=6 {
                        match read(&opened, block) {
                            Ok(found) => assert_eq!(found, Found::Written(block), "{name} at {offset}"),
                            Err(error) => {
                                assert!(error.to_string().contains(&format!("block {block}")), "{error}");
                                wrong += 1;
                            }
                        }
                    }
                    let scrubbed = opened.session.scrub().unwrap();
                    assert_eq!(scrubbed.findings.len(), wrong, "{name} at {offset}");
                    assert!(
                        wrong == 0 || !scrubbed.replica.findings.is_empty(),
                        "{name} at {offset}: no key is needed"
                    );
                    unread += wrong;
                    opened.kill();
                }
            }
        }
    }
    assert!(refused > 10 && unread > 100, "{refused} refused, {unread} unread");
}

#[test]
fn scenario_08_an_old_image_of_the_disk_is_refused() {
    let site = site();
    let disk = created(&site);
    let opened = open(&site, &disk).unwrap();
    write(&opened, 1, 1);
    opened.session.close().unwrap();
    drop(opened);
    let noon = disk.image();
    let opened = open(&site, &disk).unwrap();
    write(&opened, 1, 2);
    opened.session.close().unwrap();
    drop(opened);
    let refused = open(&site, &self::disk(&noon)).map(|_| ()).unwrap_err();
    assert!(matches!(refused, Refusal::Session(OpenError::RolledBack { .. })), "{refused}");
    let opened = open(&site, &disk).unwrap();
    assert_eq!(read(&opened, 1).unwrap(), Found::Written(2));
}

#[test]
fn scenario_09_discard_is_not_resurrected_by_collection() {
    histories(&["dgcg", "gdcg", "dcgcg", "cgdcgr", "dfcgcgrf", "gdrg"]);
}

#[test]
fn scenario_09_the_older_checkpoint_is_as_good_a_start() {
    let site = site();
    let disk = created(&site);
    let opened = open(&site, &disk).unwrap();
    for round in 0..12 {
        (0..8).for_each(|block| write(&opened, block, 1 + round * 8 + block));
        opened.session.checkpoint().unwrap();
        while opened.replica.collect().unwrap() {}
        // Whichever slot is damaged, the other one gives the same volume.
        for slot in ["checkpoint-0", "checkpoint-1"] {
            let mut image = disk.crash_image(&Crash::LoseAllUnsynced);
            image.flip(slot, 40, 1);
            let again =
                open(&Site { registry: Arc::new(Registry::from_parts(50, None)), ..site.clone() }, &self::disk(&image));
            let again = again.unwrap_or_else(|refusal| panic!("round {round}, {slot}: {refusal}"));
            for block in 0..8 {
                assert_eq!(
                    read(&again, block).unwrap(),
                    Found::Written(1 + round * 8 + block),
                    "round {round}, {slot}"
                );
            }
        }
    }
    assert!(opened.replica.stats().freed_segments > 5);
}

#[test]
fn scenario_09_recycled_file_contents_are_void() {
    let site = site();
    let disk = created(&site);
    let opened = open(&site, &disk).unwrap();
    (1..=12).for_each(|stamp| write(&opened, stamp, stamp));
    opened.session.flush().unwrap();
    opened.kill();
    let opened = open(&site, &disk).unwrap();
    write(&opened, 1, 100);
    opened.session.flush().unwrap();
    opened.kill();
    // The blocks of the newest segment held another segment before: all that is not written yet shows its old groups.
    let image = disk.image();
    let mut segments: Vec<(String, u64)> = image.files().map(|(name, bytes)| (name.to_owned(), bytes)).collect();
    segments.retain(|(name, bytes)| name.starts_with("seg-") && *bytes > 8192);
    let (newest, length) = segments.last().unwrap().clone();
    let (oldest, _) = segments.first().unwrap().clone();
    assert_ne!(newest, oldest);
    let (mut mixed, old) = (image.bytes(&newest).unwrap(), image.bytes(&oldest).unwrap());
    let used = mixed.iter().rposition(|byte| *byte != 0).unwrap().next_multiple_of(512);
    let end = mixed.len().min(old.len());
    assert!(used + 5120 < end, "{used} {end} {length}");
    mixed[used..end].copy_from_slice(&old[used..end]);
    let mut image = image.clone();
    image.insert(&newest, &mixed);
    let opened = open(&site, &self::disk(&image)).unwrap();
    assert_eq!(opened.replica.report().head.0, 13);
    assert_eq!(read(&opened, 1).unwrap(), Found::Written(100));
    assert!((2..=12).all(|block| read(&opened, block).unwrap() == Found::Written(block)));
}

#[test]
fn a_process_that_dies_alone_leaves_nothing_that_a_later_power_cut_turns_into_rot() {
    // A start record vouches for what it stands on; so that must be durable before the record is written.
    histories(&["nr", "tr", "nrr", "ntror"]);
}

#[test]
fn a_discard_alone_survives_its_flush() {
    histories(&["df", "dfc", "dfdfr"]);
}

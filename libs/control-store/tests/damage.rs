//! Damage: flipped bytes, cuts, pages put back, crashes at every point, disks that fail. And what the disk may show.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed, in its helpers too.

mod fixture;

use std::collections::BTreeMap;

use fixture::{App, app, create, key, open};
use holdfast_control_store::{CONTROL_FILE, ControlStore, Repository, StoreError};
use holdfast_disk::{AlignedBuffer, Crash, Fault, Faults, Image, RecordingDisk, SimulatedDisk};
use proptest::prelude::*;

const APPS: Repository<App> = Repository::new();
const HEAD: u64 = 512;
const CELL: u64 = 4608;

type Model = BTreeMap<String, u64>;

fn from(image: &Image) -> SimulatedDisk {
    SimulatedDisk::from_image(1, Faults::none(), image)
}

fn put(store: &ControlStore, name: &str, size: u64) -> Result<(), StoreError> {
    store.write(|write| APPS.put(write, name, &app(size))).map(|_| ())
}

fn content(store: &ControlStore) -> Result<Model, StoreError> {
    let found = store.read(|read| APPS.list(read, "", None, 9999))?;
    Ok(found.into_iter().map(|(key, one)| (key, one.value.size)).collect())
}

/// A store of some records, closed in order.
fn whole() -> (Image, Model) {
    let disk = SimulatedDisk::new(1, Faults::none());
    let store = create(disk.handle());
    for number in 0..60 {
        let large = App { text: format!("{number}").repeat(400), ..app(number) };
        store.write(|write| APPS.put(write, &format!("app-{number}"), &large)).unwrap();
    }
    let model = content(&store).unwrap();
    store.close().unwrap();
    (disk.image(), model)
}

/// Every Nth byte flipped: either an error that names file and remedy, or everything is there.
#[test]
fn no_flipped_byte_is_believed() {
    let (image, model) = whole();
    let length = image.len_of(CONTROL_FILE).unwrap();
    let (mut refused, mut healed) = (0, 0);
    let everywhere = (0..HEAD).step_by(13).chain((HEAD..HEAD + 2 * CELL).step_by(487));
    for at in everywhere.chain((HEAD + 2 * CELL..length).step_by(211)) {
        let mut changed = image.clone();
        changed.flip(CONTROL_FILE, at, 1 << (at % 8));
        match open(from(&changed).handle()).and_then(|store| content(&store)) {
            Ok(found) => {
                assert_eq!(found, model, "byte {at}");
                healed += 1;
            }
            Err(error) => {
                let words = error.to_string();
                assert!(words.contains("control.db") && words.contains(';'), "byte {at}: {words}");
                refused += 1;
            }
        }
    }
    assert!(refused > 500 && healed > 0, "{refused} refused, {healed} of the first page's copies or unused pages");
}

#[test]
fn cuts_and_empty_files_are_errors() {
    let (image, model) = whole();
    let length = image.len_of(CONTROL_FILE).unwrap();
    for cut in [0, 1, 511, 512, 513, HEAD + CELL, HEAD + 2 * CELL, HEAD + 3 * CELL, length / 2, length - CELL] {
        let mut changed = image.clone();
        changed.set_len(CONTROL_FILE, cut);
        match open(from(&changed).handle()).and_then(|store| content(&store)) {
            Ok(found) => assert_eq!(found, model, "cut to {cut}: only pages that nothing refers to may go"),
            Err(error) => assert!(matches!(error, StoreError::Damaged { .. }), "cut to {cut}: {error}"),
        }
    }
    let mut changed = image;
    changed.remove(CONTROL_FILE);
    assert_eq!(open(from(&changed).handle()).unwrap_err(), StoreError::Missing);
}

/// Single pages of an older state, each authentic in its place, are never mixed with a newer one.
#[test]
fn a_page_that_was_put_back_is_found() {
    let (older, before) = whole();
    let disk = from(&older);
    let store = open(disk.handle()).unwrap();
    for number in 0..60 {
        put(&store, &format!("app-{number}"), number + 1000).unwrap();
    }
    let after = content(&store).unwrap();
    store.close().unwrap();
    let newer = disk.image();
    let (old, new) = (older.bytes(CONTROL_FILE).unwrap(), newer.bytes(CONTROL_FILE).unwrap());
    let mut found = 0;
    for at in (HEAD as usize..old.len().min(new.len())).step_by(CELL as usize) {
        let cell = at..at + CELL as usize;
        if old[cell.clone()] == new[cell.clone()] {
            continue;
        }
        let mut mixed = newer.clone();
        mixed.overwrite(CONTROL_FILE, at as u64, &old[cell]);
        match open(from(&mixed).handle()).and_then(|store| content(&store)) {
            Ok(content) => assert!(content == after || content == before, "cell at {at}"),
            Err(error) => {
                assert!(matches!(error, StoreError::Damaged { .. }), "cell at {at}: {error}");
                found += 1;
            }
        }
    }
    assert!(found > 3, "only {found}");
}

#[test]
fn rot_and_rollback_under_an_open_store_are_found_by_the_check() {
    let (image, _) = whole();
    let disk = from(&image);
    let store = open(disk.handle()).unwrap();
    assert!(store.quick_check(u64::MAX).unwrap().findings.is_empty());
    let length = image.len_of(CONTROL_FILE).unwrap();
    for at in (HEAD + 2 * CELL + 100..length).step_by(CELL as usize) {
        disk.rot(CONTROL_FILE, at, 1);
    }
    let report = store.quick_check(u64::MAX).unwrap();
    assert!(report.is_complete && report.findings.len() > 3, "{report:?}");
    assert!(report.findings.iter().all(|finding| finding.is_damage), "{report:?}");
}

/// An older version of a page, authentic in its place, put back behind the back of an open store.
#[test]
fn a_page_that_is_put_back_under_an_open_store_is_found() {
    let (image, _) = whole();
    let disk = from(&image);
    let store = open(disk.handle()).unwrap();
    for round in 0..3 {
        for number in 0..60 {
            put(&store, &format!("app-{number}"), number + round).unwrap();
        }
    }
    assert!(store.quick_check(u64::MAX).unwrap().findings.is_empty());
    let older = image.bytes(CONTROL_FILE).unwrap();
    let file = disk.handle().open(CONTROL_FILE).unwrap();
    for at in (HEAD as usize + 2 * CELL as usize..older.len()).step_by(CELL as usize) {
        let cell = AlignedBuffer::from(&older[at..at + CELL as usize]);
        file.write_at(at as u64, &cell).unwrap();
    }
    let report = store.quick_check(u64::MAX).unwrap();
    let put_back = report.findings.iter().filter(|finding| finding.detail.contains("put back")).count();
    assert!(put_back > 3, "{report:?}");
}

/// Names and contents alike: what goes in plain does not lie there plain.
#[test]
fn nothing_readable_is_on_the_disk() {
    let disk = SimulatedDisk::new(1, Faults::none());
    let store = create(disk.handle());
    for number in 0..50 {
        let value = App { text: format!("RECOGNISABLE-VALUE-{number}"), ..app(number) };
        store.write(|write| APPS.put(write, &format!("RECOGNISABLE-KEY-{number}"), &value)).unwrap();
    }
    store.compact_to_copy(&key()).unwrap();
    store.close().unwrap();
    let image = disk.image();
    for (name, _) in image.files() {
        let bytes = image.bytes(name).unwrap();
        for plain in [&b"RECOGNISABLE"[..], b"node-a", b"records", b"redb", b"\"size\""] {
            assert!(!bytes.windows(plain.len()).any(|window| window == plain), "{name}");
        }
    }
}

/// At every crash point the store opens, and holds every commit that was acknowledged, and at most the one after it.
#[test]
fn no_crash_loses_a_commit_or_half_of_one() {
    let recording = RecordingDisk::new();
    let store = create(recording.handle());
    let mut promised: Vec<(usize, Model)> = vec![(recording.position(), Model::new())];
    let mut model = Model::new();
    for number in 0..6_u64 {
        // Two records in each commit: neither is ever seen without the other.
        model.insert(format!("left-{number}"), number);
        model.insert(format!("right-{number}"), number);
        store
            .write(|write| {
                APPS.put(write, &format!("left-{number}"), &app(number))?;
                APPS.put(write, &format!("right-{number}"), &app(number))
            })
            .unwrap();
        promised.push((recording.position(), model.clone()));
        if number == 3 {
            store.compact_to_copy(&key()).unwrap();
        }
    }
    store.close().unwrap();
    let mut walk = recording.walk();
    walk.seek(promised[0].0);
    let mut states = 0;
    while let Some(point) = walk.advance() {
        let (after, seed) = (point.after(), point.after() as u64);
        let last = promised.iter().rposition(|(position, _)| *position <= after).unwrap();
        for state in point.states(4, seed) {
            let store = open(from(&state.image).handle());
            let store = store.unwrap_or_else(|error| panic!("crash after {after}, {:?}: {error}", state.crash));
            let found = content(&store).unwrap();
            let next = promised.get(last + 1).map(|(_, model)| model);
            assert!(found == promised[last].1 || Some(&found) == next, "crash after {after}: {found:?}");
            put(&store, "more", 1).unwrap();
            states += 1;
        }
    }
    assert!(states > 100, "only {states}");
}

/// A disk that fails once, anywhere: an error, never a panic; and what was acknowledged is there afterwards.
#[test]
fn a_failing_disk_loses_nothing_that_was_acknowledged() {
    let (image, before) = whole();
    for operation in (1..240).step_by(3) {
        for fault in [Fault::WriteError, Fault::SyncError, Fault::ReadError, Fault::NoSpace, Fault::PowerCut] {
            let disk = SimulatedDisk::from_image(operation, Faults::none().at(operation, fault.clone()), &image);
            let mut model = before.clone();
            let mut uncertain = None;
            if let Ok(store) = open(disk.handle()) {
                for number in 0..4 {
                    match put(&store, &format!("new-{number}"), number) {
                        Ok(()) => drop(model.insert(format!("new-{number}"), number)),
                        Err(_) if uncertain.is_none() => {
                            let mut either = model.clone();
                            either.insert(format!("new-{number}"), number);
                            uncertain = Some(either);
                        }
                        Err(error) => assert!(matches!(error, StoreError::Stopped { .. }), "{error}"),
                    }
                }
            }
            let left = disk.crash_image(&Crash::Random(operation));
            let found = open(from(&left).handle()).and_then(|store| content(&store));
            let found = found.unwrap_or_else(|error| panic!("{fault:?} at {operation}: {error}"));
            assert!(found == model || Some(&found) == uncertain.as_ref(), "{fault:?} at {operation}");
        }
    }
}

#[test]
fn a_full_disk_is_said_and_everything_is_there_once_there_is_room() {
    let disk = SimulatedDisk::new(1, Faults { capacity: Some(4 << 20), ..Faults::none() });
    let store = create(disk.handle());
    let large = |number| App { text: "y".repeat(100_000), ..app(number) };
    let mut written = 0;
    let error = loop {
        match store.write(|write| APPS.put(write, &format!("{written:05}"), &large(written))) {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::NoSpace(_)), "{error}");
    assert!(matches!(put(&store, "x", 1).unwrap_err(), StoreError::Stopped { .. }));
    drop(store);
    disk.set_faults(Faults::none());
    let store = open(disk.handle()).unwrap();
    assert_eq!(content(&store).unwrap().len() as u64, written);
    put(&store, "x", 1).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Against a map: any mixture of writes, removals, failed transactions, compactions and reopenings.
    #[test]
    fn it_behaves_like_a_map(steps in prop::collection::vec((0_u8..8, 0_u8..12, any::<u16>()), 1..40)) {
        let disk = SimulatedDisk::new(1, Faults::none());
        let mut store = create(disk.handle());
        let mut model = Model::new();
        for (step, name, size) in steps {
            let (name, size) = (format!("k{name}"), u64::from(size));
            match step {
                0..=3 => {
                    put(&store, &name, size).unwrap();
                    model.insert(name, size);
                }
                4 => {
                    let removed = store.write(|write| APPS.remove(write, &name)).unwrap().0;
                    prop_assert_eq!(removed, model.remove(&name).is_some());
                }
                5 => {
                    let failed = store.write(|write| {
                        APPS.remove(write, &name)?;
                        APPS.put(write, "", &app(size))
                    });
                    prop_assert!(failed.is_err());
                }
                6 => drop(store.compact_to_copy(&key()).unwrap()),
                _ => {
                    let revision = store.revision();
                    drop(store);
                    store = open(disk.handle()).unwrap();
                    prop_assert_eq!(store.revision(), revision);
                }
            }
            prop_assert_eq!(content(&store).unwrap(), model.clone());
        }
    }
}

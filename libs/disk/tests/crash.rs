//! The crash model, held against an oracle of its own: what was synced stays, what was not may go, nothing else comes.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Instant;

use holdfast_disk::{
    AlignedBuffer, Crash, Disk, Fault, Faults, File, Image, Operation, RecordingDisk, SeededRandom, SimulatedDisk,
};

const SECTOR: usize = 512;

fn bytes(tag: u8, len: usize) -> AlignedBuffer {
    let mut bytes = AlignedBuffer::new();
    bytes.resize(len, tag);
    bytes
}

fn read(file: &dyn File, offset: u64, len: usize) -> AlignedBuffer {
    let mut buffer = AlignedBuffer::with_len(len);
    file.read_at(offset, &mut buffer).unwrap();
    buffer
}

/// A disk with a durable file `a` of `sectors` sectors, all of them 1.
fn prepared(seed: u64, faults: Faults, sectors: usize) -> (SimulatedDisk, Arc<dyn File>) {
    let disk = SimulatedDisk::new(seed, Faults::none());
    let file = disk.create("a").unwrap();
    file.write_at(0, &bytes(1, sectors * SECTOR)).unwrap();
    file.sync().unwrap();
    disk.sync_names().unwrap();
    disk.set_faults(faults);
    (disk, file)
}

/// The tag of every sector of a file; none where a sector is mixed, which must never be.
fn tags(image: &Image, name: &str) -> Vec<Option<u8>> {
    let bytes = image.bytes(name).unwrap();
    bytes.chunks(SECTOR).map(|sector| sector.iter().all(|byte| *byte == sector[0]).then_some(sector[0])).collect()
}

#[test]
fn what_was_synced_stays_and_what_was_not_may_go() {
    let (disk, file) = prepared(1, Faults::none(), 8);
    file.write_at(0, &bytes(2, 2 * SECTOR)).unwrap();
    file.sync().unwrap();
    file.write_at(SECTOR as u64, &bytes(3, 2 * SECTOR)).unwrap();
    let lost = [2, 2, 1, 1, 1, 1, 1, 1].map(Some);
    let kept = [2, 3, 3, 1, 1, 1, 1, 1].map(Some);
    assert_eq!(tags(&disk.crash_image(&Crash::LoseAllUnsynced), "a"), lost);
    assert_eq!(tags(&disk.crash_image(&Crash::KeepAllUnsynced), "a"), kept);
    assert_eq!(tags(&disk.crash_image(&Crash::Chosen(vec![false, true])), "a"), [2, 2, 3, 1, 1, 1, 1, 1].map(Some));
    assert_eq!(disk.unsynced().len(), 2);
    assert_eq!(tags(&disk.image(), "a"), kept, "asking what a crash would do does nothing");
    let seen: BTreeSet<_> = (0..200).map(|seed| tags(&disk.crash_image(&Crash::Random(seed)), "a")).collect();
    assert_eq!(seen.len(), 4, "both sectors vary apart: {seen:?}");
}

#[test]
fn a_sync_of_one_file_says_nothing_of_another_nor_of_names() {
    let (disk, first) = prepared(1, Faults::none(), 1);
    let second = disk.create("b").unwrap();
    second.write_at(0, &bytes(5, SECTOR)).unwrap();
    first.write_at(0, &bytes(6, SECTOR)).unwrap();
    second.sync().unwrap();
    let image = disk.crash_image(&Crash::LoseAllUnsynced);
    assert_eq!((tags(&image, "a"), image.len_of("b")), (vec![Some(1)], None));
    disk.sync_names().unwrap();
    let image = disk.crash_image(&Crash::LoseAllUnsynced);
    assert_eq!((tags(&image, "a"), tags(&image, "b")), (vec![Some(1)], vec![Some(5)]));
}

#[test]
fn a_name_without_its_content_is_an_empty_file() {
    let disk = SimulatedDisk::new(1, Faults::none());
    let file = disk.create("a").unwrap();
    disk.sync_names().unwrap();
    file.write_at(0, &bytes(1, 4 * SECTOR)).unwrap();
    assert_eq!(disk.crash_image(&Crash::LoseAllUnsynced).len_of("a"), Some(0));
    // Length without content, and content that carries its length.
    let lengths: BTreeSet<_> =
        (0..500).map(|seed| disk.crash_image(&Crash::Random(seed)).len_of("a").unwrap() / SECTOR as u64).collect();
    assert_eq!(lengths, BTreeSet::from([0, 1, 2, 3, 4]));
    assert_eq!(tags(&disk.crash_image(&Crash::Chosen(vec![true])), "a"), vec![Some(0); 4]);
}

#[test]
fn a_rename_is_atomic_and_a_file_never_has_two_names() {
    let (disk, _) = prepared(1, Faults::none(), 1);
    let next = disk.create("next").unwrap();
    next.write_at(0, &bytes(2, SECTOR)).unwrap();
    next.sync().unwrap();
    disk.sync_names().unwrap();
    disk.rename("next", "a").unwrap();
    disk.rename("a", "b").unwrap();
    disk.rename("b", "a").unwrap();
    for seed in 0..500 {
        let image = disk.crash_image(&Crash::Random(seed));
        let names: Vec<_> = image.files().map(|(name, _)| name.to_owned()).collect();
        let twos = names.iter().filter(|name| tags(&image, name) == [Some(2)]).count();
        assert_eq!(twos, 1, "{names:?}");
        // Of the three renames only those that move `a` away may leave it empty.
        assert!(image.len_of("a").is_some() || image.len_of("b").is_some(), "{names:?}");
    }
    // One rename alone: the new name holds the old or the new file, never neither.
    disk.sync_names().unwrap();
    let newer = disk.create("newer").unwrap();
    newer.write_at(0, &bytes(3, SECTOR)).unwrap();
    newer.sync().unwrap();
    disk.sync_names().unwrap();
    disk.rename("newer", "a").unwrap();
    let seen: BTreeSet<_> = (0..50).map(|seed| tags(&disk.crash_image(&Crash::Random(seed)), "a")).collect();
    assert_eq!(seen, BTreeSet::from([vec![Some(2)], vec![Some(3)]]));
}

#[test]
fn a_removed_name_may_come_back_until_names_are_synced() {
    let (disk, file) = prepared(1, Faults::none(), 2);
    drop(file);
    disk.remove("a").unwrap();
    assert_eq!(tags(&disk.crash_image(&Crash::LoseAllUnsynced), "a"), [Some(1), Some(1)]);
    drop(disk.create("a").unwrap());
    let lengths: BTreeSet<_> = (0..100).map(|seed| disk.crash_image(&Crash::Random(seed)).len_of("a")).collect();
    assert_eq!(lengths, BTreeSet::from([None, Some(0), Some(1024)]));
    disk.sync_names().unwrap();
    assert_eq!(disk.crash_image(&Crash::LoseAllUnsynced).len_of("a"), Some(0));
}

#[test]
fn cuts_punches_and_room_are_unsynced_like_writes() {
    let (disk, file) = prepared(1, Faults::none(), 64);
    file.punch(0, 16 * SECTOR as u64).unwrap();
    file.set_len(32 * SECTOR as u64).unwrap();
    file.allocate(40 * SECTOR as u64).unwrap();
    assert_eq!(disk.unsynced().len(), 4, "two pieces punched, one cut, one allocation: {:?}", disk.unsynced());
    assert_eq!(tags(&disk.crash_image(&Crash::LoseAllUnsynced), "a"), [Some(1); 64]);
    let partly = tags(&disk.crash_image(&Crash::Chosen(vec![false, true, true])), "a");
    assert_eq!((partly.len(), partly[7], partly[8], partly[16]), (32, Some(1), Some(0), Some(1)));
    let image = disk.crash_image(&Crash::KeepAllUnsynced);
    assert_eq!(image, disk.image());
    file.sync().unwrap();
    assert_eq!(disk.durable_image(), image);
}

#[test]
fn old_handles_are_dead_for_ever() {
    let (disk, file) = prepared(1, Faults::none(), 2);
    let port = disk.handle();
    let after = disk.crash(&Crash::KeepAllUnsynced);
    let before = after.image();
    let errors = [
        file.write_at(0, &bytes(9, SECTOR)).unwrap_err(),
        file.read_at(0, &mut bytes(9, SECTOR)).unwrap_err(),
        file.sync().unwrap_err(),
        file.set_len(0).unwrap_err(),
        file.len().unwrap_err(),
        port.remove("a").unwrap_err(),
        port.list().unwrap_err(),
        port.sync_names().unwrap_err(),
        port.open("a").err().unwrap(),
        port.create("b").err().unwrap(),
    ];
    assert!(errors.iter().all(|error| error.kind == ErrorKind::NotConnected), "{errors:?}");
    drop(file);
    assert_eq!(after.image(), before);
    assert_eq!(read(&*after.open("a").unwrap(), 0, SECTOR), bytes(1, SECTOR));
}

/// Does the same random things to any disk; errors are part of what must repeat.
fn random_work(disk: &dyn Disk, seed: u64, steps: usize) -> Vec<String> {
    let random = SeededRandom::new(seed);
    let mut log = Vec::new();
    for step in 0..steps {
        let name = ["a", "b", "c"][random.below(3) as usize];
        let offset = random.below(24) * SECTOR as u64;
        let len = (random.below(12) + 1) as usize * SECTOR;
        let outcome = match random.below(16) {
            0 => disk.create(name).map(drop),
            1 => disk.remove(name),
            2 => disk.rename(name, ["a", "b", "c"][random.below(3) as usize]),
            3 | 4 => disk.sync_names(),
            other => disk.open(name).and_then(|file| match other {
                5 | 6 => file.sync(),
                7 => file.set_len(offset),
                8 => file.punch(offset, len as u64),
                9 => file.allocate(offset),
                10 => file.read_at(offset, &mut bytes(0, len)),
                _ => file.write_at(offset, &bytes(step as u8, len)),
            }),
        };
        log.push(outcome.map_or_else(|error| error.to_string(), |()| "done".to_owned()));
    }
    log
}

fn nasty() -> Faults {
    Faults {
        read_error: 0.05,
        write_error: 0.05,
        sync_error: 0.05,
        no_space: 0.05,
        misdirected_write: 0.05,
        lost_write: 0.05,
        lost_writes_max: 3,
        capacity: Some(40 * 1024),
        script: Vec::new(),
    }
}

#[test]
fn the_seed_decides_everything() {
    let run = |seed| {
        let disk = SimulatedDisk::new(seed, nasty());
        let mut log = random_work(&disk, 7, 400);
        let disk = disk.crash(&Crash::Random(seed));
        log.extend(random_work(&disk, 8, 400));
        (log, disk.injected(), disk.operations(), disk.image(), disk.crash_image(&Crash::Random(1)))
    };
    assert!(run(1) == run(1));
    assert!(run(1).1 != run(2).1);
}

#[test]
fn a_disk_reads_the_same_through_every_fault() {
    // The view and the room taken must stay consistent whatever happens: a copy of the disk behaves as it does. Syncs
    // are left to succeed: a remove that a failed one forgot keeps its room, as an inode that nobody freed does.
    let capacity = Some(40 * 1024);
    for seed in 0..50 {
        let disk = SimulatedDisk::new(seed, Faults { sync_error: 0.0, ..nasty() });
        random_work(&disk, seed, 300);
        let copy = SimulatedDisk::from_image(0, Faults { capacity, ..Faults::none() }, &disk.image());
        disk.set_faults(Faults { capacity, ..Faults::none() });
        disk.sync_names().unwrap();
        assert_eq!(disk.free_bytes(), copy.free_bytes(), "seed {seed}");
        assert_eq!(disk.list(), copy.list());
        assert_eq!(disk.crash_image(&Crash::KeepAllUnsynced), copy.durable_image());
    }
}

/// For every sector of a file: what a crash may show there, by rules written down apart from the model.
#[derive(Default)]
struct Oracle {
    now: Vec<u8>,
    durable: Vec<u8>,
    maybe: BTreeMap<usize, BTreeSet<u8>>,
}

#[test]
fn a_crash_shows_only_what_was_durable_or_written_since() {
    for seed in 0..40 {
        let random = SeededRandom::new(seed);
        let (disk, file) = prepared(seed, Faults::none(), 32);
        let mut oracle = Oracle { now: vec![1; 32], durable: vec![1; 32], ..Oracle::default() };
        for step in 2..120_u8 {
            let first = random.below(32) as usize;
            let count = (random.below(8) as usize + 1).min(32 - first);
            match random.below(8) {
                0 => {
                    file.sync().unwrap();
                    oracle.durable.clone_from(&oracle.now);
                    oracle.maybe.clear();
                }
                1 => {
                    file.punch((first * SECTOR) as u64, (count * SECTOR) as u64).unwrap();
                    for sector in first..first + count {
                        oracle.now[sector] = 0;
                        oracle.maybe.entry(sector).or_default().insert(0);
                    }
                }
                _ => {
                    file.write_at((first * SECTOR) as u64, &bytes(step, count * SECTOR)).unwrap();
                    for sector in first..first + count {
                        oracle.now[sector] = step;
                        oracle.maybe.entry(sector).or_default().insert(step);
                    }
                }
            }
            for crash in 0..8 {
                let shown = tags(&disk.crash_image(&Crash::Random(crash)), "a");
                for (sector, tag) in shown.into_iter().enumerate() {
                    let tag = tag.expect("a sector is never torn inside");
                    let allowed = tag == oracle.durable[sector]
                        || oracle.maybe.get(&sector).is_some_and(|maybe| maybe.contains(&tag));
                    assert!(allowed, "seed {seed}, step {step}, sector {sector} shows {tag}");
                }
            }
            let all = |tags: &[u8]| tags.iter().copied().map(Some).collect::<Vec<_>>();
            assert_eq!(tags(&disk.durable_image(), "a"), all(&oracle.durable));
            assert_eq!(tags(&disk.crash_image(&Crash::KeepAllUnsynced), "a"), all(&oracle.now));
        }
    }
}

#[test]
fn a_failing_sync_drops_data_and_the_next_one_lies() {
    let mut fates = BTreeSet::new();
    for seed in 0..30 {
        let (disk, file) = prepared(seed, Faults::none(), 16);
        file.write_at(0, &bytes(2, 16 * SECTOR)).unwrap();
        disk.inject(Fault::SyncError);
        assert!(file.sync().is_err());
        assert!(disk.unsynced().is_empty());
        file.sync().expect("the second sync succeeds, as kernels have it");
        let (durable, seen) = (tags(&disk.durable_image(), "a"), tags(&disk.image(), "a"));
        fates.extend(durable.into_iter().zip(seen));
    }
    let tag = |durable, seen| (Some(durable), Some(seen));
    assert_eq!(fates, BTreeSet::from([tag(1, 1), tag(1, 2), tag(2, 2)]), "gone, cached only, written");
    // What is written and synced afterwards is durable, next to what is only cached.
    let (disk, file) = prepared(3, Faults::none(), 16);
    file.write_at(0, &bytes(2, 16 * SECTOR)).unwrap();
    disk.inject(Fault::SyncError);
    file.sync().unwrap_err();
    let before = tags(&disk.durable_image(), "a");
    file.write_at(0, &bytes(3, SECTOR)).unwrap();
    file.sync().unwrap();
    let after = tags(&disk.durable_image(), "a");
    assert_eq!((after[0], &after[1..]), (Some(3), &before[1..]));
}

#[test]
fn a_failing_sync_of_names_forgets_some() {
    let mut fates = BTreeSet::new();
    for seed in 0..60 {
        let disk = SimulatedDisk::new(seed, Faults::none());
        let _file = disk.create("a").unwrap();
        disk.inject(Fault::SyncError);
        disk.sync_names().unwrap_err();
        let early = disk.durable_image().len_of("a").is_some();
        disk.sync_names().unwrap();
        fates.insert((early, disk.durable_image().len_of("a").is_some()));
        assert_eq!(disk.list().unwrap(), ["a"]);
    }
    assert_eq!(fates, BTreeSet::from([(false, false), (false, true), (true, true)]));
}

#[test]
fn scripted_faults_strike_once_at_their_operation() {
    // Counted from the first call: create, write, write, read, read, sync, sync, allocate, allocate.
    let script = [
        (3, Fault::WriteError),
        (5, Fault::ReadError),
        // Operation 5 is no sync: it waits for the first one.
        (5, Fault::SyncError),
        (8, Fault::NoSpace),
    ];
    let disk = SimulatedDisk::new(1, Faults { script: script.into(), ..Faults::none() });
    let file = disk.create("a").unwrap();
    let mut buffer = bytes(2, SECTOR);
    let mut outcomes = vec![file.write_at(0, &buffer), file.write_at(0, &buffer)];
    outcomes.extend([file.read_at(0, &mut buffer), file.read_at(0, &mut buffer)]);
    outcomes.extend([file.sync(), file.sync(), file.allocate(1 << 20), file.allocate(1 << 20)]);
    let failed: Vec<_> = outcomes.iter().map(Result::is_err).collect();
    assert_eq!(failed, [false, true, false, true, true, false, true, false]);
    assert!(outcomes[6].as_ref().unwrap_err().is_no_space());
    assert!(!outcomes[1].as_ref().unwrap_err().is_no_space());
    let struck: Vec<_> = disk.injected().iter().map(|injected| injected.operation).collect();
    assert_eq!((struck, disk.operations(), disk.faults().script.len()), (vec![3, 5, 6, 8], 9, 0));
}

#[test]
fn a_failed_write_may_have_written_any_of_its_sectors() {
    let seen: BTreeSet<_> = (0..100)
        .map(|seed| {
            let (disk, file) = prepared(seed, Faults::none().at(0, Fault::WriteError), 2);
            file.write_at(0, &bytes(2, 2 * SECTOR)).unwrap_err();
            tags(&disk.image(), "a")
        })
        .collect();
    assert_eq!(seen.len(), 4);
}

#[test]
fn a_full_disk_is_full_for_what_is_new_only() {
    let disk = SimulatedDisk::new(1, Faults { capacity: Some(4 * 4096), ..Faults::none() });
    let file = disk.create("a").unwrap();
    file.allocate(2 * 4096).unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 2 * 4096);
    let other = disk.create("b").unwrap();
    assert!(other.allocate(3 * 4096).unwrap_err().is_no_space());
    let error = other.write_at(0, &bytes(1, 3 * 4096)).unwrap_err();
    assert!(error.is_no_space());
    assert_eq!((error.offset, other.len().unwrap()), (Some(8192), 8192), "what fitted was written");
    file.write_at(0, &bytes(1, 2 * 4096)).expect("reserved room is there");
    other.write_at(0, &bytes(2, 4096)).expect("an overwrite takes no room");
    file.punch(0, 4096).unwrap();
    other.write_at(8192, &bytes(3, 4096)).unwrap();
    drop(other);
    disk.remove("b").unwrap();
    disk.sync_names().unwrap();
    assert_eq!(disk.free_bytes().unwrap(), 3 * 4096);
}

#[test]
fn rot_is_durable_and_shows_unless_it_is_about_to_be_overwritten() {
    let (disk, file) = prepared(1, Faults::none(), 16);
    assert!(disk.rot("a", 700, 0x10) && !disk.rot("a", 1 << 20, 1) && !disk.rot("b", 0, 1));
    assert_eq!(read(&*file, 512, 512)[188], 0x11);
    file.write_at(0, &bytes(2, SECTOR)).unwrap();
    assert!(disk.rot("a", 5, 0x80));
    assert_eq!(read(&*file, 0, 512), bytes(2, 512));
    assert_eq!(disk.durable_image().bytes("a").unwrap()[5], 0x81);
    file.sync().unwrap();
    let image = disk.crash(&Crash::LoseAllUnsynced).image();
    assert_eq!((image.bytes("a").unwrap()[5], image.bytes("a").unwrap()[700]), (2, 0x11));
}

#[test]
fn a_misdirected_write_lands_where_it_was_sent() {
    let (disk, file) = prepared(1, Faults::none(), 16);
    drop(disk.create("b").unwrap());
    disk.inject(Fault::MisdirectedWrite { to: Some(("b".to_owned(), 1024)) });
    file.write_at(16 * SECTOR as u64, &bytes(9, SECTOR)).unwrap();
    file.sync().unwrap();
    let image = disk.image();
    assert_eq!(tags(&image, "a")[15..], [Some(1), Some(0)], "it grew, and holds nothing there");
    assert_eq!(tags(&image, "b"), [Some(0), Some(0), Some(9)]);
    // By chance: anywhere but in its place.
    for seed in 0..100 {
        let (disk, file) = prepared(seed, Faults { misdirected_write: 1.0, ..Faults::none() }, 16);
        file.write_at(1024, &bytes(9, SECTOR)).unwrap();
        let shown = tags(&disk.image(), "a");
        let Fault::MisdirectedWrite { to: Some((name, at)) } = &disk.injected()[0].fault else { panic!("no place") };
        assert_eq!((&**name, shown[*at as usize / SECTOR], shown[2]), ("a", Some(9), Some(1)), "seed {seed}");
    }
}

#[test]
fn a_lost_write_is_acknowledged_and_never_there_and_the_budget_holds() {
    let faults = Faults { lost_write: 1.0, lost_writes_max: 2, ..Faults::none() };
    let (disk, file) = prepared(1, faults, 4);
    for sector in 0..4 {
        file.write_at(sector * SECTOR as u64, &bytes(2, SECTOR)).unwrap();
    }
    file.sync().unwrap();
    assert_eq!(tags(&disk.durable_image(), "a"), [1, 1, 2, 2].map(Some));
    disk.inject(Fault::LostWrite);
    file.write_at(2 * SECTOR as u64, &bytes(3, SECTOR)).unwrap();
    assert_eq!(tags(&disk.image(), "a"), [1, 1, 2, 2].map(Some));
}

#[test]
fn the_power_goes_in_the_midst_of_an_operation() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..40 {
        let (disk, file) = prepared(seed, Faults::none(), 2);
        file.write_at(0, &bytes(2, SECTOR)).unwrap();
        disk.inject(Fault::PowerCut);
        assert_eq!(file.sync().unwrap_err().kind, ErrorKind::NotConnected);
        assert!(disk.is_dead() && file.len().is_err());
        let after = disk.crash(&Crash::LoseAllUnsynced);
        outcomes.insert(tags(&after.image(), "a"));
        after.open("a").unwrap().sync().unwrap();
    }
    assert_eq!(outcomes.len(), 2, "the sync got through or it did not");
    let (disk, file) = prepared(1, Faults::none(), 2);
    disk.inject(Fault::PowerCut);
    file.write_at(0, &bytes(2, 2 * SECTOR)).unwrap_err();
    let seen: BTreeSet<_> = (0..100).map(|seed| tags(&disk.crash_image(&Crash::Random(seed)), "a")).collect();
    assert_eq!(seen.len(), 4, "any sector of the write under way may be there");
}

#[test]
fn an_image_forks_a_disk() {
    let (disk, file) = prepared(1, Faults::none(), 2);
    file.write_at(0, &bytes(2, SECTOR)).unwrap();
    let old = disk.image();
    let fork = SimulatedDisk::from_image(2, Faults::none(), &old);
    let forked = fork.open("a").unwrap();
    forked.write_at(0, &bytes(3, SECTOR)).unwrap();
    file.write_at(0, &bytes(4, SECTOR)).unwrap();
    assert_eq!(
        (tags(&fork.image(), "a")[0], tags(&disk.image(), "a")[0], tags(&old, "a")[0]),
        (Some(3), Some(4), Some(2))
    );
    assert_eq!(tags(&fork.durable_image(), "a")[0], Some(2), "all of an image is durable");
}

#[test]
fn the_recording_holds_every_change_in_order_and_nothing_else() {
    let disk = RecordingDisk::new();
    let file = disk.create("next").unwrap();
    file.write_at(0, &bytes(1, SECTOR)).unwrap();
    file.read_at(0, &mut bytes(0, SECTOR)).unwrap();
    file.sync().unwrap();
    assert_eq!(disk.position(), 3);
    disk.rename("next", "a").unwrap();
    file.allocate(4096).unwrap();
    file.punch(0, 512).unwrap();
    file.set_len(512).unwrap();
    disk.sync_names().unwrap();
    disk.remove("a").unwrap();
    assert!(disk.open("a").is_err() && disk.remove("a").is_err());
    let told: Vec<_> = disk.history().iter().map(|operation| format!("{operation:?}")).collect();
    let expected = [
        "create next as file 0",
        "write 0+512 in file 0",
        "sync file 0",
        "rename next to a, file 0",
        "allocate 4096 in file 0",
        "punch 0+512 in file 0",
        "set length 512 of file 0",
        "sync names",
        "remove a, file 0",
    ];
    assert_eq!(told, expected);
}

#[test]
fn few_unsynced_units_are_enumerated_to_the_last_subset() {
    let disk = RecordingDisk::new();
    let file = disk.create("a").unwrap();
    disk.sync_names().unwrap();
    file.set_len(4 * SECTOR as u64).unwrap();
    file.sync().unwrap();
    file.write_at(0, &bytes(1, 3 * SECTOR)).unwrap();
    file.write_at(SECTOR as u64, &bytes(2, SECTOR)).unwrap();
    let states = disk.states_at(disk.position(), 14, 1);
    assert_eq!(states.len(), 16);
    let distinct: BTreeSet<_> = states.iter().map(|state| tags(&state.image, "a")).collect();
    assert_eq!(distinct.len(), 12, "the sector written twice shows 0, 1 or 2; the two others 0 or 1");
    let sampled = disk.states_at(disk.position(), 5, 1);
    assert!((3..=7).contains(&sampled.len()), "{}", sampled.len());
    assert_eq!(disk.states_at(4, 14, 1).len(), 1, "nothing un-synced, nothing to choose");
    assert!(disk.states_at(0, 14, 1)[0].image.files().next().is_none());
}

#[test]
fn the_walk_ends_where_the_disk_is_and_choices_repeat() {
    for seed in 0..20 {
        let disk = RecordingDisk::new();
        random_work(&disk, seed, 300);
        let mut walk = disk.walk();
        let (mut points, mut durable) = (0, Image::new());
        while let Some(point) = walk.advance() {
            assert_eq!(point.after(), points);
            points += 1;
            let synced = matches!(point.operation(), Some(Operation::Sync { .. } | Operation::SyncNames) | None);
            let lost = point.lost();
            assert!(synced || lost == durable, "only syncs make anything durable: {:?}", point.operation());
            durable = lost;
            for state in point.states(4, seed) {
                assert_eq!(point.image(&state.crash), state.image);
            }
        }
        assert_eq!(points, disk.position() + 1);
        assert_eq!(walk.point().kept(), disk.image());
        let (first, second) = (disk.states_at(100, 9, 5), disk.states_at(100, 9, 5));
        assert!(first.iter().zip(&second).all(|(one, two)| one.image == two.image) && first.len() == second.len());
        let reopened = SimulatedDisk::from_image(1, Faults::none(), &first[0].image);
        assert_eq!(reopened.list().unwrap().len(), first[0].image.files().count());
    }
}

#[test]
fn a_recording_goes_on_from_an_image() {
    let mut base = Image::new();
    base.insert("a", &[7; 1024]);
    let disk = RecordingDisk::from_image(base);
    disk.open("a").unwrap().write_at(0, &bytes(8, SECTOR)).unwrap();
    disk.create("b").unwrap().write_at(0, &bytes(9, SECTOR)).unwrap();
    assert_eq!(tags(&disk.states_at(0, 4, 1)[0].image, "a"), [Some(7), Some(7)]);
    let point = disk.states_at(1, 4, 1);
    assert_eq!(point.len(), 2);
    assert_eq!(tags(&point[1].image, "a"), [Some(8), Some(7)]);
    assert_eq!(disk.states_at(9, 0, 1)[1].image, disk.image());
}

#[test]
fn thousands_of_crash_points_take_about_a_second() {
    // As a store writes: a few files, one of them of 16 MiB, 4 to 64 KiB a write, a sync after every fourth.
    let disk = RecordingDisk::new();
    let files: Vec<_> = (0..8).map(|number| disk.create(&format!("segment-{number}")).unwrap()).collect();
    files[0].write_at(0, &bytes(1, 16 << 20)).unwrap();
    files[0].sync().unwrap();
    disk.sync_names().unwrap();
    let random = SeededRandom::new(1);
    for step in 0..4000_u64 {
        let file = &files[(step / 4 % 8) as usize];
        let len = (random.below(16) as usize + 1) * 4096;
        file.write_at(random.below(256) * 4096, &bytes(step as u8, len)).unwrap();
        if step % 4 == 3 {
            file.sync().unwrap();
        }
    }
    let started = Instant::now();
    let (mut walk, mut states) = (disk.walk(), 0);
    while let Some(point) = walk.advance() {
        states += point.states(8, 1).len();
    }
    let taken = started.elapsed();
    eprintln!("{} crash points, {states} states, {taken:?}", disk.position() + 1);
    // Ten times what it takes at leisure: a slow machine passes, a walk that replays from the start does not.
    assert!(taken.as_secs() < 20, "{taken:?}");
}

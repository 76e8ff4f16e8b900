//! What every disk must do, as one suite that each of them runs.
//!
//! The rest of the system is tested on simulated disks and runs on real ones; it is only as right as the two are alike.
//! What a crash does is not in here: only disks that can crash can be asked.

use std::io::ErrorKind;
use std::sync::Arc;

use crate::{AlignedBuffer, Disk, DiskError, DiskOperation, File};

/// A rule of the port by name, and its test on an empty disk.
pub type Rule = (&'static str, fn(&dyn Disk));

/// Every rule.
pub const RULES: &[Rule] = &[
    ("reads see writes at once", reads_see_writes),
    ("a large write comes back whole", a_large_write_comes_back),
    ("two handles are one file", two_handles_are_one_file),
    ("what was never written reads as zeros", holes_are_zeros),
    ("reading past the end is an error", reading_past_the_end_fails),
    ("unaligned access is refused", unaligned_access_is_refused),
    ("empty access does nothing", empty_access_does_nothing),
    ("bad names are refused", bad_names_are_refused),
    ("only files that exist open, only others are created", existence_is_checked),
    ("a rename replaces", a_rename_replaces),
    ("the list is sorted and complete", the_list_is_sorted),
    ("a removed file works on in open handles", a_removed_file_works_on),
    ("a cut stays cut", a_cut_stays_cut),
    ("allocation lengthens, keeps bytes, never shortens", allocation_keeps_bytes),
    ("a punched range is zeros, its neighbours stay", a_punched_range_is_zeros),
    ("syncs succeed", syncs_succeed),
    ("there is free space", there_is_free_space),
    ("offsets that no file has are refused", absurd_offsets_are_refused),
    ("a handle follows its file through a rename", a_handle_follows_its_file),
];

/// Runs every rule, each on a disk of its own. Panics, naming the rule, where one is broken.
pub fn run(mut empty_disk: impl FnMut() -> Arc<dyn Disk>) {
    for (rule, test) in RULES {
        let disk = empty_disk();
        assert_eq!(disk.list(), Ok(Vec::new()), "the suite wants empty disks");
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&*disk)));
        if let Err(panic) = outcome {
            eprintln!("the disk breaks the rule: {rule}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn ok<T>(result: Result<T, DiskError>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

fn refusal<T>(result: Result<T, DiskError>) -> DiskError {
    match result {
        Ok(_) => panic!("this should have been refused"),
        Err(error) => error,
    }
}

/// Bytes that differ from sector to sector and from `tag` to `tag`.
fn pattern(tag: u8, len: usize) -> AlignedBuffer {
    let mut bytes = AlignedBuffer::with_len(len);
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = tag.wrapping_add((at / 512) as u8).wrapping_mul(31) | 1;
    }
    bytes
}

fn read(file: &dyn File, offset: u64, len: usize) -> AlignedBuffer {
    // Not zeros before: a read that fills too little must show.
    let mut bytes = AlignedBuffer::new();
    bytes.resize(len, 0xee);
    ok(file.read_at(offset, &mut bytes));
    bytes
}

fn reads_see_writes(disk: &dyn Disk) {
    let (file, sector) = (ok(disk.create("a")), disk.sector_bytes());
    assert!(sector == 512 || sector == 4096, "a sector has 512 or 4096 bytes, not {sector}");
    assert_eq!(ok(file.len()), 0);
    let first = pattern(1, 8 * sector);
    ok(file.write_at(0, &first));
    assert_eq!(ok(file.len()), 8 * sector as u64);
    assert_eq!(read(&*file, 0, 8 * sector), first);
    let second = pattern(2, 2 * sector);
    ok(file.write_at(3 * sector as u64, &second));
    let back = read(&*file, 0, 8 * sector);
    assert_eq!(back[..3 * sector], first[..3 * sector]);
    assert_eq!(back[3 * sector..5 * sector], second[..]);
    assert_eq!(back[5 * sector..], first[5 * sector..]);
    // From the middle of a buffer, as callers do who pack several things into one.
    ok(file.write_at(0, &first[sector..2 * sector]));
    assert_eq!(read(&*file, 0, sector)[..], first[sector..2 * sector]);
}

fn a_large_write_comes_back(disk: &dyn Disk) {
    let file = ok(disk.create("a"));
    let bytes = pattern(3, 3 << 20);
    ok(file.write_at(4096, &bytes));
    assert_eq!(ok(file.len()), 4096 + (3 << 20));
    assert_eq!(read(&*file, 4096, 3 << 20), bytes);
}

fn two_handles_are_one_file(disk: &dyn Disk) {
    let first = ok(disk.create("a"));
    let second = ok(disk.open("a"));
    ok(first.write_at(0, &pattern(1, 4096)));
    assert_eq!(read(&*second, 0, 4096), pattern(1, 4096));
    drop(first);
    ok(second.write_at(4096, &pattern(2, 4096)));
    assert_eq!(read(&*ok(disk.open("a")), 4096, 4096), pattern(2, 4096));
}

fn holes_are_zeros(disk: &dyn Disk) {
    let file = ok(disk.create("a"));
    ok(file.write_at(1 << 20, &pattern(1, 4096)));
    assert!(read(&*file, 0, 1 << 20).iter().all(|byte| *byte == 0));
    ok(file.set_len(2 << 20));
    assert!(read(&*file, (1 << 20) + 4096, (1 << 20) - 4096).iter().all(|byte| *byte == 0));
}

fn reading_past_the_end_fails(disk: &dyn Disk) {
    let (file, sector) = (ok(disk.create("a")), disk.sector_bytes());
    ok(file.write_at(0, &pattern(1, 4 * sector)));
    for (offset, len) in [(0, 5), (3, 2), (4, 1), (100, 1)] {
        let fault = refusal(file.read_at(offset * sector as u64, &mut AlignedBuffer::with_len(len * sector)));
        assert_eq!((fault.operation, fault.kind), (DiskOperation::Read, ErrorKind::UnexpectedEof));
        assert_eq!((&*fault.file, fault.offset), ("a", Some(offset * sector as u64)));
    }
}

fn unaligned_access_is_refused(disk: &dyn Disk) {
    let (file, sector) = (ok(disk.create("a")), disk.sector_bytes());
    ok(file.write_at(0, &pattern(1, 8 * sector)));
    let (near, mut buffer) = (sector as u64 / 2, AlignedBuffer::with_len(4 * sector));
    let faults = [
        refusal(file.read_at(near, &mut buffer[..sector])),
        refusal(file.read_at(0, &mut buffer[..sector + 1])),
        refusal(file.read_at(0, &mut buffer[1..=sector])),
        refusal(file.write_at(near, &buffer[..sector])),
        refusal(file.write_at(0, &buffer[..sector - 1])),
        refusal(file.write_at(0, &buffer[8..sector + 8])),
        refusal(file.set_len(near)),
        refusal(file.allocate(near)),
        refusal(file.punch(near, sector as u64)),
        refusal(file.punch(0, near)),
    ];
    assert!(faults.iter().all(|fault| fault.kind == ErrorKind::InvalidInput), "{faults:?}");
    assert_eq!(read(&*file, 0, 8 * sector), pattern(1, 8 * sector), "a refused call changes nothing");
}

fn empty_access_does_nothing(disk: &dyn Disk) {
    let file = ok(disk.create("a"));
    ok(file.write_at(1 << 20, &[]));
    ok(file.read_at(1 << 20, &mut []));
    ok(file.punch(0, 0));
    ok(file.allocate(0));
    assert_eq!(ok(file.len()), 0);
}

fn bad_names_are_refused(disk: &dyn Disk) {
    ok(disk.create("a"));
    let long = "n".repeat(256);
    for name in ["", ".", "..", "lock", "a/b", "/a", "a\0b", &long] {
        let faults = [
            refusal(disk.create(name)),
            refusal(disk.open(name)),
            refusal(disk.remove(name)),
            refusal(disk.rename("a", name)),
            refusal(disk.rename(name, "a")),
        ];
        assert!(faults.iter().all(|fault| fault.kind == ErrorKind::InvalidInput), "{name:?}: {faults:?}");
    }
    assert_eq!(ok(disk.list()), ["a"]);
    ok(disk.create(&"n".repeat(255)));
}

fn existence_is_checked(disk: &dyn Disk) {
    for fault in [refusal(disk.open("a")), refusal(disk.remove("a")), refusal(disk.rename("a", "b"))] {
        assert!(fault.is_not_found(), "{fault}");
        assert_eq!(fault.file, "a");
    }
    ok(ok(disk.create("a")).write_at(0, &pattern(1, 4096)));
    let fault = refusal(disk.create("a"));
    assert_eq!((fault.operation, fault.kind), (DiskOperation::Create, ErrorKind::AlreadyExists));
    assert_eq!(read(&*ok(disk.open("a")), 0, 4096), pattern(1, 4096));
}

fn a_rename_replaces(disk: &dyn Disk) {
    let old = ok(disk.create("current"));
    ok(old.write_at(0, &pattern(1, 4096)));
    let new = ok(disk.create("next"));
    ok(new.write_at(0, &pattern(2, 4096)));
    ok(disk.rename("next", "current"));
    assert_eq!(ok(disk.list()), ["current"]);
    assert_eq!(read(&*ok(disk.open("current")), 0, 4096), pattern(2, 4096));
    assert_eq!(read(&*old, 0, 4096), pattern(1, 4096), "who has the old file open keeps it");
    ok(new.write_at(4096, &pattern(3, 4096)));
    assert_eq!(read(&*ok(disk.open("current")), 4096, 4096), pattern(3, 4096));
    ok(disk.rename("current", "current"));
    assert_eq!(ok(disk.list()), ["current"]);
}

fn the_list_is_sorted(disk: &dyn Disk) {
    let mut names: Vec<String> = (0..300).map(|number| format!("{:x}", number * 7919 % 4096)).collect();
    names.iter().for_each(|name| drop(ok(disk.create(name))));
    names.sort_unstable();
    assert_eq!(ok(disk.list()), names);
    for name in names.iter().step_by(2) {
        ok(disk.remove(name));
    }
    let left: Vec<_> = names.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(ok(disk.list()), left);
}

fn a_removed_file_works_on(disk: &dyn Disk) {
    let file = ok(disk.create("a"));
    ok(file.write_at(0, &pattern(1, 4096)));
    ok(disk.remove("a"));
    ok(disk.sync_names());
    assert!(refusal(disk.open("a")).is_not_found());
    ok(file.write_at(4096, &pattern(2, 4096)));
    ok(file.sync());
    assert_eq!(read(&*file, 0, 4096), pattern(1, 4096));
    let other = ok(disk.create("a"));
    assert_eq!(ok(other.len()), 0, "the same name again is another file");
    assert_eq!(read(&*file, 4096, 4096), pattern(2, 4096));
}

fn a_cut_stays_cut(disk: &dyn Disk) {
    let file = ok(disk.create("a"));
    ok(file.write_at(0, &pattern(1, 64 * 1024)));
    ok(file.set_len(4096));
    assert_eq!(ok(file.len()), 4096);
    refusal(file.read_at(4096, &mut AlignedBuffer::with_len(4096)));
    ok(file.set_len(64 * 1024));
    assert_eq!(read(&*file, 0, 4096)[..], pattern(1, 64 * 1024)[..4096]);
    assert!(read(&*file, 4096, 60 * 1024).iter().all(|byte| *byte == 0));
    ok(file.set_len(0));
    assert_eq!(ok(file.len()), 0);
}

fn allocation_keeps_bytes(disk: &dyn Disk) {
    let file = ok(disk.create("a"));
    ok(file.write_at(8192, &pattern(1, 4096)));
    ok(file.allocate(1 << 20));
    assert_eq!(ok(file.len()), 1 << 20);
    assert!(read(&*file, 0, 8192).iter().all(|byte| *byte == 0));
    assert_eq!(read(&*file, 8192, 4096), pattern(1, 4096));
    assert!(read(&*file, 12_288, (1 << 20) - 12_288).iter().all(|byte| *byte == 0));
    ok(file.allocate(4096));
    assert_eq!(ok(file.len()), 1 << 20);
    ok(file.write_at(4096, &pattern(2, 4096)));
    assert_eq!(read(&*file, 4096, 4096), pattern(2, 4096));
}

fn a_punched_range_is_zeros(disk: &dyn Disk) {
    let file = ok(disk.create("a"));
    let bytes = pattern(1, 1 << 20);
    ok(file.write_at(0, &bytes));
    ok(file.punch(4096, 512 * 1024));
    let back = read(&*file, 0, 1 << 20);
    assert_eq!(back[..4096], bytes[..4096]);
    assert!(back[4096..4096 + 512 * 1024].iter().all(|byte| *byte == 0));
    assert_eq!(back[4096 + 512 * 1024..], bytes[4096 + 512 * 1024..]);
    ok(file.punch(1 << 19, 1 << 30));
    assert_eq!(ok(file.len()), 1 << 20, "a punch leaves the length");
    assert!(read(&*file, 1 << 19, 1 << 19).iter().all(|byte| *byte == 0));
    ok(file.write_at(8192, &pattern(2, 4096)));
    assert_eq!(read(&*file, 8192, 4096), pattern(2, 4096));
}

fn syncs_succeed(disk: &dyn Disk) {
    let file = ok(disk.create("a"));
    ok(file.write_at(0, &pattern(1, 4096)));
    ok(file.sync());
    ok(disk.sync_names());
    ok(file.sync());
    ok(disk.sync_names());
    assert_eq!(read(&*file, 0, 4096), pattern(1, 4096));
}

fn there_is_free_space(disk: &dyn Disk) {
    assert!(ok(disk.free_bytes()) > 8 << 20, "the suite itself needs a little");
}

fn absurd_offsets_are_refused(disk: &dyn Disk) {
    let file = ok(disk.create("a"));
    let last = u64::MAX - 4095;
    for fault in [
        refusal(file.write_at(last, &pattern(1, 4096))),
        refusal(file.read_at(last, &mut AlignedBuffer::with_len(4096))),
        refusal(file.set_len(last)),
        refusal(file.allocate(last)),
        refusal(file.punch(4096, last)),
    ] {
        assert_eq!(fault.kind, ErrorKind::InvalidInput, "{fault}");
    }
    // This one a file system might have, but not for us.
    refusal(file.write_at(1 << 62, &pattern(1, 4096)));
    refusal(file.allocate(1 << 62));
    assert_eq!(ok(file.len()), 0);
}

fn a_handle_follows_its_file(disk: &dyn Disk) {
    let file = ok(disk.create("a"));
    ok(disk.rename("a", "b"));
    ok(file.write_at(0, &pattern(1, 4096)));
    assert_eq!(read(&*ok(disk.open("b")), 0, 4096), pattern(1, 4096));
}

//! The file that FUSE shows, against a real kernel: what can be done to it, what arrives at the target, what comes back.

mod support;

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use holdfast_frontend::target::TargetError;
use rustix::fs::{FallocateFlags, OFlags, SeekFrom as To, fallocate, seek, statfs};
use rustix::io::{Errno, pread, pwrite};
use support::{BLOCK, Mounted, Numbers};

fn open(path: &Path, flags: OFlags) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags.bits() as i32);
    options.open(path).expect("the file opens")
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn number(errno: Errno) -> Option<i32> {
    Some(errno.raw_os_error())
}

#[test]
fn the_directory_holds_one_file_that_cannot_be_replaced_or_resized() {
    need_fuse!("the_directory_holds_one_file_that_cannot_be_replaced_or_resized");
    let mounted = Mounted::new(1 << 20);
    let (path, folder) = (mounted.path(), mounted.run.join("mnt"));
    let names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["volume"]);
    let meta = path.metadata().unwrap();
    assert_eq!((meta.len(), meta.permissions().mode(), meta.uid(), meta.blksize()), (1 << 20, 0o100_600, 0, 4096));
    assert_eq!(folder.metadata().unwrap().permissions().mode(), 0o040_700);
    assert_eq!(statfs(&path).unwrap().f_bsize, 4096);

    let file = open(&path, OFlags::empty());
    file.write_all_at(b"still here", 5).unwrap();
    assert_eq!(errno(OpenOptions::new().write(true).truncate(true).open(&path)), number(Errno::PERM));
    assert_eq!(errno(file.set_len(0)), number(Errno::PERM));
    assert_eq!(errno(file.set_len(2 << 20)), number(Errno::PERM));
    file.set_len(1 << 20).unwrap();
    assert_eq!(errno(File::create(folder.join("other"))), number(Errno::PERM));
    assert_eq!(errno(std::fs::remove_file(&path)), number(Errno::PERM));
    assert_eq!(errno(std::fs::rename(&path, folder.join("other"))), number(Errno::PERM));
    assert_eq!(errno(File::open(folder.join("nothing"))), number(Errno::NOENT));
    let mut bytes = [0; 10];
    file.read_exact_at(&mut bytes, 5).unwrap();
    assert_eq!(&bytes, b"still here");
}

#[test]
fn odd_questions_get_sensible_answers() {
    need_fuse!("odd_questions_get_sensible_answers");
    let mounted = Mounted::new(1 << 20);
    let mut file = open(&mounted.path(), OFlags::empty());
    assert_eq!(seek(&file, To::Data(100)), Ok(100));
    assert_eq!(seek(&file, To::Hole(100)), Ok(1 << 20));
    assert_eq!(seek(&file, To::Data(1 << 20)), Err(Errno::NXIO));
    assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), (1 << 20) - 3);
    // A short read at the end, nothing behind it.
    let mut bytes = Vec::new();
    assert_eq!(file.read_to_end(&mut bytes).unwrap(), 3);
    assert_eq!(pread(&file, &mut [0; 10], 2 << 20), Ok(0));
    // A write across the end is short, one behind it has no room; both as with a block device.
    assert_eq!(pwrite(&file, &[1; 10], (1 << 20) - 4), Ok(4));
    assert_eq!(pwrite(&file, &[1; 10], 1 << 20), Err(Errno::NOSPC));
    assert_eq!(file.metadata().unwrap().len(), 1 << 20);
    assert_eq!(rustix::fs::ioctl_getflags(&file), Err(Errno::NOTTY));
    let mut polled = [rustix::event::PollFd::new(&file, rustix::event::PollFlags::IN | rustix::event::PollFlags::OUT)];
    assert_eq!(rustix::event::poll(&mut polled, None), Ok(1));
    // The size grows with the target's, at the next look.
    mounted.target.grow(2 << 20);
    assert_eq!(mounted.path().metadata().unwrap().len(), 2 << 20);
    file.write_all_at(&[7; 100], (2 << 20) - 100).unwrap();
    assert_eq!(mounted.server().counts().faults, 0);
}

/// Several threads, each in a stretch of its own whose ends lie inside of blocks that its neighbours write as well.
#[test]
fn random_operations_match_a_model() {
    need_fuse!("random_operations_match_a_model");
    const STRETCH: u64 = 700_001;
    const THREADS: u64 = 4;
    let mounted = Mounted::new((THREADS * STRETCH).next_multiple_of(BLOCK));
    let path = mounted.path();
    let models: Vec<Vec<u8>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let flags = if thread % 2 == 0 { OFlags::empty() } else { OFlags::DIRECT };
                let file = open(&path, flags);
                scope.spawn(move || random_operations(&file, thread * STRETCH, STRETCH, thread + 1))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut expected = models.concat();
    expected.resize(mounted.target.bytes(0, 0).len().max((THREADS * STRETCH).next_multiple_of(BLOCK) as usize), 0);
    assert!(std::fs::read(&path).unwrap() == expected);
    assert!(mounted.target.bytes(0, expected.len()) == expected);
    assert_eq!(mounted.server().counts().faults, 0);
}

fn random_operations(file: &File, base: u64, stretch: u64, seed: u64) -> Vec<u8> {
    let mut numbers = Numbers(seed);
    let mut model = vec![0_u8; stretch as usize];
    for round in 0..400 {
        let (mut at, longest) = (numbers.below(stretch), [200, 9_000, 300_000][numbers.below(3) as usize]);
        let mut length = 1 + numbers.below((stretch - at).min(longest));
        if numbers.below(3) == 0 {
            // Whole blocks of the file.
            at = (base + at).next_multiple_of(BLOCK) - base;
            length = length.next_multiple_of(BLOCK);
        }
        if at + length > stretch {
            continue;
        }
        let part = &mut model[at as usize..(at + length) as usize];
        match numbers.below(8) {
            0..=3 => {
                numbers.fill(part);
                file.write_all_at(part, base + at).expect("it is written");
            }
            4 | 5 => {
                let mut bytes = vec![0; length as usize];
                file.read_exact_at(&mut bytes, base + at).expect("it is read");
                assert!(bytes == part, "round {round}: {length} bytes at {at}");
            }
            6 => {
                let how = [FallocateFlags::PUNCH_HOLE, FallocateFlags::ZERO_RANGE][numbers.below(2) as usize];
                fallocate(file, how | FallocateFlags::KEEP_SIZE, base + at, length).expect("it is cleared");
                part.fill(0);
            }
            _ => file.sync_all().expect("it is flushed"),
        }
    }
    model
}

#[test]
fn holes_and_zeros_give_back_whole_blocks_and_clear_parts() {
    need_fuse!("holes_and_zeros_give_back_whole_blocks_and_clear_parts");
    let mounted = Mounted::new(1 << 20);
    let file = open(&mounted.path(), OFlags::empty());
    let refused = [
        FallocateFlags::empty(),
        FallocateFlags::KEEP_SIZE,
        FallocateFlags::ZERO_RANGE,
        FallocateFlags::COLLAPSE_RANGE,
    ];
    // Refused, and asked again: an answer that the kernel remembers would end all discards.
    for mode in refused {
        assert_eq!(fallocate(&file, mode, 0, 4096), Err(Errno::OPNOTSUPP), "{mode:?}");
    }
    for (how, log) in
        [(FallocateFlags::PUNCH_HOLE, &mounted.target.discards), (FallocateFlags::ZERO_RANGE, &mounted.target.zeroes)]
    {
        file.write_all_at(&[9; 65536], 0).unwrap();
        fallocate(&file, how | FallocateFlags::KEEP_SIZE, 4196, 20_000).unwrap();
        assert_eq!(*log.lock(), [(8192, 12288)]);
        let mut expected = vec![9; 65536];
        expected[4196..24196].fill(0);
        assert!(mounted.target.bytes(0, 65536) == expected);
        // Behind the end there is nothing to clear.
        fallocate(&file, how | FallocateFlags::KEEP_SIZE, (1 << 20) - 4096, 1 << 20).unwrap();
        fallocate(&file, how | FallocateFlags::KEEP_SIZE, 1 << 21, 4096).unwrap();
        assert_eq!(log.lock()[1..], [((1 << 20) - 4096, 4096)]);
    }
}

#[test]
fn every_fsync_is_one_flush_and_nothing_else_is() {
    need_fuse!("every_fsync_is_one_flush_and_nothing_else_is");
    let mounted = Mounted::new(1 << 20);
    let flushes = || mounted.target.flushes.load(Ordering::SeqCst);
    for round in 1..=5 {
        let file = open(&mounted.path(), OFlags::empty());
        file.write_all_at(&[1; 5000], 0).unwrap();
        drop(file);
        assert_eq!(flushes(), 2 * (round - 1), "closing is no flush");
        let file = open(&mounted.path(), OFlags::DIRECT);
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        assert_eq!(flushes(), 2 * round);
    }
}

#[test]
fn errors_arrive_as_they_are_and_are_not_remembered() {
    need_fuse!("errors_arrive_as_they_are_and_are_not_remembered");
    let mounted = Mounted::new(1 << 20);
    let file = open(&mounted.path(), OFlags::empty());
    let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for (error, expected) in
        [(TargetError::Io, Errno::IO), (TargetError::NoSpace, Errno::NOSPC), (TargetError::ReadOnly, Errno::ROFS)]
    {
        *mounted.target.fault.lock() = Some(error);
        assert_eq!(errno(file.write_all_at(&[1; 4096], 0)), number(expected));
        assert_eq!(errno(file.read_exact_at(&mut [0; 4096], 0)), number(expected));
        assert_eq!(errno(file.sync_all()), number(expected));
        assert_eq!(fallocate(&file, hole, 0, 4096), Err(expected));
        *mounted.target.fault.lock() = None;
        file.write_all_at(&[2; 4096], 0).unwrap();
        file.sync_all().unwrap();
        fallocate(&file, hole, 0, 4096).unwrap();
    }
    *mounted.target.flush_fault.lock() = Some(TargetError::Io);
    let flushes = mounted.target.flushes.load(Ordering::SeqCst);
    for round in 1..=3 {
        assert_eq!(errno(file.sync_all()), number(Errno::IO));
        assert_eq!(mounted.target.flushes.load(Ordering::SeqCst), flushes + round, "each one arrives");
    }
}

#[test]
fn a_target_that_panics_hangs_nobody() {
    need_fuse!("a_target_that_panics_hangs_nobody");
    let mounted = Mounted::new(1 << 20);
    let file = open(&mounted.path(), OFlags::empty());
    mounted.target.panics.store(true, Ordering::SeqCst);
    for round in 1..=10 {
        // More often than there are threads; also inside of a block, where a range is claimed alone.
        assert_eq!(errno(file.write_all_at(&[1; 100], 4090)), number(Errno::IO));
        assert_eq!(mounted.server().counts().faults, round);
    }
    mounted.target.panics.store(false, Ordering::SeqCst);
    file.write_all_at(&[1; 100], 4090).unwrap();
}

#[test]
fn a_volume_for_reading_is_not_opened_for_writing() {
    need_fuse!("a_volume_for_reading_is_not_opened_for_writing");
    let mounted = Mounted::new(1 << 20);
    mounted.target.is_read_only.store(true, Ordering::SeqCst);
    assert_eq!(errno(OpenOptions::new().write(true).open(mounted.path())), number(Errno::ROFS));
    let file = File::open(mounted.path()).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode(), 0o100_400);
    file.read_exact_at(&mut [0; 100], 5).unwrap();
}

/// Writes of bytes that share a block, while others write or clear that block's neighbours as a whole with it: none may be
/// undone by another.
#[test]
fn parts_of_one_block_are_never_lost() {
    need_fuse!("parts_of_one_block_are_never_lost");
    let mounted = Mounted::new(1 << 20);
    mounted.target.is_slow.store(true, Ordering::Relaxed);
    let path = mounted.path();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let file = open(&path, OFlags::empty());
            scope.spawn(move || {
                for round in 0..100_u64 {
                    let mut bytes = [0; 8];
                    file.write_all_at(&round.to_le_bytes(), thread * 8).unwrap();
                    file.read_exact_at(&mut bytes, thread * 8).unwrap();
                    assert_eq!(u64::from_le_bytes(bytes), round, "thread {thread}");
                }
            });
        }
    });
}

/// One writes a whole block, the other a byte of it: the block is always the whole that was written, but for that byte.
#[test]
fn a_part_never_undoes_a_whole() {
    need_fuse!("a_part_never_undoes_a_whole");
    let mounted = Mounted::new(1 << 20);
    mounted.target.is_slow.store(true, Ordering::Relaxed);
    let path = mounted.path();
    let (is_done, mut undone) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        let (file, is_done) = (open(&path, OFlags::empty()), &is_done);
        scope.spawn(move || {
            while !is_done.load(Ordering::Relaxed) {
                file.write_all_at(&[0xff], 4095).unwrap();
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&file, hole, 4095, 1).unwrap();
            }
        });
        let file = open(&path, OFlags::empty());
        for round in 0..200_u8 {
            let mut block = [0; 4096];
            file.write_all_at(&[round; 4096], 0).unwrap();
            std::thread::sleep(std::time::Duration::from_micros(300));
            file.read_exact_at(&mut block, 0).unwrap();
            undone += usize::from(block[..4095] != [round; 4095]);
        }
        is_done.store(true, Ordering::Relaxed);
    });
    assert_eq!(undone, 0, "so often a part undid a whole");
}

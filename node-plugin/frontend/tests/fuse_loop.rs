//! A loop device on the file: block sizes, a real file system, discards, and whose devices are left alone.

mod support;

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use holdfast_frontend::loop_device::{AttachOptions, LoopDevice, LoopError, Loops};
use holdfast_ports::AlignedBuffer;
use rustix::fs::OFlags;
use support::{MemoryTarget, MountGuard, Mounted, Numbers, has_tool, run};

fn queue(device: &LoopDevice, name: &str) -> u64 {
    let path = format!("/sys/block/loop{}/{name}", device.number());
    std::fs::read_to_string(path).expect("the kernel tells").trim().parse().expect("a number")
}

fn direct(device: &LoopDevice) -> std::fs::File {
    let flags = OFlags::DIRECT.bits() as i32;
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(device.path()).expect("the device opens")
}

#[test]
fn the_device_has_the_volumes_size_and_blocks_and_goes_with_its_last_user() {
    need_loop!("the_device_has_the_volumes_size_and_blocks_and_goes_with_its_last_user");
    let mounted = Mounted::new((16 << 20) + 4096);
    let device = mounted.attach();
    assert_eq!(queue(&device, "size") * 512, (16 << 20) + 4096);
    assert_eq!(queue(&device, "queue/logical_block_size"), 4096);
    assert_eq!(queue(&device, "queue/discard_granularity"), 4096);
    let status = device.status().unwrap();
    assert!(status.is_direct && status.is_autoclear && !status.is_read_only && status.inode == 2);
    let ours = mounted.loops().ours().unwrap();
    assert_eq!((ours.len(), ours[0].number), (1, device.number()));
    assert!(ours[0].backing_file == mounted.path() && ours[0].is_direct && ours[0].is_autoclear);

    let file = direct(&device);
    let mut out = AlignedBuffer::with_len(1 << 20);
    Numbers(1).fill(&mut out);
    file.write_all_at(&out, 8192).unwrap();
    assert!(mounted.target.bytes(8192, 1 << 20) == *out, "it is there without a flush");
    let mut back = AlignedBuffer::with_len(1 << 20);
    file.read_exact_at(&mut back, 8192).unwrap();
    assert!(*back == *out);

    mounted.target.grow(32 << 20);
    mounted.loops().refresh_size(&device).unwrap();
    assert_eq!(queue(&device, "size") * 512, 32 << 20);
    drop(file);
    let number = device.number();
    drop(device);
    let is_gone = || mounted.loops().ours().unwrap().iter().all(|entry| entry.number != number);
    for _ in 0..500 {
        if is_gone() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("loop{number} is still attached");
}

#[test]
fn a_file_system_lives_on_it_and_its_trim_reaches_the_target() {
    need_loop!("a_file_system_lives_on_it_and_its_trim_reaches_the_target");
    for tool in ["mkfs.ext4", "e2fsck", "fstrim", "mount"] {
        if !has_tool(tool) {
            return support::skip("a_file_system_lives_on_it_and_its_trim_reaches_the_target", &format!("no {tool}"));
        }
    }
    let mounted = Mounted::new(128 << 20);
    let device = mounted.attach();
    let node = device.path().to_str().unwrap().to_owned();
    run("mkfs.ext4", &["-q", "-F", &node], 60);
    let place = mounted.run.join("ext4");
    std::fs::create_dir(&place).unwrap();
    run("mount", &[&node, place.to_str().unwrap()], 30);
    let guard = MountGuard(place.clone());
    let mut numbers = Numbers(5);
    let files: Vec<_> = (0..40)
        .map(|number| {
            let mut bytes = vec![0; 1 + numbers.below(900_000) as usize];
            numbers.fill(&mut bytes);
            let path = place.join(format!("file{number}"));
            std::fs::write(&path, &bytes).unwrap();
            (path, bytes)
        })
        .collect();
    run("sync", &["-f", place.to_str().unwrap()], 60);
    std::fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
    for (path, bytes) in &files {
        assert!(std::fs::read(path).unwrap() == *bytes, "{}", path.display());
    }
    files[..20].iter().for_each(|(path, _)| std::fs::remove_file(path).unwrap());
    run("sync", &["-f", place.to_str().unwrap()], 60);
    mounted.target.discards.lock().clear();
    run("fstrim", &[place.to_str().unwrap()], 60);
    let trimmed: u64 = mounted.target.discards.lock().iter().map(|(_, length)| length).sum();
    assert!(trimmed > 64 << 20, "only {trimmed} bytes were discarded");
    run("umount", &[place.to_str().unwrap()], 60);
    drop(guard);
    let said = run("e2fsck", &["-fn", &node], 60);
    assert!(said.contains("files"), "{said}");
    assert_eq!(mounted.server().counts().faults, 0);
}

#[test]
fn fio_reads_what_it_wrote() {
    need_loop!("fio_reads_what_it_wrote");
    if !has_tool("fio") {
        return support::skip("fio_reads_what_it_wrote", "no fio");
    }
    let mounted = Mounted::with(MemoryTarget::new(48 << 20), 8);
    let device = mounted.attach();
    let file = format!("--filename={}", device.path().display());
    let arguments = "--name=verify --rw=randrw --bsrange=4k-256k --bs_unaligned=0 --blockalign=4k --direct=1 \
        --ioengine=libaio --iodepth=32 --verify=crc32c --verify_fatal=1 --fsync=64 --size=48M";
    let mut arguments: Vec<&str> = arguments.split_whitespace().collect();
    arguments.push(&file);
    run("fio", &arguments, 120);
    assert_eq!(mounted.server().counts().faults, 0);
}

#[test]
fn a_hand_over_under_a_loop_device_is_not_felt() {
    need_loop!("a_hand_over_under_a_loop_device_is_not_felt");
    let mut mounted = Mounted::new(16 << 20);
    let device = mounted.attach();
    let file = direct(&device);
    let writer = std::thread::spawn(move || {
        let mut block = AlignedBuffer::with_len(4096);
        for round in 1..=3000_u64 {
            block[..8].copy_from_slice(&round.to_le_bytes());
            file.write_all_at(&block, round % 7 * 4096).unwrap();
            if round.is_multiple_of(50) {
                file.sync_data().unwrap();
            }
        }
    });
    while !writer.is_finished() {
        let connection = mounted.server.take().unwrap().stop().unwrap();
        mounted.serve(connection);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    writer.join().unwrap();
    assert_eq!(mounted.target.bytes(3000 % 7 * 4096, 8), 3000_u64.to_le_bytes());
}

#[test]
fn what_lies_elsewhere_is_left_alone() {
    need_loop!("what_lies_elsewhere_is_left_alone");
    let mounted = Mounted::new(1 << 20);
    let other = Mounted::new(1 << 20);
    let device = mounted.attach();
    let stranger = other.loops();
    assert!(matches!(stranger.detach(device.number()), Err(LoopError::NotOurs { .. })));
    assert!(matches!(stranger.open(device.number()), Err(LoopError::NotOurs { .. })));
    assert!(matches!(stranger.refresh_size(&device), Err(LoopError::NotOurs { .. })));
    assert!(matches!(stranger.attach(&mounted.path(), AttachOptions::default()), Err(LoopError::NotOurs { .. })));
    assert!(stranger.ours().unwrap().is_empty());
    assert!(stranger.all().unwrap().iter().any(|entry| entry.number == device.number()));
    // A path that seems to lie inside and does not.
    std::os::unix::fs::symlink(&mounted.run, other.run.join("link")).unwrap();
    let seeming = other.run.join("link/mnt/volume");
    assert!(matches!(stranger.attach(&seeming, AttachOptions::default()), Err(LoopError::NotOurs { .. })));
    assert_eq!(mounted.loops().ours().unwrap().len(), 1, "it went away again");
    let number = device.number();
    drop(device);
    mounted.loops().detach(number).expect("what is detached is detached");
}

#[test]
fn a_device_without_a_node_gets_one() {
    need_loop!("a_device_without_a_node_gets_one");
    let mounted = Mounted::new(1 << 20);
    let devices = mounted.run.join("dev");
    std::fs::create_dir(&devices).unwrap();
    std::os::unix::fs::symlink("/dev/loop-control", devices.join("loop-control")).unwrap();
    let loops = Loops::new(&mounted.run, &devices).unwrap();
    let device = loops.attach(&mounted.path(), AttachOptions { is_read_only: true }).unwrap();
    assert!(device.path().starts_with(&devices) && device.path().metadata().unwrap().file_type().is_block_device());
    assert!(device.status().unwrap().is_read_only);
    assert!(loops.open(device.number()).is_ok());
    loops.detach(device.number()).unwrap();
}

#[test]
fn many_take_devices_at_once_and_each_gets_its_own() {
    need_loop!("many_take_devices_at_once_and_each_gets_its_own");
    let mounts: Vec<_> = (0..12).map(|_| Arc::new(Mounted::with(MemoryTarget::new(1 << 20), 1))).collect();
    let threads: Vec<_> = mounts
        .iter()
        .map(|mounted| {
            let mounted = Arc::clone(mounted);
            std::thread::spawn(move || mounted.attach())
        })
        .collect();
    let devices: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let mut numbers: Vec<_> = devices.iter().map(LoopDevice::number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 12);
}

#[test]
fn a_missing_driver_is_named() {
    let loops = Loops::new(Path::new("/tmp"), Path::new("/nowhere")).unwrap();
    let error = loops.attach(Path::new("/tmp"), AttachOptions::default()).unwrap_err();
    assert!(matches!(error, LoopError::NotOurs { .. }));
    assert!(matches!(loops.preflight(), Err(LoopError::NoControl { .. })));
}

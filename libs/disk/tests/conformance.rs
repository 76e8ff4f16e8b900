//! Every disk runs the one suite; the real one also has its lock and its directory to answer for.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_disk::{
    AlignedBuffer, Disk, DiskOperation, Faults, LinuxDisk, LinuxMode, MemoryDisk, RecordingDisk, SimulatedDisk,
    conformance,
};

/// A directory that goes when the test does.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Beside the build, not in /tmp: that is often a tmpfs, which says little about real file systems.
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Opens in direct mode, or says to whoever collects them why this test was skipped.
fn direct(path: &Path) -> Option<LinuxDisk> {
    match LinuxDisk::open(path, LinuxMode::Direct) {
        Ok(disk) => Some(disk),
        Err(error) if error.kind == ErrorKind::Unsupported => {
            eprintln!("skipped: {error}");
            if let Some(skips) = std::env::var_os("HOLDFAST_SKIPS") {
                let mut skips = fs::OpenOptions::new().create(true).append(true).open(skips).unwrap();
                writeln!(skips, "disk::direct: {error}").unwrap();
            }
            None
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn memory_conforms() {
    conformance::run(|| MemoryDisk::new().handle());
    conformance::run(|| MemoryDisk::with_capacity(64 << 20).handle());
}

#[test]
fn simulated_conforms() {
    let mut seed = 0;
    conformance::run(|| {
        seed += 1;
        SimulatedDisk::new(seed, Faults { capacity: Some(64 << 20), ..Faults::none() }).handle()
    });
}

#[test]
fn recording_conforms() {
    conformance::run(|| RecordingDisk::new().handle());
}

#[test]
fn linux_buffered_conforms() {
    let scratch = Scratch::new();
    let mut number = 0;
    conformance::run(|| {
        number += 1;
        Arc::new(LinuxDisk::open(&scratch.0.join(number.to_string()), LinuxMode::Buffered).unwrap())
    });
}

#[test]
fn linux_direct_conforms() {
    let scratch = Scratch::new();
    if direct(&scratch.0).is_none() {
        return;
    }
    let mut number = 0;
    conformance::run(|| {
        number += 1;
        Arc::new(LinuxDisk::open(&scratch.0.join(number.to_string()), LinuxMode::Direct).unwrap())
    });
}

#[test]
fn a_second_opening_is_refused_until_the_last_handle_is_gone() {
    let scratch = Scratch::new();
    let path = scratch.0.join("store");
    let disk = LinuxDisk::open(&path, LinuxMode::Buffered).unwrap();
    let refused = || match LinuxDisk::open(&path, LinuxMode::Buffered) {
        Ok(_) => panic!("two had it open"),
        Err(error) => error,
    };
    let error = refused();
    assert_eq!((error.operation, error.kind), (DiskOperation::Lock, ErrorKind::ResourceBusy));
    let words = error.to_string();
    assert!(words.contains(&format!("process {}", std::process::id())) && words.contains("stop it"), "{words}");
    let file = disk.create("a").unwrap();
    drop(disk);
    refused();
    drop(file);
    assert_eq!(LinuxDisk::open(&path, LinuxMode::Buffered).unwrap().list().unwrap(), ["a"]);
}

#[test]
fn a_killed_process_leaves_no_lock() {
    let scratch = Scratch::new();
    let path = scratch.0.join("store");
    drop(LinuxDisk::open(&path, LinuxMode::Buffered).unwrap());
    // What the directory looks like after a holder was killed: the file is there, nobody holds it.
    assert!(path.join("lock").exists());
    assert!(LinuxDisk::open(&path, LinuxMode::Buffered).unwrap().list().unwrap().is_empty());
}

#[test]
fn nobody_else_may_look_in() {
    let scratch = Scratch::new();
    let path = scratch.0.join("store");
    let disk = LinuxDisk::open(&path, LinuxMode::Buffered).unwrap();
    drop(disk.create("a").unwrap());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("a")), mode(&path.join("lock"))), (0o700, 0o600, 0o600));
}

#[test]
fn only_regular_files_are_files() {
    let scratch = Scratch::new();
    let disk = LinuxDisk::open(&scratch.0, LinuxMode::Buffered).unwrap();
    fs::create_dir(scratch.0.join("lost+found")).unwrap();
    std::os::unix::fs::symlink("/dev/null", scratch.0.join("link")).unwrap();
    drop(disk.create("a").unwrap());
    assert_eq!(disk.list().unwrap(), ["a"]);
    for name in ["lost+found", "link"] {
        assert!(disk.open(name).is_err(), "{name}");
    }
}

#[test]
fn allocation_takes_room_and_a_punch_gives_it_back() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new();
    let disk = LinuxDisk::open(&scratch.0, LinuxMode::Buffered).unwrap();
    let file = disk.create("a").unwrap();
    let taken = || fs::metadata(scratch.0.join("a")).unwrap().blocks() * 512;
    file.allocate(4 << 20).unwrap();
    assert!(taken() >= 4 << 20, "{}", taken());
    file.punch(0, 3 << 20).unwrap();
    assert!(taken() <= (1 << 20) + 65_536, "{}", taken());
}

#[test]
fn a_file_that_ends_inside_a_sector_is_an_error_not_a_short_read() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("a"), [7_u8; 5000]).unwrap();
    let check = |disk: LinuxDisk| {
        let file = disk.open("a").unwrap();
        let mut buffer = AlignedBuffer::with_len(8192);
        file.read_at(0, &mut buffer[..4096]).unwrap();
        assert_eq!(file.read_at(0, &mut buffer).unwrap_err().kind, ErrorKind::UnexpectedEof);
        assert_eq!(file.read_at(4096, &mut buffer[..4096]).unwrap_err().kind, ErrorKind::UnexpectedEof);
    };
    check(LinuxDisk::open(&scratch.0, LinuxMode::Buffered).unwrap());
    if let Some(disk) = direct(&scratch.0) {
        check(disk);
    }
}

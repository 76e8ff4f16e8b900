//! Servers come and go, the connection stays: planned, after a crash with the resend, and the ways in which it ends.

mod support;

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_frontend::fuse::{self, Connection, ConnectionError, End, Facts, ServeOptions, Server};
use holdfast_frontend::target::{Target, TargetError};
use parking_lot::{Condvar, Mutex, RwLock};
use rustix::io::{FdFlags, fcntl_setfd};
use support::{BLOCK, MemoryTarget, Mounted, copy, within};

fn open(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).open(path).expect("the file opens")
}

const WRITERS: u64 = 4;

/// Counts up in blocks of its own, and finds in each what it wrote there last, until told to end.
fn count_up(file: &File, writer: u64, done: &AtomicBool, rounds: &AtomicU64) {
    let mut count = [0_u64; 16];
    let mut block = [0; BLOCK as usize];
    while !done.load(Ordering::Relaxed) {
        let round = rounds.fetch_add(1, Ordering::Relaxed);
        let slot = round as usize % count.len();
        let at = (writer * 16 + slot as u64) * BLOCK;
        file.read_exact_at(&mut block, at).expect("a read never fails");
        assert_eq!(block[..8], count[slot].to_le_bytes(), "a write was lost");
        count[slot] += 1;
        block[..8].copy_from_slice(&count[slot].to_le_bytes());
        file.write_all_at(&block, at).expect("a write never fails");
        if round.is_multiple_of(64) {
            file.sync_all().expect("a flush never fails");
        }
    }
}

/// Lets nobody wait for a server that a failed test does not start.
struct AbortOnPanic<'a>(Connection, &'a AtomicBool);

impl Drop for AbortOnPanic<'_> {
    fn drop(&mut self) {
        self.1.store(true, Ordering::Relaxed);
        if std::thread::panicking() {
            let _ = self.0.abort();
        }
    }
}

/// Lets writers work and calls `replace` between their requests, many times.
fn under_load(mounted: &mut Mounted, mut replace: impl FnMut(&mut Mounted)) {
    let path = mounted.path();
    let (done, rounds) = (AtomicBool::new(false), AtomicU64::new(0));
    let holder = copy(&mounted.holder);
    std::thread::scope(|scope| {
        let _guard = AbortOnPanic(holder, &done);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (file, done, rounds) = (open(&path), &done, &rounds);
                scope.spawn(move || count_up(&file, writer, done, rounds))
            })
            .collect();
        for _ in 0..20 {
            let before = rounds.load(Ordering::Relaxed);
            while rounds.load(Ordering::Relaxed) < before + 50 && !writers.iter().any(|writer| writer.is_finished()) {
                std::thread::sleep(Duration::from_millis(1));
            }
            replace(mounted);
        }
        done.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().expect("nothing was lost"));
    });
    assert_eq!(mounted.server().counts().faults, 0);
}

#[test]
fn a_planned_hand_over_under_load_loses_nothing_and_fails_nothing() {
    need_fuse!("a_planned_hand_over_under_load_loses_nothing_and_fails_nothing");
    under_load(&mut Mounted::new(4 << 20), |mounted| {
        let connection = mounted.server.take().expect("a server runs").stop().expect("it was stopped, not ended");
        // Over to another process, as far as a test can show it.
        let (device, facts) = connection.into_parts();
        let facts = Facts::decode(&facts.encode()).expect("facts travel");
        std::thread::sleep(Duration::from_millis(5));
        mounted.serve(Connection::from_parts(device, facts).expect("the connection lives"));
        assert_eq!(mounted.server().counts().resent, 0);
    });
}

/// A process that dies at any moment, over memory that outlives it: as a session with its ring.
struct Mortal {
    memory: Arc<MemoryTarget>,
    is_dead: RwLock<bool>,
    is_buried: Mutex<bool>,
    burial: Condvar,
}

impl Mortal {
    fn new(memory: &Arc<MemoryTarget>) -> Arc<Self> {
        let memory = Arc::clone(memory);
        Arc::new(Self { memory, is_dead: RwLock::new(false), is_buried: Mutex::new(false), burial: Condvar::new() })
    }

    /// When it returns, nothing is under way and nothing will be.
    fn kill(&self) {
        *self.is_dead.write() = true;
    }

    /// Lets the threads go that a dead process would not have any more.
    fn bury(&self) {
        *self.is_buried.lock() = true;
        self.burial.notify_all();
    }

    fn alive<T>(&self, work: impl FnOnce(&MemoryTarget) -> Result<T, TargetError>) -> Result<T, TargetError> {
        let is_dead = self.is_dead.read();
        if !*is_dead {
            return work(&self.memory);
        }
        drop(is_dead);
        self.burial.wait_while(&mut self.is_buried.lock(), |is_buried| !*is_buried);
        Err(TargetError::Io)
    }
}

impl Target for Mortal {
    fn size(&self) -> u64 {
        self.memory.size()
    }
    fn read_only(&self) -> bool {
        self.memory.read_only()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), TargetError> {
        self.alive(|memory| memory.read(offset, out))
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
        self.alive(|memory| memory.write(offset, bytes))
    }
    fn flush(&self) -> Result<(), TargetError> {
        self.alive(MemoryTarget::flush)
    }
    fn discard(&self, offset: u64, length: u64) -> Result<(), TargetError> {
        self.alive(|memory| memory.discard(offset, length))
    }
    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), TargetError> {
        self.alive(|memory| memory.write_zeroes(offset, length))
    }
}

#[test]
fn crashes_under_load_lose_nothing_if_what_was_answered_is_kept() {
    need_fuse!("crashes_under_load_lose_nothing_if_what_was_answered_is_kept");
    let mut mounted = Mounted::new(4 << 20);
    if !mounted.holder.facts().can_resend() {
        let name = "crashes_under_load_lose_nothing_if_what_was_answered_is_kept";
        return support::skip(name, "the kernel cannot resend");
    }
    let mut dead: Vec<Arc<Mortal>> = Vec::new();
    let mut resent = 0;
    under_load(&mut mounted, |mounted| {
        if let Some(last) = dead.last() {
            last.kill();
            resent += mounted.server().counts().resent;
            drop(mounted.server.take());
        } else {
            mounted.server.take().expect("a server runs").stop().expect("it was stopped");
        }
        let successor = copy(&mounted.holder);
        successor.resend().expect("the kernel resends");
        let mortal = Mortal::new(&mounted.target);
        let options = ServeOptions { threads: 4, ..ServeOptions::default() };
        mounted.server = Some(Server::start(successor, Arc::clone(&mortal) as _, &options).expect("it serves"));
        dead.push(mortal);
    });
    assert!(resent > 0, "no crash found anybody at work");
    dead.iter().for_each(|mortal| mortal.bury());
}

#[test]
fn what_a_dead_server_had_read_is_served_after_the_resend() {
    need_fuse!("what_a_dead_server_had_read_is_served_after_the_resend");
    let hanging = MemoryTarget::new(1 << 20);
    let mut mounted = Mounted::with(Arc::clone(&hanging), 4);
    if !mounted.holder.facts().can_resend() {
        return support::skip("what_a_dead_server_had_read_is_served_after_the_resend", "the kernel cannot resend");
    }
    let path = mounted.path();
    open(&path).write_all_at(&[1; 8192], 0).unwrap();
    hanging.hang();
    let writers: Vec<_> = (0..3_u8)
        .map(|writer| {
            let file = open(&path);
            std::thread::spawn(move || file.write_all_at(&[writer + 10; 5000], u64::from(writer) * 16384))
        })
        .collect();
    // Before the fsync, which keeps later writes waiting in the kernel, as it waits for these.
    hanging.wait_until_hanging(3);
    let syncer = {
        let file = open(&path);
        std::thread::spawn(move || file.sync_all())
    };
    // Its threads hang for ever, as those of a killed process do.
    drop(mounted.server.take());
    mounted.target = MemoryTarget::new(1 << 20);
    let successor = copy(&mounted.holder);
    successor.resend().expect("the kernel resends");
    mounted.serve(successor);
    within(20, "the resent requests", move || {
        for writer in writers {
            writer.join().unwrap().expect("a resent write succeeds");
        }
        syncer.join().unwrap().expect("a resent fsync succeeds");
    });
    for writer in 0..3_u8 {
        assert_eq!(mounted.target.bytes(u64::from(writer) * 16384, 5000), [writer + 10; 5000]);
    }
    assert_eq!(mounted.target.flushes.load(Ordering::SeqCst), 1);
    assert!(mounted.server().counts().resent >= 3);
    // Whoever comes back to life finds that nobody waits for its answers.
    hanging.release();
    open(&path).write_all_at(&[3; 100], 0).unwrap();
    let mut bytes = [0; 200];
    open(&path).read_exact_at(&mut bytes, 0).unwrap();
    assert_eq!((bytes[99], bytes[100]), (3, 10));
    assert_eq!(mounted.server().counts().faults, 0);
}

#[test]
fn an_fsync_that_a_dead_server_had_read_is_a_flush_of_the_next() {
    need_fuse!("an_fsync_that_a_dead_server_had_read_is_a_flush_of_the_next");
    let hanging = MemoryTarget::new(1 << 20);
    let mut mounted = Mounted::with(Arc::clone(&hanging), 2);
    if !mounted.holder.facts().can_resend() {
        let name = "an_fsync_that_a_dead_server_had_read_is_a_flush_of_the_next";
        return support::skip(name, "the kernel cannot resend");
    }
    let file = open(&mounted.path());
    hanging.hang();
    let syncer = std::thread::spawn(move || file.sync_all());
    hanging.wait_until_hanging(1);
    drop(mounted.server.take());
    mounted.target = MemoryTarget::new(1 << 20);
    let successor = copy(&mounted.holder);
    successor.resend().unwrap();
    mounted.serve(successor);
    within(20, "the resent fsync", move || syncer.join().unwrap().unwrap());
    assert_eq!(mounted.target.flushes.load(Ordering::SeqCst), 1);
    hanging.release();
}

const CHILD_DEVICE: &str = "HOLDFAST_FUSE_TEST_DEVICE";
const CHILD_FACTS: &str = "HOLDFAST_FUSE_TEST_FACTS";

/// Not a test by itself: the process that the next test kills. It serves an inherited descriptor, and hangs in writes
/// from the moment that it is told to.
#[test]
fn child_that_serves() {
    let (Ok(device), Ok(facts)) = (std::env::var(CHILD_DEVICE), std::env::var(CHILD_FACTS)) else { return };
    let facts: Vec<u8> = facts.split('.').map(|byte| byte.parse().unwrap()).collect();
    #[allow(unsafe_code)]
    // SAFETY: the descriptor was inherited for us, and nobody else here knows of it.
    let device = unsafe { OwnedFd::from_raw_fd(device.parse().unwrap()) };
    let connection = Connection::from_parts(device, Facts::decode(&facts).unwrap()).unwrap();
    let target = MemoryTarget::new(1 << 20);
    let server = Server::start(connection, Arc::clone(&target) as _, &ServeOptions::default()).unwrap();
    println!("\nserving");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    target.hang();
    println!("\nhanging");
    target.wait_until_hanging(1);
    println!("\nhangs");
    std::io::stdin().read_exact(&mut [0]).unwrap();
    drop(server);
}

#[test]
fn another_process_continues_is_killed_and_is_continued() {
    need_fuse!("another_process_continues_is_killed_and_is_continued");
    let mut mounted = Mounted::new(1 << 20);
    if !mounted.holder.facts().can_resend() {
        return support::skip("another_process_continues_is_killed_and_is_continued", "the kernel cannot resend");
    }
    let (device, facts) = mounted.server.take().expect("it runs").stop().expect("it was stopped").into_parts();
    fcntl_setfd(&device, FdFlags::empty()).unwrap();
    let facts = facts.encode().map(|byte| byte.to_string()).join(".");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_serves", "--nocapture"])
        .env(CHILD_DEVICE, device.as_raw_fd().to_string())
        .env(CHILD_FACTS, facts)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(device);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut wait_for = |word: &str| assert!(lines.any(|line| line.unwrap() == word), "the child said no {word:?}");
    let mut input = child.stdin.take().unwrap();
    wait_for("serving");
    let path = mounted.path();
    open(&path).write_all_at(b"written to the child", 7).unwrap();
    let mut bytes = [0; 20];
    open(&path).read_exact_at(&mut bytes, 7).unwrap();
    assert_eq!(&bytes, b"written to the child");
    input.write_all(b".").unwrap();
    wait_for("hanging");
    let writer = std::thread::spawn(move || open(&path).write_all_at(b"read by the child, never answered", 4090));
    wait_for("hangs");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!mounted.holder.is_over(), "the holder's copy keeps the connection");
    let successor = copy(&mounted.holder);
    successor.resend().unwrap();
    mounted.serve(successor);
    within(20, "the resent write", move || writer.join().unwrap().unwrap());
    assert_eq!(mounted.target.bytes(4090, 33), b"read by the child, never answered");
}

#[test]
fn an_abort_fails_whatever_hangs_within_a_second() {
    need_fuse!("an_abort_fails_whatever_hangs_within_a_second");
    let mounted = Mounted::new(1 << 20);
    mounted.target.hang();
    let file = open(&mounted.path());
    let writer = std::thread::spawn(move || file.write_all_at(&[1; 4096], 0));
    mounted.target.wait_until_hanging(1);
    let began = Instant::now();
    mounted.server().abort().unwrap();
    assert!(within(5, "the write", move || writer.join().unwrap()).is_err());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(mounted.holder.is_over());
    mounted.server().abort().expect("what is over can be aborted again");
    mounted.target.release();
    assert!(mounted.server().has_ended_within(Duration::from_secs(5)));
    assert_eq!(mounted.server().end(), Some(End::Aborted));
    assert_eq!(copy_error(&mounted.holder), ConnectionError::Over);
}

fn copy_error(connection: &Connection) -> ConnectionError {
    Connection::from_parts(connection.duplicate().expect("it is copied"), *connection.facts()).expect_err("it is over")
}

#[test]
fn an_unmount_ends_every_thread_and_leaves_no_mount() {
    need_fuse!("an_unmount_ends_every_thread_and_leaves_no_mount");
    let mut mounted = Mounted::new(1 << 20);
    let file = open(&mounted.path());
    let point = mounted.run.join("mnt");
    fuse::unmount(&point).unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(point.to_str().unwrap()));
    // A file that is open stays, and is served.
    file.write_all_at(&[1; 100], 0).unwrap();
    assert!(!mounted.server().has_ended_within(Duration::from_millis(50)));
    drop(file);
    let server = mounted.server.take().unwrap();
    assert!(server.has_ended_within(Duration::from_secs(5)), "the last file is closed");
    assert_eq!(server.stop().err(), Some(End::Unmounted));
    fuse::unmount(&point).expect("what is not mounted is unmounted");
}

#[test]
fn a_stop_waits_for_the_target_only_as_long_as_the_caller_likes() {
    need_fuse!("a_stop_waits_for_the_target_only_as_long_as_the_caller_likes");
    let mut mounted = Mounted::new(1 << 20);
    mounted.target.hang();
    let file = open(&mounted.path());
    let writer = std::thread::spawn(move || file.write_all_at(&[1; 4096], 0));
    mounted.target.wait_until_hanging(1);
    let server = mounted.server.take().unwrap();
    server.begin_stop();
    assert!(!server.has_ended_within(Duration::from_millis(100)));
    mounted.target.release();
    assert!(server.has_ended_within(Duration::from_secs(5)));
    // What was read is answered, with what the target said.
    assert!(within(5, "the write", move || writer.join().unwrap()).is_err());
    let connection = server.stop().expect("it was stopped");
    mounted.serve(connection);
    open(&mounted.path()).write_all_at(&[1; 4096], 0).unwrap();
}

#[test]
fn a_server_that_cannot_start_gives_the_connection_back() {
    need_fuse!("a_server_that_cannot_start_gives_the_connection_back");
    let mut mounted = Mounted::new(1 << 20);
    let mut connection = mounted.server.take().unwrap().stop().unwrap();
    for options in [
        ServeOptions { name: "a/b".to_owned(), ..ServeOptions::default() },
        ServeOptions { threads: 0, ..ServeOptions::default() },
    ] {
        let error = Server::start(connection, Arc::clone(&mounted.target) as _, &options).err().unwrap();
        connection = error.connection.expect("it comes back");
    }
    mounted.serve(connection);
    println!("{}", mounted.server().protection());
    open(&mounted.path()).write_all_at(&[1; 4096], 0).unwrap();
}

#[test]
fn a_place_that_cannot_be_mounted_says_what_to_do() {
    need_fuse!("a_place_that_cannot_be_mounted_says_what_to_do");
    let error = fuse::mount(Path::new("/nowhere/at/all"), "holdfast-test").unwrap_err().to_string();
    assert!(error.contains("/nowhere/at/all") && error.contains("the directory must be there"), "{error}");
}

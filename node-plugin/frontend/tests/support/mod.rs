//! What the tests of the FUSE and loop frontends share: a volume in memory that can be told to fail or to hang, a mount
//! that cleans up after a test that failed, and child processes with deadlines.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use holdfast_frontend::fuse::{self, Connection, ServeOptions, Server};
use holdfast_frontend::loop_device::{LoopDevice, Loops};
use holdfast_frontend::target::{Target, TargetError};
use parking_lot::{Condvar, Mutex, RwLock};

pub const BLOCK: u64 = 4096;
const CHUNK: usize = 1 << 20;

/// One line a test: `name: reason`. Without HOLDFAST_SKIPS it is only printed.
pub fn skip(name: &str, reason: &str) {
    println!("SKIPPED {name}: {reason}");
    if let Some(path) = std::env::var_os("HOLDFAST_SKIPS") {
        let mut file =
            std::fs::OpenOptions::new().append(true).create(true).open(path).expect("the list of skips opens");
        std::io::Write::write_all(&mut file, format!("{name}: {reason}\n").as_bytes()).expect("it takes a line");
    }
}

/// Skips the test if the machine has no FUSE for us.
#[macro_export]
macro_rules! need_fuse {
    ($name:expr) => {
        if let Some(reason) = $crate::support::no_fuse() {
            return $crate::support::skip($name, &reason);
        }
    };
}

/// Skips the test if the machine has no FUSE or no loop devices for us.
#[macro_export]
macro_rules! need_loop {
    ($name:expr) => {
        $crate::need_fuse!($name);
        if let Some(reason) = $crate::support::no_loop() {
            return $crate::support::skip($name, &reason);
        }
    };
}

pub fn no_fuse() -> Option<String> {
    fuse::preflight().err().map(|error| error.to_string()).or_else(|| {
        // Opening is allowed to more than mounting is.
        let folder = folder();
        let mounted = fuse::mount(&folder, "holdfast-probe");
        let _ = fuse::unmount(&folder);
        let _ = std::fs::remove_dir(&folder);
        mounted.err().map(|error| error.to_string())
    })
}

pub fn no_loop() -> Option<String> {
    let loops = Loops::new(Path::new("/tmp"), Path::new("/dev")).expect("/tmp is there");
    loops.preflight().err().map(|error| error.to_string())
}

pub fn has_tool(name: &str) -> bool {
    Command::new("which").arg(name).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

static FOLDERS: AtomicUsize = AtomicUsize::new(0);

fn folder() -> PathBuf {
    let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("holdfast-fuse-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).expect("a folder is made");
    std::fs::canonicalize(path).expect("it has a plain path")
}

/// A volume in memory.
pub struct MemoryTarget {
    chunks: RwLock<Vec<RwLock<Vec<u8>>>>,
    size: AtomicU64,
    pub is_read_only: AtomicBool,
    pub reads: AtomicUsize,
    pub writes: AtomicUsize,
    pub flushes: AtomicUsize,
    pub discards: Mutex<Vec<(u64, u64)>>,
    pub zeroes: Mutex<Vec<(u64, u64)>>,
    /// What every request says instead of being served.
    pub fault: Mutex<Option<TargetError>>,
    /// Every request panics.
    pub panics: AtomicBool,
    /// Reads take their time, as those of a disk do.
    pub is_slow: AtomicBool,
    /// Only flushes fail.
    pub flush_fault: Mutex<Option<TargetError>>,
    hang: Mutex<Hang>,
    hang_changed: Condvar,
}

#[derive(Default)]
struct Hang {
    is_on: bool,
    hanging: usize,
}

impl MemoryTarget {
    pub fn new(size: u64) -> Arc<Self> {
        let target = Self {
            chunks: RwLock::default(),
            size: AtomicU64::new(0),
            is_read_only: AtomicBool::new(false),
            reads: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
            flushes: AtomicUsize::new(0),
            discards: Mutex::default(),
            zeroes: Mutex::default(),
            fault: Mutex::default(),
            panics: AtomicBool::new(false),
            is_slow: AtomicBool::new(false),
            flush_fault: Mutex::default(),
            hang: Mutex::default(),
            hang_changed: Condvar::new(),
        };
        target.grow(size);
        Arc::new(target)
    }

    pub fn grow(&self, size: u64) {
        let mut chunks = self.chunks.write();
        chunks.resize_with((size as usize).div_ceil(CHUNK), || RwLock::new(vec![0; CHUNK]));
        self.size.store(size, Ordering::SeqCst);
    }

    /// From now on writes and flushes hang and are never done.
    pub fn hang(&self) {
        self.hang.lock().is_on = true;
    }

    /// Those that hang come back with an error.
    pub fn release(&self) {
        self.hang.lock().is_on = false;
        self.hang_changed.notify_all();
    }

    pub fn wait_until_hanging(&self, count: usize) {
        let mut hang = self.hang.lock();
        while hang.hanging < count {
            let waited = self.hang_changed.wait_for(&mut hang, Duration::from_secs(20));
            assert!(!waited.timed_out(), "{} of {count} hang", hang.hanging);
        }
    }

    fn check(&self, offset: u64, length: u64, is_change: bool) -> Result<(), TargetError> {
        if !offset.is_multiple_of(BLOCK) || !length.is_multiple_of(BLOCK) || offset + length > self.size() {
            return Err(TargetError::Invalid);
        }
        if is_change {
            let mut hang = self.hang.lock();
            if hang.is_on {
                hang.hanging += 1;
                self.hang_changed.notify_all();
                self.hang_changed.wait_while(&mut hang, |hang| hang.is_on);
                hang.hanging -= 1;
                return Err(TargetError::Io);
            }
            if self.read_only() {
                return Err(TargetError::ReadOnly);
            }
        }
        assert!(!self.panics.load(Ordering::SeqCst), "this volume was told to panic");
        self.fault.lock().map_or(Ok(()), Err)
    }

    /// Calls `with` for each piece: a chunk, the place in it, the place in the request.
    fn pieces(offset: u64, length: usize, mut with: impl FnMut(usize, usize, std::ops::Range<usize>)) {
        let mut done = 0;
        while done < length {
            let at = offset as usize + done;
            let count = (CHUNK - at % CHUNK).min(length - done);
            with(at / CHUNK, at % CHUNK, done..done + count);
            done += count;
        }
    }

    fn zero(&self, offset: u64, length: u64) {
        let chunks = self.chunks.read();
        Self::pieces(offset, length as usize, |chunk, at, range| chunks[chunk].write()[at..at + range.len()].fill(0));
    }

    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        let chunks = self.chunks.read();
        Self::pieces(offset, length, |chunk, at, range| {
            let count = range.len();
            out[range].copy_from_slice(&chunks[chunk].read()[at..at + count]);
        });
        out
    }
}

impl Target for MemoryTarget {
    fn size(&self) -> u64 {
        self.size.load(Ordering::SeqCst)
    }
    fn read_only(&self) -> bool {
        self.is_read_only.load(Ordering::SeqCst)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), TargetError> {
        self.check(offset, out.len() as u64, false)?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        let chunks = self.chunks.read();
        Self::pieces(offset, out.len(), |chunk, at, range| {
            let count = range.len();
            out[range].copy_from_slice(&chunks[chunk].read()[at..at + count]);
        });
        if self.is_slow.load(Ordering::Relaxed) {
            // Behind the copy: what was read is old when it arrives.
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }
    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), TargetError> {
        self.check(offset, bytes.len() as u64, true)?;
        self.writes.fetch_add(1, Ordering::Relaxed);
        let chunks = self.chunks.read();
        Self::pieces(offset, bytes.len(), |chunk, at, range| {
            chunks[chunk].write()[at..at + range.len()].copy_from_slice(&bytes[range]);
        });
        Ok(())
    }
    fn flush(&self) -> Result<(), TargetError> {
        self.check(0, 0, true)?;
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.flush_fault.lock().map_or(Ok(()), Err)
    }
    fn discard(&self, offset: u64, length: u64) -> Result<(), TargetError> {
        self.check(offset, length, true)?;
        self.discards.lock().push((offset, length));
        self.zero(offset, length);
        Ok(())
    }
    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), TargetError> {
        self.check(offset, length, true)?;
        self.zeroes.lock().push((offset, length));
        self.zero(offset, length);
        Ok(())
    }
}

/// A mount with its server; whatever happens to the test, nothing of it stays.
pub struct Mounted {
    pub run: PathBuf,
    pub server: Option<Server>,
    pub target: Arc<MemoryTarget>,
    /// As the holder has it: a copy of the descriptor that outlives servers.
    pub holder: Connection,
}

impl Mounted {
    pub fn new(size: u64) -> Self {
        Self::with(MemoryTarget::new(size), 4)
    }

    pub fn with(target: Arc<MemoryTarget>, threads: usize) -> Self {
        let run = folder();
        std::fs::create_dir(run.join("mnt")).expect("the mount point is made");
        let connection = fuse::mount(&run.join("mnt"), "holdfast-test").expect("it mounts");
        let holder = copy(&connection);
        let options = ServeOptions { threads, ..ServeOptions::default() };
        let server = Server::start(connection, Arc::clone(&target) as _, &options).expect("it serves");
        Self { run, server: Some(server), target, holder }
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        self.run.join("mnt/volume")
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().expect("a server runs")
    }

    pub fn loops(&self) -> Loops {
        Loops::new(&self.run, Path::new("/dev")).expect("the run directory is there")
    }

    pub fn attach(&self) -> LoopDevice {
        self.loops().attach(&self.path(), Default::default()).expect("a loop device is attached")
    }

    /// Starts another server, as the next process would.
    pub fn serve(&mut self, connection: Connection) {
        let options = ServeOptions { threads: 4, ..ServeOptions::default() };
        let target = Arc::clone(&self.target) as _;
        self.server = Some(Server::start(connection, target, &options).expect("it serves"));
    }
}

pub fn copy(connection: &Connection) -> Connection {
    let device = connection.duplicate().expect("the descriptor is copied");
    Connection::from_parts(device, *connection.facts()).expect("the connection lives")
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.target.release();
        if let Ok(loops) = Loops::new(&self.run, Path::new("/dev")) {
            for entry in loops.ours().unwrap_or_default() {
                let _ = loops.detach(entry.number);
            }
        }
        let _ = self.holder.abort();
        let _ = fuse::unmount(&self.run.join("mnt"));
        drop(self.server.take());
        let _ = std::fs::remove_dir(self.run.join("mnt"));
        let _ = std::fs::remove_dir_all(&self.run);
    }
}

/// A file system that a child process mounted; taken out of the tree when dropped.
pub struct MountGuard(pub PathBuf);

impl Drop for MountGuard {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status();
    }
}

/// Runs a program to its end, or kills it; panics unless it succeeds. Returns what it printed.
pub fn run(program: &str, arguments: &[&str], seconds: u64) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while child.try_wait().expect("a child is asked").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            panic!("{program} {arguments:?} took longer than {seconds} s");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().expect("it has ended");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

/// Does `work` on a thread and panics if it takes longer.
pub fn within<T: Send + 'static>(seconds: u64, what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver
        .recv_timeout(Duration::from_secs(seconds))
        .unwrap_or_else(|_| panic!("{what} took longer than {seconds} s"))
}

/// A fixed sequence of numbers that look random.
pub struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        let start = self.below(251);
        bytes.iter_mut().zip(start..).for_each(|(byte, value)| *byte = (value % 251) as u8 + 1);
    }
}

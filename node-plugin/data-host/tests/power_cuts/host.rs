//! The process that serves the volume, and the test's hold on it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use holdfast_data_host::{Device, DeviceOptions, OpenVolume, VolumeOptions};
use holdfast_disk::{Disk, LinuxDisk, LinuxMode, Random, SystemClock, SystemRandom};
use holdfast_log::anchor::Anchor;
use holdfast_log::period::Compression;
use holdfast_ports::budget::MemoryBudget;
use holdfast_seal::VolumeKey;
use holdfast_session::{AnchorKeeper, CreateOptions, Limits, OpenOptions, Session};
use holdfast_store::StoreOptions;
use holdfast_vocabulary::{Epoch, Generation, Grant, SessionId, VolumeId, VolumeSize};

/// Names the volume's folder to the child.
pub const FOLDER: &str = "HOLDFAST_TEST_SERVES";
const VOLUME: VolumeId = VolumeId(*b"under power cuts");
/// As small as xfs is made.
const BYTES: u64 = 320 << 20;

/// The registry's part: two files.
struct Registry(PathBuf);

impl Registry {
    fn next_grant(&self) -> Grant {
        let path = self.0.join("epoch");
        let last = fs::read_to_string(&path).map_or(0, |text| text.parse().expect("a number"));
        fs::write(&path, (last + 1).to_string()).expect("the epoch is kept");
        let mut session = [0; 16];
        SystemRandom.fill(&mut session);
        Grant { generation: Generation(1), epoch: Epoch(last + 1), session: SessionId(session) }
    }

    fn anchor(&self) -> Option<Anchor> {
        let bytes = fs::read(self.0.join("anchor")).ok()?;
        Some(Anchor::from_bytes(&bytes).expect("what was kept is an anchor"))
    }
}

impl AnchorKeeper for Registry {
    fn keep(&self, _: VolumeId, anchor: &Anchor) -> Result<(), String> {
        let new = self.0.join("anchor.new");
        let kept = fs::write(&new, anchor.to_bytes()).and_then(|()| fs::rename(new, self.0.join("anchor")));
        kept.map_err(|error| error.to_string())
    }
}

fn disk(folder: &Path) -> Arc<dyn Disk> {
    let store = folder.join("store");
    let open = |mode| LinuxDisk::open(&store, mode);
    Arc::new(open(LinuxMode::Direct).or_else(|_| open(LinuxMode::Buffered)).expect("the disk opens"))
}

fn key() -> VolumeKey {
    VolumeKey::from_bytes([0x51; 32])
}

/// Makes the volume.
pub fn create(folder: &Path) {
    fs::create_dir(folder.join("store")).expect("a folder is made");
    let options = CreateOptions {
        volume: VOLUME,
        size: VolumeSize::from_bytes(BYTES).expect("whole blocks"),
        compression: Compression::None,
        key: key(),
    };
    let header = Session::first_header(&options, &Registry(folder.to_owned()).next_grant());
    holdfast_store::create(&disk(folder), &header).expect("a volume is made");
}

/// Serves the volume: says which device it is, and ends in order when its input does.
pub fn serve(folder: &Path) {
    let registry = Registry(folder.to_owned());
    let budget = MemoryBudget::new(MemoryBudget::DEFAULT_CAP_BYTES);
    let session = OpenOptions {
        volume: VOLUME,
        key: key(),
        grant: registry.next_grant(),
        set_version: 1,
        set: vec![[1; 16]],
        anchor: registry.anchor(),
        anchors: Arc::new(registry),
        random: Arc::new(SystemRandom),
        clock: Arc::new(SystemClock::new()),
        budget: Arc::new(budget.clone()),
        limits: Limits::default(),
    };
    let store = StoreOptions::new(4 * BYTES, Arc::new(SystemRandom), budget);
    let volume = OpenVolume::open(VolumeOptions { disk: disk(folder), store, session }).expect("the volume opens");
    let options = DeviceOptions { run_directory: folder.join("run"), devices: "/dev".into(), threads: 4 };
    let device = Device::attach(volume.clone(), &options).expect("a device is made");
    // Not through the harness, which keeps what a test prints to itself.
    let mut out = fs::OpenOptions::new().write(true).open("/proc/self/fd/1").expect("the output opens");
    writeln!(out, "device {}", device.path().display()).expect("it is said");
    std::io::stdin().lock().read_until(0, &mut Vec::new()).expect("the input ends");
    if let Err(left) = device.detach() {
        panic!("{}", left.1);
    }
    volume.close().expect("it ends in order");
}

/// A running process that serves.
pub struct Host {
    child: Child,
    input: Option<ChildStdin>,
    device: String,
}

impl Host {
    /// Starts it, and waits for its device.
    pub fn start(folder: &Path) -> Self {
        let program = std::env::current_exe().expect("a test is a program");
        let mut child = Command::new(program)
            .args(["--exact", "a_process_that_serves", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a process starts");
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it has an output"));
        let mut lines = output.lines().map_while(Result::ok);
        let device = lines.find_map(|line| line.split_once("device ").map(|(_, device)| device.to_owned()));
        let device = device.expect("it says which device it serves");
        // Whoever says anything later must not fail for want of a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, input, device }
    }

    pub fn device(&self) -> &str {
        &self.device
    }

    /// As a power cut ends it.
    pub fn kill(&mut self) {
        self.child.kill().expect("it is ours to kill");
        self.child.wait().expect("it has ended");
    }

    /// In order.
    pub fn stop(mut self) {
        drop(self.input.take());
        let ended = self.child.wait().expect("it is ours");
        assert!(ended.success(), "it ends in order");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

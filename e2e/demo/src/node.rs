//! The parts that a node and a registry play around the engine: they give keys and epochs, and remember the newest anchor.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use holdfast_disk::{Disk, LinuxDisk, LinuxMode, Random, SystemClock, SystemRandom};
use holdfast_log::anchor::Anchor;
use holdfast_log::header::{Formatted, VolumeHeader};
use holdfast_log::period::Compression;
use holdfast_log::seam::Replica;
use holdfast_ports::budget::MemoryBudget;
use holdfast_seal::{MacPurpose, VolumeKey};
use holdfast_session::{AnchorKeeper, Limits, OpenError, OpenOptions, Session};
use holdfast_store::{Store, StoreOptions};
use holdfast_vocabulary::{Epoch, Generation, Grant, SessionId, VolumeId, VolumeSize};

use crate::Outcome;

/// The volume's size.
pub const SIZE: u64 = 1 << 30;
const VOLUME: VolumeId = VolumeId(*b"the demo volume.");

/// A key that lives in memory only, and whose bytes another process of the demo may be handed.
pub struct DemoKey([u8; 32]);

impl DemoKey {
    /// Draws one.
    pub fn draw() -> Self {
        let mut bytes = [0; 32];
        SystemRandom.fill(&mut bytes);
        Self(bytes)
    }

    /// From another process.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For another process.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As the engine takes it.
    pub fn volume_key(&self) -> VolumeKey {
        VolumeKey::from_bytes(self.0)
    }
}

/// Remembers anchors until somebody asks for the newest.
struct Keeper(Sender<Anchor>);

impl AnchorKeeper for Keeper {
    fn keep(&self, _volume: VolumeId, anchor: &Anchor) -> Result<(), String> {
        self.0.send(*anchor).map_err(|error| error.to_string())
    }
}

/// A registry of one volume, and the node that has its only replica.
pub struct Node {
    directory: PathBuf,
    mode: LinuxMode,
    /// The epoch that was given last.
    pub epoch: u64,
    /// The newest anchor.
    pub anchor: Option<Anchor>,
    keeper: Arc<Keeper>,
    anchors: Receiver<Anchor>,
}

/// An open volume; whoever keeps the replica can scrub and count it.
pub struct Opened {
    /// The session.
    pub session: Session,
}

impl Node {
    /// A node whose replica lies in `directory`; past the page cache where the file system can.
    pub fn new(directory: &Path) -> Outcome<Self> {
        let mode = match LinuxDisk::open(directory, LinuxMode::Direct) {
            Ok(_) => LinuxMode::Direct,
            Err(_) => LinuxMode::Buffered,
        };
        let (sender, anchors) = mpsc::channel();
        let keeper = Arc::new(Keeper(sender));
        Ok(Self { directory: directory.to_owned(), mode, epoch: 0, anchor: None, keeper, anchors })
    }

    /// How files are written.
    pub const fn mode_name(&self) -> &'static str {
        match self.mode {
            LinuxMode::Direct => "O_DIRECT: past the page cache",
            LinuxMode::Buffered => "through the page cache, as this file system has no O_DIRECT",
        }
    }

    fn disk(&self) -> Outcome<Arc<dyn Disk>> {
        Ok(Arc::new(LinuxDisk::open(&self.directory, self.mode)?))
    }

    /// Makes the volume.
    pub fn create(&self, key: &DemoKey) -> Outcome<()> {
        let key = key.volume_key();
        let header = VolumeHeader {
            volume: VOLUME,
            size: VolumeSize::from_bytes(SIZE).map_err(|error| error.to_string())?,
            generation: Generation(1),
            epoch: Epoch(0),
            key_id: key.id(),
            formatted: Formatted::Never,
            compression: Compression::None,
        };
        let mac = key.mac_key(MacPurpose::VolumeHeader, VOLUME).tag(&[&header.encode()]);
        Ok(holdfast_store::create(&self.disk()?, &header.with_mac(&mac))?)
    }

    /// Opens it under a new epoch.
    pub fn open(&mut self, key: &DemoKey) -> Outcome<Opened> {
        self.try_open(key)?.map_err(Into::into)
    }

    /// The same, for when the session is expected to refuse.
    pub fn try_open(&mut self, key: &DemoKey) -> Outcome<Result<Opened, OpenError>> {
        self.anchor = self.anchors.try_iter().last().or(self.anchor);
        self.epoch += 1;
        let budget = MemoryBudget::new(MemoryBudget::DEFAULT_CAP_BYTES);
        let options = StoreOptions::new(2 * SIZE, Arc::new(SystemRandom), budget.clone());
        let store: Arc<dyn Replica> = Arc::new(Store::open(self.disk()?, options)?);
        let mut session = [0; 16];
        SystemRandom.fill(&mut session);
        let options = OpenOptions {
            volume: VOLUME,
            key: key.volume_key(),
            grant: Grant { generation: Generation(1), epoch: Epoch(self.epoch), session: SessionId(session) },
            set_version: 1,
            set: vec![[1; 16]],
            anchor: self.anchor,
            anchors: Arc::<Keeper>::clone(&self.keeper),
            random: Arc::new(SystemRandom),
            clock: Arc::new(SystemClock::new()),
            budget: Arc::new(budget),
            limits: Limits::default(),
        };
        Ok(Session::open(vec![store], options).map(|session| Opened { session }))
    }
}

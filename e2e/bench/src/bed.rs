//! A volume to measure: made, opened and opened again as a node would, with the registry's part played by this file.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use holdfast_data_host::VolumeOptions;
use holdfast_disk::{Disk, SeededRandom, SystemClock, SystemRandom};
use holdfast_log::anchor::Anchor;
use holdfast_log::header::{Formatted, VolumeHeader};
use holdfast_log::period::Compression;
use holdfast_log::seam::Replica;
use holdfast_ports::budget::MemoryBudget;
use holdfast_seal::{MacPurpose, VolumeKey};
use holdfast_session::{AnchorKeeper, Limits, OpenOptions, Session};
use holdfast_store::{Store, StoreOptions};
use holdfast_vocabulary::{BLOCK_BYTES, Epoch, Generation, Grant, SessionId, VolumeId, VolumeSize};

use crate::Outcome;

/// What a volume is like. Everything else is as on a node.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The volume's size.
    pub size_bytes: u64,
    /// The most that its store may take.
    pub capacity_bytes: u64,
    /// The longest segment.
    pub segment_bytes_max: u32,
    /// The bound on records above the base.
    pub tail_records_max: u64,
    /// From where on a new base is due.
    pub tail_records_due: u64,
    /// The cap on memory.
    pub budget_bytes: usize,
    /// What happens before sealing.
    pub compression: Compression,
    /// The session's bounds.
    pub limits: Limits,
}

impl Settings {
    /// As on a node that was told nothing else.
    pub fn new(size_bytes: u64, capacity_bytes: u64) -> Self {
        let budget = MemoryBudget::new(MemoryBudget::DEFAULT_CAP_BYTES);
        let defaults = StoreOptions::new(capacity_bytes, Arc::new(SystemRandom), budget);
        Self {
            size_bytes,
            capacity_bytes,
            segment_bytes_max: defaults.segment_bytes_max,
            tail_records_max: defaults.tail_records_max,
            tail_records_due: defaults.tail_records_due,
            budget_bytes: MemoryBudget::DEFAULT_CAP_BYTES,
            compression: Compression::None,
            limits: Limits::default(),
        }
    }

    /// A model of a larger volume: what is bounded is bounded `scale` times lower.
    pub fn scaled_down(mut self, scale: u64) -> Self {
        self.tail_records_max /= scale;
        self.tail_records_due /= scale;
        self.budget_bytes /= scale as usize;
        self.limits.unsynced_bytes /= scale;
        self.limits.close_advance_records /= scale;
        self
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> u64 {
        self.size_bytes / BLOCK_BYTES as u64
    }
}

/// The registry's memory of the newest anchor.
struct Registry(Sender<Anchor>);

impl AnchorKeeper for Registry {
    fn keep(&self, _volume: VolumeId, anchor: &Anchor) -> Result<(), String> {
        self.0.send(*anchor).map_err(|error| error.to_string())
    }
}

/// A volume that lies on a disk.
pub struct Volume {
    disk: Arc<dyn Disk>,
    settings: Settings,
    key: VolumeKey,
    id: VolumeId,
    epoch: u64,
    anchor: Option<Anchor>,
    anchors: Receiver<Anchor>,
    registry: Arc<Registry>,
}

/// An open volume.
pub struct Opened {
    /// What clients call.
    pub session: Session,
    /// What the node may use of memory.
    pub budget: MemoryBudget,
}

const VOLUME: VolumeId = VolumeId(*b"a bench's volume");

impl Volume {
    /// Makes one on an empty disk.
    pub fn create(disk: Arc<dyn Disk>, settings: Settings) -> Outcome<Self> {
        let mut secret = [0; 32];
        holdfast_disk::Random::fill(&SeededRandom::new(2), &mut secret);
        let key = VolumeKey::from_bytes(secret);
        let size = VolumeSize::from_bytes(settings.size_bytes).map_err(|error| error.to_string())?;
        let header = VolumeHeader {
            volume: VOLUME,
            size,
            generation: Generation(1),
            epoch: Epoch(0),
            key_id: key.id(),
            formatted: Formatted::Never,
            compression: settings.compression,
        };
        let mac = key.mac_key(MacPurpose::VolumeHeader, VOLUME).tag(&[&header.encode()]);
        holdfast_store::create(&disk, &header.with_mac(&mac))?;
        let (sender, anchors) = mpsc::channel();
        let registry = Arc::new(Registry(sender));
        Ok(Self { disk, settings, key, id: VOLUME, epoch: 0, anchor: None, anchors, registry })
    }

    /// What it is like.
    pub fn settings(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// Opens it, with a new epoch.
    pub fn open(&mut self) -> Outcome<Opened> {
        let VolumeOptions { disk, store, session } = self.options();
        let budget = store.budget.clone();
        let store: Arc<dyn Replica> = Arc::new(Store::open(disk, store)?);
        Ok(Opened { session: Session::open(vec![store], session)?, budget })
    }

    /// What it is opened with the next time, a new epoch included.
    pub fn options(&mut self) -> VolumeOptions {
        self.anchor = self.anchors.try_iter().last().or(self.anchor);
        self.epoch += 1;
        let budget = MemoryBudget::new(self.settings.budget_bytes);
        let mut options = StoreOptions::new(self.settings.capacity_bytes, Arc::new(SystemRandom), budget.clone());
        options.segment_bytes_max = self.settings.segment_bytes_max;
        options.tail_records_max = self.settings.tail_records_max;
        options.tail_records_due = self.settings.tail_records_due;
        let session = OpenOptions {
            volume: self.id,
            key: self.key.clone(),
            grant: Grant {
                generation: Generation(1),
                epoch: Epoch(self.epoch),
                session: SessionId(u128::from(self.epoch).to_le_bytes()),
            },
            set_version: 1,
            set: vec![[1; 16]],
            anchor: self.anchor,
            anchors: Arc::<Registry>::clone(&self.registry),
            random: Arc::new(SystemRandom),
            clock: Arc::new(SystemClock::new()),
            budget: Arc::new(budget),
            limits: self.settings.limits,
        };
        VolumeOptions { disk: Arc::clone(&self.disk), store: options, session }
    }
}

//! One volume on one disk: how it is made and opened, and how it is read as a whole. Shared by everything that simulates.

use std::fmt;
use std::sync::Arc;

use holdfast_disk::{Clock, Disk, ManualClock, Random};
use holdfast_log::anchor::Anchor;
use holdfast_log::header::{Formatted, VolumeHeader};
use holdfast_log::period::Compression;
use holdfast_log::seam::{Replica, ReplicaError};
use holdfast_ports::budget::MemoryBudget;
use holdfast_seal::{MacPurpose, VolumeKey};
use holdfast_session::{AnchorKeeper, Limits, OpenError, OpenOptions, Session, SessionError};
use holdfast_store::{Store, StoreOptions};
use holdfast_vocabulary::{BLOCK_BYTES, Epoch, Generation, Grant, VolumeId, VolumeSize};
use parking_lot::Mutex;

use crate::checker::nonce::Ledger;
use crate::content::{self, Found};
use crate::model::Observed;
use crate::mutant::Mutant;
use crate::process::Process;
use crate::registry::Registry;
use crate::witness::Witness;

/// The only volume.
pub const VOLUME: VolumeId = VolumeId(*b"simulated volume");
/// Its key. No eight bytes of it may be found on a disk.
pub const KEY: [u8; 32] = *b"\x9dk1e\xf0y#\x07T\xb2w\x18O\xc6\xa5!\xe3Q\x86z\x0fN\xd8&\x5b\xbc\x11V\x93H\xea\x34";

/// How the volume and its store are set up. Small bounds bring rare branches about.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The size that the volume is made with.
    pub blocks: u64,
    /// Whether blocks are compressed.
    pub compression: Compression,
    /// What the store may take.
    pub capacity_bytes: u64,
    /// The largest segment.
    pub segment_bytes_max: u32,
    /// Records above the base: the bound, and where a new base is due.
    pub tail_records: (u64, u64),
    /// When collection starts, in thousandths of garbage.
    pub garbage_permille_max: u32,
    /// The memory budget.
    pub budget_bytes: usize,
    /// The session's bounds.
    pub limits: Limits,
}

/// Everything outside of the disk that a volume needs.
#[derive(Clone)]
pub struct Site {
    /// See [`Settings`].
    pub settings: Settings,
    /// Gives epochs and keeps anchors.
    pub registry: Arc<Registry>,
    /// Virtual time.
    pub clock: ManualClock,
    /// Salts, and the names that stores draw.
    pub random: Arc<dyn Random>,
    /// Sees every group.
    pub ledger: Arc<Mutex<Ledger>>,
    /// A deliberate mistake, to prove that it is found.
    pub mutant: Option<Mutant>,
}

/// An open volume.
pub struct Opened {
    /// Who has it open.
    pub process: Process,
    /// The store itself.
    pub store: Arc<Store>,
    /// The store as sessions see it.
    pub replica: Arc<dyn Replica>,
    /// The session.
    pub session: Session,
}

impl Opened {
    /// Its process is killed: nothing of it reaches the disk any more.
    pub fn kill(self) {
        self.process.kill();
    }
}

/// Why a volume was not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The store did not recover.
    Store(ReplicaError),
    /// The session did not accept what it found.
    Session(OpenError),
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(error) => write!(out, "the store does not open: {error}"),
            Self::Session(error) => write!(out, "the session does not open: {error}"),
        }
    }
}

impl Site {
    fn disk(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        match &self.mutant {
            Some(mutant) => mutant.disk(disk),
            None => disk,
        }
    }

    fn options(&self) -> StoreOptions {
        let settings = &self.settings;
        let budget = MemoryBudget::new(settings.budget_bytes);
        let mut options = StoreOptions::new(settings.capacity_bytes, Arc::clone(&self.random), budget);
        options.segment_bytes_max = settings.segment_bytes_max;
        (options.tail_records_max, options.tail_records_due) = settings.tail_records;
        options.garbage_permille_max = settings.garbage_permille_max;
        if let Some(mutant) = &self.mutant {
            mutant.options(&mut options);
        }
        options
    }

    /// Makes the volume.
    pub fn create(&self, disk: Arc<dyn Disk>) -> Result<(), ReplicaError> {
        let key = VolumeKey::from_bytes(KEY);
        let header = VolumeHeader {
            volume: VOLUME,
            size: size(self.settings.blocks),
            generation: Generation(1),
            epoch: Epoch(0),
            key_id: key.id(),
            formatted: Formatted::Never,
            compression: self.settings.compression,
        };
        let mac = key.mac_key(MacPurpose::VolumeHeader, VOLUME).tag(&[&header.encode()]);
        holdfast_store::create(&self.disk(disk), &header.with_mac(&mac))
    }

    /// Opens the store alone.
    pub fn open_store(&self, disk: Arc<dyn Disk>) -> Result<Arc<Store>, ReplicaError> {
        Store::open(self.disk(disk), self.options()).map(Arc::new)
    }

    /// What a session is opened with.
    #[must_use]
    pub fn open_options(&self, grant: Grant, anchor: Option<Anchor>) -> OpenOptions {
        let random: Arc<dyn Random> = match &self.mutant {
            Some(mutant) => mutant.salts(Arc::clone(&self.random)),
            None => Arc::clone(&self.random),
        };
        let anchors: Arc<dyn AnchorKeeper> = Arc::clone(&self.registry) as Arc<dyn AnchorKeeper>;
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        OpenOptions {
            volume: VOLUME,
            key: VolumeKey::from_bytes(KEY),
            grant,
            set_version: 1,
            set: vec![[1; 16]],
            anchor,
            anchors,
            random,
            clock,
            budget: Arc::new(MemoryBudget::new(self.settings.budget_bytes)),
            limits: self.settings.limits,
        }
    }

    /// The store as a session gets to see it.
    #[must_use]
    pub fn watched(&self, store: &Arc<Store>) -> Arc<dyn Replica> {
        let store: Arc<dyn Replica> = Arc::clone(store) as Arc<dyn Replica>;
        let watched: Arc<dyn Replica> = match &self.mutant {
            Some(mutant) => mutant.replica(store),
            None => store,
        };
        Arc::new(Witness::new(watched, Arc::clone(&self.ledger)))
    }

    /// Opens store and session.
    pub fn open(&self, disk: Arc<dyn Disk>, grant: Grant, anchor: Option<Anchor>) -> Result<Opened, Refusal> {
        let process = Process::default();
        let store = self.open_store(process.disk(disk)).map_err(Refusal::Store)?;
        let replica = self.watched(&store);
        let session =
            Session::open(vec![Arc::clone(&replica)], self.open_options(grant, anchor)).map_err(Refusal::Session)?;
        Ok(Opened { process, store, replica, session })
    }
}

/// A size in blocks, which the caller has chosen within what a volume can have.
#[must_use]
pub fn size(blocks: u64) -> VolumeSize {
    VolumeSize::from_bytes(blocks * BLOCK_BYTES as u64).expect("a simulated volume has a possible size")
}

/// One that failed to read.
pub type Unread = (u64, SessionError);

/// Reads blocks `first..first + count`, and where that fails each by itself.
pub fn observe(session: &Session, first: u64, count: u64, into: &mut Observed, unread: &mut Vec<Unread>) -> Vec<u64> {
    let mut bytes = vec![0; count as usize * BLOCK_BYTES];
    let mut foreign = Vec::new();
    let whole = session.read(first * BLOCK_BYTES as u64, &mut bytes);
    for (block, content) in (first..).zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
        if whole.is_err()
            && let Err(error) = session.read(block * BLOCK_BYTES as u64, content)
        {
            into.unknown.insert(block);
            unread.push((block, error));
            continue;
        }
        match content::identify(block, content) {
            Found::Zeros => {}
            Found::Written(stamp) => {
                into.content.insert(block, stamp);
            }
            Found::Foreign => foreign.push(block),
        }
    }
    foreign
}

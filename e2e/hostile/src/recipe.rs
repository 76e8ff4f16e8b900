//! How the volume is made: with a fixed key and fixed randomness, so that it comes out the same every time.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_disk::{Faults, Image, ManualClock, SeededRandom, SimulatedDisk};
use holdfast_log::anchor::Anchor;
use holdfast_log::header::{Formatted, VolumeHeader};
use holdfast_log::period::Compression;
use holdfast_log::seam::{Replica, ReplicaError};
use holdfast_ports::budget::MemoryBudget;
use holdfast_ports::{Disk, Random};
use holdfast_seal::{MacPurpose, VolumeKey};
use holdfast_session::{AnchorKeeper, Limits, OpenError, OpenOptions, Session, SessionError};
use holdfast_store::{Store, StoreOptions};
use holdfast_vocabulary::{BLOCK_BYTES, Epoch, Generation, Grant, SessionId, VolumeId, VolumeSize, VolumeSizeError};
use parking_lot::Mutex;

/// A block's bytes.
pub const BLOCK: u64 = BLOCK_BYTES as u64;
/// Segments so short that a few groups fill one.
const SEGMENT_BYTES: u32 = 64 << 10;
/// So little room that collection closes what it fills.
const CAPACITY: u64 = 576 << 10;

/// What decides everything about a volume.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Salts and instance ids follow from it.
    pub seed: u64,
    /// The volume's id, sixteen times.
    pub volume: u8,
    /// How large it is.
    pub blocks: u64,
    /// What its periods do.
    pub compression: Compression,
    /// How far apart blocks are that are written together; a large stride touches many leaves.
    pub stride: u64,
}

/// Small enough that every byte of it can be damaged.
pub const SMALL: Recipe = Recipe { seed: 11, volume: 0x5a, blocks: 96, compression: Compression::Lz4, stride: 7 };
/// The committed test vectors.
pub const VECTORS: Recipe =
    Recipe { seed: 23, volume: 0xa7, blocks: 300_000, compression: Compression::Lz4, stride: 44_987 };

/// Much the same recipe for another volume.
#[must_use]
pub const fn foreign(recipe: Recipe) -> Recipe {
    Recipe { seed: recipe.seed + 1, volume: recipe.volume ^ 0xff, stride: recipe.stride + 2, ..recipe }
}

/// The bytes of the volume key.
#[must_use]
pub const fn key_bytes() -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut place = 0;
    while place < 32 {
        bytes[place] = 0x80 + 3 * place as u8;
        place += 1;
    }
    bytes
}

/// Why a volume could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The store failed.
    #[error("the store: {0}")]
    Store(#[from] ReplicaError),
    /// The session did not open.
    #[error("opening: {0}")]
    Open(#[from] OpenError),
    /// The session failed.
    #[error("the session: {0}")]
    Session(#[from] SessionError),
    /// The recipe has no possible size.
    #[error("the recipe: {0}")]
    Size(#[from] VolumeSizeError),
}

/// Remembers the newest anchor.
#[derive(Default)]
pub struct Keeper(Mutex<Option<Anchor>>);

impl Keeper {
    /// One that remembers this.
    #[must_use]
    pub fn of(anchor: Option<Anchor>) -> Self {
        Self(Mutex::new(anchor))
    }

    /// What it remembers.
    pub fn anchor(&self) -> Option<Anchor> {
        *self.0.lock()
    }
}

impl AnchorKeeper for Keeper {
    fn keep(&self, _: VolumeId, anchor: &Anchor) -> Result<(), String> {
        *self.0.lock() = Some(*anchor);
        Ok(())
    }
}

/// A volume's files at several times, what it holds, and its anchor.
pub struct Volume {
    /// How it was made.
    pub recipe: Recipe,
    /// Its files at the end.
    pub image: Image,
    /// Its files at earlier times, each after a clean close or a checkpoint, oldest first.
    pub older: Vec<Image>,
    /// The registry's anchor at the end.
    pub anchor: Option<Anchor>,
    /// What each mapped block holds at the end.
    pub content: BTreeMap<u64, Vec<u8>>,
    /// The newest epoch.
    pub epoch: u64,
}

/// The place in [`Volume::older`] of the files after the first session's last checkpoint.
pub const OLDER_BASE: usize = 1;
/// The place in [`Volume::older`] of the files when the second session was half done.
pub const OLDER_TAIL: usize = 2;

/// Store options of a recipe.
#[must_use]
pub fn store_options(recipe: Recipe) -> StoreOptions {
    let random = Arc::new(SeededRandom::new(recipe.seed ^ 0x5707));
    let mut options = StoreOptions::new(CAPACITY, random, MemoryBudget::new(4 << 20));
    options.segment_bytes_max = SEGMENT_BYTES;
    options
}

/// Options to open a recipe's volume in an epoch.
#[must_use]
pub fn open_options(recipe: Recipe, epoch: u64, key: [u8; 32], keeper: &Arc<Keeper>) -> OpenOptions {
    let mut session = [0xe5; 16];
    session[..8].copy_from_slice(&epoch.to_le_bytes());
    OpenOptions {
        volume: VolumeId([recipe.volume; 16]),
        key: VolumeKey::from_bytes(key),
        grant: Grant { generation: Generation(1), epoch: Epoch(epoch), session: SessionId(session) },
        set_version: 1,
        set: vec![[7; 16]],
        anchor: keeper.anchor(),
        anchors: Arc::clone(keeper) as Arc<dyn AnchorKeeper>,
        random: Arc::new(SeededRandom::new(recipe.seed ^ epoch << 32)),
        clock: Arc::new(ManualClock::new()),
        budget: Arc::new(MemoryBudget::new(4 << 20)),
        limits: Limits { credit_piece_max: 8 << 10, ..Limits::default() },
    }
}

/// A block's worth of bytes that follow from two numbers. Three of four compress to a quarter.
#[must_use]
pub fn pattern(block: u64, round: u64) -> Vec<u8> {
    let random = SeededRandom::new(block << 16 | round);
    let mut bytes = vec![0; BLOCK_BYTES];
    let drawn = if (block + round).is_multiple_of(4) { BLOCK_BYTES } else { 700 };
    random.fill(&mut bytes[..drawn]);
    bytes
}

/// A volume in the making.
struct Making {
    disk: SimulatedDisk,
    volume: Volume,
    keeper: Arc<Keeper>,
}

impl Making {
    fn open(&mut self) -> Result<(Arc<Store>, Session), MakeError> {
        self.volume.epoch += 1;
        let store = Arc::new(Store::open(self.disk.handle(), store_options(self.volume.recipe))?);
        let options = open_options(self.volume.recipe, self.volume.epoch, key_bytes(), &self.keeper);
        let session = Session::open(vec![Arc::clone(&store) as Arc<dyn Replica>], options)?;
        Ok((store, session))
    }

    /// One group: some blocks written, perhaps a few discarded.
    fn group(&mut self, session: &Session, round: u64, count: u64, discard: bool) -> Result<(), MakeError> {
        let Recipe { blocks, stride, .. } = self.volume.recipe;
        for step in 0..count {
            let block = (round * 3 + step * stride) % blocks;
            let bytes = pattern(block, round);
            session.write(block * BLOCK, &bytes)?;
            self.volume.content.insert(block, bytes);
        }
        if discard {
            let first = (round * 13) % (blocks - 4);
            session.discard(first * BLOCK, 3 * BLOCK)?;
            self.volume.content.retain(|block, _| !(first..first + 3).contains(block));
        }
        session.flush()?;
        Ok(())
    }

    fn remember(&mut self) {
        self.volume.older.push(self.disk.image());
    }
}

impl Volume {
    /// Makes the volume: two sessions, several bases, collection, and a tail above the newest base.
    pub fn make(recipe: Recipe) -> Result<Self, MakeError> {
        let disk = SimulatedDisk::new(1, Faults::none());
        create(&disk.handle(), recipe)?;
        let volume =
            Self { recipe, image: Image::new(), older: Vec::new(), anchor: None, content: BTreeMap::new(), epoch: 1 };
        let mut making = Making { disk, volume, keeper: Arc::default() };
        making.remember();
        let (store, session) = making.open()?;
        for round in 1..=8 {
            making.group(&session, round, 5, round % 3 == 0)?;
            if round % 2 == 0 {
                session.checkpoint()?;
            }
            if round > 4 {
                store.collect()?;
            }
        }
        session.checkpoint()?;
        session.close()?;
        making.remember();
        drop((session, store));
        let (store, session) = making.open()?;
        making.group(&session, 20, 3, true)?;
        making.group(&session, 21, 2, false)?;
        making.remember();
        making.group(&session, 22, 3, true)?;
        making.group(&session, 23, 2, false)?;
        session.close()?;
        drop((session, store));
        let Making { disk, mut volume, keeper } = making;
        volume.image = disk.image();
        volume.anchor = keeper.anchor();
        Ok(volume)
    }
}

/// Makes an empty store with an authentic header.
fn create(disk: &Arc<dyn Disk>, recipe: Recipe) -> Result<(), MakeError> {
    let key = VolumeKey::from_bytes(key_bytes());
    let volume = VolumeId([recipe.volume; 16]);
    let header = VolumeHeader {
        volume,
        size: VolumeSize::from_bytes(recipe.blocks * BLOCK)?,
        generation: Generation(1),
        epoch: Epoch(1),
        key_id: key.id(),
        formatted: Formatted::Never,
        compression: recipe.compression,
    };
    let mac = key.mac_key(MacPurpose::VolumeHeader, volume).tag(&[&header.encode()]);
    Ok(holdfast_store::create(disk, &header.with_mac(&mac))?)
}

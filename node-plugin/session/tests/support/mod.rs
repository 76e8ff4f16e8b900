//! A replica in memory, honest to the letter of the seam; what a test needs to open sessions on it; and its evil twin.

#![allow(dead_code, missing_docs, clippy::unwrap_used)]

pub mod evil;
pub mod memory;

use std::sync::Arc;

use holdfast_disk::{ManualClock, SeededRandom};
use holdfast_log::anchor::Anchor;
use holdfast_log::period::Compression;
use holdfast_log::seam::Replica;
use holdfast_ports::budget::MemoryBudget;
use holdfast_seal::VolumeKey;
use holdfast_session::{AnchorKeeper, CreateOptions, Limits, OpenError, OpenOptions, Session};
use holdfast_vocabulary::{BLOCK_BYTES, Epoch, Generation, Grant, SessionId, VolumeId, VolumeSize};
use parking_lot::Mutex;

use memory::Memory;

pub const VOLUME: VolumeId = VolumeId([0x55; 16]);
pub const BLOCK: u64 = BLOCK_BYTES as u64;

/// Remembers the newest anchor, and can be told to refuse.
#[derive(Default)]
pub struct Keeper {
    pub anchor: Mutex<Option<Anchor>>,
    pub refuse: std::sync::atomic::AtomicBool,
}

impl AnchorKeeper for Keeper {
    fn keep(&self, volume: VolumeId, anchor: &Anchor) -> Result<(), String> {
        assert_eq!(volume, VOLUME);
        if self.refuse.load(std::sync::atomic::Ordering::SeqCst) {
            return Err("the registry has no majority".to_owned());
        }
        let mut kept = self.anchor.lock();
        if let Some(old) = *kept {
            let order = |anchor: &Anchor| (anchor.generation, anchor.epoch, anchor.seq);
            assert!(order(&old) <= order(anchor), "an anchor never goes back");
        }
        *kept = Some(*anchor);
        Ok(())
    }
}

/// Everything around a session that outlives it.
pub struct World {
    pub clock: ManualClock,
    pub random: Arc<SeededRandom>,
    pub keeper: Arc<Keeper>,
    pub budget: Arc<MemoryBudget>,
    pub limits: Limits,
    pub compression: Compression,
    pub epoch: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            clock: ManualClock::new(),
            random: Arc::new(SeededRandom::new(seed)),
            keeper: Arc::default(),
            budget: Arc::new(MemoryBudget::new(8 << 20)),
            limits: Limits::default(),
            compression: Compression::None,
            epoch: 0,
        }
    }

    pub fn grant(&mut self) -> Grant {
        self.epoch += 1;
        grant(self.epoch)
    }

    pub fn create(&mut self, replica: &Memory, blocks: u64) {
        let options = CreateOptions {
            volume: VOLUME,
            size: VolumeSize::from_bytes(blocks * BLOCK).unwrap(),
            compression: self.compression,
            key: key(),
        };
        let grant = self.grant();
        replica.state.lock().header = Session::first_header(&options, &grant);
    }

    pub fn options(&mut self) -> OpenOptions {
        OpenOptions {
            volume: VOLUME,
            key: key(),
            grant: self.grant(),
            set_version: 1,
            set: vec![[7; 16]],
            anchor: *self.keeper.anchor.lock(),
            anchors: self.keeper.clone(),
            random: self.random.clone(),
            clock: Arc::new(self.clock.clone()),
            budget: self.budget.clone(),
            limits: self.limits,
        }
    }

    pub fn open(&mut self, replica: &Arc<impl Replica + 'static>) -> Result<Session, OpenError> {
        let options = self.options();
        Session::open(vec![replica.clone()], options)
    }
}

pub fn key() -> VolumeKey {
    VolumeKey::from_bytes([0x42; 32])
}

pub fn grant(epoch: u64) -> Grant {
    let mut session = [0; 16];
    session[..8].copy_from_slice(&epoch.to_le_bytes());
    Grant { generation: Generation(1), epoch: Epoch(epoch), session: SessionId(session) }
}

/// A block's worth of bytes that follow from a number; compressible when it is even.
pub fn pattern(number: u64) -> Vec<u8> {
    let random = SeededRandom::new(number);
    let mut bytes = vec![0; BLOCK_BYTES];
    let random_bytes = if number.is_multiple_of(2) { BLOCK_BYTES / 4 } else { BLOCK_BYTES };
    holdfast_disk::Random::fill(&random, &mut bytes[..random_bytes]);
    bytes
}

pub fn write(session: &Session, block: u64, number: u64) {
    session.write(block * BLOCK, &pattern(number)).unwrap();
}

pub fn read(session: &Session, block: u64) -> Vec<u8> {
    let mut bytes = vec![0xee; BLOCK_BYTES];
    session.read(block * BLOCK, &mut bytes).unwrap();
    bytes
}

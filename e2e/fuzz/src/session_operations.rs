//! Any sequence of operations on a volume, through a session with keys, power cuts included, against a model.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_disk::{Crash, Faults, ManualClock, SeededRandom, SimulatedDisk};
use holdfast_log::anchor::Anchor;
use holdfast_log::header::{Formatted, VolumeHeader};
use holdfast_log::period::Compression;
use holdfast_log::seam::{Replica, ReplicaError};
use holdfast_ports::budget::MemoryBudget;
use holdfast_seal::{MacPurpose, VolumeKey};
use holdfast_session::{AnchorKeeper, Limits, OpenError, OpenOptions, Session, SessionError};
use holdfast_store::Store;
use holdfast_vocabulary::{BLOCK_BYTES, Epoch, Generation, Grant, SessionId, VolumeId, VolumeSize};

use crate::sample::CAPACITY;
use crate::scribe::{self, VOLUME};
use crate::store_open::Script;

/// More operations than this only make inputs slow.
const OPERATIONS_MAX: usize = 64;
/// Few blocks, so that most are written more than once.
const BLOCKS: u64 = 40;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// What each mapped block holds: the number of the write.
type Model = BTreeMap<u64, u64>;

/// Remembers the newest anchor. Nothing here runs on two threads, but a session may be asked to.
struct Keeper(parking_lot::Mutex<Option<Anchor>>);

impl AnchorKeeper for Keeper {
    fn keep(&self, volume: VolumeId, anchor: &Anchor) -> Result<(), String> {
        assert_eq!(volume, VOLUME);
        let mut kept = self.0.lock();
        assert!(kept.is_none_or(|old| (old.epoch, old.seq) <= (anchor.epoch, anchor.seq)), "an anchor never goes back");
        *kept = Some(*anchor);
        Ok(())
    }
}

/// Why a run ended early.
enum Stop {
    Store(ReplicaError),
    Open(OpenError),
    Session(SessionError),
}

impl From<ReplicaError> for Stop {
    fn from(error: ReplicaError) -> Self {
        Self::Store(error)
    }
}

impl From<OpenError> for Stop {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl From<SessionError> for Stop {
    fn from(error: SessionError) -> Self {
        Self::Session(error)
    }
}

struct Run {
    disk: SimulatedDisk,
    session: Session,
    store: Arc<Store>,
    keeper: Arc<Keeper>,
    epoch: u64,
    writes: u64,
    /// What the volume held after each change since the last flush; the first is what was flushed.
    states: Vec<Model>,
}

fn key() -> VolumeKey {
    VolumeKey::from_bytes([0x2b; 32])
}

/// Two of three compress.
fn content(number: u64) -> Vec<u8> {
    let spread = if number.is_multiple_of(3) { 8 } else { 64 };
    let mut bytes = vec![0; BLOCK_BYTES];
    for (place, chunk) in (0_u64..).zip(bytes.chunks_mut(spread)) {
        chunk[..8].copy_from_slice(&(number ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes());
    }
    bytes
}

fn create(disk: &SimulatedDisk, compression: Compression) -> Result<(), ReplicaError> {
    let header = VolumeHeader {
        volume: VOLUME,
        size: VolumeSize::from_bytes(BLOCKS * BLOCK).expect("it is whole blocks"),
        generation: Generation(1),
        epoch: Epoch(0),
        key_id: key().id(),
        formatted: Formatted::Never,
        compression,
    };
    let mac = key().mac_key(MacPurpose::VolumeHeader, VOLUME).tag(&[&header.encode()]);
    holdfast_store::create(&disk.handle(), &header.with_mac(&mac))
}

fn open(disk: &SimulatedDisk, epoch: u64, keeper: &Arc<Keeper>) -> Result<(Arc<Store>, Session), Stop> {
    let store = Arc::new(Store::open(disk.handle(), scribe::options(CAPACITY))?);
    let options = OpenOptions {
        volume: VOLUME,
        key: key(),
        grant: Grant { generation: Generation(1), epoch: Epoch(epoch), session: SessionId([epoch as u8; 16]) },
        set_version: 1,
        set: vec![[7; 16]],
        anchor: *keeper.0.lock(),
        anchors: Arc::clone(keeper) as Arc<dyn AnchorKeeper>,
        random: Arc::new(SeededRandom::new(epoch)),
        clock: Arc::new(ManualClock::new()),
        budget: Arc::new(MemoryBudget::new(4 << 20)),
        limits: Limits { credit_piece_max: 8 << 10, group_records: 6, ..Limits::default() },
    };
    let session = Session::open(vec![Arc::clone(&store) as Arc<dyn Replica>], options)?;
    Ok((store, session))
}

impl Run {
    fn new(compression: Compression) -> Result<Self, Stop> {
        let disk = SimulatedDisk::new(1, Faults::none());
        create(&disk, compression)?;
        let keeper = Arc::new(Keeper(parking_lot::Mutex::new(None)));
        let (store, session) = open(&disk, 1, &keeper)?;
        Ok(Self { disk, session, store, keeper, epoch: 1, writes: 0, states: vec![Model::new()] })
    }

    fn now(&self) -> Model {
        self.states.last().cloned().unwrap_or_default()
    }

    fn write(&mut self, script: &mut Script<'_>) -> Result<(), Stop> {
        let (first, count) = (u64::from(script.u8()) % BLOCKS, 1 + u64::from(script.u8()) % 5);
        for block in first..(first + count).min(BLOCKS) {
            self.writes += 1;
            self.session.write(block * BLOCK, &content(self.writes))?;
            let mut next = self.now();
            next.insert(block, self.writes);
            self.states.push(next);
        }
        Ok(())
    }

    fn discard(&mut self, script: &mut Script<'_>) -> Result<(), Stop> {
        let (first, count) = (u64::from(script.u8()) % BLOCKS, 1 + u64::from(script.u8()) % 30);
        let count = count.min(BLOCKS - first);
        self.session.discard(first * BLOCK, count * BLOCK)?;
        let mut next = self.now();
        next.retain(|block, _| !(first..first + count).contains(block));
        self.states.push(next);
        Ok(())
    }

    fn flushed(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    fn holds(&self) -> Result<Model, Stop> {
        let mut all = vec![0xee; (BLOCKS * BLOCK) as usize];
        self.session.read(0, &mut all)?;
        let mut model = Model::new();
        for (block, bytes) in (0..).zip(all.chunks_exact(BLOCK_BYTES)) {
            if bytes.iter().any(|byte| *byte != 0) {
                let number = bytes.first_chunk().map_or(0, |number| u64::from_le_bytes(*number));
                assert!(bytes == content(number), "block {block} is not what any write put there");
                model.insert(block, number);
            }
        }
        Ok(model)
    }

    /// Goes on with what a crash left: some state since the last flush.
    fn crash(&mut self, crash: &Crash) -> Result<(), Stop> {
        self.disk = self.disk.crash(crash);
        self.epoch += 1;
        (self.store, self.session) = open(&self.disk, self.epoch, &self.keeper)?;
        let found = self.holds()?;
        let known = self.states.iter().rposition(|state| *state == found);
        assert!(known.is_some(), "what a crash left is no state since the last flush");
        self.states = vec![found];
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        self.session.close()?;
        self.flushed();
        self.epoch += 1;
        (self.store, self.session) = open(&self.disk, self.epoch, &self.keeper)?;
        Ok(())
    }

    fn check(&self) -> Result<(), Stop> {
        assert_eq!(self.holds()?, self.now());
        Ok(())
    }
}

fn run(data: &[u8]) -> Result<(), Stop> {
    let mut script = Script(data);
    let mut run = Run::new(if script.u8().is_multiple_of(2) { Compression::Lz4 } else { Compression::None })?;
    for _ in 0..OPERATIONS_MAX {
        if script.0.is_empty() {
            break;
        }
        match script.u8() % 16 {
            0..=5 => run.write(&mut script)?,
            6 | 7 => run.discard(&mut script)?,
            8 | 9 => {
                run.session.flush()?;
                run.flushed();
            }
            10 => {
                run.session.checkpoint()?;
                run.flushed();
            }
            11 => drop(run.store.collect()?),
            12 => run.close()?,
            13 => run.crash(&Crash::LoseAllUnsynced)?,
            14 => run.crash(&Crash::Random(script.u16().into()))?,
            _ => {
                run.session.tick()?;
                run.check()?;
            }
        }
    }
    run.check()?;
    let report = run.session.scrub()?;
    assert!(report.findings.is_empty() && report.replica.findings.is_empty(), "{report:?}");
    run.close()?;
    run.check()
}

/// The target. A volume that is full may say so; nothing else may fail on a disk without faults.
pub fn session_operations(data: &[u8]) {
    match run(data) {
        Ok(()) | Err(Stop::Session(SessionError::NoSpace { .. }) | Stop::Store(ReplicaError::NoSpace { .. })) => {}
        Err(Stop::Store(error)) => panic!("{error}"),
        Err(Stop::Open(OpenError::Replica(ReplicaError::NoSpace { .. }))) => {}
        Err(Stop::Open(error)) => panic!("{error}"),
        Err(Stop::Session(error)) => {
            assert!(error.to_string().contains("no space"), "{error}");
        }
    }
}

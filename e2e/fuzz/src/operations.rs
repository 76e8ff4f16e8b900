//! Any sequence of operations on a store, power cuts included, against a model.

use std::sync::Arc;

use holdfast_disk::{Crash, Faults, SimulatedDisk};
use holdfast_log::seam::{Replica, ReplicaError};
use holdfast_ports::Disk;
use holdfast_store::Store;
use holdfast_vocabulary::Seq;

use crate::sample::CAPACITY;
use crate::scribe::{self, Change, History, Scribe, wrong_blocks};
use crate::store_open::Script;

/// More operations than this only make inputs slow.
const OPERATIONS_MAX: usize = 96;
/// Few blocks, so that most are written more than once.
const BLOCKS: u64 = 48;

/// A store under test with everything that it may hold.
struct Run {
    disk: SimulatedDisk,
    scribe: Scribe,
    epoch: u64,
    history: History,
}

impl Run {
    fn new() -> Result<Self, ReplicaError> {
        let disk = SimulatedDisk::new(1, Faults::none());
        scribe::create(&disk.handle())?;
        let store = Arc::new(Store::open(disk.handle(), scribe::options(CAPACITY))?);
        let scribe = Scribe::open(store, 1, Default::default())?;
        Ok(Self { disk, scribe, epoch: 1, history: History::from([(Seq(0), Default::default())]) })
    }

    fn write(&mut self, script: &mut Script<'_>) -> Result<(), ReplicaError> {
        let count = 1 + script.u8() % 10;
        let changes: Vec<Change> = (0..count)
            .map(|_| {
                let number = script.u16();
                let block = u64::from(number) % BLOCKS;
                if number >= 0xd000 { Change::Unmap(block, 1 + u32::from(number >> 8) % 9) } else { Change::Put(block) }
            })
            .collect();
        self.scribe.write(&changes)?;
        self.history.insert(self.scribe.head, self.scribe.model.clone());
        Ok(())
    }

    /// Opens again what a crash of this kind left. What was committed must be there.
    fn crash(&mut self, crash: &Crash) -> Result<(), ReplicaError> {
        let committed = self.scribe.committed;
        let flushed_all = *crash == Crash::KeepAllUnsynced;
        let head = self.scribe.head;
        self.disk = self.disk.crash(crash);
        let disk: Arc<dyn Disk> = self.disk.handle();
        let store = Arc::new(Store::open(disk, scribe::options(CAPACITY))?);
        let report = store.report();
        assert!((committed..=head).contains(&report.head), "{} is not in {committed}..={head}", report.head);
        assert!(!flushed_all || report.head == head, "nothing was lost, yet the log ends at {}", report.head);
        let state = self.history.get(&report.head);
        let state = state.unwrap_or_else(|| panic!("record {} is the end of no group", report.head)).clone();
        self.history.retain(|seq, _| *seq <= report.head);
        assert_eq!(wrong_blocks(&store, &state, BLOCKS as u32 + 8)?, [0; 0]);
        // Epoch 1's start record may have been lost with everything else; its number is not given out again.
        self.epoch += 1;
        self.scribe = Scribe::open(store, self.epoch, state)?;
        Ok(())
    }

    fn check(&self) -> Result<(), ReplicaError> {
        assert_eq!(wrong_blocks(&self.scribe.store, &self.scribe.model, BLOCKS as u32 + 8)?, [0; 0]);
        Ok(())
    }
}

fn run(data: &[u8]) -> Result<(), ReplicaError> {
    let mut script = Script(data);
    let mut run = Run::new()?;
    for _ in 0..OPERATIONS_MAX {
        if script.0.is_empty() {
            break;
        }
        match script.u8() % 16 {
            0..=6 => run.write(&mut script)?,
            7 | 8 => run.scribe.flush()?,
            9 | 10 => run.scribe.advance()?,
            11 => drop(run.scribe.store.collect()?),
            12 => run.crash(&Crash::KeepAllUnsynced)?,
            13 => run.crash(&Crash::LoseAllUnsynced)?,
            14 => run.crash(&Crash::Random(script.u16().into()))?,
            _ => run.check()?,
        }
    }
    run.check()?;
    let report = run.scribe.store.scrub()?;
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    run.crash(&Crash::KeepAllUnsynced)
}

/// The target. A store that is full may say so; nothing else may fail on a disk without faults.
pub fn operations(data: &[u8]) {
    match run(data) {
        Ok(()) | Err(ReplicaError::NoSpace { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

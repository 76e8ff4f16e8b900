//! A small real store: a checkpoint or two, moved records, unmaps, a second epoch, and a tail above the base. What the
//! structured targets damage, and what the seeds of the others are cut from.

use std::sync::{Arc, LazyLock};

use holdfast_disk::{Faults, Image, SimulatedDisk};
use holdfast_log::seam::{Replica, ReplicaError};
use holdfast_ports::Disk;
use holdfast_store::Store;

use crate::scribe::{self, Change, History, Scribe};

/// Small enough that room is short, so that collection finishes what it begins.
pub const CAPACITY: u64 = 768 << 10;
/// Blocks that a read of everything covers.
pub const BLOCKS: u32 = 600;

/// A store's files at several times, and what the volume held after every group.
pub struct Sample {
    /// From the oldest to the newest; the newest is what is damaged.
    pub images: Vec<Image>,
    /// What the volume held after each group.
    pub history: History,
}

/// The one sample; made once.
pub static SAMPLE: LazyLock<Sample> =
    LazyLock::new(|| make().expect("a store on a disk without faults takes what is written to it"));

fn put(first: u64, count: u64, stride: u64) -> Vec<Change> {
    (0..count).map(|step| Change::Put((first + step * stride) % u64::from(BLOCKS))).collect()
}

fn make() -> Result<Sample, ReplicaError> {
    let simulated = SimulatedDisk::new(1, Faults::none());
    let disk: Arc<dyn Disk> = simulated.handle();
    let mut sample = Sample { images: Vec::new(), history: History::from([(Default::default(), Default::default())]) };
    scribe::create(&disk)?;
    sample.images.push(simulated.image());
    let mut scribe = Scribe::open(open(&disk)?, 1, Default::default())?;
    for round in 0..7 {
        let mut changes = put(round * 5, 8, 7);
        changes.push(Change::Unmap(round * 31, 3));
        step(&mut scribe, &mut sample.history, &changes)?;
        step(&mut scribe, &mut sample.history, &put(500 + round, 2, 1))?;
        if round >= 2 {
            scribe.advance()?;
            scribe.store.collect()?;
        }
        if round == 4 {
            sample.images.push(simulated.image());
        }
    }
    let model = scribe.model.clone();
    drop(scribe);
    let mut scribe = Scribe::open(open(&disk)?, 2, model)?;
    step(&mut scribe, &mut sample.history, &put(3, 4, 11))?;
    scribe.flush()?;
    sample.images.push(simulated.image());
    step(&mut scribe, &mut sample.history, &[Change::Put(9), Change::Unmap(40, 70), Change::Put(599)])?;
    step(&mut scribe, &mut sample.history, &put(100, 3, 1))?;
    scribe.flush()?;
    // One group that nobody was promised.
    step(&mut scribe, &mut sample.history, &put(200, 2, 1))?;
    sample.images.push(simulated.image());
    Ok(sample)
}

fn open(disk: &Arc<dyn Disk>) -> Result<Arc<Store>, ReplicaError> {
    Ok(Arc::new(Store::open(Arc::clone(disk), scribe::options(CAPACITY))?))
}

fn step(scribe: &mut Scribe, history: &mut History, changes: &[Change]) -> Result<(), ReplicaError> {
    scribe.write(changes)?;
    history.insert(scribe.head, scribe.model.clone());
    Ok(())
}

impl Sample {
    /// The newest image.
    pub fn newest(&self) -> &Image {
        self.images.last().expect("a sample has images")
    }
}

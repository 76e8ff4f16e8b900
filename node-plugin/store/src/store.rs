//! The store: its parts, and the order in which they are locked.
//!
//! Locks, in the order in which one may be taken while another is held: `upkeep` (one advance, collection or scrub at a
//! time) → `sync_turn` → `log` (the end of the log) → `base` (what the newest checkpoint says) → `segments`. The index has locks of its
//! own below all of these. No lock is held over a read or a write of data.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use holdfast_log::anchor::SignedRoot;
use holdfast_log::hash::ChainHash;
use holdfast_log::period::PeriodRow;
use holdfast_log::seam::{EpochRow, ReplicaError, SealedHeader};
use holdfast_ports::Disk;
use holdfast_vocabulary::{Grant, PeriodNumber, SegmentNumber, Seq, VolumeId};
use parking_lot::{Mutex, RwLock};

use crate::advance::Advance;
use crate::append::LogEnd;
use crate::collect::Collector;
use crate::failure::disk_error;
use crate::index::{Index, IndexRoot};
use crate::options::StoreOptions;
use crate::segments::SegmentTable;

/// One volume's replica on one disk.
pub struct Store {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: StoreOptions,
    pub(crate) volume: VolumeId,
    /// Every write is a multiple of this.
    pub(crate) sector: u32,
    pub(crate) index: Index,
    pub(crate) segments: RwLock<SegmentTable>,
    pub(crate) log: Mutex<LogEnd>,
    /// Held while the log is being synced.
    pub(crate) sync_turn: Mutex<()>,
    pub(crate) base: Mutex<Base>,
    pub(crate) upkeep: Mutex<Collector>,
    /// The highest mark known: durable on every in-sync replica.
    pub(crate) committed: AtomicU64,
    /// Collection has a victim worth it; as of the last look.
    pub(crate) collect_due: AtomicBool,
    /// Room is short, and only a new base would give victims; as of the last look.
    pub(crate) starved: AtomicBool,
    /// The first failure. Once there is one, nothing is accepted any more.
    pub(crate) fault: OnceLock<String>,
    pub(crate) counters: Counters,
}

/// What the newest checkpoint says, and what will enter the next.
pub(crate) struct Base {
    /// The header file's bytes.
    pub header: Vec<u8>,
    /// The newest grant that was promised.
    pub promised: Option<Grant>,
    /// Number of the newest checkpoint.
    pub checkpoint: u64,
    /// Bytes of the two slots.
    pub slot_bytes: [u64; 2],
    /// The base holds exactly the records up to this one.
    pub through: Seq,
    /// The chain up to it.
    pub chain: ChainHash,
    /// The session's word on it.
    pub root: Option<SignedRoot>,
    /// The index files of the base.
    pub index: IndexRoot,
    /// Those of the checkpoint before, which recovery may still choose.
    pub index_before: IndexRoot,
    /// The log's epochs.
    pub epochs: Vec<EpochRow>,
    /// Known period rows, and how many mapped blocks of the base name each.
    pub periods: BTreeMap<PeriodNumber, (PeriodRow, u64)>,
    /// A new base that is being made.
    pub advance: Option<Advance>,
    /// How many of `epochs` the checkpoint knows; the others began in the tail.
    pub epochs_of_base: usize,
    /// Log segments below this number are covered by the base.
    pub boundary: SegmentNumber,
    /// The tail as recovery read it, for the first `tail` call.
    pub recovered_tail: Option<Vec<SealedHeader>>,
    /// Files that count for nothing. They go once a new epoch's start record says so durably: until then somebody may
    /// still find that they held something, and want to look.
    pub garbage: Vec<String>,
}

/// Device bytes by cause, and other counts.
#[derive(Default)]
pub(crate) struct Counters {
    pub log_bytes: AtomicU64,
    pub table_bytes: AtomicU64,
    pub moved_bytes: AtomicU64,
    pub index_bytes: AtomicU64,
    pub ahead_bytes: AtomicU64,
    pub moved_records: AtomicU64,
    pub freed_segments: AtomicU64,
    pub syncs: AtomicU64,
}

impl Counters {
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

impl Store {
    /// The volume.
    pub fn volume(&self) -> VolumeId {
        self.volume
    }

    /// Refuses when something failed before.
    pub(crate) fn healthy(&self) -> Result<(), ReplicaError> {
        match self.fault.get() {
            None => Ok(()),
            Some(cause) => Err(ReplicaError::Faulted { cause: cause.clone() }),
        }
    }

    /// Notes the first failure of a write or a sync. Nothing is retried: after a failed sync the system may have dropped
    /// what it could not write, and would report success the next time.
    pub(crate) fn faulted(&self, error: ReplicaError) -> ReplicaError {
        let _ = self.fault.set(error.to_string());
        error
    }

    /// Refuses a grant that is behind the promise, or was never promised.
    pub(crate) fn obeys(&self, promised: Option<&Grant>, grant: &Grant) -> Result<(), ReplicaError> {
        self.healthy()?;
        match promised {
            Some(promised) if promised == grant => Ok(()),
            Some(promised) if promised.order() >= grant.order() => Err(ReplicaError::Fenced { promised: *promised }),
            _ => Err(ReplicaError::NotPromised),
        }
    }

    /// Removes what recovery found to count for nothing. Called when the start record of an epoch became durable.
    pub(crate) fn remove_garbage(&self) -> Result<(), ReplicaError> {
        let garbage = std::mem::take(&mut self.base.lock().garbage);
        for name in garbage {
            match self.disk.remove(&name) {
                // A replacement that was begun anew since, and is in its place by now.
                Err(error) if !error.is_not_found() => return Err(disk_error(error)),
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn committed(&self) -> Seq {
        Seq(self.committed.load(Ordering::Acquire))
    }
}

impl Drop for Store {
    /// Gives back room that was taken ahead. A crash skips this, and the next opening does it.
    fn drop(&mut self) {
        let mut log = self.log.lock();
        self.drop_prepared(&mut log);
    }
}

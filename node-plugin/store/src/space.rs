//! Room is credit: a session seals only what the store has taken room for on the disk.

use holdfast_log::bytes::round_up;
use holdfast_log::group::GROUP_ENTRIES_MAX;
use holdfast_log::place::Shape;
use holdfast_log::seam::{Pressure, Purpose, ReplicaError, ReplicaStats, group_room};
use holdfast_vocabulary::Grant;
use std::sync::atomic::Ordering;

use crate::append::LogEnd;
use crate::store::Store;

/// The longest group: what may be left unused at the end of a segment because the next group does not fit.
const GROUP_BYTES_MAX: u64 = group_room(GROUP_ENTRIES_MAX, GROUP_ENTRIES_MAX * Shape::WHOLE.stored_bytes());
/// With less in the overlay, memory is short because of others, and merging would free next to nothing.
const RECORDS_WORTH_A_MERGE: u64 = 4096;
/// What must stay counts up to this share; above it, only what frees is taken.
const FILL_PERMILLE_MAX: u32 = 950;

impl Store {
    /// Bytes that all files take now.
    pub(crate) fn used_bytes(&self, log: &LogEnd) -> u64 {
        let prepared: u64 = log.prepared.iter().map(|segment| u64::from(segment.bytes())).sum();
        let segments = self.segments.read().bytes();
        prepared + segments + self.metadata_bytes()
    }

    /// Bytes of index files, checkpoints, header and promise.
    pub(crate) fn metadata_bytes(&self) -> u64 {
        let base = self.base.lock();
        let slots: u64 = base.slot_bytes.iter().sum();
        let named = |number| base.index.files.iter().any(|file| file.number == number);
        let before: u64 =
            base.index_before.files.iter().filter(|file| !named(file.number)).map(|file| file.bytes).sum();
        slots + base.index.file_bytes() + before + 1024
    }

    /// The most that all files may take after data was added: beside the reserve there is room for every page of the
    /// index once more, because a base is whole before the one before it goes.
    pub(crate) fn data_limit(&self) -> u64 {
        let index = self.base.lock().index.live_bytes;
        self.options.capacity_bytes.saturating_sub(self.options.reserve_bytes() + index)
    }

    /// How full the store is of what must stay, in thousandths of what data may take.
    pub(crate) fn fill_permille(&self) -> u32 {
        let room = self.data_limit().max(1);
        let overlay = self.index.records() * Shape::WHOLE.stored_bytes();
        let live = self.segments.read().live_bytes() + overlay as u64;
        let live = live.min(self.segments.read().bytes());
        u32::try_from((live + self.metadata_bytes()).saturating_mul(1000) / room).unwrap_or(u32::MAX)
    }

    pub(crate) fn reserve_room(&self, grant: &Grant, bytes: u64, purpose: Purpose) -> Result<(), ReplicaError> {
        let mut log = self.log.lock();
        self.obeys(self.base.lock().promised.as_ref(), grant)?;
        if log.epoch != Some(grant.order()) {
            // Until its epoch has begun a session can send its start record alone, which gets a small file of its own: a
            // full store must open too.
            return Ok(());
        }
        let mut changed = false;
        while !self.covers(&log, log.reserved + bytes) {
            if purpose == Purpose::Data && self.too_full() {
                return Err(ReplicaError::NoSpace { wanted: bytes, free: 0 });
            }
            let limit = match purpose {
                Purpose::Data => self.data_limit(),
                // The other half is for what makes room: moved segments, and the pages of a new base.
                Purpose::Upkeep => self.data_limit() + self.options.reserve_bytes() / 2,
            };
            let used = self.used_bytes(&log);
            let free = limit.saturating_sub(used);
            let need = (log.reserved + bytes + GROUP_BYTES_MAX).min(u64::from(self.options.segment_bytes_max));
            if free < need.max(u64::from(log.next_capacity)) {
                return Err(ReplicaError::NoSpace { wanted: bytes, free });
            }
            let segment = match self.prepare_log_segment(&mut log, need) {
                Err(ReplicaError::NoSpace { .. }) => {
                    let free = self.disk.free_bytes().unwrap_or(0);
                    return Err(ReplicaError::NoSpace { wanted: bytes, free });
                }
                other => other?,
            };
            log.prepared.push_back(segment);
            changed = true;
        }
        log.reserved += bytes;
        drop(log);
        if changed {
            self.weigh_collection();
        }
        Ok(())
    }

    /// Whether `bytes` of groups fit into the files whose room is taken, however they are cut into groups.
    fn covers(&self, log: &LogEnd, bytes: u64) -> bool {
        // Two sectors for the foot and for rounding the table up.
        let closing = 2 * u64::from(self.sector);
        let open = log.open.as_ref().map_or(0, |open| {
            let taken = u64::from(open.at) + round_up(open.table_bytes, 16) as u64 + closing;
            u64::from(open.capacity).saturating_sub(taken)
        });
        let prepared: u64 = log
            .prepared
            .iter()
            .map(|segment| {
                let usable = u64::from(segment.bytes()).saturating_sub(u64::from(self.sector) + closing);
                usable.saturating_sub(GROUP_BYTES_MAX.min(usable / 2))
            })
            .sum();
        bytes <= open || bytes <= prepared
    }

    pub(crate) fn pressure_now(&self) -> Pressure {
        let tail_records = self.index.records() as u64;
        let due = tail_records >= self.options.tail_records_due
            || tail_records >= RECORDS_WORTH_A_MERGE && self.options.budget.over();
        Pressure {
            tail_records,
            advance_due: due || self.starved.load(Ordering::Relaxed),
            advance_needed: tail_records >= self.options.tail_records_max,
            collect_due: self.collect_due.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn stats_now(&self) -> ReplicaStats {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let index = self.index.stats();
        let segments = self.segments.read();
        let (live, bytes, number, map_memory) =
            (segments.live_bytes(), segments.bytes(), segments.len() as u64, segments.memory_bytes() as u64);
        drop(segments);
        ReplicaStats {
            live_bytes: live,
            segment_bytes: bytes,
            metadata_bytes: self.metadata_bytes(),
            segments: number,
            capacity_bytes: self.options.capacity_bytes,
            written_log_bytes: count(&self.counters.log_bytes),
            written_table_bytes: count(&self.counters.table_bytes),
            written_moved_bytes: count(&self.counters.moved_bytes),
            written_index_bytes: count(&self.counters.index_bytes),
            written_ahead_bytes: count(&self.counters.ahead_bytes),
            moved_records: count(&self.counters.moved_records),
            freed_segments: count(&self.counters.freed_segments),
            index_memory_bytes: (index.cache_bytes + index.overlay_bytes) as u64 + map_memory,
            cold_reads: index.cold_reads,
            syncs: count(&self.counters.syncs),
            fill_permille: self.fill_permille(),
        }
    }

    /// Whether data may still be taken at all.
    pub(crate) fn too_full(&self) -> bool {
        self.fill_permille() >= FILL_PERMILLE_MAX
    }
}

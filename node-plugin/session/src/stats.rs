//! Figures of a session.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use holdfast_log::seam::ReplicaStats;

/// What is counted outside of the order of writes.
#[derive(Default)]
pub(crate) struct Counters {
    pub read_bytes: AtomicU64,
    pub flushes: AtomicU64,
    pub syncs: AtomicU64,
    pub anchors: AtomicU64,
    pub advances: AtomicU64,
    pub advance_nanoseconds: AtomicU64,
    pub merged_leaves: AtomicU64,
}

/// What a session did since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Bytes that users wrote.
    pub written_bytes: u64,
    /// Bytes that users read.
    pub read_bytes: u64,
    /// Records that were added to the log.
    pub records: u64,
    /// Groups that were begun.
    pub groups: u64,
    /// Flushes that users asked for.
    pub flushes: u64,
    /// Syncs that were made for them, and by upkeep.
    pub syncs: u64,
    /// Anchors that were kept.
    pub anchors: u64,
    /// Bases that were made.
    pub advances: u64,
    /// Time that making them took, by the session's clock.
    pub advance_time: Duration,
    /// Leaves that were checked and hashed for them.
    pub merged_leaves: u64,
    /// Sealed bytes that wait for the replica now.
    pub pending_bytes: u64,
    /// The replica's own figures.
    pub replica: ReplicaStats,
}

impl crate::Session {
    /// The figures now.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let order = self.order.lock();
        let (written_bytes, groups) = (order.written_bytes, order.groups);
        let records = order.last_seq().0 - self.epochs.opened_at.0;
        drop(order);
        SessionStats {
            written_bytes,
            read_bytes: count(&self.counters.read_bytes),
            records,
            groups,
            flushes: count(&self.counters.flushes),
            syncs: count(&self.counters.syncs),
            anchors: count(&self.counters.anchors),
            advances: count(&self.counters.advances),
            advance_time: Duration::from_nanos(count(&self.counters.advance_nanoseconds)),
            merged_leaves: count(&self.counters.merged_leaves),
            pending_bytes: self.pending.bytes(),
            replica: self.replica.stats(),
        }
    }
}

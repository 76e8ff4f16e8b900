//! Upkeep. A session has no thread: somebody calls [`Session::tick`](crate::Session::tick) a few times a second.

use std::sync::atomic::Ordering;
use std::time::Duration;

use holdfast_log::seam::ReplicaError;
use holdfast_vocabulary::Seq;

use crate::error::{EndCause, SessionError};

/// What was written last can be collected when two newer bases cover it; one more for what was written meanwhile.
const BASES_FOR_ROOM: usize = 3;
/// A writer that waits for room pays for so many victims at most before it hears that there is none. At four fifths
/// full, one freed segment takes four or five.
const VICTIMS_FOR_ROOM: usize = 32;

/// What upkeep remembers from one tick to the next.
#[derive(Default)]
pub(crate) struct Upkeep {
    /// Since when something has been completed and not durable.
    unsynced_since: Option<Duration>,
    /// The last seq at the tick before.
    last_seq: Seq,
}

impl crate::Session {
    /// Does what is due by the clock: closes an old open group, syncs what has waited long enough, anchors, makes a new
    /// base, collects. It returns the first failure; what is still due is tried again at the next tick.
    ///
    /// Several threads may call it; one does the work.
    pub fn tick(&self) -> Result<(), SessionError> {
        self.end.check()?;
        let Some(mut upkeep) = self.upkeep.try_lock() else {
            return Ok(());
        };
        if self.open_group_is_old() {
            self.close_open_group();
            self.send_assembled()?;
        }
        self.sync_if_due(&mut upkeep)?;
        if self.anchor_is_due() {
            self.anchor_now()?;
        }
        if self.replica.pressure().advance_due {
            self.advance()?;
        }
        for _ in 0..self.limits.collect_steps {
            if !self.collect_if_due()? {
                break;
            }
        }
        let last = self.order.lock().last_seq();
        if last == upkeep.last_seq && self.pending.groups() == 0 {
            // Nobody writes: room and memory may be somebody else's.
            self.release_credit();
            self.pending.spare.clear();
        }
        upkeep.last_seq = last;
        Ok(())
    }

    /// Collects one segment if one is worth it. Gives whether it did.
    fn collect_if_due(&self) -> Result<bool, SessionError> {
        if !self.replica.pressure().collect_due {
            return Ok(false);
        }
        self.replica.collect().map_err(|error| match error {
            // Nothing was changed: the replica is as good for reads and writes as before.
            ReplicaError::NoSpace { .. } | ReplicaError::Damaged { .. } | ReplicaError::Missing { .. } => {
                SessionError::Replica(error)
            }
            error => self.replica_failed("collect", error),
        })
    }

    /// Has a replica without room collect until a segment is free, with new bases where only those give victims. Gives
    /// whether one is.
    pub(crate) fn make_room(&self) -> Result<bool, SessionError> {
        // Counted before the wait for whoever is at it already: what that one frees is room for us, too.
        let before = self.replica.stats().freed_segments;
        let _upkeep = self.upkeep.lock();
        for _ in 0..BASES_FOR_ROOM {
            for _ in 0..VICTIMS_FOR_ROOM {
                // One victim that cannot be moved must not stand in the way of the others.
                let collected = self.collect_if_due();
                self.end.check()?;
                if self.replica.stats().freed_segments > before {
                    return Ok(true);
                }
                if matches!(collected, Ok(false)) {
                    break;
                }
            }
            if !self.replica.pressure().advance_due {
                break;
            }
            match self.advance() {
                Err(SessionError::Replica(ReplicaError::NoSpace { .. })) => break,
                advanced => advanced?,
            }
        }
        Ok(self.replica.stats().freed_segments > before)
    }

    fn sync_if_due(&self, upkeep: &mut Upkeep) -> Result<(), SessionError> {
        let completed = self.pending.completed_seq();
        if completed.0 <= self.durable_through.load(Ordering::Acquire) {
            upkeep.unsynced_since = None;
            return Ok(());
        }
        let now = self.clock.now();
        let since = *upkeep.unsynced_since.get_or_insert(now);
        let old = now.saturating_sub(since) >= self.limits.unsynced_age;
        if old || self.unsynced_bytes.load(Ordering::Relaxed) >= self.limits.unsynced_bytes {
            self.make_durable(completed)?;
            upkeep.unsynced_since = None;
        }
        Ok(())
    }

    /// Flushes and makes a new base: the next opening replays nothing.
    pub fn checkpoint(&self) -> Result<(), SessionError> {
        self.flush()?;
        self.advance()
    }

    /// Flushes, makes a new base where that is worth it, anchors, and refuses everything that comes after. When it
    /// fails, the session is over all the same; what was flushed before is safe.
    pub fn close(&self) -> Result<(), SessionError> {
        let closed = self.close_in_order();
        self.end_with(EndCause::Closed);
        self.release_credit();
        closed
    }

    fn close_in_order(&self) -> Result<(), SessionError> {
        self.flush()?;
        if self.replica.pressure().tail_records >= self.limits.close_advance_records {
            self.advance()?;
        }
        self.anchor_now().map(|_| ())
    }
}

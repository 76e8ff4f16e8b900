//! Flush: everything that was acknowledged before it is durable when it returns.

use std::sync::atomic::Ordering;

use holdfast_vocabulary::Seq;

use crate::error::{EndCause, SessionError};

impl crate::Session {
    /// Makes every write that returned before this call durable. Costs next to nothing when there was none.
    pub fn flush(&self) -> Result<(), SessionError> {
        self.end.check()?;
        self.counters.flushes.fetch_add(1, Ordering::Relaxed);
        let target = self.close_open_group();
        self.make_durable(target)
    }

    /// Completes, syncs and commits everything up to `target`, whose group must be closed.
    pub(crate) fn make_durable(&self, target: Seq) -> Result<(), SessionError> {
        if self.durable_through.load(Ordering::Acquire) >= target.0 {
            return self.end.check();
        }
        self.complete_through(target)?;
        // Who waits here finds, more often than not, that the sync before its turn covered it too.
        let mut durable = self.durable.lock();
        if durable.seq >= target {
            return self.end.check();
        }
        self.end.check()?;
        let unsynced = self.unsynced_bytes.load(Ordering::Relaxed);
        let completed = self.pending.completed();
        let synced = self.replica.sync(&self.grant).map_err(|error| self.replica_failed("sync", error))?;
        if synced < completed.seq {
            return Err(self.end_with(EndCause::SyncBehind { synced, completed: completed.seq }));
        }
        self.replica
            .commit(&self.grant, completed.seq)
            .map_err(|error| self.replica_failed("note what is committed", error))?;
        self.counters.syncs.fetch_add(1, Ordering::Relaxed);
        *durable = completed;
        self.durable_through.store(completed.seq.0, Ordering::Release);
        self.unsynced_bytes.fetch_sub(unsynced, Ordering::Relaxed);
        Ok(())
    }

    /// Sends what can be sent and waits for the rest, which other threads are sealing or sending.
    pub(crate) fn complete_through(&self, target: Seq) -> Result<(), SessionError> {
        loop {
            self.send_assembled()?;
            self.end.check()?;
            if self.pending.completed().seq >= target {
                return Ok(());
            }
            self.pending.wait_unless(|completed| completed.seq >= target || self.end.is_set());
        }
    }
}

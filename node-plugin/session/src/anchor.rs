//! Anchors: what the registry remembers of the volume, so that an old copy of the disk does not pass for a new one.

use std::time::Duration;

use holdfast_log::anchor::Anchor;
use holdfast_vocabulary::{Seq, VolumeId};

use crate::error::SessionError;
use crate::pending::Mark;

/// Remembers the newest anchor of each volume, somewhere that does not share the fate of the disks.
pub trait AnchorKeeper: Send + Sync {
    /// Keeps an anchor durably before it returns. It never replaces a newer one by an older.
    fn keep(&self, volume: VolumeId, anchor: &Anchor) -> Result<(), String>;
}

/// What was anchored last.
pub(crate) struct Anchored {
    seq: Seq,
    root_through: Option<Seq>,
    at: Duration,
}

impl Anchored {
    pub(crate) fn new(anchor: Option<&Anchor>, now: Duration) -> Self {
        Self {
            seq: anchor.map_or(Seq(0), |anchor| anchor.seq),
            root_through: anchor.map(|anchor| anchor.root.statement.through),
            at: now,
        }
    }
}

impl crate::Session {
    /// Flushes, and has the registry remember the head.
    pub fn anchor_now(&self) -> Result<Anchor, SessionError> {
        self.flush()?;
        self.anchor_durable()
    }

    /// Has the registry remember what is durable.
    pub(crate) fn anchor_durable(&self) -> Result<Anchor, SessionError> {
        let mut anchored = self.anchored.lock();
        self.end.check()?;
        // The root first: one that is newer than the head would be no anchor's to name.
        let root = *self.signed.lock();
        let Mark { seq, chain } = *self.durable.lock();
        let mut anchor =
            Anchor { generation: self.grant.generation, epoch: self.grant.epoch, seq, chain, root, mac: [0; 32] };
        anchor.mac = self.macs.anchor(&anchor);
        self.anchors.keep(self.volume, &anchor).map_err(|detail| SessionError::Anchor { seq, detail })?;
        self.counters.anchors.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        *anchored = Anchored { seq, root_through: Some(root.statement.through), at: self.clock.now() };
        Ok(anchor)
    }

    /// Whether there is news that is old enough.
    pub(crate) fn anchor_is_due(&self) -> bool {
        let anchored = self.anchored.lock();
        let old = self.clock.now().saturating_sub(anchored.at) >= self.limits.anchor_age;
        let root = self.signed.lock().statement.through;
        old && (self.durable.lock().seq > anchored.seq || anchored.root_through != Some(root))
    }
}

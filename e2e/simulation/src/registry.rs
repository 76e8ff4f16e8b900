//! The registry, as far as one volume needs it: it gives epochs, never one twice, and remembers the newest anchor.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use holdfast_log::anchor::Anchor;
use holdfast_session::AnchorKeeper;
use holdfast_vocabulary::{Epoch, Generation, Grant, SessionId, VolumeId};
use parking_lot::Mutex;

/// See the page's head. It does not share the fate of the disk.
#[derive(Default)]
pub struct Registry {
    epoch: AtomicU64,
    anchor: Mutex<Option<Anchor>>,
    away: AtomicBool,
    refused: AtomicU64,
}

impl Registry {
    /// One that goes on where another stands.
    #[must_use]
    pub fn from_parts(epoch: u64, anchor: Option<Anchor>) -> Self {
        Self { epoch: AtomicU64::new(epoch), anchor: Mutex::new(anchor), ..Self::default() }
    }

    /// The newest epoch that was given.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// A new epoch for a new session.
    #[must_use]
    pub fn grant(&self) -> Grant {
        Self::grant_of(self.epoch.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// The grant of an epoch.
    #[must_use]
    pub fn grant_of(epoch: u64) -> Grant {
        let mut session = [0; 16];
        session[..8].copy_from_slice(&epoch.to_le_bytes());
        Grant { generation: Generation(1), epoch: Epoch(epoch), session: SessionId(session) }
    }

    /// The newest anchor.
    #[must_use]
    pub fn anchor(&self) -> Option<Anchor> {
        *self.anchor.lock()
    }

    /// Forgets the anchor, as when somebody decides to live with an old copy.
    pub fn forget_anchor(&self) {
        *self.anchor.lock() = None;
    }

    /// While it is away it keeps no anchors.
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Relaxed);
    }

    /// How many anchors it did not keep.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl AnchorKeeper for Registry {
    fn keep(&self, _: VolumeId, anchor: &Anchor) -> Result<(), String> {
        if self.away.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err("the registry has no leader".to_owned());
        }
        let mut kept = self.anchor.lock();
        let order = |anchor: &Anchor| (anchor.generation, anchor.epoch, anchor.seq);
        if kept.as_ref().is_none_or(|kept| order(kept) <= order(anchor)) {
            *kept = Some(*anchor);
        }
        Ok(())
    }
}

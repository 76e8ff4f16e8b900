//! The writer of one volume: holds the keys, orders writes, seals, and opens what it reads.
//!
//! A session trusts a replica with nothing but its life: what it wrote there comes back authentic and newest, or as an
//! error. Every public method takes `&self` and may be called from many threads at once. There is no thread in here,
//! no time but that of the clock port, and no randomness but the salt: called from one thread, a session does the same
//! thing every time.
//!
//! Reading order: `open` (what is checked before anything is believed), `order` and `pending` (how writes get their
//! places, and what becomes of them until the replica has them), `write`, `send`, `flush`, `changes` and `trust` (which
//! version a block must have), `read`, `advance` (a new base), `anchor`, `tick`.
//!
//! What must never be here: a file, a socket, a retry of something that failed on its way to the replica.

#![forbid(unsafe_code)]

mod advance;
mod anchor;
mod changes;
mod credit;
mod end;
mod error;
mod flush;
mod keys;
mod limits;
mod open;
mod order;
mod pending;
mod read;
mod scrub;
mod send;
mod stats;
mod tail;
mod tick;
mod trust;
mod write;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use arc_swap::ArcSwap;
use holdfast_log::anchor::SignedRoot;
use holdfast_log::header::VolumeHeader;
use holdfast_log::period::Compression;
use holdfast_log::seam::Replica;
use holdfast_ports::Clock;
use holdfast_ports::budget::MemoryBudget;
use holdfast_vocabulary::{Grant, VolumeId};
use parking_lot::{Condvar, Mutex};

pub use anchor::AnchorKeeper;
pub use error::{BlockFault, EndCause, LogProblem, OpenError, Point, SessionError, TreeFault};
pub use limits::Limits;
pub use open::{CreateOptions, OpenOptions};
pub use scrub::{BlockFinding, DeepScrubReport};
pub use stats::SessionStats;

/// An open volume.
///
/// Locks are taken in this order: `upkeep`, `advancing`, `switching`, `header`, `anchored`, `durable`, the sender's,
/// `order`, `pending`'s. The first seven exist so that one caller at a time talks to the replica about something, and are
/// held while it does; the others are short, and are never held during a call to the replica.
pub struct Session {
    replica: Arc<dyn Replica>,
    grant: Grant,
    volume: VolumeId,
    macs: keys::Macs,
    periods: keys::Periods,
    epochs: tail::Epochs,
    compression: Compression,
    header: Mutex<VolumeHeader>,
    /// The size, for every request to look at.
    blocks: AtomicU64,
    order: Mutex<order::Order>,
    order_free: Condvar,
    pending: pending::Pending,
    sender: send::Sender,
    credit: credit::Credit,
    /// Read by every request of every thread, so reading it must not cost them a shared lock. Changed with `advancing` held.
    view: ArcSwap<trust::View>,
    trust: Arc<trust::TrustCache>,
    /// The newest root that this session signed or checked.
    signed: Mutex<SignedRoot>,
    /// The newest mark that is committed. Its lock is held while the replica syncs.
    durable: Mutex<pending::Mark>,
    durable_through: AtomicU64,
    unsynced_bytes: AtomicU64,
    advancing: Mutex<()>,
    /// Held while the replica and then the view change over to a new base.
    switching: Mutex<()>,
    /// The replica takes no more records without a new base.
    advance_needed: AtomicBool,
    anchored: Mutex<anchor::Anchored>,
    upkeep: Mutex<tick::Upkeep>,
    end: end::End,
    counters: stats::Counters,
    limits: Limits,
    anchors: Arc<dyn AnchorKeeper>,
    clock: Arc<dyn Clock>,
    budget: Arc<MemoryBudget>,
}

impl Session {
    /// The volume.
    #[must_use]
    pub const fn volume(&self) -> VolumeId {
        self.volume
    }

    /// Its size in bytes; grows only.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.blocks.load(std::sync::atomic::Ordering::Acquire) * holdfast_vocabulary::BLOCK_BYTES as u64
    }

    /// The grant that it was opened with.
    #[must_use]
    pub const fn grant(&self) -> &Grant {
        &self.grant
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Session(volume {}, {:?})", self.volume, self.grant)
    }
}

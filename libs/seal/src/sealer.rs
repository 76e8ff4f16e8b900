//! The right to seal: a seq is taken once, used once and gone.
//!
//! Two blocks under one nonce would give away their difference and, worse, the key of the authenticator. So the rule
//! "no seq twice under one subkey" is kept by types, not by care:
//!
//! - A [`PeriodSealer`] starts from a [`FreshSalt`] and cannot be made from a stored row. It only counts upwards.
//! - A [`SeqRange`] is a run of seqs that nobody else has. It can be split for several threads, not copied.
//! - A [`SealSlot`] is one seq of it together with the key it is for; sealing consumes it.
//!
//! A slot cannot be used again:
//!
//! ```compile_fail,E0382
//! # use holdfast_seal::SealSlot;
//! # use holdfast_vocabulary::BlockIndex;
//! fn twice(slot: SealSlot<'_>, one: &[u8], other: &[u8], out: &mut [u8]) {
//!     let _ = slot.seal(BlockIndex(1), 0, one, out);
//!     let _ = slot.seal(BlockIndex(1), 0, other, out);
//! }
//! ```
//!
//! nor a range copied:
//!
//! ```compile_fail,E0599
//! # use holdfast_seal::SeqRange;
//! fn copied(range: SeqRange) -> (SeqRange, SeqRange) {
//!     (range.clone(), range)
//! }
//! ```
//!
//! What no type can see: a salt that was not fresh, and a machine whose memory was duplicated while it ran.

use std::fmt;
use std::sync::Arc;

use holdfast_vocabulary::{BlockIndex, Epoch, Seq, VolumeId};

use crate::record::{AAD_VERSION, RecordAad, Tag};
use crate::{PeriodContext, PeriodKey, VolumeKey};

/// Blocks that one period may seal. A reserved block counts, sealed or not.
pub const PERIOD_BLOCKS_MAX: u64 = 1 << 32;

/// 32 bytes that were drawn at random for one period, or for one cold sealing, and are given away with it: no copy, no
/// clone.
pub struct FreshSalt(pub(crate) [u8; 32]);

impl FreshSalt {
    /// The caller's word that these bytes were drawn just now, for this, and are used for nothing else.
    #[must_use]
    pub const fn drawn(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// The only source of [`SeqRange`]s of one period. The session keeps it where it orders its writes.
pub struct PeriodSealer {
    key: Arc<PeriodKey>,
    context: PeriodContext,
    next: Seq,
    blocks_left: u64,
}

impl VolumeKey {
    /// Begins a period whose first record will be `first`. Its row ([`PeriodSealer::context`] and the key's check
    /// value) must be in the log before any block of it is.
    #[must_use]
    pub fn begin_period(&self, origin: VolumeId, epoch: Epoch, salt: FreshSalt, first: Seq) -> PeriodSealer {
        let context = PeriodContext { origin, aad_version: AAD_VERSION, epoch, key_id: self.id(), salt: salt.0 };
        PeriodSealer { key: Arc::new(self.period(&context)), context, next: first, blocks_left: PERIOD_BLOCKS_MAX }
    }
}

impl PeriodSealer {
    /// What the period's row must say.
    #[must_use]
    pub const fn context(&self) -> &PeriodContext {
        &self.context
    }

    /// The key that opens what this period seals.
    #[must_use]
    pub const fn key(&self) -> &Arc<PeriodKey> {
        &self.key
    }

    /// The seq that the next reservation starts with.
    #[must_use]
    pub const fn next_seq(&self) -> Seq {
        self.next
    }

    /// Takes the next `count` seqs. `None`: this period has no room for so many; begin another.
    ///
    /// Seqs that are taken are gone, whatever becomes of the range. If their sealed bytes can be neither appended nor
    /// sent, the session ends; there is no giving back.
    #[must_use]
    pub fn reserve(&mut self, count: u64) -> Option<SeqRange> {
        let blocks_left = self.blocks_left.checked_sub(count)?;
        let end = Seq(self.next.0.checked_add(count)?);
        let range = SeqRange {
            key: Arc::clone(&self.key),
            origin: self.context.origin,
            epoch: self.context.epoch,
            next: self.next,
            end,
        };
        self.next = end;
        self.blocks_left = blocks_left;
        Some(range)
    }

    /// Passes over `count` seqs that records without a sealed block take. They do not count against the period.
    pub const fn skip(&mut self, count: u64) {
        self.next = Seq(self.next.0.saturating_add(count));
    }
}

/// A run of seqs that nobody else has. One reservation may be sealed by several threads: split it, give each a part.
#[must_use = "the seqs of a dropped range are lost, and the log has no holes"]
pub struct SeqRange {
    key: Arc<PeriodKey>,
    origin: VolumeId,
    epoch: Epoch,
    next: Seq,
    end: Seq,
}

impl SeqRange {
    /// The seq that the next slot has.
    #[must_use]
    pub const fn first(&self) -> Seq {
        self.next
    }

    /// How many slots are left.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.end.0 - self.next.0
    }

    /// Every slot was taken.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the first slot; `None` when every slot was taken.
    pub fn next_slot(&mut self) -> Option<SealSlot<'_>> {
        if self.is_empty() {
            return None;
        }
        let seq = self.next;
        self.next = seq.next();
        Some(SealSlot { key: &self.key, origin: self.origin, epoch: self.epoch, seq })
    }

    /// Takes the first `count` slots as a range of their own; `None`, and nothing taken, when there are fewer.
    #[must_use]
    pub fn split_front(&mut self, count: u64) -> Option<Self> {
        if count > self.len() {
            return None;
        }
        let end = Seq(self.next.0 + count);
        let front = Self { key: Arc::clone(&self.key), origin: self.origin, epoch: self.epoch, next: self.next, end };
        self.next = end;
        Some(front)
    }
}

/// The right to seal one block.
#[must_use = "the seq of a dropped slot is lost, and the log has no holes"]
pub struct SealSlot<'key> {
    key: &'key PeriodKey,
    origin: VolumeId,
    epoch: Epoch,
    seq: Seq,
}

impl SealSlot<'_> {
    /// The seq that the block gets.
    #[must_use]
    pub const fn seq(&self) -> Seq {
        self.seq
    }

    /// Seals `plain` as the content of `block` into `out`, which must be as long. The plaintext is borrowed for the
    /// whole call: nobody can write to it meanwhile, so it is never read with two contents under one nonce.
    ///
    /// Volume, epoch and seq are the slot's, the length is that of the bytes: the caller cannot bind a block wrongly.
    ///
    /// # Panics
    /// When the lengths differ, or are more than the 65 535 that the additional data can say. No block is that long.
    #[must_use = "without its tag the block can never be opened"]
    pub fn seal(self, block: BlockIndex, flags: u8, plain: &[u8], out: &mut [u8]) -> Tag {
        let length = u16::try_from(plain.len()).expect("a block is at most 65 535 bytes");
        let aad = RecordAad { origin: self.origin, block, length, flags, epoch: self.epoch, seq: self.seq };
        self.key.seal(&aad, plain, out)
    }
}

impl fmt::Debug for FreshSalt {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("FreshSalt(..)")
    }
}

impl fmt::Debug for PeriodSealer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PeriodSealer(next {}, {} blocks left)", self.next, self.blocks_left)
    }
}

impl fmt::Debug for SeqRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SeqRange({}..{})", self.next, self.end)
    }
}

impl fmt::Debug for SealSlot<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SealSlot({})", self.seq)
    }
}

//! Everything secret: all cipher calls, and no I/O.
//!
//! The whole schedule of one volume, top to bottom:
//!
//! ```text
//! VolumeKey (32 bytes) ── id ──────────────> KeyId          names the key, says nothing about it
//!    │                 ── mac_key(purpose) ─> MacKey         authenticates headers, statements, anchors
//!    └─ period(context) ──────────────────> PeriodKey        opens the blocks of one period
//!    └─ begin_period(fresh salt) ─────────> PeriodSealer     hands out the right to seal, once a seq
//!                                             └─ SeqRange ── SealSlot ── seal, and the slot is gone
//! ```
//!
//! Reading and writing are two doors on purpose. A [`PeriodKey`] that was derived from what a disk said can only
//! open. Sealing starts from a salt that was drawn for it, so that no path leads from stored bytes to a second use of
//! a nonce.
//!
//! What must never be here: a file, a socket, a clock, a source of randomness, a log line; a secret in a `Debug`, a
//! `Display` or an error.

#![forbid(unsafe_code)]

mod cipher;
mod derive;
mod mac;
mod not_authentic;
mod period;
mod record;
mod sealer;
mod self_test;
mod volume_key;

pub use cipher::cipher_name;
pub use mac::{MAC_BYTES, MacKey, MacPurpose};
pub use not_authentic::NotAuthentic;
pub use period::{PeriodContext, PeriodKey};
pub use record::{AAD_BYTES, AAD_VERSION, RecordAad, TAG_BYTES, Tag};
pub use sealer::{FreshSalt, PERIOD_BLOCKS_MAX, PeriodSealer, SealSlot, SeqRange};
pub use self_test::{SelfTestFailed, self_test};
pub use volume_key::VolumeKey;

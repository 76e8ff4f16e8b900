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
//! What the volume key itself is kept under, and everything else that is sealed while it lies still:
//!
//! ```text
//! Passphrase ── Argon2Parameters ──> SlotKey ┐
//! MachineKey ── slot_key ──────────> SlotKey ┴─ wraps ─> RootKey ── wraps ─> StorageKey ┬─ wraps ──> VolumeKey
//!    └─ device_key ─> DeviceKey, for what must be readable before any of that           └─ page_key ─> PageKey
//! ```
//!
//! Wraps, the device key's records and pages have one nonce rule, and it cannot be broken by counting wrongly: each
//! sealing draws a salt of 32 bytes, derives from it a key that is used once, and uses the nonce zero.
//!
//! Reading and writing are two doors on purpose. A [`PeriodKey`] that was derived from what a disk said can only
//! open. Sealing starts from a salt that was drawn for it, so that no path leads from stored bytes to a second use of
//! a nonce.
//!
//! What must never be here: a file, a socket, a clock, a source of randomness, a log line; a secret in a `Debug`, a
//! `Display` or an error.

#![forbid(unsafe_code)]

mod chain;
mod cipher;
mod cold;
mod derive;
mod mac;
mod machine;
mod not_authentic;
mod page;
mod passphrase;
mod period;
mod record;
mod sealer;
mod secret;
mod self_test;
mod volume_key;

pub use chain::{RootKey, SlotKey, StorageKey};
pub use cipher::cipher_name;
pub use cold::{COLD_OVERHEAD_BYTES, ColdError};
pub use mac::{MAC_BYTES, MacKey, MacPurpose};
pub use machine::{DeviceKey, MachineKey};
pub use not_authentic::NotAuthentic;
pub use page::{PageKey, PageSeal};
pub use passphrase::{Argon2Parameters, Passphrase, PassphraseError};
pub use period::{PeriodContext, PeriodKey};
pub use record::{AAD_BYTES, AAD_VERSION, RecordAad, TAG_BYTES, Tag};
pub use sealer::{FreshSalt, PERIOD_BLOCKS_MAX, PeriodSealer, SealSlot, SeqRange};
pub use self_test::{SelfTestFailed, self_test};
pub use volume_key::VolumeKey;

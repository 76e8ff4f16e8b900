//! The crypt manager: which provider protects the root key, whether the store is unlocked, and what is readable before.
//!
//! ```text
//! provider (software | passphrase; later TPM, KMS) ─> root key ─> storage key ─> control store, volume keys
//! device key (machine key, later TPM) ─> bootstrap area: TLS material, remote access; readable while locked
//! ```
//!
//! Three small files, all described in `docs/keys.md`: `keyring` (the slots and the wrapped storage key), `machine.key`
//! (this machine's secret) and `bootstrap`. Each is written whole beside its predecessor, synced and renamed over it.
//!
//! Reading order: `provider` (the port that a TPM or a key service implements later), `software`, `passphrase`,
//! `keyring` (the format), `manager` (initialise, unlock, lock), `slots` (add, verify, drop), `bootstrap`.
//!
//! What must never be here: a cipher (they are in `libs/seal`), a file but through the disk port, a network, a clock; a
//! secret in a `Debug`, a `Display` or an error.

#![forbid(unsafe_code)]

mod bootstrap;
mod error;
mod file;
mod keyring;
mod lock_state;
mod manager;
mod passphrase;
mod provider;
mod slots;
mod software;
mod storage;

pub use bootstrap::{BOOTSTRAP_FILE, Bootstrap, BootstrapError};
pub use error::{InitialiseError, KeyFileError, Refusal, SlotError, UnlockError};
pub use keyring::{INSTALLATION_BYTES, Installation, KEYRING_FILE, SlotId};
pub use lock_state::{LockObserver, LockState, LockStateChanged, Locked};
pub use manager::{CryptManager, CryptOptions, UnlockedBy};
pub use passphrase::PassphraseProvider;
pub use provider::{KeyProvider, ProviderError, SlotContext};
pub use slots::SlotInfo;
pub use software::{MACHINE_KEY_FILE, SoftwareProvider};
pub use storage::Storage;

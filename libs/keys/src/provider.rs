//! The port of a key provider: whatever can keep 32 bytes for us and give them back only here, or only to this person.
//!
//! A provider never sees the root key's bytes. It makes a [`SlotKey`] of something of its own (a machine key, a
//! passphrase, 32 bytes that a TPM seals or a key service encrypts), and the root key is wrapped under that. So a TPM
//! provider stores its sealed object and the wrap, a key service its encrypted 32 bytes and the wrap.

use holdfast_ports::Random;
use holdfast_seal::{ColdError, FreshSalt, PassphraseError, RootKey, SlotKey};

use crate::keyring::{Installation, SlotId};

/// Which slot of whose keyring: bound into what the provider makes, so that no slot opens in another's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotContext {
    /// The installation.
    pub installation: Installation,
    /// The slot's number, never used again.
    pub slot: SlotId,
}

impl SlotContext {
    /// What the root key's wrap is bound to: the slot, the provider, and what else the provider keeps in the clear.
    #[must_use]
    pub fn owner(&self, provider: &str, in_the_clear: &[u8]) -> Vec<u8> {
        let name = u32::try_from(provider.len()).unwrap_or(u32::MAX).to_le_bytes();
        [&self.installation.0[..], &self.slot.0.to_le_bytes(), &name, provider.as_bytes(), in_the_clear].concat()
    }
}

/// Protects the root key in a way of its own.
pub trait KeyProvider: Send + Sync {
    /// What the slot will say; at most 32 bytes, the same for ever.
    fn name(&self) -> &str;

    /// Which provider is tried first: the lowest number.
    fn priority(&self) -> u16;

    /// The bytes of a slot that [`KeyProvider::recover`] opens. At most 8192 bytes.
    fn protect(&self, root: &RootKey, context: &SlotContext, random: &dyn Random) -> Result<Vec<u8>, ProviderError>;

    /// The root key of a slot. `slot` comes from a disk: every byte and every length of it must be checked.
    fn recover(&self, slot: &[u8], context: &SlotContext) -> Result<RootKey, ProviderError>;
}

/// Why a provider did not protect or recover.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The passphrase is not the one of this slot.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// The machine's key is not the one of this slot.
    #[error("the slot was made by another machine key; use the machine it was made on, or another slot")]
    OtherMachine,
    /// The slot's bytes are not what this provider makes.
    #[error("the slot is damaged or was made by a newer release; use another slot and drop this one")]
    Damaged,
    /// The parameters or the passphrase itself do not go.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// Whatever the provider asks is not there: no TPM, no network to the key service.
    #[error("not available: {0}")]
    Unavailable(String),
}

/// 32 bytes that were drawn now.
pub(crate) fn fresh_salt(random: &dyn Random) -> FreshSalt {
    let mut salt = [0; 32];
    random.fill(&mut salt);
    FreshSalt::drawn(salt)
}

/// Opens the wrap in a slot; `other` is what it means that the key does not fit.
pub(crate) fn unwrap(
    key: &SlotKey,
    owner: &[u8],
    sealed: &[u8],
    other: ProviderError,
) -> Result<RootKey, ProviderError> {
    RootKey::unwrap(key, owner, sealed).map_err(|error| match error {
        ColdError::OtherKey => other,
        ColdError::Malformed | ColdError::NotAuthentic => ProviderError::Damaged,
    })
}

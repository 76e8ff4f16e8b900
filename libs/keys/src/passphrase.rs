//! The provider that asks a person.
//!
//! ```text
//!  0..4   Argon2id's memory in KiB, little-endian
//!  4..8   its passes
//!  8..12  its lanes
//! 12..44  salt
//! 44..    the root key's wrap, bound to the slot and to 0..44
//! ```

use holdfast_ports::Random;
use holdfast_seal::{Argon2Parameters, Passphrase, RootKey};

use crate::provider::{KeyProvider, ProviderError, SlotContext, fresh_salt, unwrap};

const CLEAR_BYTES: usize = 44;

/// One passphrase, for as long as it takes to unlock or to make a slot.
#[derive(Debug)]
pub struct PassphraseProvider {
    passphrase: Passphrase,
    parameters: Argon2Parameters,
    priority: u16,
}

impl PassphraseProvider {
    /// The name in the slots.
    pub const NAME: &'static str = "passphrase";
    /// After everything that opens by itself.
    pub const PRIORITY: u16 = 100;

    /// A passphrase that was given just now. `parameters` are for new slots; a slot that exists has its own.
    #[must_use]
    pub const fn new(passphrase: Passphrase, parameters: Argon2Parameters) -> Self {
        Self { passphrase, parameters, priority: Self::PRIORITY }
    }

    /// The same with another priority.
    #[must_use]
    pub const fn with_priority(mut self, priority: u16) -> Self {
        self.priority = priority;
        self
    }
}

impl KeyProvider for PassphraseProvider {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn priority(&self) -> u16 {
        self.priority
    }

    fn protect(&self, root: &RootKey, context: &SlotContext, random: &dyn Random) -> Result<Vec<u8>, ProviderError> {
        let mut salt = [0; 32];
        random.fill(&mut salt);
        let key = self.passphrase.slot_key(&salt, self.parameters)?;
        let Argon2Parameters { memory_kib, passes, lanes } = self.parameters;
        let numbers = [memory_kib.to_le_bytes(), passes.to_le_bytes(), lanes.to_le_bytes()].concat();
        let clear = [&numbers[..], &salt].concat();
        let wrapped = root.wrap(&key, &context.owner(Self::NAME, &clear), fresh_salt(random));
        Ok([clear, wrapped].concat())
    }

    fn recover(&self, slot: &[u8], context: &SlotContext) -> Result<RootKey, ProviderError> {
        let (clear, wrapped) = slot.split_first_chunk::<CLEAR_BYTES>().ok_or(ProviderError::Damaged)?;
        let number = |at: usize| u32::from_le_bytes([clear[at], clear[at + 1], clear[at + 2], clear[at + 3]]);
        let parameters = Argon2Parameters { memory_kib: number(0), passes: number(4), lanes: number(8) };
        let mut salt = [0; 32];
        salt.copy_from_slice(&clear[12..]);
        let key = self.passphrase.slot_key(&salt, parameters)?;
        unwrap(&key, &context.owner(Self::NAME, clear), wrapped, ProviderError::WrongPassphrase)
    }
}

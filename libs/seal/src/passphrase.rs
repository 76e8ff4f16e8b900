//! A passphrase becomes a key: Argon2id, with parameters that are checked on both sides before a byte is allocated.
//!
//! Parameters come from a file. Weaker ones than OWASP's floor would make a stolen slot cheap to try, so whoever can
//! write the file could weaken it; larger ones than the ceiling would let it take the machine's memory.

use std::fmt;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::{Zeroize, Zeroizing};

use crate::chain::SlotKey;
use crate::secret::Secret;

/// What a person typed, wiped when dropped. The bytes are used as they are: no trimming, no normalisation.
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// Takes the bytes.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Nothing was typed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What one guess costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argon2Parameters {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes; they are computed one after the other here.
    pub lanes: u32,
}

/// Why there is no key. None of it depends on whether the passphrase is right: that shows only in what the key opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// Weaker than the floor.
    #[error(
        "Argon2id with {} KiB, {} passes and {} lanes is weaker than OWASP's floor (19456 KiB with 2 passes, or as \
         much work in another split); use at least that", .0.memory_kib, .0.passes, .0.lanes
    )]
    TooWeak(Argon2Parameters),
    /// More than the ceiling.
    #[error(
        "Argon2id with {} KiB, {} passes and {} lanes is more than this release computes ({} KiB, {} passes, {} \
         lanes); the file that asks for it was changed, or belongs to a newer release",
        .0.memory_kib, .0.passes, .0.lanes,
        Argon2Parameters::CEILING.memory_kib, Argon2Parameters::CEILING.passes, Argon2Parameters::CEILING.lanes
    )]
    TooMuch(Argon2Parameters),
    /// The memory is not there.
    #[error("Argon2id needs {0} KiB of memory, and the machine does not give them; free memory and try again")]
    Memory(u32),
    /// Nothing was typed.
    #[error("the passphrase is empty; give one")]
    Empty,
}

impl Argon2Parameters {
    /// For new slots: 256 MiB, three passes.
    pub const DEFAULT: Self = Self { memory_kib: 256 * 1024, passes: 3, lanes: 1 };
    /// The most that is computed, whatever a file asks for.
    pub const CEILING: Self = Self { memory_kib: 2 * 1024 * 1024, passes: 16, lanes: 8 };
    /// OWASP's minima, which all cost about the same: memory in KiB for 1, 2, 3, 4, and 5 or more passes.
    const FLOOR_KIB: [u32; 5] = [47_104, 19_456, 12_288, 9_216, 7_168];

    /// Neither weaker than the floor nor more than the ceiling.
    pub fn check(&self) -> Result<(), PassphraseError> {
        let most = Self::CEILING;
        if self.memory_kib > most.memory_kib || self.passes > most.passes || self.lanes > most.lanes {
            return Err(PassphraseError::TooMuch(*self));
        }
        let place = (self.passes as usize).min(Self::FLOOR_KIB.len()).checked_sub(1);
        match place.and_then(|place| Self::FLOOR_KIB.get(place)) {
            Some(floor) if self.memory_kib >= *floor && self.lanes >= 1 => Ok(()),
            _ => Err(PassphraseError::TooWeak(*self)),
        }
    }
}

impl Passphrase {
    /// The key that this passphrase has under this salt. Takes as long for a wrong passphrase as for the right one.
    pub fn slot_key(&self, salt: &[u8; 32], parameters: Argon2Parameters) -> Result<SlotKey, PassphraseError> {
        if self.is_empty() {
            return Err(PassphraseError::Empty);
        }
        parameters.check()?;
        let too_much = |_| PassphraseError::TooMuch(parameters);
        let params = Params::new(parameters.memory_kib, parameters.passes, parameters.lanes, Some(32));
        let params = params.map_err(too_much)?;
        let mut memory = Vec::new();
        let blocks = params.block_count();
        memory.try_reserve_exact(blocks).map_err(|_| PassphraseError::Memory(parameters.memory_kib))?;
        memory.resize(blocks, Block::new());
        let mut memory = Wiped(memory);
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(&self.0, salt, key.as_mut(), &mut memory.0)
            .map_err(too_much)?;
        Ok(SlotKey::from_secret(Secret::from_bytes(*key)))
    }
}

/// Argon2's memory: what was in it would spare a guesser most of the work.
struct Wiped(Vec<Block>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(Zeroize::zeroize);
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Passphrase(..)")
    }
}

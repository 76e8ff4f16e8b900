//! What can go wrong, an enum for each purpose. A message names what, where, and what to do; none holds a secret.

use holdfast_ports::DiskError;

use crate::keyring::SlotId;
use crate::provider::ProviderError;

/// A key file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// The disk failed.
    #[error("{0}; the key files are what they were before or what they were to become, so read them again")]
    Disk(#[from] DiskError),
    /// The file is not there.
    #[error("{file} is missing; {remedy}")]
    Missing {
        /// Its name.
        file: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// The file is there already.
    #[error("{file} exists already and is not replaced; use it, or take it away deliberately")]
    Exists {
        /// Its name.
        file: &'static str,
    },
    /// The file is not what was written.
    #[error("{file} is damaged: {problem}; {remedy}")]
    Damaged {
        /// Its name.
        file: &'static str,
        /// What is wrong with it.
        problem: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// Another release wrote the file.
    #[error("{file} has version {found}, and this release reads version {known}; use the release that wrote it")]
    Version {
        /// Its name.
        file: &'static str,
        /// What it says.
        found: u16,
        /// What is known here.
        known: u16,
    },
    /// More than such a file holds.
    #[error("{file} would be longer than the {most} bytes that such a file may have; remove something first")]
    TooLong {
        /// Its name.
        file: &'static str,
        /// The most that its body may be.
        most: usize,
    },
    /// The file belongs to another installation.
    #[error(
        "{file} belongs to installation {found}, and this is installation {expected}; check whose directory this is"
    )]
    Foreign {
        /// Its name.
        file: &'static str,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
}

/// A slot that did not give the root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The slot.
    pub slot: SlotId,
    /// The provider's name.
    pub provider: String,
    /// Its reason.
    pub error: ProviderError,
}

/// Why nothing was initialised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitialiseError {
    /// There is a keyring.
    #[error("there is a keyring already; unlock it")]
    Exists,
    /// Something is sealed under a root key that is gone. A new one would hide that, and could open nothing.
    #[error(
        "the root key is missing, and these show that there was one: {}; no new key is made: restore the keyring from \
         its backup or the recovery kit, or remove what is left deliberately", evidence.join(", ")
    )]
    KeyMissing {
        /// What exists, in the caller's words.
        evidence: Vec<String>,
    },
    /// Nobody would be able to open it.
    #[error("no provider was named to protect the root key; name at least one (software, passphrase)")]
    NoProvider,
    /// A provider failed.
    #[error("provider {provider} cannot protect the root key: {error}")]
    Provider {
        /// Its name.
        provider: String,
        /// Its reason.
        error: ProviderError,
    },
    /// The keyring was not written.
    #[error(transparent)]
    File(#[from] KeyFileError),
}

/// Why the store stays locked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnlockError {
    /// There is no keyring.
    #[error("there is no keyring yet; initialise it first")]
    Uninitialised,
    /// A passphrase was given, and no slot has it.
    #[error("wrong passphrase: it opens none of the {slots} passphrase slots; give the right one, or another provider")]
    WrongPassphrase {
        /// How many slots were tried, all of them.
        slots: usize,
    },
    /// No slot has a provider that is here.
    #[error(
        "no provider that is here has a slot in the keyring, which has slots of: {}; give one of them (for passphrase: \
         `holdfast unlock`)", slots.join(", ")
    )]
    NoProvider {
        /// The providers of the slots.
        slots: Vec<String>,
    },
    /// Every slot that was tried refused.
    #[error("no slot gave the root key: {}", list(.0))]
    Refused(Vec<Refusal>),
    /// A slot gave a root key, and the keyring's MAC is not made with it.
    #[error("the keyring was changed by somebody who has no root key; restore it from its backup")]
    KeyringForged,
    /// The keyring cannot be read.
    #[error(transparent)]
    File(#[from] KeyFileError),
}

fn list(refusals: &[Refusal]) -> String {
    let each = refusals.iter().map(|one| format!("slot {} ({}): {}", one.slot.0, one.provider, one.error));
    each.collect::<Vec<_>>().join("; ")
}

/// Why the slots are what they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// The root key is not here.
    #[error(transparent)]
    Locked(#[from] crate::Locked),
    /// There is no such slot.
    #[error("there is no slot {}; list the slots", .0.0)]
    Unknown(SlotId),
    /// It is another provider's.
    #[error("slot {} belongs to provider {owner}, not to {given}", slot.0)]
    OtherProvider {
        /// The slot.
        slot: SlotId,
        /// Whose it is.
        owner: String,
        /// Who was given.
        given: String,
    },
    /// Without it nothing that is known to work would be left.
    #[error("slot {} is the last one that was seen to work; add another, verify it, and drop this one then", .0.0)]
    LastVerified(SlotId),
    /// There is no room.
    #[error("the keyring has as many slots as it can have ({0}); drop one first")]
    Full(usize),
    /// The provider failed.
    #[error("provider {provider} failed on slot {}: {error}", slot.0)]
    Provider {
        /// The slot.
        slot: SlotId,
        /// The provider's name.
        provider: String,
        /// Its reason.
        error: ProviderError,
    },
    /// The slot gives another root key.
    #[error("slot {} gives another root key; drop it", .0.0)]
    OtherRoot(SlotId),
    /// The keyring on disk is not the one that was unlocked.
    #[error("the keyring was changed by somebody who has no root key; restore it from its backup")]
    KeyringForged,
    /// The keyring cannot be read or written.
    #[error(transparent)]
    File(#[from] KeyFileError),
}

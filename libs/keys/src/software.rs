//! The provider that asks nobody: a secret in a file that only this machine has, readable by its owner alone.
//!
//! Whoever can read the file can unlock. It protects against a stolen volume or backup, not against a stolen machine.
//!
//! The body of `machine.key`: 32 bytes of key, then its 32 bytes of check value.

use std::fmt;
use std::sync::Arc;

use holdfast_ports::{Disk, Random};
use holdfast_seal::{DeviceKey, MachineKey, RootKey};
use zeroize::Zeroizing;

use crate::bootstrap;
use crate::error::KeyFileError;
use crate::file::FileKind;
use crate::provider::{KeyProvider, ProviderError, SlotContext, fresh_salt, unwrap};

/// The file's name.
pub const MACHINE_KEY_FILE: &str = "machine.key";

const KIND: FileKind = FileKind {
    name: MACHINE_KEY_FILE,
    magic: *b"HFMACHIN",
    version: 1,
    body_max: 64,
    remedy: "restore it from a backup of this machine, or unlock with another provider and add a software slot anew",
};

/// The machine's key, from its file.
#[derive(Clone)]
pub struct SoftwareProvider {
    key: Arc<MachineKey>,
    priority: u16,
}

impl SoftwareProvider {
    /// The name in the slots.
    pub const NAME: &'static str = "software";
    /// Before whatever asks a person, after a TPM.
    pub const PRIORITY: u16 = 50;

    /// Draws a machine key and writes its file. Refused where there is one, and where a bootstrap area needs the old
    /// one.
    pub fn create(disk: &dyn Disk, random: &dyn Random) -> Result<Self, KeyFileError> {
        if KIND.is_there(disk)? {
            return Err(KeyFileError::Exists { file: MACHINE_KEY_FILE });
        }
        if bootstrap::is_there(disk)? {
            return Err(KeyFileError::Missing { file: MACHINE_KEY_FILE, remedy: KIND.remedy });
        }
        let mut body = Zeroizing::new([0; 64]);
        random.fill(&mut body[..32]);
        let key = key_of(&body);
        body[32..].copy_from_slice(&key.check_value());
        KIND.write(disk, body.as_ref())?;
        Self::open(disk)
    }

    /// Reads the machine key of this directory.
    pub fn open(disk: &dyn Disk) -> Result<Self, KeyFileError> {
        let read = KIND.read(disk)?;
        let wrong = || KIND.body_damaged("it does not hold a key and the value that confirms it");
        let mut body = Zeroizing::new([0; 64]);
        if read.bytes().len() != body.len() {
            return Err(wrong());
        }
        body.copy_from_slice(read.bytes());
        let key = key_of(&body);
        let mut check = [0; 32];
        check.copy_from_slice(&body[32..]);
        key.verify_check_value(&check).map_err(|_| wrong())?;
        Ok(Self { key: Arc::new(key), priority: Self::PRIORITY })
    }

    /// The same with another priority.
    #[must_use]
    pub fn with_priority(mut self, priority: u16) -> Self {
        self.priority = priority;
        self
    }

    /// The key of this machine's bootstrap area.
    #[must_use]
    pub fn device_key(&self) -> DeviceKey {
        self.key.device_key()
    }
}

fn key_of(body: &[u8; 64]) -> MachineKey {
    let mut bytes = Zeroizing::new([0; 32]);
    bytes.copy_from_slice(&body[..32]);
    MachineKey::from_bytes(*bytes)
}

impl KeyProvider for SoftwareProvider {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn priority(&self) -> u16 {
        self.priority
    }

    fn protect(&self, root: &RootKey, context: &SlotContext, random: &dyn Random) -> Result<Vec<u8>, ProviderError> {
        Ok(root.wrap(&self.key.slot_key(), &context.owner(Self::NAME, &[]), fresh_salt(random)))
    }

    fn recover(&self, slot: &[u8], context: &SlotContext) -> Result<RootKey, ProviderError> {
        unwrap(&self.key.slot_key(), &context.owner(Self::NAME, &[]), slot, ProviderError::OtherMachine)
    }
}

impl fmt::Debug for SoftwareProvider {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SoftwareProvider(..)")
    }
}

//! What must be readable before the store is unlocked: TLS material, remote access settings. Sealed for this device.
//!
//! One box holds all of it, so that neither names nor lengths of single records show, and so that no record can be put
//! back alone to what it was. The body of `bootstrap` is that box, bound to the installation; inside it, little-endian:
//!
//! ```text
//! 0..4   how many records follow, in the order of their names
//!        each: length of the name u8, name, length of the value u32, value
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use holdfast_ports::{Disk, Random};
use holdfast_seal::{COLD_OVERHEAD_BYTES, ColdError, DeviceKey};
use zeroize::Zeroizing;

use crate::error::KeyFileError;
use crate::file::FileKind;
use crate::keyring::Installation;
use crate::provider::fresh_salt;

/// The file's name.
pub const BOOTSTRAP_FILE: &str = "bootstrap";

/// The most that all records together take.
const CONTENT_BYTES_MAX: usize = 1 << 20;
const NAME_BYTES_MAX: usize = 128;

const KIND: FileKind = FileKind {
    name: BOOTSTRAP_FILE,
    magic: *b"HFBOOTST",
    version: 1,
    body_max: CONTENT_BYTES_MAX + COLD_OVERHEAD_BYTES,
    remedy: "remove it and set TLS and remote access up again: nothing else depends on it",
};

/// Why the bootstrap area cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootstrapError {
    /// The file.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The device's key is not the one that it was sealed with.
    #[error(
        "{BOOTSTRAP_FILE} does not open with this device's key: {0}; use the device that wrote it, or remove the file \
         and set TLS and remote access up again"
    )]
    Sealed(ColdError),
    /// A name that cannot be stored.
    #[error("a record's name has 1 to {NAME_BYTES_MAX} bytes; this one has {0}")]
    Name(usize),
    /// No room.
    #[error(
        "the bootstrap area holds at most {CONTENT_BYTES_MAX} bytes; put what is not needed before unlock elsewhere"
    )]
    Full,
}

type Records = BTreeMap<String, Zeroizing<Vec<u8>>>;

/// The open area. Every change is durable when it returns.
pub struct Bootstrap {
    disk: Arc<dyn Disk>,
    random: Arc<dyn Random>,
    installation: Installation,
    device: DeviceKey,
    records: Records,
}

pub(crate) fn is_there(disk: &dyn Disk) -> Result<bool, KeyFileError> {
    KIND.is_there(disk)
}

impl Bootstrap {
    /// Makes an empty area; refused where there is one.
    pub fn create(
        disk: Arc<dyn Disk>,
        random: Arc<dyn Random>,
        installation: Installation,
        device: DeviceKey,
    ) -> Result<Self, BootstrapError> {
        if is_there(&*disk)? {
            return Err(KeyFileError::Exists { file: BOOTSTRAP_FILE }.into());
        }
        let area = Self { disk, random, installation, device, records: Records::new() };
        area.write(&area.device, &area.records)?;
        Ok(area)
    }

    /// Opens the area of this directory.
    pub fn open(
        disk: Arc<dyn Disk>,
        random: Arc<dyn Random>,
        installation: Installation,
        device: DeviceKey,
    ) -> Result<Self, BootstrapError> {
        let body = KIND.read(&*disk)?;
        let content = device.open(&installation.0, body.bytes()).map_err(BootstrapError::Sealed)?;
        let records = decode(&content).ok_or_else(|| KIND.body_damaged("its records contradict their lengths"))?;
        Ok(Self { disk, random, installation, device, records })
    }

    /// A record's value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.records.get(name).map(|value| value.as_slice())
    }

    /// Every name, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.records.keys().map(String::as_str)
    }

    /// Stores a record, replacing what had its name.
    pub fn put(&mut self, name: &str, value: &[u8]) -> Result<(), BootstrapError> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(BootstrapError::Name(name.len()));
        }
        let mut records = self.records.clone();
        records.insert(name.to_owned(), Zeroizing::new(value.to_vec()));
        self.write(&self.device, &records)?;
        self.records = records;
        Ok(())
    }

    /// Removes a record; whether there was one.
    pub fn remove(&mut self, name: &str) -> Result<bool, BootstrapError> {
        let mut records = self.records.clone();
        let was_there = records.remove(name).is_some();
        if was_there {
            self.write(&self.device, &records)?;
            self.records = records;
        }
        Ok(was_there)
    }

    /// Seals everything under another device key: when a TPM is there at last, or is replaced.
    pub fn reseal(&mut self, device: DeviceKey) -> Result<(), BootstrapError> {
        self.write(&device, &self.records)?;
        self.device = device;
        Ok(())
    }

    fn write(&self, device: &DeviceKey, records: &Records) -> Result<(), BootstrapError> {
        let content = encode(records).ok_or(BootstrapError::Full)?;
        let sealed = device.seal(&self.installation.0, fresh_salt(&*self.random), &content);
        Ok(KIND.write(&*self.disk, &sealed)?)
    }
}

fn encode(records: &Records) -> Option<Zeroizing<Vec<u8>>> {
    let length = 4 + records.iter().map(|(name, value)| 1 + name.len() + 4 + value.len()).sum::<usize>();
    if length > CONTENT_BYTES_MAX {
        return None;
    }
    // All the room at once: a buffer that grows leaves copies behind that nobody wipes.
    let mut out = Zeroizing::new(Vec::with_capacity(length));
    out.extend_from_slice(&u32::try_from(records.len()).ok()?.to_le_bytes());
    for (name, value) in records {
        out.push(u8::try_from(name.len()).ok()?);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
        out.extend_from_slice(value);
    }
    Some(out)
}

fn decode(content: &[u8]) -> Option<Records> {
    let (count, mut rest) = content.split_first_chunk::<4>()?;
    let mut records = Records::new();
    for _ in 0..u32::from_le_bytes(*count) {
        let (length, after) = rest.split_first()?;
        let (name, after) = after.split_at_checked(usize::from(*length))?;
        let (length, after) = after.split_first_chunk::<4>()?;
        let (value, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        let in_order = records.last_key_value().is_none_or(|(last, _)| *last < name);
        if !in_order {
            return None;
        }
        records.insert(name, Zeroizing::new(value.to_vec()));
        rest = after;
    }
    rest.is_empty().then_some(records)
}

impl fmt::Debug for Bootstrap {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Bootstrap({} records)", self.records.len())
    }
}

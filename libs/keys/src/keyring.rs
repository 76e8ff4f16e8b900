//! The keyring: every slot of the root key, and the storage key under it. The format, byte by byte.
//!
//! The body of the file `keyring` (see `file` for what is around it); numbers are little-endian:
//!
//! ```text
//!  0..16     installation
//! 16..24     generation: how often this keyring was rewritten
//! 24..56     check value of the root key
//! 56..172    the storage key's wrap under the root key, bound to the installation
//! 172..176   number of the next slot
//! 176..178   how many slots follow
//!            each: number u32, state u8 (1: seen to work), provider's length u8, provider, length u16, bytes
//! last 32    MAC under the root key over the file's head and all of the body before it
//! ```

use std::fmt;

use holdfast_ports::Disk;
use holdfast_seal::{COLD_OVERHEAD_BYTES, MAC_BYTES, NotAuthentic, RootKey};

use crate::error::KeyFileError;
use crate::file::FileKind;

/// The file's name.
pub const KEYRING_FILE: &str = "keyring";
/// Length of an installation's id.
pub const INSTALLATION_BYTES: usize = 16;
/// The most slots that a keyring has.
pub(crate) const SLOTS_MAX: usize = 16;
/// The most bytes that a slot has: a TPM's sealed object with its policies is below 2 KiB.
pub(crate) const SLOT_BYTES_MAX: usize = 8192;
const PROVIDER_BYTES_MAX: usize = 32;
const WRAPPED_BYTES: usize = COLD_OVERHEAD_BYTES + 32;

pub(crate) const KIND: FileKind = FileKind {
    name: KEYRING_FILE,
    magic: *b"HFKEYRNG",
    version: 1,
    body_max: 256 * 1024,
    remedy: "restore it from its backup or the recovery kit: without it nothing of this installation can be opened",
};

/// Names an installation for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Installation(pub [u8; INSTALLATION_BYTES]);

/// Names a slot: counted upwards, never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

/// One way to the root key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) id: SlotId,
    /// The root key was recovered from it once.
    pub(crate) verified: bool,
    pub(crate) provider: String,
    pub(crate) bytes: Vec<u8>,
}

/// Everything in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keyring {
    pub(crate) installation: Installation,
    pub(crate) generation: u64,
    pub(crate) root_check: [u8; 32],
    pub(crate) storage: Vec<u8>,
    pub(crate) next_slot: u32,
    pub(crate) slots: Vec<Slot>,
    /// Of the bytes that were read.
    pub(crate) mac: [u8; MAC_BYTES],
}

impl Keyring {
    /// Reads the keyring of this directory, which must be this installation's. Nothing is authenticated yet: that
    /// takes the root key.
    pub(crate) fn read(disk: &dyn Disk, installation: Installation) -> Result<Self, KeyFileError> {
        let body = KIND.read(disk)?;
        let keyring = Self::decode(body.bytes()).ok_or_else(|| {
            KIND.body_damaged("its checksum fits, but its fields contradict each other: it was not written by Holdfast")
        })?;
        if keyring.installation == installation {
            return Ok(keyring);
        }
        Err(KeyFileError::Foreign {
            file: KEYRING_FILE,
            found: keyring.installation.to_string(),
            expected: installation.to_string(),
        })
    }

    /// Writes it as the next generation, authenticated with the root key.
    pub(crate) fn write(&mut self, disk: &dyn Disk, root: &RootKey) -> Result<(), KeyFileError> {
        let mut next = self.clone();
        next.generation += 1;
        let fields = next.encode_fields()?;
        next.mac = root.mac(&next.installation.0, &next.authenticated(&fields)?);
        KIND.write(disk, &[&fields[..], &next.mac].concat())?;
        *self = next;
        Ok(())
    }

    /// Whether somebody with the root key wrote it.
    pub(crate) fn verify(&self, root: &RootKey) -> Result<(), NotAuthentic> {
        let fields = self.encode_fields().map_err(|_| NotAuthentic)?;
        let authenticated = self.authenticated(&fields).map_err(|_| NotAuthentic)?;
        root.verify_mac(&self.installation.0, &authenticated, &self.mac)
    }

    /// The head is authenticated too: a version is part of what the bytes mean.
    fn authenticated(&self, fields: &[u8]) -> Result<Vec<u8>, KeyFileError> {
        Ok([&KIND.head(fields.len() + MAC_BYTES)?[..], fields].concat())
    }

    fn encode_fields(&self) -> Result<Vec<u8>, KeyFileError> {
        let too_long = |most| KeyFileError::TooLong { file: KEYRING_FILE, most };
        let count = u16::try_from(self.slots.len()).ok().filter(|count| usize::from(*count) <= SLOTS_MAX);
        let mut out = Vec::new();
        out.extend_from_slice(&self.installation.0);
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.root_check);
        out.extend_from_slice(&self.storage);
        out.extend_from_slice(&self.next_slot.to_le_bytes());
        out.extend_from_slice(&count.ok_or(too_long(SLOTS_MAX))?.to_le_bytes());
        for slot in &self.slots {
            let name = u8::try_from(slot.provider.len()).ok().filter(|name| usize::from(*name) <= PROVIDER_BYTES_MAX);
            let length = u16::try_from(slot.bytes.len()).ok().filter(|length| usize::from(*length) <= SLOT_BYTES_MAX);
            out.extend_from_slice(&slot.id.0.to_le_bytes());
            out.extend_from_slice(&[u8::from(slot.verified), name.ok_or(too_long(PROVIDER_BYTES_MAX))?]);
            out.extend_from_slice(slot.provider.as_bytes());
            out.extend_from_slice(&length.ok_or(too_long(SLOT_BYTES_MAX))?.to_le_bytes());
            out.extend_from_slice(&slot.bytes);
        }
        Ok(out)
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (fields, mac) = body.split_last_chunk::<MAC_BYTES>()?;
        let mut reader = Reader(fields);
        let installation = Installation(reader.array()?);
        let generation = u64::from_le_bytes(reader.array()?);
        let root_check = reader.array()?;
        let storage = reader.take(WRAPPED_BYTES)?.to_vec();
        let next_slot = u32::from_le_bytes(reader.array()?);
        let count = usize::from(u16::from_le_bytes(reader.array()?));
        if count == 0 || count > SLOTS_MAX {
            return None;
        }
        let slots = (0..count).map(|_| Slot::decode(&mut reader)).collect::<Option<Vec<_>>>()?;
        let in_order = slots.windows(2).all(|pair| pair[0].id < pair[1].id);
        let below_next = slots.last().is_none_or(|last| last.id.0 < next_slot);
        let keyring = Self { installation, generation, root_check, storage, next_slot, slots, mac: *mac };
        (reader.0.is_empty() && in_order && below_next).then_some(keyring)
    }
}

impl Slot {
    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let id = SlotId(u32::from_le_bytes(reader.array()?));
        let [state, name] = reader.array()?;
        let provider = std::str::from_utf8(reader.take(usize::from(name))?).ok()?.to_owned();
        let length = usize::from(u16::from_le_bytes(reader.array()?));
        let fits = state <= 1 && usize::from(name) <= PROVIDER_BYTES_MAX && length <= SLOT_BYTES_MAX;
        let bytes = reader.take(length)?.to_vec();
        fits.then_some(Self { id, verified: state == 1, provider, bytes })
    }
}

struct Reader<'bytes>(&'bytes [u8]);

impl<'bytes> Reader<'bytes> {
    fn take(&mut self, count: usize) -> Option<&'bytes [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }
}

impl fmt::Display for Installation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Installation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Installation({self})")
    }
}

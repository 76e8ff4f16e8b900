//! The chain above the volume key: a provider's slot key wraps the root key, that the storage key, that the volumes'.
//!
//! No key of the chain gives its bytes away. They go in when they are drawn or when a box is opened, and come out only
//! as a box or as another key.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use holdfast_vocabulary::VolumeId;

use crate::cold::{self, ColdError, Purpose};
use crate::derive::derive;
use crate::page::PageKey;
use crate::secret::Secret;
use crate::{FreshSalt, MAC_BYTES, NotAuthentic, VolumeKey};

const ROOT_CHECK_LABEL: &[u8] = b"holdfast root check v1";
const ROOT_MAC_LABEL: &[u8] = b"holdfast root mac v1";
const PAGE_LABEL: &[u8] = b"holdfast page key v1";
const PAGE_CHECK_LABEL: &[u8] = b"holdfast page check v1";

/// What one provider gives for one slot: the key that the root key is wrapped under there.
pub struct SlotKey(Secret);

impl SlotKey {
    /// Takes what a provider (a TPM, a key service) unsealed. The caller's copy is the caller's to wipe.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::from_bytes(bytes))
    }

    pub(crate) fn from_secret(secret: Secret) -> Self {
        Self(secret)
    }
}

/// The root key: the one thing that every provider's slot holds, and that nothing else is derived from but the wrap of
/// the storage key and the MAC over the slots.
pub struct RootKey(Secret);

impl RootKey {
    /// The caller's word that these bytes were drawn just now, for this. The caller's copy is the caller's to wipe.
    #[must_use]
    pub fn drawn(bytes: [u8; 32]) -> Self {
        Self(Secret::from_bytes(bytes))
    }

    /// Tells two root keys of one owner apart and says nothing about either: public.
    #[must_use]
    pub fn check_value(&self, owner: &[u8]) -> [u8; 32] {
        *derive(self.0.bytes(), &[], &[ROOT_CHECK_LABEL, owner])
    }

    /// Whether this is the root key that `check` was made of, in time that does not depend on where they differ.
    pub fn verify_check_value(&self, owner: &[u8], check: &[u8; 32]) -> Result<(), NotAuthentic> {
        constant_time::verify_slices_are_equal(&self.check_value(owner), check).map_err(|_| NotAuthentic)
    }

    /// Authenticates `bytes` as this owner's list of slots.
    #[must_use]
    pub fn mac(&self, owner: &[u8], bytes: &[u8]) -> [u8; MAC_BYTES] {
        let key = derive::<32>(self.0.bytes(), &[], &[ROOT_MAC_LABEL, owner]);
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), bytes).as_ref());
        mac
    }

    /// Whether `mac` is that of `bytes`, in time that does not depend on where they differ.
    pub fn verify_mac(&self, owner: &[u8], bytes: &[u8], mac: &[u8; MAC_BYTES]) -> Result<(), NotAuthentic> {
        constant_time::verify_slices_are_equal(&self.mac(owner, bytes), mac).map_err(|_| NotAuthentic)
    }

    /// The root key in a box that `under` opens. `owner` says whose slot it is, and must be given again to open it.
    #[must_use]
    pub fn wrap(&self, under: &SlotKey, owner: &[u8], salt: FreshSalt) -> Vec<u8> {
        cold::seal(&under.0, Purpose::RootKey, owner, salt, self.0.bytes())
    }

    /// Opens what [`RootKey::wrap`] made.
    pub fn unwrap(under: &SlotKey, owner: &[u8], sealed: &[u8]) -> Result<Self, ColdError> {
        key_in(&under.0, Purpose::RootKey, owner, sealed).map(Self)
    }
}

/// The storage key: what the control store and the volumes' keys are sealed under.
pub struct StorageKey(Secret);

impl StorageKey {
    /// The caller's word that these bytes were drawn just now, for this. The caller's copy is the caller's to wipe.
    #[must_use]
    pub fn drawn(bytes: [u8; 32]) -> Self {
        Self(Secret::from_bytes(bytes))
    }

    /// The storage key in a box that the root key opens.
    #[must_use]
    pub fn wrap(&self, under: &RootKey, owner: &[u8], salt: FreshSalt) -> Vec<u8> {
        cold::seal(&under.0, Purpose::StorageKey, owner, salt, self.0.bytes())
    }

    /// Opens what [`StorageKey::wrap`] made.
    pub fn unwrap(under: &RootKey, owner: &[u8], sealed: &[u8]) -> Result<Self, ColdError> {
        key_in(&under.0, Purpose::StorageKey, owner, sealed).map(Self)
    }

    /// The key of one file of pages. The file's salt is drawn when the file is made.
    #[must_use]
    pub fn page_key(&self, file_salt: &[u8; 32]) -> PageKey {
        let key = derive::<32>(self.0.bytes(), file_salt, &[PAGE_LABEL]);
        let check = derive::<32>(self.0.bytes(), file_salt, &[PAGE_CHECK_LABEL]);
        PageKey::new(Secret::from_bytes(*key), *check)
    }
}

impl VolumeKey {
    /// The volume key in a box that the storage key opens, for this volume alone.
    #[must_use]
    pub fn wrap(&self, under: &StorageKey, volume: VolumeId, salt: FreshSalt) -> Vec<u8> {
        cold::seal(&under.0, Purpose::VolumeKey, &volume.0, salt, self.bytes())
    }

    /// Opens what [`VolumeKey::wrap`] made for this volume.
    pub fn unwrap(under: &StorageKey, volume: VolumeId, sealed: &[u8]) -> Result<Self, ColdError> {
        let key = key_in(&under.0, Purpose::VolumeKey, &volume.0, sealed)?;
        Ok(Self::from_bytes(*key.bytes()))
    }
}

fn key_in(under: &Secret, purpose: Purpose, owner: &[u8], sealed: &[u8]) -> Result<Secret, ColdError> {
    Secret::from_slice(&cold::open(under, purpose, owner, sealed)?).ok_or(ColdError::Malformed)
}

impl fmt::Debug for SlotKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("SlotKey(..)")
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("RootKey(..)")
    }
}

impl fmt::Debug for StorageKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("StorageKey(..)")
    }
}

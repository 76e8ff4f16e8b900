//! The machine's own key: 32 bytes that lie on this machine alone, and the two keys that come from it.
//!
//! One protects the root key, the other what must be readable before there is a root key. They have labels of their
//! own, so that what one of them opens never opens under the other.

use std::fmt;

use zeroize::Zeroizing;

use crate::chain::SlotKey;
use crate::cold::{self, ColdError, Purpose};
use crate::derive::derive;
use crate::secret::Secret;
use crate::{FreshSalt, NotAuthentic};

const SLOT_LABEL: &[u8] = b"holdfast machine slot v1";
const DEVICE_LABEL: &[u8] = b"holdfast machine bootstrap v1";
const CHECK_LABEL: &[u8] = b"holdfast machine check v1";

/// The secret of a machine key file.
pub struct MachineKey(Secret);

impl MachineKey {
    /// Takes what was drawn for a new file or read from an old one. The caller's copy is the caller's to wipe.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::from_bytes(bytes))
    }

    /// Says whether bytes are still the ones that were drawn: public, and stored beside them.
    #[must_use]
    pub fn check_value(&self) -> [u8; 32] {
        *derive(self.0.bytes(), &[], &[CHECK_LABEL])
    }

    /// Whether `check` is this key's, in time that does not depend on where they differ.
    pub fn verify_check_value(&self, check: &[u8; 32]) -> Result<(), NotAuthentic> {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.check_value(), check).map_err(|_| NotAuthentic)
    }

    /// The key for slots that this machine opens by itself.
    #[must_use]
    pub fn slot_key(&self) -> SlotKey {
        SlotKey::from_secret(Secret::from_bytes(*derive::<32>(self.0.bytes(), &[], &[SLOT_LABEL])))
    }

    /// The key for what is read before the store is unlocked.
    #[must_use]
    pub fn device_key(&self) -> DeviceKey {
        DeviceKey(Secret::from_bytes(*derive::<32>(self.0.bytes(), &[], &[DEVICE_LABEL])))
    }
}

/// A key that this device alone has: from its machine key, or from its TPM.
pub struct DeviceKey(Secret);

impl DeviceKey {
    /// Takes what a TPM unsealed. The caller's copy is the caller's to wipe.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Secret::from_bytes(bytes))
    }

    /// Seals `plain` for this device and this owner.
    #[must_use]
    pub fn seal(&self, owner: &[u8], salt: FreshSalt, plain: &[u8]) -> Vec<u8> {
        cold::seal(&self.0, Purpose::Bootstrap, owner, salt, plain)
    }

    /// Opens what [`DeviceKey::seal`] made; wiped when dropped.
    pub fn open(&self, owner: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, ColdError> {
        cold::open(&self.0, Purpose::Bootstrap, owner, sealed)
    }
}

impl fmt::Debug for MachineKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("MachineKey(..)")
    }
}

impl fmt::Debug for DeviceKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("DeviceKey(..)")
    }
}

//! What can be done while the store is unlocked.

use std::fmt;
use std::sync::Arc;

use holdfast_ports::Random;
use holdfast_seal::{ColdError, StorageKey, VolumeKey};
use holdfast_vocabulary::VolumeId;
use zeroize::Zeroizing;

use crate::provider::fresh_salt;

/// The storage key, for as long as this is held. Hold it for one operation, not for a life: until it is dropped, the
/// key is in memory even if the store was locked meanwhile.
pub struct Storage {
    pub(crate) key: Arc<StorageKey>,
    pub(crate) random: Arc<dyn Random>,
}

impl Storage {
    /// The key that the control store is opened with. A control store that was opened keeps what it derived: close it
    /// when the state changes to locked.
    #[must_use]
    pub fn key(&self) -> &StorageKey {
        &self.key
    }

    /// Draws the key of a new volume.
    #[must_use]
    pub fn draw_volume_key(&self) -> VolumeKey {
        let mut bytes = Zeroizing::new([0; 32]);
        self.random.fill(bytes.as_mut());
        VolumeKey::from_bytes(*bytes)
    }

    /// A volume key in a box that opens for this volume and this storage key alone.
    #[must_use]
    pub fn wrap_volume_key(&self, volume: VolumeId, key: &VolumeKey) -> Vec<u8> {
        key.wrap(&self.key, volume, fresh_salt(&*self.random))
    }

    /// Opens such a box.
    pub fn unwrap_volume_key(&self, volume: VolumeId, wrapped: &[u8]) -> Result<VolumeKey, ColdError> {
        VolumeKey::unwrap(&self.key, volume, wrapped)
    }
}

impl fmt::Debug for Storage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Storage(..)")
    }
}

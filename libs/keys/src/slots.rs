//! The slots of an unlocked keyring: added, seen to work, dropped; so that a rotation never leaves a moment without one.

use holdfast_seal::RootKey;

use crate::error::SlotError;
use crate::keyring::{Keyring, SLOTS_MAX, Slot, SlotId};
use crate::manager::CryptManager;
use crate::provider::{KeyProvider, SlotContext};

/// What may be said of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// Its number.
    pub id: SlotId,
    /// Whose it is.
    pub provider: String,
    /// The root key was recovered from it once, from the disk.
    pub verified: bool,
}

impl CryptManager {
    /// Every slot, in order. Works while locked.
    pub fn slots(&self) -> Result<Vec<SlotInfo>, crate::KeyFileError> {
        let keyring = Keyring::read(&*self.options.disk, self.options.installation)?;
        let info = |slot: Slot| SlotInfo { id: slot.id, provider: slot.provider, verified: slot.verified };
        Ok(keyring.slots.into_iter().map(info).collect())
    }

    /// Writes a slot more. It counts only once it was verified.
    pub fn add_slot(&self, provider: &dyn KeyProvider) -> Result<SlotId, SlotError> {
        self.change(|keyring, root| {
            if keyring.slots.len() == SLOTS_MAX {
                return Err(SlotError::Full(SLOTS_MAX));
            }
            let id = SlotId(keyring.next_slot);
            let context = SlotContext { installation: keyring.installation, slot: id };
            let failed = |error| SlotError::Provider { slot: id, provider: provider.name().to_owned(), error };
            let bytes = provider.protect(root, &context, &*self.options.random).map_err(failed)?;
            keyring.next_slot += 1;
            keyring.slots.push(Slot { id, verified: false, provider: provider.name().to_owned(), bytes });
            Ok(id)
        })
    }

    /// Recovers the root key from the slot as it is on disk, and notes that it works.
    pub fn verify_slot(&self, id: SlotId, provider: &dyn KeyProvider) -> Result<(), SlotError> {
        self.change(|keyring, _| {
            let slot = keyring.slots.iter().find(|slot| slot.id == id).ok_or(SlotError::Unknown(id))?;
            if slot.provider != provider.name() {
                let (owner, given) = (slot.provider.clone(), provider.name().to_owned());
                return Err(SlotError::OtherProvider { slot: id, owner, given });
            }
            let failed = |error| SlotError::Provider { slot: id, provider: provider.name().to_owned(), error };
            let context = SlotContext { installation: keyring.installation, slot: id };
            let root = provider.recover(&slot.bytes, &context).map_err(failed)?;
            root.verify_check_value(&keyring.installation.0, &keyring.root_check)
                .map_err(|_| SlotError::OtherRoot(id))?;
            keyring.slots.iter_mut().filter(|slot| slot.id == id).for_each(|slot| slot.verified = true);
            Ok(())
        })
    }

    /// Removes a slot, unless no other one was seen to work. Its bytes may still lie in copies of the file: whoever
    /// has one, and the provider's secret, still has the root key.
    pub fn drop_slot(&self, id: SlotId) -> Result<(), SlotError> {
        self.change(|keyring, _| {
            if !keyring.slots.iter().any(|slot| slot.id == id) {
                return Err(SlotError::Unknown(id));
            }
            if !keyring.slots.iter().any(|slot| slot.verified && slot.id != id) {
                return Err(SlotError::LastVerified(id));
            }
            keyring.slots.retain(|slot| slot.id != id);
            Ok(())
        })
    }

    /// Replaces a slot: the new one is written and seen to work before the old one is dropped. Broken off anywhere, at
    /// least one of the two works.
    pub fn rotate_slot(&self, old: SlotId, provider: &dyn KeyProvider) -> Result<SlotId, SlotError> {
        if !self.slots()?.iter().any(|slot| slot.id == old) {
            return Err(SlotError::Unknown(old));
        }
        let new = self.add_slot(provider)?;
        self.verify_slot(new, provider)?;
        self.drop_slot(old)?;
        Ok(new)
    }

    /// Reads the keyring, changes it and writes it. It is read each time: what a failed write left there is not known.
    fn change<T>(&self, change: impl FnOnce(&mut Keyring, &RootKey) -> Result<T, SlotError>) -> Result<T, SlotError> {
        let _changing = self.changing();
        let keys = self.keys()?;
        let root = &keys.root;
        let mut keyring = Keyring::read(&*self.options.disk, self.options.installation)?;
        keyring.verify(root).map_err(|_| SlotError::KeyringForged)?;
        let answer = change(&mut keyring, root)?;
        keyring.write(&*self.options.disk, root)?;
        Ok(answer)
    }
}

//! The crypt manager: holds the keys while the store is unlocked, and nothing while it is not.

use std::fmt;
use std::sync::Arc;

use holdfast_ports::{Disk, Random};
use holdfast_seal::{RootKey, StorageKey};
use parking_lot::{Mutex, MutexGuard};
use zeroize::Zeroizing;

use crate::error::{InitialiseError, KeyFileError, Refusal, UnlockError};
use crate::keyring::{Installation, KIND, Keyring, Slot, SlotId};
use crate::lock_state::{LockObserver, LockState, LockStateChanged, Locked};
use crate::passphrase::PassphraseProvider;
use crate::provider::{KeyProvider, ProviderError, SlotContext, fresh_salt};
use crate::storage::Storage;

/// What a manager is made of.
pub struct CryptOptions {
    /// The directory of the key files.
    pub disk: Arc<dyn Disk>,
    /// The machine's randomness.
    pub random: Arc<dyn Random>,
    /// Whose keyring it is.
    pub installation: Installation,
    /// The providers that ask nobody (a machine key, later a TPM or a key service).
    pub providers: Vec<Arc<dyn KeyProvider>>,
    /// Who hears of changes.
    pub observer: Arc<dyn LockObserver>,
}

/// What is in memory while unlocked. Both wipe themselves when they are dropped.
pub(crate) struct Keys {
    pub(crate) root: RootKey,
    storage: Arc<StorageKey>,
}

/// How the store was unlocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnlockedBy {
    /// The provider's name.
    pub provider: String,
    /// Its slot.
    pub slot: SlotId,
    /// Slots that were tried before and refused. Worth showing: a TPM that no longer works is noticed here first.
    pub refused: Vec<Refusal>,
}

/// The manager.
pub struct CryptManager {
    pub(crate) options: CryptOptions,
    /// Held while something is changed, so that changes and their publication have one order.
    changing: Mutex<()>,
    inner: Mutex<Inner>,
}

/// Both together, so that nobody sees a state that does not fit the keys. Locked for moments only.
struct Inner {
    newest: LockStateChanged,
    keys: Option<Arc<Keys>>,
}

impl CryptManager {
    /// Looks whether there is a keyring. Nothing is unlocked, and a keyring that is damaged is an error, never "none".
    pub fn open(options: CryptOptions) -> Result<Self, KeyFileError> {
        let state = match KIND.is_there(&*options.disk)? {
            false => LockState::Uninitialised,
            true => Keyring::read(&*options.disk, options.installation).map(|_| LockState::Locked)?,
        };
        let newest = LockStateChanged { serial: 0, state, provider: None };
        Ok(Self { options, changing: Mutex::new(()), inner: Mutex::new(Inner { newest, keys: None }) })
    }

    /// The state and the serial number of the change that led to it; 0 is how it was found.
    #[must_use]
    pub fn state(&self) -> LockStateChanged {
        self.inner.lock().newest.clone()
    }

    /// The storage key's uses, while unlocked.
    pub fn storage(&self) -> Result<Storage, Locked> {
        let keys = self.keys()?;
        Ok(Storage { key: Arc::clone(&keys.storage), random: Arc::clone(&self.options.random) })
    }

    pub(crate) fn keys(&self) -> Result<Arc<Keys>, Locked> {
        let inner = self.inner.lock();
        inner.keys.clone().ok_or(Locked::in_state(inner.newest.state))
    }

    /// Keeps every other change waiting for as long as it is held.
    pub(crate) fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock()
    }

    /// Draws the root key and the storage key, and makes a slot with each of the providers. Afterwards it is unlocked.
    ///
    /// `evidence` is what the caller found that was sealed under an earlier root key: a registry, replicas, a control
    /// store. If there is any, the keyring was lost, and no new one is made.
    pub fn initialise(&self, providers: &[&dyn KeyProvider], evidence: &[String]) -> Result<(), InitialiseError> {
        let _changing = self.changing();
        if KIND.is_there(&*self.options.disk)? {
            return Err(InitialiseError::Exists);
        }
        if !evidence.is_empty() {
            return Err(InitialiseError::KeyMissing { evidence: evidence.to_vec() });
        }
        let first = providers.first().ok_or(InitialiseError::NoProvider)?.name().to_owned();
        let keys = Keys { root: RootKey::drawn(*self.draw()), storage: Arc::new(StorageKey::drawn(*self.draw())) };
        let mut slots = Vec::new();
        for (id, provider) in (1..).map(SlotId).zip(providers) {
            let failed = |error| InitialiseError::Provider { provider: provider.name().to_owned(), error };
            slots.push(self.verified_slot(id, *provider, &keys.root).map_err(failed)?);
        }
        let owner = self.options.installation;
        let mut keyring = Keyring {
            installation: owner,
            generation: 0,
            root_check: keys.root.check_value(&owner.0),
            storage: keys.storage.wrap(&keys.root, &owner.0, fresh_salt(&*self.options.random)),
            next_slot: slots.last().map_or(1, |slot: &Slot| slot.id.0 + 1),
            slots,
            mac: [0; 32],
        };
        keyring.write(&*self.options.disk, &keys.root)?;
        self.publish(LockState::Unlocked, Some(first), Some(keys));
        Ok(())
    }

    /// Unlocks with the first provider, by priority, that has a slot and opens it: those that ask nobody, and those
    /// that are given here. Unlocking what is unlocked changes nothing and still checks what was given.
    pub fn unlock(&self, given: &[&dyn KeyProvider]) -> Result<UnlockedBy, UnlockError> {
        let _changing = self.changing();
        let keyring = match Keyring::read(&*self.options.disk, self.options.installation) {
            Err(KeyFileError::Missing { .. }) if self.state().state == LockState::Uninitialised => {
                return Err(UnlockError::Uninitialised);
            }
            other => other?,
        };
        let (root, by) = self.recover(&keyring, given)?;
        keyring.verify(&root).map_err(|_| UnlockError::KeyringForged)?;
        let storage = StorageKey::unwrap(&root, &self.options.installation.0, &keyring.storage)
            .map_err(|_| UnlockError::KeyringForged)?;
        if self.state().state != LockState::Unlocked {
            let keys = Keys { root, storage: Arc::new(storage) };
            self.publish(LockState::Unlocked, Some(by.provider.clone()), Some(keys));
        }
        Ok(by)
    }

    /// Drops every key that is held here, which wipes it. A [`Storage`] that somebody still holds keeps the storage key
    /// until it is dropped, and keys that were derived (a control store's, a session's) belong to those who have them:
    /// close them on this change.
    pub fn lock(&self) {
        let _changing = self.changing();
        if self.state().state == LockState::Unlocked {
            self.publish(LockState::Locked, None, None);
        }
    }

    /// Tries the slots by their provider's priority. All passphrase slots are tried before one is called wrong.
    fn recover(&self, keyring: &Keyring, given: &[&dyn KeyProvider]) -> Result<(RootKey, UnlockedBy), UnlockError> {
        let standing = self.options.providers.iter().map(|provider| &**provider);
        let mut providers: Vec<&dyn KeyProvider> = standing.chain(given.iter().copied()).collect();
        providers.sort_by_key(|provider| provider.priority());
        let mut refused = Vec::new();
        for provider in providers {
            for slot in keyring.slots.iter().filter(|slot| slot.provider == provider.name()) {
                match self.recovered(keyring, slot, provider) {
                    Ok(root) => {
                        return Ok((root, UnlockedBy { provider: slot.provider.clone(), slot: slot.id, refused }));
                    }
                    Err(error) => refused.push(Refusal { slot: slot.id, provider: slot.provider.clone(), error }),
                }
            }
        }
        let wrong = refused.iter().filter(|one| one.error == ProviderError::WrongPassphrase).count();
        if refused.is_empty() {
            let mut slots: Vec<String> = keyring.slots.iter().map(|slot| slot.provider.clone()).collect();
            slots.dedup();
            return Err(UnlockError::NoProvider { slots });
        }
        let of_passphrases = refused.iter().filter(|one| one.provider == PassphraseProvider::NAME).count();
        if wrong > 0 && wrong == of_passphrases {
            return Err(UnlockError::WrongPassphrase { slots: wrong });
        }
        Err(UnlockError::Refused(refused))
    }

    /// The root key of a slot, which must be the keyring's.
    pub(crate) fn recovered(
        &self,
        keyring: &Keyring,
        slot: &Slot,
        provider: &dyn KeyProvider,
    ) -> Result<RootKey, ProviderError> {
        let context = SlotContext { installation: keyring.installation, slot: slot.id };
        let root = provider.recover(&slot.bytes, &context)?;
        let is_it = root.verify_check_value(&keyring.installation.0, &keyring.root_check);
        is_it.map(|()| root).map_err(|_| ProviderError::Damaged)
    }

    /// A slot from which the root key came back before anything was written.
    fn verified_slot(&self, id: SlotId, provider: &dyn KeyProvider, root: &RootKey) -> Result<Slot, ProviderError> {
        let installation = self.options.installation;
        let context = SlotContext { installation, slot: id };
        let bytes = provider.protect(root, &context, &*self.options.random)?;
        let back = provider.recover(&bytes, &context)?;
        back.verify_check_value(&installation.0, &root.check_value(&installation.0))
            .map_err(|_| ProviderError::Damaged)?;
        Ok(Slot { id, verified: true, provider: provider.name().to_owned(), bytes })
    }

    fn draw(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        self.options.random.fill(bytes.as_mut());
        bytes
    }

    fn publish(&self, state: LockState, provider: Option<String>, keys: Option<Keys>) {
        let mut inner = self.inner.lock();
        let serial = inner.newest.serial + 1;
        let newest = LockStateChanged { serial, state, provider };
        let before = std::mem::replace(&mut *inner, Inner { newest: newest.clone(), keys: keys.map(Arc::new) });
        drop(inner);
        // Wiped before anybody hears that it is.
        drop(before);
        self.options.observer.changed(&newest);
    }
}

impl fmt::Debug for CryptManager {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "CryptManager({:?})", self.state())
    }
}

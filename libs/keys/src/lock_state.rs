//! Whether the store is open, said to whoever needs it open.

/// Where the store stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// There is no keyring.
    Uninitialised,
    /// There is one, and no key of it is in memory.
    Locked,
    /// The storage key is in memory.
    Unlocked,
}

/// A change of the state. The payload is the same wherever it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockStateChanged {
    /// Counts the changes since the process began: of two, the higher one is the newer.
    pub serial: u64,
    /// The state from now on.
    pub state: LockState,
    /// The provider that unlocked, when one did.
    pub provider: Option<String>,
}

/// Hears of every change, in order. It is called while the change is being made, so it must not ask for another.
pub trait LockObserver: Send + Sync {
    /// Hears of one.
    fn changed(&self, change: &LockStateChanged);
}

/// Nobody listens.
impl LockObserver for () {
    fn changed(&self, _: &LockStateChanged) {}
}

/// The answer of everything that needs an open store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store is locked: {remedy}")]
pub struct Locked {
    /// What to do.
    pub remedy: &'static str,
}

impl Locked {
    pub(crate) const fn in_state(state: LockState) -> Self {
        let remedy = match state {
            LockState::Uninitialised => "there is no keyring yet; initialise it (`holdfast init`)",
            LockState::Locked | LockState::Unlocked => {
                "unlock it with a provider of the keyring (`holdfast unlock` asks for the passphrase)"
            }
        };
        Self { remedy }
    }
}

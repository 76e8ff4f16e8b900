//! Who may write: the numbers that fence, and their one order.

use std::fmt;

use crate::SessionId;

/// Counts the births of the registry itself. A registry that was founded again has a higher one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Generation(pub u64);

/// Counts the openings of a volume within a generation. 0 is "never opened".
///
/// There is no `Display`: an epoch must not slip into a path or a name, where it would outlive its meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// Permission to open a volume once. Everything a session says carries it; every store compares it.
///
/// The order is (generation, epoch); the session id has no order, it only tells two claimants of one epoch apart.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Which registry gave it.
    pub generation: Generation,
    /// The opening's number.
    pub epoch: Epoch,
    /// To whom it was given.
    pub session: SessionId,
}

impl Grant {
    /// The number that decides between two grants.
    #[must_use]
    pub const fn order(&self) -> (Generation, Epoch) {
        (self.generation, self.epoch)
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Grant(generation {}, epoch {}, session {})", self.generation.0, self.epoch.0, self.session)
    }
}

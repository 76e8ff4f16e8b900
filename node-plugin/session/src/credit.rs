//! Room is credit: nothing is sealed that the replica has not granted room for.
//!
//! Credit for data is taken in pieces and held here, because asking for each block would cost a lock over there. Credit
//! for upkeep is asked for exactly: it comes from a reserve that must not be hoarded.

use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_log::place::Shape;
use holdfast_log::seam::{Purpose, ReplicaError};
use parking_lot::Mutex;

use crate::error::SessionError;
use crate::limits::{CREDIT_GROUP, CREDIT_PIECE_MIN, CREDIT_RECORD};

/// How often room is made in vain before a writer hears that there is none.
const FRUITLESS_MAX: u32 = 3;

pub(crate) struct Credit {
    held: AtomicU64,
    /// The next piece; its lock also sees to it that only one asks.
    piece: Mutex<u64>,
    piece_max: u64,
}

impl Credit {
    pub(crate) fn new(piece_max: u64) -> Self {
        Self { held: AtomicU64::new(0), piece: Mutex::new(CREDIT_PIECE_MIN.min(piece_max)), piece_max }
    }

    /// What a part of so many sealed blocks can take at most beside its group's share.
    pub(crate) const fn of_blocks(blocks: u64) -> u64 {
        blocks * (Shape::WHOLE.stored_bytes() as u64 + CREDIT_RECORD)
    }

    fn take_held(&self, bytes: u64) -> bool {
        let take = |held: u64| held.checked_sub(bytes);
        self.held.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take).is_ok()
    }

    pub(crate) fn give(&self, bytes: u64) {
        self.held.fetch_add(bytes, Ordering::AcqRel);
    }

    pub(crate) fn take_all(&self) -> u64 {
        self.held.swap(0, Ordering::AcqRel)
    }
}

impl crate::Session {
    /// Takes room for a part and, in case it has to open one, for a group. A replica that has none left may only lack
    /// somebody to collect its garbage: that is tried before the writer hears of it.
    pub(crate) fn take_credit(&self, part: u64, purpose: Purpose) -> Result<u64, SessionError> {
        let (mut most, mut fruitless, mut others) = (0, 0, self.order.lock().last_seq());
        loop {
            let taken = self.try_take_credit(part, purpose);
            let Err(SessionError::NoSpace { free, .. }) = taken else { return taken };
            // Room that another writer was quicker to take was room.
            let now = self.order.lock().last_seq();
            fruitless = if free > most || now > others { 0 } else { fruitless + 1 };
            (most, others) = (most.max(free), now);
            // Moving little garbage can cost as much room as it frees, again and again.
            if fruitless > FRUITLESS_MAX || !self.make_room()? && self.order.lock().last_seq() == now {
                // Somebody's room may have become free between the refusal and the look for more.
                return self.try_take_credit(part, purpose);
            }
        }
    }

    fn try_take_credit(&self, part: u64, purpose: Purpose) -> Result<u64, SessionError> {
        let bytes = part + CREDIT_GROUP;
        if self.credit.take_held(bytes) {
            return Ok(bytes);
        }
        if purpose == Purpose::Upkeep {
            self.replica.reserve(&self.grant, bytes, purpose).map_err(|error| self.refused(error))?;
            return Ok(bytes);
        }
        let mut piece = self.credit.piece.lock();
        if self.credit.take_held(bytes) {
            return Ok(bytes);
        }
        loop {
            let wanted = bytes.max(*piece);
            match self.replica.reserve(&self.grant, wanted, purpose) {
                Ok(()) => {
                    *piece = (wanted * 2).min(self.credit.piece_max);
                    self.credit.give(wanted - bytes);
                    return Ok(bytes);
                }
                // A whole piece may be too much where this write still fits; what is refused now would be refused to the
                // next writers too.
                Err(ReplicaError::NoSpace { .. }) if wanted > bytes => *piece /= 4,
                Err(error) => return Err(self.refused(error)),
            }
        }
    }

    /// Nothing was sealed for it, so want of room does not end the session; any other refusal does.
    fn refused(&self, error: ReplicaError) -> SessionError {
        match error {
            ReplicaError::NoSpace { wanted, free } => SessionError::NoSpace { wanted, free },
            error => self.replica_failed("reserve room", error),
        }
    }

    /// Gives back what is held and not needed.
    pub(crate) fn release_credit(&self) {
        let held = self.credit.take_all();
        if held > 0 {
            self.replica.release(held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_log::seam::group_room;

    #[test]
    fn what_is_taken_covers_every_group() {
        for entries in 1..=256_u64 {
            for sealed in [0, entries / 3, entries] {
                let data = sealed * Shape::WHOLE.stored_bytes() as u64;
                let taken = Credit::of_blocks(sealed) + (entries - sealed) * CREDIT_RECORD + CREDIT_GROUP;
                assert!(taken >= group_room(entries as usize, data as usize), "{entries} entries, {sealed} sealed");
            }
        }
    }
}

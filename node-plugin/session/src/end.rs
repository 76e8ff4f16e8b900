//! How a session ends: once, for one reason, and for good.

use std::sync::{Arc, OnceLock};

use holdfast_log::seam::ReplicaError;

use crate::error::{EndCause, SessionError};

/// Set once; every call looks at it first.
#[derive(Default)]
pub(crate) struct End(OnceLock<Arc<EndCause>>);

impl End {
    /// Fails if the session is over.
    pub(crate) fn check(&self) -> Result<(), SessionError> {
        match self.0.get() {
            None => Ok(()),
            Some(cause) => Err(SessionError::SessionEnded { cause: Arc::clone(cause) }),
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.get().is_some()
    }

    /// Ends the session, unless it has ended before, and gives the error that every call gets from now on.
    pub(crate) fn set(&self, cause: EndCause) -> SessionError {
        SessionError::SessionEnded { cause: Arc::clone(self.0.get_or_init(|| Arc::new(cause))) }
    }
}

impl crate::Session {
    /// Ends the session: what was sealed and not sent can be neither sent nor sealed again.
    pub(crate) fn end_with(&self, cause: EndCause) -> SessionError {
        let error = self.end.set(cause);
        self.pending.wake();
        // Whoever waits for its turn under the lock sees the end when it looks again.
        drop(self.order.lock());
        self.order_free.notify_all();
        error
    }

    pub(crate) fn replica_failed(&self, step: &'static str, error: ReplicaError) -> SessionError {
        self.end_with(EndCause::Replica { step, error })
    }
}

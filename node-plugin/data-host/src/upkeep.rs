//! The thread that an open volume has for its upkeep: it closes old groups, syncs, anchors, makes bases, collects.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use holdfast_session::{Session, SessionError};
use parking_lot::{Condvar, Mutex};

/// How often a session is looked after. Its shortest bound is the age of an open group, 200 ms.
const PACE: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Shared {
    stopping: Mutex<bool>,
    stopped: Condvar,
    /// The newest failure of anything on the volume.
    problem: Mutex<Option<SessionError>>,
}

/// Looks after a session until it is dropped.
pub(crate) struct Upkeep {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Upkeep {
    pub(crate) fn start(session: &Arc<Session>) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("upkeep".to_owned()).spawn({
            let (session, shared) = (Arc::clone(session), Arc::clone(&shared));
            move || shared.look_after(&session)
        })?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Keeps a failure for whoever explains the volume.
    pub(crate) fn note(&self, error: SessionError) {
        *self.shared.problem.lock() = Some(error);
    }

    pub(crate) fn problem(&self) -> Option<SessionError> {
        self.shared.problem.lock().clone()
    }

    /// Ends the thread, and waits for it.
    pub(crate) fn stop(&self) {
        *self.shared.stopping.lock() = true;
        self.shared.stopped.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // It panics only if the engine does, and then the volume is over anyway.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn look_after(&self, session: &Session) {
        loop {
            let mut stopping = self.stopping.lock();
            if !*stopping {
                self.stopped.wait_for(&mut stopping, PACE);
            }
            if *stopping {
                return;
            }
            drop(stopping);
            if let Err(error) = session.tick() {
                let is_over = matches!(error, SessionError::SessionEnded { .. });
                *self.problem.lock() = Some(error);
                if is_over {
                    return;
                }
            }
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stop();
    }
}

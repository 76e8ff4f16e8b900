//! An open volume: its store, its session, its upkeep.

use std::sync::Arc;

use holdfast_log::seam::{Replica, ReplicaError};
use holdfast_ports::Disk;
use holdfast_session::{OpenError, OpenOptions, Session, SessionError, SessionStats};
use holdfast_store::{Store, StoreOptions};

use crate::upkeep::Upkeep;

/// What a volume is opened with.
pub struct VolumeOptions {
    /// Where its only replica lies.
    pub disk: Arc<dyn Disk>,
    /// The replica's settings.
    pub store: StoreOptions,
    /// Key, grant and anchor, and everything else that a session goes by.
    pub session: OpenOptions,
}

/// Why a volume did not open.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The replica cannot be used.
    #[error("the replica does not open: {0}")]
    Store(#[from] ReplicaError),
    /// The session cannot begin.
    #[error("the session does not begin: {0}")]
    Session(#[from] OpenError),
    /// There is no thread for its upkeep.
    #[error("no thread for the volume's upkeep: {0}; raise the limit on processes")]
    Thread(#[from] std::io::Error),
}

/// An open volume. Frontends serve it as a [`Target`](holdfast_frontend::target::Target).
pub struct OpenVolume {
    pub(crate) session: Arc<Session>,
    pub(crate) upkeep: Upkeep,
}

impl OpenVolume {
    /// Opens it: recovers the replica, begins the session's epoch, and looks after both from now on.
    pub fn open(options: VolumeOptions) -> Result<Arc<Self>, VolumeError> {
        let store: Arc<dyn Replica> = Arc::new(Store::open(options.disk, options.store)?);
        let session = Arc::new(Session::open(vec![store], options.session)?);
        let upkeep = Upkeep::start(&session)?;
        Ok(Arc::new(Self { session, upkeep }))
    }

    /// Its figures.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        self.session.stats()
    }

    /// The newest failure of a request or of its upkeep, for whoever explains the volume.
    #[must_use]
    pub fn problem(&self) -> Option<SessionError> {
        self.upkeep.problem()
    }

    /// Ends it in order: everything durable, the head anchored. Frontends must have stopped; what they ask later fails.
    pub fn close(&self) -> Result<(), SessionError> {
        self.upkeep.stop();
        self.session.close()
    }
}

//! The server of one export: its workers, its connections, and how it stops.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use thiserror::Error;

use super::buffers::{LARGE_BYTES, SMALL_BYTES};
use super::connection::{self, Beginning};
use super::protocol::STRING_BYTES_MAX;
use super::queue::Queue;
use super::socket::{Listener, Socket, SocketError};
use super::work::{self, Job};
use crate::ranges::Ranges;
use crate::target::Target;

/// How long the listener rests after an error that is not the end, such as no descriptor left.
const REST: Duration = Duration::from_millis(100);

/// What is served.
pub struct Export {
    /// Clients may name it, or ask for the default export.
    pub name: String,
    /// A few words for people.
    pub description: String,
    /// The volume. One server is its only writer of parts of blocks.
    pub target: Arc<dyn Target>,
}

/// What a server may use. `docs/nbd.md` says what each protects.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Threads that call the target.
    pub workers: usize,
    /// Connections at a time; the next waits to be accepted.
    pub connections: usize,
    /// Requests in flight on one connection.
    pub requests: usize,
    /// Buffers of 64 KiB of one connection.
    pub small_buffers: usize,
    /// Buffers of 1 MiB of one connection, and one more. So many MiB are read at most without structured replies.
    pub large_buffers: usize,
    /// How long a client may be silent while it negotiates.
    pub negotiation_patience: Duration,
    /// How long a client may take nothing of an answer that waits for it.
    pub answer_patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 8,
            connections: 16,
            requests: 128,
            small_buffers: 64,
            large_buffers: 8,
            negotiation_patience: Duration::from_secs(10),
            answer_patience: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// The most memory that all buffers of all connections take.
    pub fn buffer_bytes_max(&self) -> usize {
        self.connections * (self.small_buffers * SMALL_BYTES + (self.large_buffers + 1) * LARGE_BYTES)
    }

    pub(crate) fn whole_request_bytes(&self) -> u32 {
        u32::try_from(self.large_buffers * LARGE_BYTES)
            .map_or(u32::MAX, |bytes| bytes.min(connection::REQUEST_BYTES_MAX))
    }

    fn are_possible(&self) -> bool {
        let counts = [self.workers, self.connections, self.requests, self.small_buffers, self.large_buffers];
        let patience = [self.negotiation_patience, self.answer_patience];
        counts.iter().all(|count| *count > 0) && patience.iter().all(|patience| !patience.is_zero())
    }
}

/// Why a connection is not served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The other end belongs to another user.
    #[error("the client belongs to another user")]
    Stranger,
    /// As many as are allowed are served.
    #[error("too many connections")]
    Full,
    /// The server was told to stop.
    #[error("the server is stopping")]
    Stopping,
    /// The system's word.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Why a server does not listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// The path cannot be used.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The server was told to stop.
    #[error("the server is stopping")]
    Stopping,
    /// No thread for it.
    #[error("no thread to listen with: {0}")]
    Thread(io::Error),
}

/// How a stop was not clean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StopError {
    /// All has ended, but some clients did not take their answers in time and were left.
    #[error("{connections} connections were cut off before their last answers")]
    CutOff {
        /// How many.
        connections: usize,
    },
    /// Some threads are still inside of the target. They end when it lets them go; nobody is answered.
    #[error("{threads} threads still wait for the volume")]
    Stuck {
        /// How many.
        threads: usize,
    },
}

/// A running server. Dropped, it ends without waiting; see [`Server::stop`].
pub struct Server {
    shared: Arc<Shared>,
}

/// What the threads of a server share.
pub(crate) struct Shared {
    pub(crate) export: Export,
    pub(crate) limits: Limits,
    pub(crate) jobs: Queue<Job>,
    ranges: Ranges,
    stopping: AtomicBool,
    registry: Mutex<Registry>,
    changed: Condvar,
}

#[derive(Default)]
struct Registry {
    next: u64,
    open: BTreeMap<u64, Arc<Socket>>,
    listeners: Vec<Arc<Listener>>,
    threads: usize,
}

/// A thread that runs; counted out when dropped.
struct Running(Arc<Shared>);

/// A connection that is open; taken out when dropped.
struct Open {
    shared: Arc<Shared>,
    number: u64,
}

impl Server {
    /// Starts the workers. Every thread inherits what the calling thread has set for itself, such as `IO_FLUSHER`.
    pub fn start(export: Export, limits: Limits) -> io::Result<Self> {
        if !limits.are_possible() || export.name.len().max(export.description.len()) > STRING_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a limit of zero, or a name that is too long"));
        }
        let shared = Arc::new(Shared {
            export,
            ranges: Ranges::with_capacity(limits.workers),
            limits,
            jobs: Queue::default(),
            stopping: AtomicBool::new(false),
            registry: Mutex::default(),
            changed: Condvar::new(),
        });
        // Made first, so that an error below ends what was started.
        let server = Self { shared };
        for _ in 0..server.shared.limits.workers {
            let work = |shared: &Arc<Shared>| work::run(&shared.jobs, &*shared.export.target, &shared.ranges);
            server.shared.spawn("nbd-work", work)?;
        }
        Ok(server)
    }

    /// Listens on a new unix socket of mode 0600. Only clients of our own user, and root's, are served.
    pub fn listen(&self, path: &Path) -> Result<(), ListenError> {
        let listener = Arc::new(Listener::bind(path)?);
        let mut registry = self.shared.registry.lock();
        if self.shared.is_stopping() {
            return Err(ListenError::Stopping);
        }
        registry.listeners.push(listener.clone());
        drop(registry);
        self.shared.spawn("nbd-listen", move |shared| accept(shared, &listener)).map_err(ListenError::Thread)
    }

    /// Serves a client of our own user or root's on a socket that is connected already, from the greeting on.
    pub fn serve(&self, stream: UnixStream) -> Result<(), ServeError> {
        self.shared.serve(stream, Beginning::Negotiation)
    }

    /// Serves the kernel's client: the stream is the other end of what it was given, with the size and
    /// [`Server::flags`], by ioctl or netlink. There is no negotiation, and the caller vouches for the peer.
    pub fn serve_kernel(&self, stream: UnixStream) -> Result<(), ServeError> {
        self.shared.serve(stream, Beginning::Requests)
    }

    /// The transmission flags to be given to a kernel that is served by [`Server::serve_kernel`].
    pub fn flags(&self) -> u16 {
        super::negotiation::transmission_flags(self.shared.export.target.read_only(), Default::default())
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.registry.lock().open.len()
    }

    /// Stops reading requests, finishes and answers those that were read, and closes. Returns within the deadline,
    /// whatever clients and the target do. Nothing is flushed beyond what clients asked for. A second call waits again.
    pub fn stop(&self, deadline: Duration) -> Result<(), StopError> {
        let shared = &self.shared;
        shared.begin_to_stop();
        let mut registry = shared.registry.lock();
        // A part is kept for those who do not take their answers: once left, they end at once.
        let _timed_out = shared.changed.wait_while_for(&mut registry, |it| !it.open.is_empty(), deadline / 4 * 3);
        let connections = registry.open.len();
        registry.open.values().for_each(|socket| socket.end());
        shared.jobs.close();
        let _timed_out = shared.changed.wait_while_for(&mut registry, |it| it.threads > 0, deadline / 4);
        match (registry.threads, connections) {
            (0, 0) => Ok(()),
            (0, connections) => Err(StopError::CutOff { connections }),
            (threads, _) => Err(StopError::Stuck { threads }),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.begin_to_stop();
        self.shared.registry.lock().open.values().for_each(|socket| socket.end());
        self.shared.jobs.close();
    }
}

impl Shared {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn begin_to_stop(&self) {
        let mut registry = self.registry.lock();
        // Under the lock, so that nothing is registered after it was looked at here.
        self.stopping.store(true, Ordering::Release);
        let listeners = std::mem::take(&mut registry.listeners);
        listeners.iter().for_each(|listener| listener.end());
        registry.open.values().for_each(|socket| socket.end_reading());
        drop(registry);
        self.changed.notify_all();
    }

    /// Starts a thread that a stop waits for.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &str,
        body: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) -> io::Result<()> {
        self.registry.lock().threads += 1;
        let running = Running(self.clone());
        std::thread::Builder::new().name(name.to_owned()).spawn(move || body(&running.0)).map(drop)
    }

    fn serve(self: &Arc<Self>, stream: UnixStream, beginning: Beginning) -> Result<(), ServeError> {
        let socket = Arc::new(Socket::new(stream));
        if beginning == Beginning::Negotiation && !socket.peer_is_trusted()? {
            return Err(ServeError::Stranger);
        }
        let mut registry = self.registry.lock();
        if self.is_stopping() {
            return Err(ServeError::Stopping);
        }
        if registry.open.len() >= self.limits.connections {
            return Err(ServeError::Full);
        }
        let number = registry.next;
        registry.next += 1;
        registry.open.insert(number, socket.clone());
        drop(registry);
        let open = Open { shared: self.clone(), number };
        self.spawn("nbd-read", move |shared| {
            let _open = open;
            connection::serve(shared, &socket, beginning);
        })?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.registry.lock().threads -= 1;
        self.0.changed.notify_all();
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let closed = self.shared.registry.lock().open.remove(&self.number);
        drop(closed);
        self.shared.changed.notify_all();
    }
}

/// Takes clients in while there is room for them.
fn accept(shared: &Arc<Shared>, listener: &Listener) {
    while !shared.is_stopping() {
        let mut registry = shared.registry.lock();
        let is_full = |it: &mut Registry| it.open.len() >= shared.limits.connections && !shared.is_stopping();
        shared.changed.wait_while(&mut registry, is_full);
        drop(registry);
        let served = match listener.accept() {
            Ok(stream) => shared.serve(stream, Beginning::Negotiation),
            Err(error) => Err(error.into()),
        };
        // Strangers were refused by closing. What the system lacks now it may have soon; the client is not told why.
        if let Err(ServeError::Io(_)) = served {
            let mut registry = shared.registry.lock();
            if !shared.is_stopping() {
                let _rested = shared.changed.wait_for(&mut registry, REST);
            }
        }
    }
}

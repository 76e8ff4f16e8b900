//! The threads that serve a connection, and the ways in which serving ends.
//!
//! Planned: [`Server::stop`]. No thread reads another request, what was read is answered, and the connection comes back
//! for the next server, here or in another process. What is asked meanwhile waits in the kernel.
//! Not planned: the mount goes away or is aborted ([`End`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;
use thiserror::Error;

use super::abi::{Header, Operation, UNIQUE_RESEND};
use super::connection::{Answered, Connection, ConnectionError};
use super::file::{Reply, VolumeFile, is_name};
use super::memory::{Protection, Workspace};
use super::wait::{Bell, Waiter};
use crate::target::Target;

/// How a connection is served.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The file's name. Whoever continues a connection must keep it.
    pub name: String,
    /// Requests served at once. Each costs 1 MiB of memory, locked if possible; a target that waits for a disk is as
    /// parallel as this.
    pub threads: usize,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self { name: "volume".to_owned(), threads: 8 }
    }
}

/// Why serving could not begin. The connection comes back with it: the mount still waits for a server.
#[derive(Debug, Error)]
#[error("{reason}")]
pub struct StartError {
    /// What was wrong.
    pub reason: StartProblem,
    /// For another try, or for [`Connection::abort`].
    pub connection: Option<Connection>,
}

/// What kept serving from beginning.
#[derive(Debug, Error)]
pub enum StartProblem {
    /// No file can be called so.
    #[error("{0:?} is no name for a file: 1 to 255 bytes, no slash, not . or ..")]
    Name(String),
    /// At least one thread is needed.
    #[error("a connection needs at least one thread")]
    NoThreads,
    /// The kernel gave no thread.
    #[error("start a serving thread: {0}; raise the limit of threads (ulimit -u, pids.max)")]
    Thread(std::io::Error),
    /// The kernel gave no descriptor.
    #[error("wait for requests: {0}; raise the limit of open files (ulimit -n) or of epoll watches")]
    Wait(Errno),
}

/// Why serving ended, other than by being stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum End {
    /// Nobody has the file system any more.
    #[error("the file system was unmounted")]
    Unmounted,
    /// The connection was aborted.
    #[error("the FUSE connection was aborted")]
    Aborted,
    /// The kernel gave an error that we do not know. The connection should be aborted: nobody serves it.
    #[error("reading requests failed: {0}")]
    Failed(Errno),
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests that were read.
    pub requests: u64,
    /// Those of them that had been delivered before, to somebody who did not answer.
    pub resent: u64,
    /// Answers that nobody waited for any more.
    pub gone: u64,
    /// Answers that the kernel refused, and requests in which the target panicked: always a fault of ours.
    pub faults: u64,
}

#[derive(Default)]
struct Counters {
    requests: AtomicU64,
    resent: AtomicU64,
    gone: AtomicU64,
    faults: AtomicU64,
}

struct Progress {
    /// Threads that have not ended.
    alive: usize,
    /// Threads that have done what must be done before the first request.
    ready: usize,
    /// The weakest of all threads.
    protection: Protection,
    end: Option<End>,
}

struct Shared {
    connection: Connection,
    file: VolumeFile,
    is_stopping: AtomicBool,
    bell: Bell,
    progress: Mutex<Progress>,
    changed: Condvar,
    counters: Counters,
}

impl Shared {
    fn begin_stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.bell.ring();
    }

    fn wait_while(&self, at_most: Option<Duration>, condition: impl Fn(&Progress) -> bool) {
        let mut progress = self.progress.lock();
        match at_most {
            Some(limit) => drop(self.changed.wait_while_for(&mut progress, |progress| condition(progress), limit)),
            None => self.changed.wait_while(&mut progress, |progress| condition(progress)),
        }
    }
}

/// Dropping a server begins its stop and does not wait: a thread may hang in its target for ever.
struct StopOnDrop(Arc<Shared>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.begin_stop();
    }
}

/// A connection being served.
pub struct Server {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    on_drop: StopOnDrop,
}

impl Server {
    /// Serves a connection, new or continued, until it is stopped or over. When this returns, every thread has its
    /// memory and its protection.
    pub fn start(connection: Connection, target: Arc<dyn Target>, options: &ServeOptions) -> Result<Self, StartError> {
        let problem = match options {
            ServeOptions { name, .. } if !is_name(name) => Some(StartProblem::Name(name.clone())),
            ServeOptions { threads: 0, .. } => Some(StartProblem::NoThreads),
            _ => None,
        };
        let bell = match (problem, Bell::new()) {
            (Some(reason), _) => return Err(StartError { reason, connection: Some(connection) }),
            (None, Err(errno)) => {
                return Err(StartError { reason: StartProblem::Wait(errno), connection: Some(connection) });
            }
            (None, Ok(bell)) => bell,
        };
        let progress = Progress { alive: 0, ready: 0, protection: Protection::IoFlusher, end: None };
        let shared = Arc::new(Shared {
            connection,
            file: VolumeFile::new(&options.name, target, options.threads),
            is_stopping: AtomicBool::new(false),
            bell,
            progress: Mutex::new(progress),
            changed: Condvar::new(),
            counters: Counters::default(),
        });
        let on_drop = StopOnDrop(Arc::clone(&shared));
        let mut server = Self { shared, threads: Vec::with_capacity(options.threads), on_drop };
        for number in 0..options.threads {
            match server.spawn(number) {
                Ok(thread) => server.threads.push(thread),
                Err(reason) => return Err(StartError { reason, connection: server.stop().ok() }),
            }
        }
        server.shared.wait_while(None, |progress| progress.ready < options.threads);
        Ok(server)
    }

    fn spawn(&self, number: usize) -> Result<JoinHandle<()>, StartProblem> {
        let waiter = Waiter::new(&self.shared.connection, &self.shared.bell).map_err(StartProblem::Wait)?;
        let work = Workspace::new(self.shared.connection.facts().request_bytes_max());
        let shared = Arc::clone(&self.shared);
        self.shared.progress.lock().alive += 1;
        let thread = std::thread::Builder::new().name(format!("holdfast-fuse-{number}"));
        thread.spawn(move || run(&shared, work, &waiter)).map_err(|error| {
            self.shared.progress.lock().alive -= 1;
            StartProblem::Thread(error)
        })
    }

    /// From here on no request is read any more. Those that were read go on.
    pub fn begin_stop(&self) {
        self.shared.begin_stop();
    }

    /// Waits until every thread has ended, but not longer than this; whether they have.
    #[must_use]
    pub fn has_ended_within(&self, at_most: Duration) -> bool {
        self.shared.wait_while(Some(at_most), |progress| progress.alive > 0);
        self.shared.progress.lock().alive == 0
    }

    /// Stops in the planned way and gives the connection back. Waits for the target as long as it takes: whoever has a
    /// deadline asks [`Server::begin_stop`] and [`Server::has_ended_within`] first.
    pub fn stop(self) -> Result<Connection, End> {
        let Self { shared, threads, on_drop } = self;
        // Begins the stop.
        drop(on_drop);
        for thread in threads {
            if thread.join().is_err() {
                shared.progress.lock().end.get_or_insert(End::Failed(Errno::NOTRECOVERABLE));
            }
        }
        // Every thread gave its share back when it was joined.
        let shared = Arc::into_inner(shared).ok_or(End::Failed(Errno::NOTRECOVERABLE))?;
        match shared.progress.into_inner().end {
            Some(end) => Err(end),
            None => Ok(shared.connection),
        }
    }

    /// Why it ended, if it did without being stopped.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.shared.progress.lock().end
    }

    /// What all threads have at least.
    #[must_use]
    pub fn protection(&self) -> Protection {
        self.shared.progress.lock().protection
    }

    /// The connection, for a copy of its descriptor and for its facts.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.shared.connection
    }

    /// Aborts the connection; see [`Connection::abort`].
    pub fn abort(&self) -> Result<(), ConnectionError> {
        self.shared.connection.abort()
    }

    /// What has been done so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let Counters { requests, resent, gone, faults } = &self.shared.counters;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts { requests: of(requests), resent: of(resent), gone: of(gone), faults: of(faults) }
    }
}

/// A thread's whole life.
fn run(shared: &Shared, mut work: Workspace, waiter: &Waiter) {
    let protection = work.protect();
    {
        let mut progress = shared.progress.lock();
        progress.protection = progress.protection.max(protection);
        progress.ready += 1;
    }
    shared.changed.notify_all();
    let end = serve(shared, &mut work, waiter);
    // Before anybody hears that we have ended: memory that is still locked would surprise.
    drop(work);
    let mut progress = shared.progress.lock();
    progress.alive -= 1;
    if let Some(end) = end {
        progress.end.get_or_insert(end);
        drop(progress);
        // The others may be waiting for requests that will not come.
        shared.begin_stop();
    }
    shared.changed.notify_all();
}

/// Until told to stop (`None`), or until there is nothing left to serve.
fn serve(shared: &Shared, work: &mut Workspace, waiter: &Waiter) -> Option<End> {
    while !shared.is_stopping.load(Ordering::Acquire) {
        match shared.connection.receive(work.incoming()) {
            Ok(length) => {
                if let Err(end) = serve_one(shared, work, length) {
                    return Some(end);
                }
            }
            Err(Errno::AGAIN) => {
                if let Err(errno) = waiter.wait() {
                    return Some(End::Failed(errno));
                }
            }
            // A signal; a request that was taken back while we read it.
            Err(Errno::INTR | Errno::NOENT) => {}
            Err(Errno::NODEV) => return Some(End::Unmounted),
            Err(Errno::CONNABORTED) => return Some(End::Aborted),
            Err(errno) => return Some(End::Failed(errno)),
        }
    }
    None
}

fn serve_one(shared: &Shared, work: &mut Workspace, length: usize) -> Result<(), End> {
    let counters = &shared.counters;
    let request = work.request(length);
    // Without its number it cannot even be refused.
    let header = Header::decode(request).map_err(|_| End::Failed(Errno::PROTO))?;
    counters.requests.fetch_add(1, Ordering::Relaxed);
    if header.unique & UNIQUE_RESEND != 0 {
        counters.resent.fetch_add(1, Ordering::Relaxed);
    }
    let reply = match Operation::decode(&header, request) {
        Ok(operation) => {
            // A request that is never answered hangs its caller for ever; an error does not.
            let served = catch_unwind(AssertUnwindSafe(|| shared.file.serve(&header, operation, work)));
            served.unwrap_or_else(|_| {
                counters.faults.fetch_add(1, Ordering::Relaxed);
                Reply::Error(Errno::IO)
            })
        }
        Err(_) => Reply::Error(Errno::IO),
    };
    let answered = match &reply {
        Reply::None => return Ok(()),
        Reply::Error(errno) => shared.connection.answer(header.unique, -errno.raw_os_error(), &[]),
        Reply::Body(body) => shared.connection.answer(header.unique, 0, body.bytes()),
        Reply::Data(range) => shared.connection.answer(header.unique, 0, work.answer(range.clone())),
    };
    match answered {
        // That the connection is over is what the next read says.
        Answered::Taken | Answered::Over => {}
        Answered::Gone => drop(counters.gone.fetch_add(1, Ordering::Relaxed)),
        Answered::Refused(_) => drop(counters.faults.fetch_add(1, Ordering::Relaxed)),
    }
    Ok(())
}

//! The kernel's side of a connection: who is there, sending with and without waiting, and a listener on a path.

use std::io::{self, IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use thiserror::Error;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// Why a socket cannot be listened on.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("{0} is in use by another server")]
    InUse(PathBuf),
    /// There is something, and not a socket: not ours to remove.
    #[error("{0} exists and is no socket")]
    NotASocket(PathBuf),
    /// The system's word.
    #[error("cannot listen on {path}: {error}")]
    System {
        /// Where.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// Whether to wait for room in the socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    Yes,
}

/// A connected stream socket, used by several threads at once.
pub(crate) struct Socket(UnixStream);

impl Socket {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self(stream)
    }

    /// Whether the other end belongs to our own user or to root. The socket's mode says the same; this holds where a
    /// descriptor was passed on or the mode was changed.
    pub(crate) fn peer_is_trusted(&self) -> io::Result<bool> {
        let peer = rustix::net::sockopt::socket_peercred(&self.0)?.uid;
        Ok(peer.is_root() || peer == rustix::process::geteuid())
    }

    /// How long a read may take; nothing for ever.
    pub(crate) fn set_read_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.0.set_read_timeout(patience)
    }

    /// How long a client may take no byte of an answer.
    pub(crate) fn set_write_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        self.0.set_write_timeout(patience)
    }

    /// Sends some of the bytes.
    pub(crate) fn send(&self, slices: &[IoSlice<'_>], wait: Wait) -> Result<usize, rustix::io::Errno> {
        let flags = match wait {
            Wait::No => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            Wait::Yes => SendFlags::NOSIGNAL,
        };
        rustix::net::sendmsg(&self.0, slices, &mut SendAncillaryBuffer::default(), flags)
    }

    /// What was received already can still be read; nothing more comes. An error means that the other end is gone.
    pub(crate) fn end_reading(&self) {
        let _gone = self.0.shutdown(Shutdown::Read);
    }

    /// Both directions end now, whoever waits in them.
    pub(crate) fn end(&self) {
        let _gone = self.0.shutdown(Shutdown::Both);
    }
}

impl Read for &Socket {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(out)
    }
}

impl io::Write for &Socket {
    /// Through [`Socket::send`], because a client that is gone must not raise a signal.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.send(&[IoSlice::new(bytes)], Wait::Yes)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A listening socket on a path. The path is removed with it, if it is still the same socket.
pub(crate) struct Listener {
    listener: UnixListener,
    path: PathBuf,
    identity: (u64, u64),
}

impl Listener {
    /// Listens on `path` for our own user only. A socket that nobody listens on any more is replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, SocketError> {
        let system = |error: io::Error| SocketError::System { path: path.to_owned(), error };
        clear_away(path)?;
        let listener = bind_private(path).map_err(|error| match error {
            rustix::io::Errno::ADDRINUSE => SocketError::InUse(path.to_owned()),
            error => system(error.into()),
        })?;
        let identity = identity(path).map_err(system)?;
        Ok(Self { listener: listener.into(), path: path.to_owned(), identity })
    }

    pub(crate) fn accept(&self) -> io::Result<UnixStream> {
        self.listener.accept().map(|(stream, _)| stream)
    }

    /// Wakes whoever accepts, with an error. Linux does that for a listening socket that is shut down.
    pub(crate) fn end(&self) {
        let _ended = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Nothing depends on it: who listens there next clears it away.
            let _left = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// The mode is set on the socket before it has a name, so that there is no moment at which others could connect.
fn bind_private(path: &Path) -> Result<OwnedFd, rustix::io::Errno> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Removes a socket whose server is gone, and nothing else.
fn clear_away(path: &Path) -> Result<(), SocketError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(SocketError::System { path: path.to_owned(), error }),
        Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|error| SocketError::System { path: path.to_owned(), error })
        }
        Err(error) => Err(SocketError::System { path: path.to_owned(), error }),
        Ok(_) => Err(SocketError::InUse(path.to_owned())),
    }
}

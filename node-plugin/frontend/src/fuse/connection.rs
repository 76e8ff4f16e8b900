//! A connection: the descriptor of `/dev/fuse` behind a mount, and what INIT settled on it.
//!
//! The descriptor outlives the process that serves it as long as somebody holds a copy. There is one, and every thread
//! reads from it. Copies by `FUSE_DEV_IOC_CLONE` would each have a list of their own of what was read and not answered,
//! and with the last copy of a clone the kernel ends what is on its list with an error: a crash would then lose what the
//! resend is to bring back. So there are no clones.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, openat};
use rustix::io::{Errno, fcntl_dupfd_cloexec, read, write, writev};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use thiserror::Error;

use super::abi::{NOTIFY_RESEND, out_header};
use super::facts::Facts;

/// Why something could not be done to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConnectionError {
    /// It was unmounted or aborted.
    #[error("the FUSE connection is over")]
    Over,
    /// The kernel cannot deliver requests again.
    #[error("this kernel cannot resend FUSE requests (Linux 6.9 can); treat the crash as a power cut")]
    NoResend,
    /// The kernel would not have it.
    #[error("{step}: {errno}")]
    Kernel {
        /// What was tried.
        step: &'static str,
        /// What it said.
        errno: Errno,
    },
}

fn failed(step: &'static str) -> impl Fn(Errno) -> ConnectionError {
    move |errno| ConnectionError::Kernel { step, errno }
}

/// The descriptor and its facts. Served by one [`super::Server`] at a time.
#[derive(Debug)]
pub struct Connection {
    device: OwnedFd,
    facts: Facts,
}

impl Connection {
    /// Continues on a descriptor that another process or server has stopped reading from.
    pub fn from_parts(device: OwnedFd, facts: Facts) -> Result<Self, ConnectionError> {
        let connection = Self { device, facts };
        let flags = fcntl_getfl(&connection.device).map_err(failed("look at the descriptor's flags"))?;
        // Shared by all copies of the descriptor, which is right: every server waits in the same way.
        let flags = flags | OFlags::NONBLOCK;
        fcntl_setfl(&connection.device, flags).map_err(failed("make the descriptor non-blocking"))?;
        if connection.is_over() { Err(ConnectionError::Over) } else { Ok(connection) }
    }

    /// For whoever hands it over.
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, Facts) {
        (self.device, self.facts)
    }

    /// What INIT settled.
    #[must_use]
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// A copy of the descriptor, for the process that outlives us.
    pub fn duplicate(&self) -> Result<OwnedFd, ConnectionError> {
        fcntl_dupfd_cloexec(&self.device, 0).map_err(failed("copy the descriptor"))
    }

    /// Whether it was unmounted or aborted.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let mut polled = [PollFd::new(&self.device, PollFlags::IN)];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(poll(&mut polled, Some(&now)), Ok(1)) && polled[0].revents().intersects(PollFlags::ERR)
    }

    /// Has the kernel deliver again everything that was read and not answered.
    ///
    /// To be called when whoever read it is dead, and before the next server starts: a write that is under way when the
    /// same one is delivered again could come last, after a newer write of the same block. That is why a running server
    /// does not have this.
    pub fn resend(&self) -> Result<(), ConnectionError> {
        if !self.facts.can_resend() {
            return Err(ConnectionError::NoResend);
        }
        match write(&self.device, &out_header(0, NOTIFY_RESEND, 0)) {
            Ok(_) => Ok(()),
            Err(Errno::INVAL) => Err(ConnectionError::NoResend),
            Err(Errno::NODEV | Errno::PERM) => Err(ConnectionError::Over),
            Err(errno) => Err(failed("ask for the resend")(errno)),
        }
    }

    /// Ends the connection: every request, pending or new, fails at once. The mount stays and has to be detached.
    ///
    /// Through a mount of fusectl that has no place in any directory, because containers often lack the usual one.
    pub fn abort(&self) -> Result<(), ConnectionError> {
        // Numbers are used again, and a connection that is over has none.
        if self.is_over() {
            return Ok(());
        }
        let step = failed("open fusectl (needs CAP_SYS_ADMIN)");
        let context = fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC).map_err(&step)?;
        fsconfig_create(&context).map_err(&step)?;
        let control = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).map_err(step)?;
        let name = format!("{}/abort", self.facts.connection());
        match openat(&control, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => write(file, b"1").map(drop).map_err(failed("abort the connection")),
            Err(Errno::NOENT) if self.is_over() => Ok(()),
            Err(errno) => Err(failed("find the connection in fusectl")(errno)),
        }
    }

    /// Reads a request; `AGAIN` if there is none.
    pub(crate) fn receive(&self, into: &mut [u8]) -> Result<usize, Errno> {
        read(&self.device, into)
    }

    /// Answers a request. What became of the answer matters only if the kernel found fault with it.
    pub(crate) fn answer(&self, unique: u64, error: i32, body: &[u8]) -> Answered {
        let header = out_header(unique, error, body.len());
        match writev(&self.device, &[IoSlice::new(&header), IoSlice::new(body)]) {
            Ok(_) => Answered::Taken,
            // Whoever asked was killed, or the request was delivered again and counts under its new number.
            Err(Errno::NOENT) => Answered::Gone,
            Err(Errno::NODEV | Errno::PERM | Errno::CONNABORTED) => Answered::Over,
            Err(errno) => Answered::Refused(errno),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    Taken,
    Gone,
    Over,
    Refused(Errno),
}

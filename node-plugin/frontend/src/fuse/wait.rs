//! How a serving thread waits for a request, and how it is called back from there.
//!
//! A plain blocking `read` wakes one thread a request, but only a signal ends it, which a library must not rely on and
//! which is lost if it comes just before. `poll` on two descriptors can be ended, but wakes every idle thread for every
//! request. So each thread has an epoll of its own that looks at the device with `EPOLLEXCLUSIVE`: the kernel then wakes
//! one thread of those that really wait, and the bell, looked at without it, wakes all. A thread reads first and waits
//! only when nothing was there, so under load nobody waits at all; nothing can be missed, because an epoll that is
//! entered looks at the device itself.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::io::{Errno, write};

/// Calls every thread back, for good.
pub(crate) struct Bell(OwnedFd);

impl Bell {
    pub(crate) fn new() -> Result<Self, Errno> {
        eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map(Self)
    }

    pub(crate) fn ring(&self) {
        // It fails only when it has been rung very often already.
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }
}

/// One thread's way to wait.
pub(crate) struct Waiter(OwnedFd);

impl Waiter {
    pub(crate) fn new(device: impl AsFd, bell: &Bell) -> Result<Self, Errno> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let nobody = epoll::EventData::new_u64(0);
        epoll::add(&epoll, device, nobody, epoll::EventFlags::IN | epoll::EventFlags::EXCLUSIVE)?;
        epoll::add(&epoll, &bell.0, nobody, epoll::EventFlags::IN)?;
        Ok(Self(epoll))
    }

    /// Returns when there may be a request, when the connection is over, or when the bell was rung.
    pub(crate) fn wait(&self) -> Result<(), Errno> {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); 2];
        match epoll::wait(&self.0, &mut events[..], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

//! One request on its way to its answer: it may be done in several pieces, by several workers, and is answered once.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use parking_lot::{Condvar, Mutex};

use super::buffers::{Buffer, Buffers};
use super::negotiation::Agreed;
use super::outbox::{Message, Outbox};
use super::protocol::{Head, Request, command, errno, flag};
use super::socket::Socket;
use super::whole_blocks::Cover;
use crate::target::{Target, TargetError};

/// A connection in the transmission phase, as its reader and the workers see it.
pub(crate) struct Line {
    pub(crate) socket: Arc<Socket>,
    pub(crate) outbox: Outbox,
    pub(crate) buffers: Arc<Buffers>,
    pub(crate) agreed: Agreed,
    requests_max: usize,
    in_flight: Mutex<usize>,
    ended: Condvar,
}

/// A request that was read and whose answer has not left.
pub(crate) struct InFlight {
    line: Arc<Line>,
    pub(crate) request: Request,
    /// Pieces that are not done.
    left: AtomicUsize,
    is_one_piece: bool,
    /// The first error; 0 while there is none.
    error: AtomicU32,
    abandoned: AtomicBool,
}

impl Line {
    pub(crate) fn new(socket: Arc<Socket>, buffers: Arc<Buffers>, agreed: Agreed, requests_max: usize) -> Self {
        Self {
            socket,
            outbox: Outbox::default(),
            buffers,
            agreed,
            requests_max,
            in_flight: Mutex::new(0),
            ended: Condvar::new(),
        }
    }

    /// Waits until one request more is allowed, and begins it.
    pub(crate) fn begin(self: &Arc<Self>, request: Request, pieces: usize) -> Arc<InFlight> {
        let mut in_flight = self.in_flight.lock();
        while *in_flight >= self.requests_max {
            self.ended.wait(&mut in_flight);
        }
        *in_flight += 1;
        Arc::new(InFlight {
            line: self.clone(),
            request,
            left: AtomicUsize::new(pieces),
            is_one_piece: pieces == 1,
            error: AtomicU32::new(0),
            abandoned: AtomicBool::new(false),
        })
    }

    /// Waits until every answer has left, or was dropped because the client is gone.
    pub(crate) fn wait_until_idle(&self) {
        let mut in_flight = self.in_flight.lock();
        while *in_flight > 0 {
            self.ended.wait(&mut in_flight);
        }
    }

    /// Leaves the client at once: what it was promised cannot be kept.
    pub(crate) fn break_off(&self) {
        self.outbox.close();
        self.socket.end();
    }
}

/// The protocol's word for an error of the volume.
pub(crate) fn errno_of(error: TargetError) -> u32 {
    match error {
        TargetError::Io => errno::EIO,
        TargetError::NoSpace => errno::ENOSPC,
        TargetError::ReadOnly => errno::EPERM,
        TargetError::Invalid => errno::EINVAL,
    }
}

impl InFlight {
    fn put(self: &Arc<Self>, head: Head, parts: Vec<(Buffer, Range<usize>)>) {
        let message = Message { head, parts, _request: self.clone() };
        self.line.outbox.put(message, &self.line.socket);
    }

    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    fn is_structured(&self) -> bool {
        self.line.agreed.structured && self.request.command == command::READ
    }

    /// The whole answer, or its end: an error, or 0 for success without data.
    pub(crate) fn answer(self: &Arc<Self>, error: u32) {
        let cookie = self.request.cookie;
        let head = match (self.is_structured(), error) {
            (false, _) => Head::simple(cookie, error),
            (true, 0) => Head::end(cookie),
            (true, _) => Head::error(cookie, error),
        };
        self.put(head, Vec::new());
    }

    /// Bytes that were read: the whole answer, or a chunk of it.
    pub(crate) fn answer_read(self: &Arc<Self>, pieces: Vec<(Cover, Buffer)>) {
        let Request { cookie, length, .. } = self.request;
        let head = match pieces.first() {
            Some((cover, _)) if self.is_structured() => {
                let length = if self.is_one_piece { length } else { cover.inner().len() as u32 };
                Head::data(cookie, u16::from(self.is_one_piece), cover.wanted.start, length)
            }
            _ => Head::simple(cookie, 0),
        };
        self.put(head, pieces.into_iter().map(|(cover, buffer)| (buffer, cover.inner())).collect());
        self.end_read();
    }

    /// What failed of a read.
    pub(crate) fn fail_read(self: &Arc<Self>, error: TargetError, offset: u64) {
        let error = errno_of(error);
        if self.is_one_piece {
            self.answer(error);
        } else {
            self.put(Head::error_at(self.request.cookie, error, offset), Vec::new());
        }
        self.end_read();
    }

    /// The end has a chunk of its own if there are several others: they are put in before this counts them, so it is
    /// last.
    fn end_read(self: &Arc<Self>) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 && !self.is_one_piece {
            self.answer(0);
        }
    }

    /// One piece of a change is done. The last answers, after a flush if the client asked for one.
    pub(crate) fn end_piece(self: &Arc<Self>, result: Result<(), TargetError>, target: &dyn Target) {
        if let Err(error) = result {
            self.record(errno_of(error));
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) > 1 || self.abandoned.load(Ordering::Acquire) {
            return;
        }
        // FUA on what changes nothing means nothing.
        let must_be_durable = self.request.flags & flag::FUA != 0 && self.request.command != command::FLUSH;
        if must_be_durable
            && !self.has_failed()
            && let Err(error) = target.flush()
        {
            self.record(errno_of(error));
        }
        self.answer(self.error.load(Ordering::Acquire));
    }

    fn record(&self, error: u32) {
        // The first is told; the others came of trying on.
        let _first = self.error.compare_exchange(0, error, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether some piece failed, so that the others are of no use.
    pub(crate) fn has_failed(&self) -> bool {
        self.error.load(Ordering::Acquire) != 0
    }

    /// The client left in the middle of its request: what is done is done, and nobody is told.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        *self.line.in_flight.lock() -= 1;
        // Two may wait, never at the same time: the reader for room, and the same thread later for the end.
        self.line.ended.notify_all();
    }
}

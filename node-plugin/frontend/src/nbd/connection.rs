//! One client from its first byte to its last: reads requests, refuses what must be refused, hands the rest to workers.
//!
//! Only this thread waits for the client's memory and places, so a client that is slow holds up nobody but itself.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use super::answer::Line;
use super::buffers::{Buffers, LARGE_BYTES};
use super::negotiation::{Agreed, Facts, negotiate};
use super::protocol::{self, REQUEST_BYTES, Request, command, errno, flag};
use super::server::Shared;
use super::socket::Socket;
use super::whole_blocks::Cover;
use super::work::{Job, Work};

/// The longest read or write that is announced, and served.
pub(crate) const REQUEST_BYTES_MAX: u32 = 32 << 20;
/// Headers are read in bulk; data mostly goes past this.
const READ_AHEAD_BYTES: usize = 16 * 1024;

/// How a connection begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// With a greeting.
    Negotiation,
    /// With the first request: whoever made the socket told the client what it needs.
    Requests,
}

/// Serves until the client leaves or the server stops, and returns when every answer has left.
pub(crate) fn serve(shared: &Arc<Shared>, socket: &Arc<Socket>, beginning: Beginning) {
    let mut reader = BufReader::with_capacity(READ_AHEAD_BYTES, &**socket);
    if let Ok(agreed) = begin(shared, socket, &mut reader, beginning) {
        let limits = &shared.limits;
        // One more than announced: a request that starts inside of a block reaches into one more piece.
        let buffers = Buffers::new(limits.small_buffers, limits.large_buffers + 1);
        let line = Arc::new(Line::new(socket.clone(), buffers, agreed, limits.requests));
        let patient = line.clone();
        let sends = shared.spawn("nbd-send", move |_| patient.outbox.send_patiently(&patient.socket));
        if sends.is_ok() {
            let mut requests = Requests { shared, line: &line, reader };
            while requests.serve_next().is_ok() {}
            line.wait_until_idle();
        }
        line.outbox.close();
    }
    socket.end();
}

fn begin(
    shared: &Shared,
    socket: &Socket,
    reader: &mut BufReader<&Socket>,
    beginning: Beginning,
) -> Result<Agreed, super::negotiation::Ended> {
    socket.set_write_patience(Some(shared.limits.answer_patience))?;
    if beginning == Beginning::Requests {
        return Ok(Agreed::default());
    }
    socket.set_read_patience(Some(shared.limits.negotiation_patience))?;
    let export = &shared.export;
    let facts = Facts {
        name: export.name.clone(),
        description: export.description.clone(),
        size: export.target.size(),
        read_only: export.target.read_only(),
        request_bytes_max: REQUEST_BYTES_MAX,
        whole_request_bytes_max: shared.limits.whole_request_bytes(),
    };
    let agreed = negotiate(reader, socket, &facts, || shared.is_stopping())?;
    socket.set_read_patience(None)?;
    Ok(agreed)
}

/// A client's requests.
struct Requests<'a> {
    shared: &'a Shared,
    line: &'a Arc<Line>,
    reader: BufReader<&'a Socket>,
}

/// Why no more requests are read: the client is gone, or says goodbye, or makes no sense.
struct NoMore;

impl From<io::Error> for NoMore {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Requests<'_> {
    fn serve_next(&mut self) -> Result<(), NoMore> {
        let mut bytes = [0; REQUEST_BYTES];
        self.reader.read_exact(&mut bytes)?;
        let request = protocol::request(&bytes).map_err(|_| NoMore)?;
        if request.command == command::DISC {
            return Err(NoMore);
        }
        if let Err(error) = self.check(&request) {
            if request.command == command::WRITE {
                self.skip(request.length.into())?;
            }
            self.line.begin(request, 0).answer(error);
            return Ok(());
        }
        match request.command {
            command::READ => self.read(request),
            command::WRITE => self.write(request)?,
            command::FLUSH => self.hand_over(request, Work::Flush),
            command::TRIM => self.hand_over(request, Work::Trim(cover(&request))),
            command::WRITE_ZEROES => self.hand_over(request, Work::Zero(cover(&request))),
            // What is read often is kept by those below; to promise nothing is allowed.
            _ => self.line.begin(request, 0).answer(0),
        }
        Ok(())
    }

    /// What can be refused before anything is done.
    fn check(&self, request: &Request) -> Result<(), u32> {
        if self.shared.is_stopping() {
            return Err(errno::ESHUTDOWN);
        }
        let understood = flags_of(request.command, self.line.agreed.structured).ok_or(errno::EINVAL)?;
        if request.flags & !understood != 0 {
            return Err(errno::EINVAL);
        }
        let target = &self.shared.export.target;
        let changes = matches!(request.command, command::WRITE | command::TRIM | command::WRITE_ZEROES);
        if changes && target.read_only() {
            return Err(errno::EPERM);
        }
        let end = request.offset.checked_add(request.length.into());
        if request.command != command::FLUSH && end.is_none_or(|end| end > target.size()) {
            // The protocol asks for this distinction: no room there, against nothing there.
            let writes = matches!(request.command, command::WRITE | command::WRITE_ZEROES);
            return Err(if writes { errno::ENOSPC } else { errno::EINVAL });
        }
        if matches!(request.command, command::READ | command::WRITE) && request.length > REQUEST_BYTES_MAX {
            return Err(errno::EINVAL);
        }
        let most = self.shared.limits.whole_request_bytes();
        if request.command == command::READ && self.is_whole(request) && request.length > most {
            return Err(errno::EOVERFLOW);
        }
        Ok(())
    }

    /// Whether a read must be answered by one stretch of data.
    fn is_whole(&self, request: &Request) -> bool {
        !self.line.agreed.structured || request.flags & flag::DF != 0
    }

    fn hand_over(&self, request: Request, work: Work) {
        let request = self.line.begin(request, 1);
        self.shared.jobs.put(Job { request, work });
    }

    fn read(&self, request: Request) {
        let mut covers: Vec<Cover> = pieces(&request).collect();
        if covers.is_empty() {
            return self.line.begin(request, 0).answer(0);
        }
        if covers.len() > 1 && self.is_whole(&request) {
            let request = self.line.begin(request, 1);
            let buffers = self.line.buffers.take_large(covers.len());
            let work = Work::Read(covers.into_iter().zip(buffers).collect());
            return self.shared.jobs.put(Job { request, work });
        }
        let request = self.line.begin(request, covers.len());
        for cover in covers.drain(..) {
            let buffer = self.line.buffers.take(cover.bytes());
            let work = Work::Read(vec![(cover, buffer)]);
            self.shared.jobs.put(Job { request: request.clone(), work });
        }
    }

    /// A long write is handed over piece by piece as it arrives, so it needs no more memory than a short one.
    fn write(&mut self, request: Request) -> Result<(), NoMore> {
        let count = pieces(&request).count();
        let in_flight = self.line.begin(request, count);
        if count == 0 {
            in_flight.answer(0);
        }
        for cover in pieces(&request) {
            let mut buffer = self.line.buffers.take(cover.bytes());
            if let Err(error) = self.reader.read_exact(&mut buffer[cover.inner()]) {
                in_flight.abandon();
                return Err(error.into());
            }
            if in_flight.has_failed() {
                in_flight.end_piece(Ok(()), &*self.shared.export.target);
            } else {
                let work = Work::Write(cover, buffer);
                self.shared.jobs.put(Job { request: in_flight.clone(), work });
            }
        }
        Ok(())
    }

    /// Reads past the bytes of a write that is refused.
    fn skip(&mut self, length: u64) -> Result<(), NoMore> {
        let mut rest = (&mut self.reader).take(length);
        if io::copy(&mut rest, &mut io::sink())? < length { Err(NoMore) } else { Ok(()) }
    }
}

fn cover(request: &Request) -> Cover {
    Cover::of(request.offset, request.length.into())
}

fn pieces(request: &Request) -> impl Iterator<Item = Cover> + use<> {
    Cover::pieces(request.offset, request.length.into(), LARGE_BYTES as u64)
}

/// The flags that a command may have; nothing if there is no such command. FUA is allowed on all, by the protocol.
fn flags_of(number: u16, structured: bool) -> Option<u16> {
    match number {
        command::READ if structured => Some(flag::FUA | flag::DF),
        command::WRITE_ZEROES => Some(flag::FUA | flag::NO_HOLE | flag::FAST_ZERO),
        command::READ | command::WRITE | command::FLUSH | command::TRIM | command::CACHE => Some(flag::FUA),
        _ => None,
    }
}

//! Answers on their way to one client, in the order in which they were put here, each sent as a whole.
//!
//! Whoever puts an answer in sends it at once as long as the socket takes it without waiting. What the socket does not
//! take is left to the connection's own thread, so that a client that does not read never holds a worker.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::answer::InFlight;
use super::buffers::Buffer;
use super::protocol::Head;
use super::socket::{Socket, Wait};

/// One message to the client. What it holds goes back when it was sent.
pub(crate) struct Message {
    pub(crate) head: Head,
    pub(crate) parts: Vec<(Buffer, Range<usize>)>,
    /// Held, not used: a request is in flight until its messages are gone.
    pub(crate) _request: Arc<InFlight>,
}

/// The answers of one connection.
#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Message>,
    /// How much of the first message was sent.
    sent: usize,
    sender: Sender,
    closed: bool,
}

/// Who sends. There is at most one at a time, or messages would mix.
#[derive(Default, PartialEq, Eq)]
enum Sender {
    #[default]
    Nobody,
    Worker,
    /// The connection's thread, which may wait.
    Patient,
}

impl Outbox {
    /// Puts a message in, and sends what can be sent without waiting.
    pub(crate) fn put(&self, message: Message, socket: &Socket) {
        let mut state = self.state.lock();
        if state.closed {
            // Outside of the lock: what the message holds goes back through locks of its own.
            drop(state);
            drop(message);
            return;
        }
        state.queue.push_back(message);
        if state.sender != Sender::Nobody {
            return;
        }
        state.sender = Sender::Worker;
        drop(state);
        self.send_all(socket, Wait::No);
    }

    /// The connection's thread: sends what needs waiting for, until the outbox is closed.
    pub(crate) fn send_patiently(&self, socket: &Socket) {
        loop {
            let mut state = self.state.lock();
            while state.sender != Sender::Patient && !state.closed {
                self.changed.wait(&mut state);
            }
            if state.closed {
                return;
            }
            drop(state);
            self.send_all(socket, Wait::Yes);
        }
    }

    /// Nothing more is sent, and what was not sent is dropped. For a client that is gone, and for the end.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let dropped = std::mem::take(&mut state.queue);
        drop(state);
        self.changed.notify_all();
        drop(dropped);
    }

    /// Sends until the queue is empty, or the socket would have to be waited for.
    fn send_all(&self, socket: &Socket, wait: Wait) {
        let mut state = self.state.lock();
        loop {
            let sent = std::mem::take(&mut state.sent);
            let Some(message) = state.queue.pop_front() else {
                state.sender = Sender::Nobody;
                return;
            };
            drop(state);
            let result = message.send(sent, socket, wait);
            match result {
                Ok(None) => {
                    drop(message);
                    state = self.state.lock();
                }
                Ok(Some(sent)) => return self.leave_to_the_patient(message, sent),
                Err(_gone) => {
                    // Half a message cannot be mended: the client must see an end, and its reader must as well.
                    self.close();
                    socket.end();
                    return;
                }
            }
        }
    }

    fn leave_to_the_patient(&self, message: Message, sent: usize) {
        let mut state = self.state.lock();
        if !state.closed {
            state.queue.push_front(message);
            state.sent = sent;
            state.sender = Sender::Patient;
            drop(state);
            self.changed.notify_all();
        }
    }
}

impl Message {
    /// Sends from `sent` on; says how much was sent if the rest must be waited for.
    fn send(&self, mut sent: usize, socket: &Socket, wait: Wait) -> Result<Option<usize>, rustix::io::Errno> {
        let total = self.head.as_slice().len() + self.parts.iter().map(|(_, range)| range.len()).sum::<usize>();
        while sent < total {
            let mut skip = sent;
            let mut slices = Vec::with_capacity(1 + self.parts.len());
            let parts = self.parts.iter().map(|(buffer, range)| &buffer[range.clone()]);
            for bytes in std::iter::once(self.head.as_slice()).chain(parts) {
                let skipped = skip.min(bytes.len());
                skip -= skipped;
                if skipped < bytes.len() {
                    slices.push(IoSlice::new(&bytes[skipped..]));
                }
            }
            match socket.send(&slices, wait) {
                Ok(count) => sent += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) if wait == Wait::No => return Ok(Some(sent)),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

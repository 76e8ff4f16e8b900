//! A volume as an NBD export: for the kernel's client, and for any client in user space.
//!
//! What is spoken and promised is in `docs/nbd.md`. [`protocol`] and [`negotiation`] hold no socket, so that they can
//! be fed anything; [`server`] is what a caller uses.

mod answer;
mod buffers;
mod connection;
pub mod negotiation;
mod outbox;
pub mod protocol;
mod queue;
pub mod server;
mod socket;
mod whole_blocks;
mod work;

pub use server::{Export, Limits, ListenError, ServeError, Server, StopError};
pub use socket::SocketError;

/// The unit of the port: the target takes nothing that is not made of these.
pub(crate) const BLOCK_BYTES: u64 = 4096;

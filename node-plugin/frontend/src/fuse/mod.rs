//! A volume as one file of a FUSE file system: the frontend that works where nothing else does.
//!
//! [`mount()`] gives a [`Connection`], a [`Server`] serves it out of a [`crate::target::Target`]. The connection outlives
//! its servers: [`Server::stop`] gives it back, its descriptor and its [`Facts`] travel to another process, and the next
//! server continues where this one ended. After a crash [`Connection::resend`] comes first. `docs/fuse.md` has the rules
//! and the reasons.
//!
//! Reading order: `abi` (the kernel's protocol), `facts` (what is settled once), `connection`, `file` (what each request
//! is answered with), `blocks` and `ranges` (bytes out of blocks), `memory`, `wait`, `serve`, `mount`.
//!
//! What must never be here: a look at a path inside of the mounted file system, or an allocation between a request and
//! its answer.

mod abi;
mod blocks;
mod connection;
mod facts;
mod file;
mod memory;
mod mount;
mod serve;
mod wait;

pub use connection::{Connection, ConnectionError};
pub use facts::{Facts, FactsError};
pub use memory::{Protection, protection};
pub use mount::{MountError, mount, preflight, unmount};
pub use serve::{Counts, End, ServeOptions, Server, StartError, StartProblem};

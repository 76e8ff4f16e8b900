//! The NBD server against a client written by hand, against random operations, and against the clients of the world.

#![allow(clippy::unwrap_used)]

mod client;
mod garbage;
mod memory;
mod model;
mod negotiation;
mod place;
mod stop;
mod tools;
mod transmission;

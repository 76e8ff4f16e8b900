//! Ports: all that a room may ask of the machine. Traits and plain memory, no system call.
//!
//! A room takes these as arguments and never reaches around them, so the same code runs on a machine and in a simulator
//! that owns disk, time and chance.
//!
//! - [`Disk`], [`File`]: one flat directory, and exactly what a crash may do to it;
//! - [`Clock`], [`Random`]: time that passes, and bytes that nobody can guess;
//! - [`AlignedBuffer`]: memory that direct I/O accepts;
//! - [`budget`]: memory as something that a node runs out of.

mod aligned;
pub mod budget;
mod carving;
mod clock;
mod disk;
mod disk_error;
mod random;

pub use aligned::AlignedBuffer;
pub use carving::{Carved, Carving};
pub use clock::Clock;
pub use disk::{Disk, File};
pub use disk_error::{DiskError, DiskOperation};
pub use random::Random;

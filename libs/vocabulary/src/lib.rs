//! The nouns that every room shares.
//!
//! Each id, number and size has a type of its own, so that a block cannot be taken for a sequence number. Nothing
//! here reads a clock, draws a random number or touches a file; nothing here is serialisable: bytes belong to formats.

mod fence;
mod id;
mod number;
mod size;

pub use fence::{Epoch, Generation, Grant};
pub use id::{InstanceId, KeyId, SessionId, VolumeId};
pub use number::{BlockIndex, PeriodNumber, SegmentNumber, Seq};
pub use size::{BLOCK_BYTES, VolumeSize, VolumeSizeError};

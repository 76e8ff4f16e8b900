//! The data host: what a node does with an open volume.
//!
//! [`OpenVolume`] puts store and session together and gives them a thread for their upkeep; it is what frontends serve.
//! [`Device`] serves one through FUSE behind a loop device. The process around it, the journal and the other frontends'
//! shells are still to come.

#![forbid(unsafe_code)]

mod device;
mod target;
mod upkeep;
mod volume;

pub use device::{Device, DeviceError, DeviceOptions};
pub use volume::{OpenVolume, VolumeError, VolumeOptions};

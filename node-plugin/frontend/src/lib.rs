//! Frontends: a volume as a block device. They know the port in [`target`] and the kernel's or a client's protocol, and
//! nothing of logs, keys or replicas.

pub mod fuse;
pub mod loop_device;
pub mod nbd;
mod ranges;
pub mod target;

//! Every disk behind the port, and the machine's clock and chance beside them.
//!
//! What each must do, and what a crash may do to it, is said once, at [`holdfast_ports::Disk`]; [`conformance`] holds all of
//! them to it.
//!
//! - [`LinuxDisk`]: a directory of the machine, buffered or direct;
//! - [`MemoryDisk`]: fast, for figures that no disk bounds;
//! - [`SimulatedDisk`]: loses, tears and reorders what was not synced, and fails as it is told or as its seed says;
//! - [`RecordingDisk`]: remembers every change, so that each point of a run can be crashed at.
//!
//! What must never be here: a format, a key, a retry.

mod check;
mod clock;
pub mod conformance;
mod content;
mod crash;
mod faults;
mod image;
mod linux;
mod memory;
mod model;
mod operation;
mod random;
mod recording;
mod simulated;

pub use clock::{ManualClock, SystemClock};
pub use crash::{Crash, Unsynced};
pub use faults::{Fault, Faults, Injected};
pub use image::Image;
pub use linux::{LinuxDisk, LinuxMode};
pub use memory::MemoryDisk;
pub use operation::{FileId, Operation};
pub use random::{SeededRandom, SystemRandom};
pub use recording::{CrashPoint, CrashState, CrashWalk, RecordingDisk};
pub use simulated::SimulatedDisk;

// So that whoever brings a disk brings the words to speak with it.
pub use holdfast_ports::{AlignedBuffer, Clock, Disk, DiskError, DiskOperation, File, Random};

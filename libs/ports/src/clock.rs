//! Time as a port: how long ago, never what o'clock. Nothing that must be correct may depend on it.

use std::time::Duration;

/// Tells how much time has passed since an arbitrary start. It never goes backwards.
pub trait Clock: Send + Sync {
    /// Time since the start.
    fn now(&self) -> Duration;
}

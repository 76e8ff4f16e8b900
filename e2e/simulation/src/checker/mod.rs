//! The judges. None of them knows what was done to the volume, or why: each looks at one promise.
//!
//! - [`prefix`]: after a crash the volume is one prefix of its history, with everything that was acknowledged
//! - [`sealed`]: neither plaintext nor key lies on the disk
//! - [`nonce`]: nothing is ever sealed twice under one nonce
//! - [`tree`]: the root that a checkpoint names is the root of the model
//! - [`space`]: the store takes no more room than it was given
//! - [`effort`]: no request keeps the disk busy for ever
//! - [`speech`]: an error names a place or a remedy

pub mod effort;
pub mod nonce;
pub mod prefix;
pub mod sealed;
pub mod space;
pub mod speech;
pub mod tree;

use std::fmt;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which judge found it.
    pub checker: &'static str,
    /// What it saw.
    pub what: String,
}

impl Violation {
    /// What `checker` saw.
    #[must_use]
    pub fn new(checker: &'static str, what: impl Into<String>) -> Self {
        Self { checker, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.checker, self.what)
    }
}

/// The answer of a judge.
pub type Verdict<T = ()> = Result<T, Violation>;

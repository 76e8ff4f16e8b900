//! Randomness as a port: from the kernel for real, from one seed for tests.

/// Fills memory with bytes that nobody can guess, or, from a seed, with bytes that come out the same every time.
pub trait Random: Send + Sync {
    /// Fills all of `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

//! Sizes: bytes and blocks, and the checked way from one to the other.

use std::fmt;

/// The unit of everything: one sealed block.
pub const BLOCK_BYTES: usize = 4096;

/// A volume's size: a whole number of blocks, at least one, at most 2^40 (4 PiB), so that a block's index fits the
/// 48 bits that the format gives it with room to spare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VolumeSize(u64);

/// Why a number is no volume size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeSizeError {
    /// Not a multiple of the block.
    NotWholeBlocks(u64),
    /// Zero.
    Empty,
    /// More than 2^40 blocks.
    TooLarge(u64),
}

impl VolumeSize {
    /// The largest volume, in blocks.
    pub const BLOCKS_MAX: u64 = 1 << 40;

    /// From a byte count.
    pub const fn from_bytes(bytes: u64) -> Result<Self, VolumeSizeError> {
        if bytes == 0 {
            return Err(VolumeSizeError::Empty);
        }
        if !bytes.is_multiple_of(BLOCK_BYTES as u64) {
            return Err(VolumeSizeError::NotWholeBlocks(bytes));
        }
        if bytes / BLOCK_BYTES as u64 > Self::BLOCKS_MAX {
            return Err(VolumeSizeError::TooLarge(bytes));
        }
        Ok(Self(bytes / BLOCK_BYTES as u64))
    }

    /// How many blocks.
    #[must_use]
    pub const fn blocks(self) -> u64 {
        self.0
    }

    /// How many bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0 * BLOCK_BYTES as u64
    }
}

impl fmt::Display for VolumeSizeError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotWholeBlocks(bytes) => write!(out, "{bytes} bytes is not a multiple of {BLOCK_BYTES}"),
            Self::Empty => write!(out, "a volume of 0 bytes cannot hold anything; the smallest is {BLOCK_BYTES} bytes"),
            Self::TooLarge(bytes) => write!(out, "{bytes} bytes is more than the largest volume of 4 PiB"),
        }
    }
}

impl std::error::Error for VolumeSizeError {}

//! What is written into blocks: bytes that name their block, the change that wrote them, and their place in the block.
//!
//! Whoever reads a block back learns from its bytes alone what it is, and a block that is torn, misplaced or made of two
//! is none of them. A mark in every 32 to 128 bytes lets plaintext be found wherever it leaked to.

use holdfast_vocabulary::BLOCK_BYTES;

/// The number of a change, never used twice in a simulation. 0 is a block that reads as zeros.
pub type Stamp = u64;

/// Found anywhere on a disk, these bytes are plaintext that nobody sealed.
pub const MARK: [u8; 8] = *b"hfPLAIN!";

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing but zeros.
    Zeros,
    /// What this change wrote to this block.
    Written(Stamp),
    /// Bytes that nobody ever wrote to this block.
    Foreign,
}

const fn mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// How many words belong together: the mark, block, stamp and position, and the rest noise. The more noise, the worse it
/// compresses: the first kind to a quarter, the second by a third, the third not enough to be kept compressed.
const fn words_of_a_unit(stamp: Stamp) -> usize {
    match stamp % 3 {
        0 => 4,
        1 => 8,
        _ => 16,
    }
}

/// Writes the content of a block.
pub fn fill(block: u64, stamp: Stamp, out: &mut [u8]) {
    let unit = words_of_a_unit(stamp);
    for (word, bytes) in out.chunks_exact_mut(8).enumerate() {
        bytes.copy_from_slice(&match word % unit {
            0 => MARK,
            1 => block.to_le_bytes(),
            2 => stamp.to_le_bytes(),
            3 => (word as u64).to_le_bytes(),
            _ => mix(mix(block ^ stamp.rotate_left(32)) ^ word as u64).to_le_bytes(),
        });
    }
}

/// The content of several blocks, the change numbers counted up from `stamp`.
#[must_use]
pub fn blocks(first: u64, count: u64, stamp: Stamp) -> Vec<u8> {
    let mut bytes = vec![0; count as usize * BLOCK_BYTES];
    for (step, block) in (0..).zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
        fill(first + step, stamp + step, block);
    }
    bytes
}

/// Says what a block holds.
#[must_use]
pub fn identify(block: u64, bytes: &[u8]) -> Found {
    if bytes.iter().all(|byte| *byte == 0) {
        return Found::Zeros;
    }
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[16..24]);
    let stamp = Stamp::from_le_bytes(word);
    let mut expected = [0; BLOCK_BYTES];
    fill(block, stamp, &mut expected);
    if expected == bytes { Found::Written(stamp) } else { Found::Foreign }
}

#[cfg(test)]
mod tests {
    use super::{Found, blocks, fill, identify};
    use holdfast_vocabulary::BLOCK_BYTES;

    #[test]
    fn a_block_names_itself_and_a_torn_or_misplaced_one_does_not() {
        for stamp in 1..7 {
            let bytes = blocks(9, 1, stamp);
            assert_eq!(identify(9, &bytes), Found::Written(stamp));
            assert_eq!(identify(8, &bytes), Found::Foreign);
            let mut torn = bytes.clone();
            let mut other = vec![0; BLOCK_BYTES];
            fill(9, stamp + 3, &mut other);
            torn[512..1024].copy_from_slice(&other[512..1024]);
            assert_eq!(identify(9, &torn), Found::Foreign);
            torn[512..1024].fill(0);
            assert_eq!(identify(9, &torn), Found::Foreign);
        }
        assert_eq!(identify(9, &[0; BLOCK_BYTES]), Found::Zeros);
    }
}

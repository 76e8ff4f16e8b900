//! What clients write: blocks that say what they are, and the memory of what was written where.
//!
//! Filling a block with fresh random bytes would cost as much as sealing it. So a block is one of a few hundred patterns,
//! stamped with its number and version before each write; whoever reads it can tell exactly what it must be.

use std::sync::atomic::{AtomicU32, Ordering};

use holdfast_disk::{Random, SeededRandom};
use holdfast_vocabulary::BLOCK_BYTES;

use crate::Outcome;

/// Patterns: a request of 1 MiB uses each once.
pub const PATTERNS: usize = 256;
const STAMP_BYTES: usize = 24;

/// All patterns.
pub struct Content {
    patterns: Vec<u8>,
}

impl Content {
    /// Patterns of random bytes, which do not compress.
    pub fn random() -> Self {
        let mut patterns = vec![0; PATTERNS * BLOCK_BYTES];
        SeededRandom::new(1).fill(&mut patterns);
        Self { patterns }
    }

    /// Patterns that are mostly zeros.
    pub fn compressible() -> Self {
        let mut content = Self::random();
        content.patterns.chunks_exact_mut(BLOCK_BYTES).for_each(|pattern| pattern[BLOCK_BYTES / 8..].fill(0));
        content
    }

    /// Whether a block's bytes are those of a version; 0 is "never written".
    pub fn check(&self, block: u64, version: u32, bytes: &[u8]) -> Outcome<()> {
        let wrong = |what: &str| {
            let found: Vec<u64> = (0..3).map(|field| number(bytes, field)).collect();
            Err(format!("block {block} should be version {version}, but {what} (stamp {found:?})").into())
        };
        if version == 0 {
            return if bytes.iter().all(|byte| *byte == 0) { Ok(()) } else { wrong("is not zeros") };
        }
        if !is_stamped(block, version, bytes) {
            return wrong("has another stamp");
        }
        let pattern = number(bytes, 2) as usize % PATTERNS;
        if bytes[STAMP_BYTES..] != self.patterns[pattern * BLOCK_BYTES..][STAMP_BYTES..BLOCK_BYTES] {
            return wrong("has other bytes behind its stamp");
        }
        Ok(())
    }
}

/// Whether a block's stamp is right: quick enough for every read.
pub fn is_stamped(block: u64, version: u32, bytes: &[u8]) -> bool {
    version == 0 || (number(bytes, 0) == block && number(bytes, 1) == u64::from(version))
}

fn number(bytes: &[u8], field: usize) -> u64 {
    bytes[field * 8..].first_chunk().map_or(0, |field| u64::from_le_bytes(*field))
}

/// One client's buffer.
pub struct Pen {
    patterns: Vec<u8>,
    next: usize,
}

impl Pen {
    /// A buffer of its own.
    pub fn new(content: &Content) -> Self {
        Self { patterns: content.patterns.clone(), next: 0 }
    }

    /// The bytes of `count` neighbouring blocks, at most [`PATTERNS`].
    pub fn write(&mut self, first: u64, count: usize, version: u32) -> &[u8] {
        if self.next + count > PATTERNS {
            self.next = 0;
        }
        let start = self.next;
        self.next += count;
        for place in 0..count {
            let bytes = &mut self.patterns[(start + place) * BLOCK_BYTES..][..STAMP_BYTES];
            bytes[..8].copy_from_slice(&(first + place as u64).to_le_bytes());
            bytes[8..16].copy_from_slice(&u64::from(version).to_le_bytes());
            bytes[16..].copy_from_slice(&((start + place) as u64).to_le_bytes());
        }
        &self.patterns[start * BLOCK_BYTES..][..count * BLOCK_BYTES]
    }
}

/// The newest version of each block that a client was told was written.
pub struct Truth(Vec<AtomicU32>);

impl Truth {
    /// Nothing written.
    pub fn new(blocks: u64) -> Self {
        Self((0..blocks).map(|_| AtomicU32::new(0)).collect())
    }

    /// How many blocks.
    pub fn blocks(&self) -> u64 {
        self.0.len() as u64
    }

    /// The version of a block.
    pub fn version(&self, block: u64) -> u32 {
        self.0[block as usize].load(Ordering::Relaxed)
    }

    /// Notes a version.
    pub fn note(&self, first: u64, count: usize, version: u32) {
        for block in &self.0[first as usize..][..count] {
            block.store(version, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, Pen, Truth, is_stamped};

    #[test]
    fn every_difference_is_seen() {
        let (content, truth) = (Content::random(), Truth::new(8));
        let mut pen = Pen::new(&content);
        let bytes = pen.write(3, 2, 9).to_vec();
        truth.note(3, 2, 9);
        assert_eq!((truth.version(2), truth.version(4), truth.blocks()), (0, 9, 8));
        content.check(4, truth.version(4), &bytes[4096..]).unwrap();
        for (block, version) in [(3, 9), (4, 8), (4, 0)] {
            assert!(content.check(block, version, &bytes[4096..]).is_err(), "{block} {version}");
        }
        assert!(is_stamped(4, 9, &bytes[4096..]) && !is_stamped(3, 9, &bytes[4096..]));
        let mut rotten = bytes[..4096].to_vec();
        rotten[4000] ^= 1;
        assert!(content.check(3, 9, &rotten).is_err());
        content.check(7, truth.version(7), &[0; 4096]).unwrap();
        assert!(content.check(7, 0, &rotten).is_err());
    }
}

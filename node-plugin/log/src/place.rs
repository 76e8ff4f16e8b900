//! What an index says about a block: which version is its newest, and where that version lies.

use holdfast_vocabulary::{BLOCK_BYTES, Epoch, PeriodNumber, SegmentNumber, Seq};

/// Which write a block holds. Equal on every replica, whatever a replica did with its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// The epoch that sealed the record.
    pub epoch: Epoch,
    /// The record's place in the log.
    pub seq: Seq,
}

/// Where a sealed record lies in one store: the first byte of its ciphertext. Offsets are multiples of 16.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file.
    pub segment: SegmentNumber,
    /// Bytes from the start of the file.
    pub offset: u32,
}

/// A record's ciphertext length and flags, packed as the format stores them: 13 bits of length, 3 of flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape(u16);

/// The bytes of a tag, which follow each ciphertext.
pub const TAG_BYTES: usize = 16;

impl Shape {
    /// The block became unmapped: no ciphertext follows.
    const UNMAP: u16 = 0x2000;
    /// The plaintext was compressed before it was sealed.
    const COMPRESSED: u16 = 0x4000;
    const LENGTH: u16 = 0x1fff;

    /// A whole block, sealed as it is.
    pub const WHOLE: Self = Self(BLOCK_BYTES as u16);
    /// An unmap record.
    pub const UNMAPPED: Self = Self(Self::UNMAP);

    /// A compressed block of `length` bytes of ciphertext, which must be less than a whole block.
    #[must_use]
    pub const fn compressed(length: u16) -> Option<Self> {
        if length == 0 || length as usize >= BLOCK_BYTES { None } else { Some(Self(Self::COMPRESSED | length)) }
    }

    /// From the packed form; `None` for what the format forbids.
    #[must_use]
    pub const fn from_packed(packed: u16) -> Option<Self> {
        let length = packed & Self::LENGTH;
        match packed & !Self::LENGTH {
            0 if length as usize == BLOCK_BYTES => Some(Self(packed)),
            Self::COMPRESSED if length > 0 && (length as usize) < BLOCK_BYTES => Some(Self(packed)),
            Self::UNMAP if length == 0 => Some(Self(packed)),
            _ => None,
        }
    }

    /// The packed form.
    #[must_use]
    pub const fn packed(self) -> u16 {
        self.0
    }

    /// Bytes of ciphertext, without the tag.
    #[must_use]
    pub const fn ciphertext_bytes(self) -> u16 {
        self.0 & Self::LENGTH
    }

    /// Whether the plaintext must be decompressed after opening.
    #[must_use]
    pub const fn is_compressed(self) -> bool {
        self.0 & Self::COMPRESSED != 0
    }

    /// Whether this is an unmap.
    #[must_use]
    pub const fn is_unmap(self) -> bool {
        self.0 & Self::UNMAP != 0
    }

    /// The flags as they enter the AAD.
    #[must_use]
    pub const fn aad_flags(self) -> u8 {
        (self.0 >> 13) as u8
    }

    /// Bytes that the record takes in a segment: ciphertext, tag, and what rounds it up to 16, or, where it was
    /// compressed, to 1 KiB, so that no two records start in one cell of a segment's live map.
    #[must_use]
    pub const fn stored_bytes(self) -> usize {
        if self.is_unmap() {
            return 0;
        }
        let bytes = self.ciphertext_bytes() as usize + TAG_BYTES;
        if self.is_compressed() { bytes.div_ceil(1024) * 1024 } else { bytes }
    }
}

/// All that an index knows of one mapped block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its newest version.
    pub version: Version,
    /// Where that lies.
    pub place: Place,
    /// Under which subkey it was sealed.
    pub period: PeriodNumber,
    /// How long it is, and how it was made.
    pub shape: Shape,
}

//! The two structures that need no key: the log chain and the state tree. BLAKE3, one 32-byte label for each use.

use std::fmt;

macro_rules! hashes {
    ($($(#[$doc:meta])* $name:ident)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($name), "({})"), self)
            }
        }

        impl fmt::Display for $name {
            /// The first eight bytes: enough to tell two apart in a message.
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..8].iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            }
        }
    )+};
}

hashes! {
    /// H(n): the log up to and including one group. All zeros before the first group of a volume.
    ChainHash
    /// A digest of the tags of one group, in order.
    TagsDigest
    /// A leaf, a node or the root of the state tree. All zeros is "nothing below is mapped".
    TreeHash
}

impl TreeHash {
    /// Nothing below is mapped.
    pub const EMPTY: Self = Self([0; 32]);
}

const CHAIN_LABEL: &[u8; 32] = b"holdfast v1 chain of groups     ";
const TAGS_LABEL: &[u8; 32] = b"holdfast v1 digest of tags      ";
const LEAF_LABEL: &[u8; 32] = b"holdfast v1 state tree leaf     ";
const NODE_LABEL: &[u8; 32] = b"holdfast v1 state tree node     ";

/// H(n) = hash(H(n−1) ‖ header of group n without its MAC).
#[must_use]
pub fn chain(previous: ChainHash, header: &[u8]) -> ChainHash {
    let mut hasher = blake3::Hasher::new_keyed(CHAIN_LABEL);
    hasher.update(&previous.0);
    hasher.update(header);
    ChainHash(*hasher.finalize().as_bytes())
}

/// The digest of a group's tags, in the order of its entries; zeros if there is none.
#[must_use]
pub fn tags<'a>(tags: impl IntoIterator<Item = &'a [u8]>) -> TagsDigest {
    // One flat buffer is hashed faster than many 16-byte updates.
    let mut flat = Vec::with_capacity(4096);
    tags.into_iter().for_each(|tag| flat.extend_from_slice(tag));
    if flat.is_empty() {
        return TagsDigest::default();
    }
    TagsDigest(*blake3::keyed_hash(TAGS_LABEL, &flat).as_bytes())
}

/// A leaf of the state tree from its canonical bytes.
#[must_use]
pub fn leaf(canonical: &[u8]) -> TreeHash {
    TreeHash(*blake3::keyed_hash(LEAF_LABEL, canonical).as_bytes())
}

/// A node of the state tree from its canonical bytes.
#[must_use]
pub fn node(canonical: &[u8]) -> TreeHash {
    TreeHash(*blake3::keyed_hash(NODE_LABEL, canonical).as_bytes())
}

/// CRC32C (Castagnoli), over ciphertext and metadata only, never over plaintext.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

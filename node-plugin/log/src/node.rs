//! An inner page of the index, which is also a node of the state tree: 256 children, each with the place of its page
//! and its state hash.
//!
//! ```text
//! magic "HFnd"  version u8  level u8  count u16  presence 32 B
//! for each present child, in order: file u32  offset u64  bytes u32  state hash 32 B
//! CRC32C u32 of all before
//! ```
//!
//! The shape of the tree is fixed: leaves are level 0, nodes levels 1 to 4, and the root is the one node of level 4,
//! however small the volume is. So two replicas with the same versions have the same hashes at each place of the tree.
//! An empty subtree has no page and the hash [`TreeHash::EMPTY`].

use crate::bytes::{FormatError, Problem, Put, Reader};
use crate::hash::{self, TreeHash};
use crate::leaf::LEAF_BLOCKS;

/// Children of one node.
pub const NODE_CHILDREN: usize = 256;
/// The level of the root.
pub const ROOT_LEVEL: u8 = 4;

const STRUCTURE: &str = "index node";
const MAGIC: [u8; 4] = *b"HFnd";
const VERSION: u8 = 1;
const CHILD_BITS: u32 = 8;

/// The leaf that holds a block.
#[must_use]
pub const fn leaf_of(block: u64) -> u64 {
    block / LEAF_BLOCKS as u64
}

/// The number of the node of `level` above a leaf, counted from the left of its level.
#[must_use]
pub const fn node_above(level: u8, leaf: u64) -> u64 {
    leaf >> (CHILD_BITS * level as u32)
}

/// Which child of the node of `level` (1 to 4) leads to a leaf.
#[must_use]
pub const fn child_towards(level: u8, leaf: u64) -> u8 {
    (leaf >> (CHILD_BITS * (level as u32 - 1))) as u8
}

/// Where a page lies: an index file, and the bytes of the page in it, without what rounds it up to a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PageRef {
    /// The file's number.
    pub file: u32,
    /// The first byte.
    pub offset: u64,
    /// How many bytes.
    pub bytes: u32,
}

impl PageRef {
    /// The packed length.
    pub const PACKED_BYTES: usize = 16;

    /// Appends the packed form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.file);
        out.put_u64(self.offset);
        out.put_u32(self.bytes);
    }

    /// Reads the packed form. A page of no bytes, or one that ends above 2^63, is refused.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, FormatError> {
        let page = Self { file: reader.u32()?, offset: reader.u64()?, bytes: reader.u32()? };
        if page.bytes == 0 || page.offset > i64::MAX as u64 - u64::from(u32::MAX) {
            return Err(reader.field("page"));
        }
        Ok(page)
    }
}

/// One child of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// Where its page lies. No part of the state: replicas differ in it.
    pub page: PageRef,
    /// The state below it.
    pub hash: TreeHash,
}

/// A node. Absent children take no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePage {
    level: u8,
    present: [u64; NODE_CHILDREN / 64],
    children: Vec<Child>,
}

impl NodePage {
    /// A node without children. It stands for "no page", and is never written.
    #[must_use]
    pub const fn empty(level: u8) -> Self {
        Self { level, present: [0; NODE_CHILDREN / 64], children: Vec::new() }
    }

    /// 1 (above leaves) to 4 (the root).
    #[must_use]
    pub const fn level(&self) -> u8 {
        self.level
    }

    /// How many children are there.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.children.len()
    }

    /// Whether nothing below is mapped.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    fn rank(&self, index: u8) -> (usize, bool) {
        let (word, bit) = (usize::from(index) / 64, u32::from(index) % 64);
        let before: u32 = self.present[..word].iter().map(|word| word.count_ones()).sum();
        let below = (self.present[word] & ((1 << bit) - 1)).count_ones();
        ((before + below) as usize, self.present[word] >> bit & 1 == 1)
    }

    /// A child, if anything below it is mapped.
    #[must_use]
    pub fn child(&self, index: u8) -> Option<&Child> {
        match self.rank(index) {
            (rank, true) => self.children.get(rank),
            (_, false) => None,
        }
    }

    /// The first child at `from` or right of it.
    #[must_use]
    pub fn first_from(&self, from: u8) -> Option<(u8, &Child)> {
        (from..=u8::MAX).find_map(|index| self.child(index).map(|child| (index, child)))
    }

    /// The children that are there, from left to right.
    pub fn children(&self) -> impl Iterator<Item = (u8, &Child)> {
        (0..=u8::MAX).filter(|&index| self.rank(index).1).zip(&self.children)
    }

    /// Sets or takes away a child.
    pub fn set(&mut self, index: u8, child: Option<Child>) {
        let (word, bit) = (usize::from(index) / 64, u32::from(index) % 64);
        match (self.rank(index), child) {
            ((rank, true), Some(child)) => self.children[rank] = child,
            ((rank, false), Some(child)) => {
                self.children.insert(rank, child);
                self.present[word] |= 1 << bit;
            }
            ((rank, true), None) => {
                self.children.remove(rank);
                self.present[word] &= !(1 << bit);
            }
            ((_, false), None) => {}
        }
    }

    /// The state below this node: level ‖ (index ‖ hash) of each child that is there.
    #[must_use]
    pub fn hash(&self) -> TreeHash {
        if self.is_empty() {
            return TreeHash::EMPTY;
        }
        let mut canonical = Vec::with_capacity(1 + 33 * self.len());
        canonical.put_u8(self.level);
        for (index, child) in self.children() {
            canonical.put_u8(index);
            canonical.put(&child.hash.0);
        }
        hash::node(&canonical)
    }

    /// The page's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(44 + 48 * self.len());
        out.put(&MAGIC);
        out.put_u8(VERSION);
        out.put_u8(self.level);
        out.put_u16(self.len() as u16);
        self.present.iter().for_each(|&word| out.put_u64(word));
        for child in &self.children {
            child.page.encode(&mut out);
            out.put(&child.hash.0);
        }
        out.put_u32(hash::crc32c(&out));
        out
    }

    /// Reads a page. Whether it is the right one is for the caller to say, by its level and [`Self::hash`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut reader = Reader::new(STRUCTURE, bytes);
        if reader.array()? != MAGIC {
            return Err(FormatError { structure: STRUCTURE, offset: 0, problem: Problem::Magic });
        }
        let version = reader.u8()?;
        if version != VERSION {
            return Err(reader.error(Problem::Version(version.into())));
        }
        let Some((covered, sum)) = bytes.split_last_chunk::<4>() else {
            return Err(reader.error(Problem::Truncated));
        };
        if hash::crc32c(covered) != u32::from_le_bytes(*sum) {
            return Err(reader.error(Problem::Checksum));
        }
        let level = reader.u8()?;
        if !(1..=ROOT_LEVEL).contains(&level) {
            return Err(reader.field("level"));
        }
        let count = usize::from(reader.u16()?);
        let mut present = [0; NODE_CHILDREN / 64];
        for word in &mut present {
            *word = reader.u64()?;
        }
        if count == 0 || present.iter().map(|word| word.count_ones() as usize).sum::<usize>() != count {
            return Err(reader.field("count"));
        }
        let mut children = Vec::with_capacity(count);
        for _ in 0..count {
            let child = Child { page: PageRef::decode(&mut reader)?, hash: TreeHash(reader.array()?) };
            if child.hash == TreeHash::EMPTY {
                return Err(reader.field("state hash"));
            }
            children.push(child);
        }
        reader.take(4)?;
        reader.end()?;
        Ok(Self { level, present, children })
    }

    /// Bytes of memory it takes.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.children.capacity() * size_of::<Child>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(number: u8) -> Child {
        let page = PageRef { file: number.into(), offset: u64::from(number) * 512, bytes: 1 + u32::from(number) };
        Child { page, hash: TreeHash([number | 1; 32]) }
    }

    fn sample(indexes: &[u8]) -> NodePage {
        let mut node = NodePage::empty(2);
        indexes.iter().rev().for_each(|&index| node.set(index, Some(child(index))));
        node
    }

    #[test]
    fn children_are_found_where_they_were_set() {
        let indexes = [0, 1, 63, 64, 127, 200, 255];
        let mut node = sample(&indexes);
        assert_eq!(node.children().map(|(index, _)| index).collect::<Vec<_>>(), indexes);
        assert!((0..=255).all(|index| node.child(index).is_some() == indexes.contains(&index)));
        assert_eq!(node.first_from(128).map(|(index, found)| (index, *found)), Some((200, child(200))));
        node.set(63, None);
        node.set(63, None);
        node.set(64, Some(child(9)));
        assert_eq!((node.len(), node.child(63), node.child(64)), (6, None, Some(&child(9))));
        indexes.iter().for_each(|&index| node.set(index, None));
        assert!(node.is_empty() && node.hash() == TreeHash::EMPTY && node.first_from(0).is_none());
    }

    #[test]
    fn the_hash_knows_the_state_and_not_the_pages() {
        let (mut node, other) = (sample(&[3, 9]), sample(&[3, 9]));
        let moved = Child { page: child(77).page, ..child(3) };
        node.set(3, Some(moved));
        assert_eq!(node.hash(), other.hash());
        node.set(3, Some(child(4)));
        assert_ne!(node.hash(), other.hash());
        assert_ne!(sample(&[3]).hash(), sample(&[4]).hash());
    }

    #[test]
    fn bytes_come_back_and_hostile_ones_are_refused() {
        let all: Vec<u8> = (0..=255).collect();
        for node in [sample(&[0]), sample(&[5, 64, 255]), sample(&all)] {
            let bytes = node.encode();
            assert_eq!(NodePage::decode(&bytes), Ok(node));
            (0..bytes.len()).for_each(|length| assert!(NodePage::decode(&bytes[..length]).is_err()));
            for at in 0..bytes.len() {
                let mut bent = bytes.clone();
                bent[at] ^= 0x10;
                assert!(NodePage::decode(&bent).is_err(), "byte {at}");
            }
        }
        assert!(NodePage::decode(&NodePage::empty(1).encode()).is_err());
    }

    #[test]
    fn the_tree_spans_every_block_of_the_largest_volume() {
        let last = leaf_of((1 << 40) - 1);
        assert_eq!(node_above(ROOT_LEVEL, last), 0);
        let path: Vec<u8> = (1..=ROOT_LEVEL).rev().map(|level| child_towards(level, last)).collect();
        assert_eq!(path, [0x7f, 0xff, 0xff, 0xff]);
    }
}

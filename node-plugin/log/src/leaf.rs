//! A leaf page of the index: what 512 consecutive blocks hold, packed so that any one of them is found in O(1).
//!
//! ```text
//! magic "HFlf"  version u8  zero u8  mapped u16  presence 64 B
//! four columns (seq, segment, offset / 16, shape): base u64  slope u16  width u8
//! epochs u16  periods u16  epoch dictionary u64 each  period dictionary u32 each
//! packed: seq  segment  offset  shape  epoch number  period number; each rounded up to a byte
//! zero u32  CRC32C u32 of all before
//! ```
//!
//! A column holds one number for each *mapped* block, in order of blocks: base + slope × rank + the packed `width` bits,
//! modulo 2^64. So blocks written in order cost nothing but the head of the page, and blocks written at random cost
//! the spread of their numbers. Epochs and periods are few, hence dictionaries. The same content gives the same bytes.
//!
//! The state tree hashes something else, in which no place, period or shape occurs, see [`state_hash_of`].

mod column;
mod table;

use std::fmt;
use std::sync::{Arc, OnceLock};

use holdfast_vocabulary::{Epoch, PeriodNumber, SegmentNumber, Seq};

use crate::bytes::{FormatError, Problem, Put, Reader};
use crate::hash::{self, TreeHash};
use crate::place::{Entry, Place, Shape, Version};

use column::{Column, load};
use table::Table;

/// Blocks of one leaf.
pub const LEAF_BLOCKS: usize = 512;

const STRUCTURE: &str = "index leaf";
const MAGIC: [u8; 4] = *b"HFlf";
const VERSION: u8 = 1;
const PRESENCE_AT: usize = 8;
const PRESENCE_WORDS: usize = LEAF_BLOCKS / 64;
const COLUMNS: usize = 4;
const COLUMN_BYTES: usize = 11;
const DICTIONARIES_AT: usize = PRESENCE_AT + 8 * PRESENCE_WORDS + COLUMNS * COLUMN_BYTES + 4;
/// What follows the packed bits. With it, eight bytes can be loaded wherever a packed number starts.
const TAIL_BYTES: usize = 8;
/// Offsets are multiples of this.
const OFFSET_UNIT: u32 = 16;
/// Blocks that lie one behind the other are a block and a tag apart: 4112 bytes.
const OFFSET_STRIDE: u16 = 257;
/// A run of one epoch in the bytes that are hashed: a position and the epoch.
const RUN_BYTES: usize = 10;

/// What 512 blocks hold; immutable.
#[derive(Clone)]
pub struct LeafPage {
    bytes: Box<[u8]>,
    /// Mapped blocks before each word of the presence bitmap.
    ranks: [u16; PRESENCE_WORDS],
    mapped: u16,
    epochs: u16,
    periods: u16,
    seq: Column,
    segment: Column,
    offset: Column,
    shape: Column,
    epoch: Column,
    period: Column,
}

impl LeafPage {
    /// The page that maps nothing. It stands for "no page", and is never written.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        static EMPTY: OnceLock<Arc<LeafPage>> = OnceLock::new();
        Arc::clone(EMPTY.get_or_init(|| Arc::new(Self::encode(&[]))))
    }

    /// Packs entries: the first is that of the leaf's first block; those that are missing at the end are unmapped.
    #[must_use]
    pub fn encode(entries: &[Option<Entry>]) -> Self {
        debug_assert!(entries.len() <= LEAF_BLOCKS, "a leaf has {LEAF_BLOCKS} blocks");
        let mut table = Table::new();
        for (position, entry) in entries.iter().enumerate().take(LEAF_BLOCKS) {
            if let Some(entry) = entry {
                table.push(position, entry);
            }
        }
        table.pack()
    }

    /// This page with other entries for some blocks. Each change is a position below [`LEAF_BLOCKS`] and what the block
    /// holds then; positions rise.
    #[must_use]
    pub fn with(&self, changes: &[(usize, Option<Entry>)]) -> Self {
        debug_assert!(changes.is_sorted_by(|one, other| one.0 < other.0), "positions rise");
        Table::of(self).with(changes).pack()
    }

    /// Reads a page. All of it is checked, so that nothing read from it later can fail.
    pub fn decode(bytes: Vec<u8>) -> Result<Self, FormatError> {
        let mut reader = Reader::new(STRUCTURE, &bytes);
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
        reader.zeros(1)?;
        let mapped = reader.u16()?;
        let mut presence = [0; PRESENCE_WORDS];
        for word in &mut presence {
            *word = reader.u64()?;
        }
        let ranks = ranks(&presence);
        if ranks[PRESENCE_WORDS - 1] + presence[PRESENCE_WORDS - 1].count_ones() as u16 != mapped {
            return Err(reader.field("mapped"));
        }
        let mut columns = [Column::default(); COLUMNS];
        for column in &mut columns {
            *column = Column { base: reader.u64()?, at: 0, slope: reader.u16()?, width: reader.u8()? };
            if column.width > 56 && column.width != 64 {
                return Err(reader.field("width"));
            }
        }
        let (epochs, periods) = (reader.u16()?, reader.u16()?);
        if [epochs, periods].iter().any(|&size| size > mapped || (size == 0) != (mapped == 0)) {
            return Err(reader.field("dictionary"));
        }
        reader.take(8 * usize::from(epochs) + 4 * usize::from(periods))?;
        let mut place = |column: Column| -> Result<Column, FormatError> {
            let at = reader.at() as u32;
            reader.take(column.packed_bytes(mapped.into()))?;
            Ok(Column { at, ..column })
        };
        let [seq, segment, offset, shape] = columns;
        let page = Self {
            seq: place(seq)?,
            segment: place(segment)?,
            offset: place(offset)?,
            shape: place(shape)?,
            epoch: place(Column::of_dictionary(epochs.into()))?,
            period: place(Column::of_dictionary(periods.into()))?,
            bytes: Box::default(),
            ranks,
            mapped,
            epochs,
            periods,
        };
        reader.zeros(TAIL_BYTES - 4)?;
        reader.take(4)?;
        reader.end()?;
        let page = Self { bytes: bytes.into_boxed_slice(), ..page };
        page.check_numbers()?;
        Ok(page)
    }

    fn check_numbers(&self) -> Result<(), FormatError> {
        let wrong =
            |at: u32, name| FormatError { structure: STRUCTURE, offset: at as usize, problem: Problem::Field(name) };
        let within = |column: &Column, name, least: u64, most: u64| {
            // What no bits could break need not be looked at one by one, and that is nearly every column.
            let bounded = column.bounds().is_some_and(|(low, high)| least <= low && high <= most);
            let all = || (0..self.mapped()).all(|rank| (least..=most).contains(&column.get(&self.bytes, rank)));
            if self.is_empty() || bounded || all() { Ok(()) } else { Err(wrong(column.at, name)) }
        };
        within(&self.seq, "seq", 1, u64::MAX)?;
        within(&self.segment, "segment", 0, u32::MAX.into())?;
        within(&self.offset, "offset", 0, (u32::MAX / OFFSET_UNIT).into())?;
        within(&self.epoch, "epoch", 0, u64::from(self.epochs).saturating_sub(1))?;
        within(&self.period, "period", 0, u64::from(self.periods).saturating_sub(1))?;
        let shape_at = |rank| u16::try_from(self.shape.get(&self.bytes, rank)).ok().and_then(Shape::from_packed);
        // A constant column is right if its first number is.
        let constant = self.shape.width == 0 && self.shape.slope == 0;
        let mut shapes = (0..if constant { self.mapped().min(1) } else { self.mapped() }).map(shape_at);
        if !shapes.all(|shape| shape.is_some_and(|shape| !shape.is_unmap())) {
            return Err(wrong(self.shape.at, "shape"));
        }
        let rising = |count: u16, at: &dyn Fn(u64) -> u64| (1..count.into()).all(|index| at(index - 1) < at(index));
        if !rising(self.epochs, &|number| self.epoch_of(number).0)
            || !rising(self.periods, &|number| self.period_of(number).0.into())
        {
            return Err(wrong(DICTIONARIES_AT as u32, "dictionary"));
        }
        Ok(())
    }

    /// The page's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many blocks are mapped.
    #[must_use]
    pub const fn mapped(&self) -> usize {
        self.mapped as usize
    }

    /// Whether no block is mapped.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.mapped == 0
    }

    fn presence(&self, word: usize) -> u64 {
        load(&self.bytes, PRESENCE_AT + 8 * word)
    }

    #[inline]
    fn rank(&self, position: usize) -> Option<usize> {
        let before = *self.ranks.get(position / 64)?;
        let word = self.presence(position / 64);
        let bit = position % 64;
        (word >> bit & 1 == 1).then(|| usize::from(before) + (word & ((1 << bit) - 1)).count_ones() as usize)
    }

    fn epoch_of(&self, number: u64) -> Epoch {
        Epoch(load(&self.bytes, DICTIONARIES_AT + 8 * number as usize))
    }

    fn period_of(&self, number: u64) -> PeriodNumber {
        PeriodNumber(load(&self.bytes, DICTIONARIES_AT + 8 * usize::from(self.epochs) + 4 * number as usize) as u32)
    }

    #[inline]
    fn version_at(&self, rank: usize) -> Version {
        let epoch = self.epoch_of(self.epoch.get(&self.bytes, rank));
        Version { epoch, seq: Seq(self.seq.get(&self.bytes, rank)) }
    }

    #[inline]
    fn entry_at(&self, rank: usize) -> Option<Entry> {
        let bytes = &self.bytes;
        Some(Entry {
            version: self.version_at(rank),
            place: Place {
                segment: SegmentNumber(self.segment.get(bytes, rank) as u32),
                offset: self.offset.get(bytes, rank) as u32 * OFFSET_UNIT,
            },
            period: self.period_of(self.period.get(bytes, rank)),
            // Decoding checked every shape, so this is never `None`.
            shape: Shape::from_packed(self.shape.get(bytes, rank) as u16)?,
        })
    }

    /// What a block holds, by its position in the leaf; `None` if it is unmapped.
    #[inline]
    #[must_use]
    pub fn get(&self, position: usize) -> Option<Entry> {
        self.entry_at(self.rank(position)?)
    }

    /// Which version a block holds.
    #[must_use]
    pub fn version(&self, position: usize) -> Option<Version> {
        Some(self.version_at(self.rank(position)?))
    }

    fn positions(&self) -> impl Iterator<Item = usize> {
        (0..PRESENCE_WORDS).flat_map(|index| {
            let mut word = self.presence(index);
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                word &= word.wrapping_sub(1);
                (bit < 64).then_some(64 * index + bit)
            })
        })
    }

    /// The mapped blocks, by position, in order.
    pub fn entries(&self) -> impl Iterator<Item = (usize, Entry)> {
        self.positions().enumerate().filter_map(|(rank, position)| Some((position, self.entry_at(rank)?)))
    }

    /// The versions of the mapped blocks, by position, in order.
    pub fn versions(&self) -> impl Iterator<Item = (usize, Version)> {
        self.positions().enumerate().map(|(rank, position)| (position, self.version_at(rank)))
    }

    /// The state of this leaf, see [`state_hash_of`].
    #[must_use]
    pub fn state_hash(&self) -> TreeHash {
        if self.epochs > 1 {
            return state_hash_of(self.versions());
        }
        // Of one epoch: the seqs in bulk, and one run.
        let mut seqs = [0; LEAF_BLOCKS];
        self.seq.unpack(&self.bytes, &mut seqs[..self.mapped()]);
        let mut canonical = [0; 8 * LEAF_BLOCKS + RUN_BYTES];
        let mut first = None;
        for (rank, position) in self.positions().enumerate() {
            first.get_or_insert(position);
            canonical[8 * position..8 * position + 8].copy_from_slice(&seqs[rank].to_le_bytes());
        }
        let Some(first) = first else {
            return TreeHash::EMPTY;
        };
        canonical[8 * LEAF_BLOCKS..8 * LEAF_BLOCKS + 2].copy_from_slice(&(first as u16).to_le_bytes());
        canonical[8 * LEAF_BLOCKS + 2..].copy_from_slice(&self.epoch_of(0).0.to_le_bytes());
        hash::leaf(&canonical)
    }

    /// Bytes of memory it takes.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.bytes.len()
    }
}

impl PartialEq for LeafPage {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for LeafPage {}

impl fmt::Debug for LeafPage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "LeafPage({} blocks mapped, {} bytes)", self.mapped, self.bytes.len())
    }
}

/// The state of a leaf: which version each block holds, and nothing that two replicas may differ in.
///
/// Hashed are the seqs of all 512 blocks (u64, 0 = unmapped), then for each run of mapped blocks of one epoch, unmapped
/// ones skipped, the position of its first block (u16) and the epoch (u64). `versions` must rise by position.
#[must_use]
pub fn state_hash_of(versions: impl IntoIterator<Item = (usize, Version)>) -> TreeHash {
    let mut canonical = Vec::with_capacity(8 * LEAF_BLOCKS + 4 * RUN_BYTES);
    canonical.resize(8 * LEAF_BLOCKS, 0);
    let mut last = None;
    for (position, version) in versions {
        if let Some(seq) = canonical[..8 * LEAF_BLOCKS].get_mut(8 * position..8 * position + 8) {
            seq.copy_from_slice(&version.seq.0.to_le_bytes());
        }
        if last != Some(version.epoch) {
            last = Some(version.epoch);
            canonical.put_u16(position as u16);
            canonical.put_u64(version.epoch.0);
        }
    }
    if last.is_none() { TreeHash::EMPTY } else { hash::leaf(&canonical) }
}

fn ranks(presence: &[u64; PRESENCE_WORDS]) -> [u16; PRESENCE_WORDS] {
    let mut before = 0;
    presence.map(|word| {
        before += word.count_ones() as u16;
        before - word.count_ones() as u16
    })
}

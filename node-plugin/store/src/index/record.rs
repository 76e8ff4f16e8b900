//! One change of one block, packed: 28 bytes for a version, 40 for a move.

use hashbrown::HashMap;
use holdfast_log::place::{Entry, Place, Shape, Version};
use holdfast_vocabulary::{Epoch, PeriodNumber, SegmentNumber, Seq};

use super::arena::{OfBlock, mix};

/// Offsets are multiples of 16 and are kept as such.
const OFFSET_UNIT: u32 = 16;

/// What a change made of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It holds this version.
    Put(Entry),
    /// It is unmapped since this version.
    Unmap(Version),
}

impl Change {
    /// The version that made the change.
    pub const fn version(&self) -> Version {
        match self {
            Self::Put(entry) => entry.version,
            Self::Unmap(version) => *version,
        }
    }
}

/// Whether one version is to be preferred to another, whichever came first. Epochs decide only where a later epoch
/// used a seq again that an earlier one had not committed.
pub fn newer(one: Version, other: Version) -> bool {
    (one.seq, one.epoch) > (other.seq, other.epoch)
}

/// The few pairs of epoch and period that records name, each kept once.
#[derive(Default)]
pub struct Origins {
    pairs: Vec<(Epoch, PeriodNumber)>,
    numbers: HashMap<(Epoch, PeriodNumber), u32, OriginHasher>,
    bytes: usize,
}

/// The hasher of [`Origins`], the same in each run.
#[derive(Clone, Copy, Default)]
pub struct OriginHasher(u64);

impl std::hash::BuildHasher for OriginHasher {
    type Hasher = Self;
    fn build_hasher(&self) -> Self {
        *self
    }
}

impl std::hash::Hasher for OriginHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }
    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }
    fn write_u64(&mut self, number: u64) {
        self.0 = mix(self.0 ^ number);
    }
}

impl Origins {
    fn number(&mut self, epoch: Epoch, period: PeriodNumber) -> u32 {
        let last = self.pairs.len() as u32;
        if self.pairs.last() == Some(&(epoch, period)) {
            return last - 1;
        }
        let number = *self.numbers.entry((epoch, period)).or_insert(last);
        if number == last {
            self.pairs.push((epoch, period));
            self.bytes = self.pairs.capacity() * size_of::<(Epoch, PeriodNumber)>() + self.numbers.allocation_size();
        }
        number
    }

    fn pair(&self, number: u32) -> (Epoch, PeriodNumber) {
        self.pairs[number as usize]
    }

    /// Bytes of memory it takes.
    pub const fn memory_bytes(&self) -> usize {
        self.bytes
    }
}

const fn halves(number: u64) -> [u32; 2] {
    [number as u32, (number >> 32) as u32]
}

const fn whole(halves: [u32; 2]) -> u64 {
    halves[0] as u64 | (halves[1] as u64) << 32
}

/// A [`Change`].
#[derive(Clone, Copy)]
pub struct Point {
    seq: [u32; 2],
    block: u32,
    segment: u32,
    units: u32,
    origin: u32,
    shape: u16,
    block_high: u16,
}

impl OfBlock for Point {
    fn block(&self) -> u64 {
        u64::from(self.block) | u64::from(self.block_high) << 32
    }
}

impl Point {
    /// Packs a change.
    pub fn pack(block: u64, change: &Change, origins: &mut Origins) -> Self {
        let unmapped = Place { segment: SegmentNumber(0), offset: 0 };
        let (version, place, period, shape) = match change {
            Change::Put(entry) => (entry.version, entry.place, entry.period, entry.shape),
            Change::Unmap(version) => (*version, unmapped, PeriodNumber(0), Shape::UNMAPPED),
        };
        Self {
            seq: halves(version.seq.0),
            block: block as u32,
            segment: place.segment.0,
            units: place.offset / OFFSET_UNIT,
            origin: origins.number(version.epoch, period),
            shape: shape.packed(),
            block_high: (block >> 32) as u16,
        }
    }

    /// The record's place in the log.
    pub const fn seq(&self) -> Seq {
        Seq(whole(self.seq))
    }

    /// Unpacks the change.
    pub fn change(&self, origins: &Origins) -> Change {
        let (epoch, period) = origins.pair(self.origin);
        let version = Version { epoch, seq: self.seq() };
        match Shape::from_packed(self.shape) {
            Some(shape) if !shape.is_unmap() => Change::Put(Entry { version, place: self.place(), period, shape }),
            _ => Change::Unmap(version),
        }
    }

    /// Where the version lies.
    pub const fn place(&self) -> Place {
        Place { segment: SegmentNumber(self.segment), offset: self.units * OFFSET_UNIT }
    }

    /// The version lies elsewhere now.
    pub const fn set_place(&mut self, place: Place) {
        self.segment = place.segment.0;
        self.units = place.offset / OFFSET_UNIT;
    }
}

/// A relocation whose subject is below: it takes effect where, and only where, it finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The version that was moved.
    pub version: Version,
    /// Where it must lie for the move to mean it.
    pub from: Place,
    /// Where it lies afterwards.
    pub to: Place,
}

impl Move {
    /// Moves an entry, if it is the one that is meant.
    pub fn apply(&self, entry: &mut Entry) {
        if entry.version == self.version && entry.place == self.from {
            entry.place = self.to;
        }
    }
}

/// A [`Move`], and the one before it of the same block.
#[derive(Clone, Copy)]
pub struct Link {
    seq: [u32; 2],
    block: u32,
    origin: u32,
    from: [u32; 2],
    to: [u32; 2],
    earlier: u32,
    block_high: u16,
}

impl OfBlock for Link {
    fn block(&self) -> u64 {
        u64::from(self.block) | u64::from(self.block_high) << 32
    }
}

impl Link {
    /// Packs a move.
    pub fn pack(block: u64, step: &Move, earlier: Option<u32>, origins: &mut Origins) -> Self {
        let pack = |place: Place| [place.segment.0, place.offset / OFFSET_UNIT];
        Self {
            seq: halves(step.version.seq.0),
            block: block as u32,
            origin: origins.number(step.version.epoch, PeriodNumber(0)),
            from: pack(step.from),
            to: pack(step.to),
            earlier: earlier.unwrap_or(u32::MAX),
            block_high: (block >> 32) as u16,
        }
    }

    /// The number of the move before.
    pub fn earlier(&self) -> Option<u32> {
        (self.earlier != u32::MAX).then_some(self.earlier)
    }

    /// Unpacks the move.
    pub fn step(&self, origins: &Origins) -> Move {
        let place = |[segment, units]: [u32; 2]| Place { segment: SegmentNumber(segment), offset: units * OFFSET_UNIT };
        let version = Version { epoch: origins.pair(self.origin).0, seq: Seq(whole(self.seq)) };
        Move { version, from: place(self.from), to: place(self.to) }
    }
}

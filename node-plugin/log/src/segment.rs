//! Segment files: what they begin with, and what ends them.
//!
//! A *log segment* holds groups in order and ends, once it is closed, with a copy of their headers. A *moved segment*
//! holds records that collection moved: no groups, only records and a table of them at the end; it counts only when
//! that table is whole. Both are written once and never opened again for append.

use holdfast_vocabulary::{BlockIndex, Epoch, Generation, InstanceId, PeriodNumber, SegmentNumber, Seq, VolumeId};

use crate::bytes::{FormatError, Problem, Put, Reader};
use crate::hash::{ChainHash, crc32c};
use crate::period::{Compression, PeriodRow};
use crate::place::{Place, Shape, Version};

/// The smallest segment that takes data, and the largest.
pub const SEGMENT_BYTES_MIN: u32 = 1 << 20;
/// See [`SEGMENT_BYTES_MIN`].
pub const SEGMENT_BYTES_MAX: u32 = 16 << 20;
/// Bytes of a segment's head and of its foot. One sector each, whatever the disk's sector is.
pub const HEAD_BYTES: usize = 512;

const HEAD_MAGIC: &[u8; 8] = b"HFSEGMNT";
const FOOT_MAGIC: &[u8; 8] = b"HFSEGEND";
const VERSION: u16 = 1;

/// What a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// Groups, as a session appended them. All blocks in it are of one period, whose row the head carries.
    Log {
        /// Its one period.
        period: PeriodRow,
    },
    /// Records that collection moved.
    Moved {
        /// How often its records have been moved, at least; a guess at how cold they are.
        temperature: u8,
    },
}

/// The first sector of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHead {
    /// The volume.
    pub volume: VolumeId,
    /// The segment's number in its store.
    pub number: SegmentNumber,
    /// How long it may grow.
    pub capacity: u32,
    /// Groups and records start at multiples of this.
    pub sector: u32,
    /// This life of the file.
    pub instance: InstanceId,
    /// The registry's generation, of a log segment's session.
    pub generation: Generation,
    /// The epoch, of a log segment's session.
    pub epoch: Epoch,
    /// The seq that a log segment's first record will take.
    pub first_seq: Seq,
    /// The chain before a log segment's first group.
    pub chain: ChainHash,
    /// What it holds.
    pub kind: SegmentKind,
}

impl SegmentHead {
    /// Whether some records of a log segment may be shorter than a block.
    #[must_use]
    pub fn has_short_records(&self) -> bool {
        matches!(self.kind, SegmentKind::Log { period } if period.compression != Compression::None)
    }

    /// One sector.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES);
        out.put(HEAD_MAGIC);
        out.put_u16(VERSION);
        let (kind, temperature) = match self.kind {
            SegmentKind::Log { .. } => (1, 0),
            SegmentKind::Moved { temperature } => (2, temperature),
        };
        out.put_u8(kind);
        out.put_u8(temperature);
        out.put_u32(self.number.0);
        out.put(&self.volume.0);
        out.put(&self.instance.0);
        out.put_u32(self.capacity);
        out.put_u32(self.sector);
        out.put_u64(self.generation.0);
        out.put_u64(self.epoch.0);
        out.put_u64(self.first_seq.0);
        out.put(&self.chain.0);
        match &self.kind {
            SegmentKind::Log { period } => period.encode(&mut out),
            SegmentKind::Moved { .. } => out.put(&[0; PeriodRow::BYTES]),
        }
        seal_sector(out)
    }

    /// Reads a sector.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut from = open_sector("segment head", bytes, HEAD_MAGIC)?;
        let kind = from.u8()?;
        let temperature = from.u8()?;
        let number = SegmentNumber(from.u32()?);
        let volume = VolumeId(from.array()?);
        let instance = InstanceId(from.array()?);
        let capacity = from.u32()?;
        let sector = from.u32()?;
        if !matches!(sector, 512 | 4096) || capacity > SEGMENT_BYTES_MAX || capacity < sector {
            return Err(from.field("capacity or sector"));
        }
        let generation = Generation(from.u64()?);
        let epoch = Epoch(from.u64()?);
        let first_seq = Seq(from.u64()?);
        let chain = ChainHash(from.array()?);
        let kind = match kind {
            1 if temperature == 0 => SegmentKind::Log { period: PeriodRow::decode(&mut from)? },
            2 => {
                from.zeros(PeriodRow::BYTES)?;
                SegmentKind::Moved { temperature }
            }
            _ => return Err(from.field("kind")),
        };
        from.zeros(from.left())?;
        Ok(Self { volume, number, capacity, sector, instance, generation, epoch, first_seq, chain, kind })
    }
}

/// The last sector of a closed segment: where its table lies, and that it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFoot {
    /// This life of the file.
    pub instance: InstanceId,
    /// Where the table starts.
    pub table_offset: u32,
    /// How long it is.
    pub table_bytes: u32,
    /// CRC32C of the table.
    pub table_crc: u32,
    /// How many groups or records it lists.
    pub count: u32,
}

impl SegmentFoot {
    /// One sector.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD_BYTES);
        out.put(FOOT_MAGIC);
        out.put_u16(VERSION);
        out.put(&self.instance.0);
        out.put_u32(self.table_offset);
        out.put_u32(self.table_bytes);
        out.put_u32(self.table_crc);
        out.put_u32(self.count);
        seal_sector(out)
    }

    /// Reads a sector.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut from = open_sector("segment foot", bytes, FOOT_MAGIC)?;
        let foot = Self {
            instance: InstanceId(from.array()?),
            table_offset: from.u32()?,
            table_bytes: from.u32()?,
            table_crc: from.u32()?,
            count: from.u32()?,
        };
        from.zeros(from.left())?;
        Ok(foot)
    }
}

fn seal_sector(mut out: Vec<u8>) -> Vec<u8> {
    out.resize(HEAD_BYTES - 4, 0);
    let crc = crc32c(&out);
    out.put_u32(crc);
    out
}

fn open_sector<'a>(name: &'static str, bytes: &'a [u8], magic: &[u8; 8]) -> Result<Reader<'a>, FormatError> {
    let mut whole = Reader::new(name, bytes);
    let sector = whole.take(HEAD_BYTES)?;
    let mut from = Reader::new(name, &sector[..HEAD_BYTES - 4]);
    if from.take(8)? != magic {
        return Err(FormatError { structure: name, offset: 0, problem: Problem::Magic });
    }
    let version = from.u16()?;
    if version != VERSION {
        return Err(from.error(Problem::Version(version.into())));
    }
    if crc32c(&sector[..HEAD_BYTES - 4]).to_le_bytes() != sector[HEAD_BYTES - 4..] {
        return Err(FormatError { structure: name, offset: HEAD_BYTES - 4, problem: Problem::Checksum });
    }
    Ok(from)
}

/// A row of a log segment's table: where a group starts, and a copy of its header with MAC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderCopy {
    /// Where the group's frame starts.
    pub offset: u32,
    /// Header and MAC.
    pub header: Vec<u8>,
}

/// Encodes a log segment's table.
#[must_use]
pub fn encode_header_copies(copies: &[HeaderCopy]) -> Vec<u8> {
    let mut out = Vec::with_capacity(copies.iter().map(|copy| copy.header.len() + 8).sum());
    for copy in copies {
        out.put_u32(copy.offset);
        out.put_u32(copy.header.len() as u32);
        out.put(&copy.header);
    }
    out
}

/// Reads a log segment's table of `count` rows.
pub fn decode_header_copies(bytes: &[u8], count: u32) -> Result<Vec<HeaderCopy>, FormatError> {
    let mut from = Reader::new("table of groups", bytes);
    let mut copies = Vec::with_capacity((count as usize).min(bytes.len() / 8));
    for _ in 0..count {
        let offset = from.u32()?;
        let length = from.u32()? as usize;
        copies.push(HeaderCopy { offset, header: from.take(length)?.to_vec() });
    }
    from.end()?;
    Ok(copies)
}

/// A row of a moved segment's table. Its place follows from the order of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedEntry {
    /// The block.
    pub block: BlockIndex,
    /// The version that was moved.
    pub version: Version,
    /// The subkey it was sealed under.
    pub period: PeriodNumber,
    /// Length and flags.
    pub shape: Shape,
    /// CRC32C over ciphertext and tag.
    pub crc: u32,
    /// Where it lay before.
    pub from: Place,
}

/// A moved segment's table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MovedTable {
    /// The row of every period that a record names.
    pub periods: Vec<PeriodRow>,
    /// The segments of which nothing is left to move once this table is durable, so that they may be gone.
    pub emptied: Vec<SegmentNumber>,
    /// The records, in the order in which they lie in the file.
    pub entries: Vec<MovedEntry>,
}

impl MovedTable {
    /// Whether some records may be shorter than a block, so that several start within 4 KiB.
    #[must_use]
    pub fn has_short_records(&self) -> bool {
        self.periods.iter().any(|row| row.compression != Compression::None)
    }

    /// The most records that a moved segment can hold, which bounds what a decoder will take in.
    pub const ENTRIES_MAX: usize = SEGMENT_BYTES_MAX as usize / 1024;
    /// Bytes of a row.
    pub const ENTRY_BYTES: usize = 40;

    /// The table's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(
            16 + self.periods.len() * PeriodRow::BYTES
                + self.emptied.len() * 4
                + self.entries.len() * Self::ENTRY_BYTES,
        );
        out.put_u32(self.periods.len() as u32);
        out.put_u32(self.emptied.len() as u32);
        out.put_u32(self.entries.len() as u32);
        out.put_u32(0);
        self.periods.iter().for_each(|row| row.encode(&mut out));
        self.emptied.iter().for_each(|number| out.put_u32(number.0));
        for entry in &self.entries {
            out.put_u64(entry.block.0 | u64::from(entry.shape.packed()) << 48);
            out.put_u64(entry.version.seq.0);
            out.put_u64(entry.version.epoch.0);
            out.put_u32(entry.period.0);
            out.put_u32(entry.crc);
            out.put_u32(entry.from.segment.0);
            out.put_u32(entry.from.offset);
        }
        out
    }

    /// Reads a table.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut from = Reader::new("table of moved records", bytes);
        let periods = from.u32()? as usize;
        let emptied = from.u32()? as usize;
        let entries = from.u32()? as usize;
        from.zeros(4)?;
        if periods.max(emptied).max(entries) > Self::ENTRIES_MAX {
            return Err(from.field("count"));
        }
        let periods = (0..periods).map(|_| PeriodRow::decode(&mut from)).collect::<Result<Vec<_>, _>>()?;
        let emptied = (0..emptied).map(|_| from.u32().map(SegmentNumber)).collect::<Result<Vec<_>, _>>()?;
        let entries_room = entries.min(bytes.len() / Self::ENTRY_BYTES);
        let mut table = Self { periods, emptied, entries: Vec::with_capacity(entries_room) };
        for _ in 0..entries {
            let word = from.u64()?;
            let shape = Shape::from_packed((word >> 48) as u16).filter(|shape| !shape.is_unmap());
            let shape = shape.ok_or_else(|| from.field("length and flags"))?;
            let block = BlockIndex(word & ((1 << 48) - 1));
            if block.0 >= holdfast_vocabulary::VolumeSize::BLOCKS_MAX {
                return Err(from.field("block"));
            }
            table.entries.push(MovedEntry {
                block,
                shape,
                version: Version { seq: Seq(from.u64()?), epoch: Epoch(from.u64()?) },
                period: PeriodNumber(from.u32()?),
                crc: from.u32()?,
                from: Place { segment: SegmentNumber(from.u32()?), offset: from.u32()? },
            });
        }
        from.end()?;
        Ok(table)
    }
}

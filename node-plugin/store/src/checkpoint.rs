//! A checkpoint: everything that recovery needs to start from the base instead of from the first record.
//!
//! Two slots are written in turn, so that the one before the newest is whole whatever happens to the newest. A checkpoint
//! never refers to what is not yet synced.

use holdfast_log::anchor::SignedRoot;
use holdfast_log::bytes::{FormatError, Problem, Put, Reader};
use holdfast_log::hash::{ChainHash, crc32c};
use holdfast_log::period::PeriodRow;
use holdfast_log::seam::EpochRow;
use holdfast_vocabulary::{Epoch, Generation, InstanceId, SegmentNumber, Seq, VolumeId};

use crate::index::IndexRoot;

/// Bytes before the body: magic, version, length, checksum.
pub const HEAD_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"HFCHKPNT";
const VERSION: u32 = 1;
/// More of anything than a store can have; bounds what a damaged count can ask for.
const COUNT_MAX: usize = 1 << 24;

/// A segment that the base may refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRow {
    /// Its number.
    pub number: SegmentNumber,
    /// Its life.
    pub instance: InstanceId,
    /// `None` for a log segment, else how often its records were moved.
    pub temperature: Option<u8>,
    /// Its length, now that it is closed.
    pub bytes: u32,
    /// Stored bytes of the records that the base maps in it.
    pub live_bytes: u32,
    /// Bytes that one bit of `live` stands for.
    pub cell: u32,
    /// One bit a cell: set where a record starts that the base maps.
    pub live: Vec<u64>,
}

/// The content of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The volume.
    pub volume: VolumeId,
    /// Counts up by one; the newest whole slot is the one to start from.
    pub number: u64,
    /// The base holds exactly the records up to this one.
    pub through: Seq,
    /// The chain up to it.
    pub chain: ChainHash,
    /// The highest committed mark known.
    pub committed: Seq,
    /// The session's word on the base.
    pub root: Option<SignedRoot>,
    /// Log segments below this number are covered by the base.
    pub boundary: SegmentNumber,
    /// No segment has this number or a higher one yet.
    pub next_segment: SegmentNumber,
    /// The index files.
    pub index: IndexRoot,
    /// The log's epochs, oldest first.
    pub epochs: Vec<EpochRow>,
    /// The rows of every period that a mapped block names, with the count of those blocks.
    pub periods: Vec<(PeriodRow, u64)>,
    /// Every segment that the base covers.
    pub segments: Vec<SegmentRow>,
}

impl Checkpoint {
    /// Head and body.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4096 + self.segments.len() * 600);
        out.put(&[0; HEAD_BYTES]);
        out.put(&self.volume.0);
        out.put_u64(self.number);
        out.put_u64(self.through.0);
        out.put(&self.chain.0);
        out.put_u64(self.committed.0);
        out.put_u8(self.root.is_some().into());
        out.put(&[0; 7]);
        if let Some(root) = &self.root {
            root.encode(&mut out);
        }
        out.put_u32(self.boundary.0);
        out.put_u32(self.next_segment.0);
        let index = self.index.encode();
        out.put_u32(index.len() as u32);
        out.put(&index);
        out.put_u32(self.epochs.len() as u32);
        for row in &self.epochs {
            out.put_u64(row.generation.0);
            out.put_u64(row.epoch.0);
            out.put_u64(row.base.0);
            out.put(&row.base_chain.0);
        }
        out.put_u32(self.periods.len() as u32);
        for (row, count) in &self.periods {
            row.encode(&mut out);
            out.put_u64(*count);
        }
        out.put_u32(self.segments.len() as u32);
        for row in &self.segments {
            out.put_u32(row.number.0);
            out.put(&row.instance.0);
            out.put_u32(row.temperature.map_or(0, |temperature| 1 + u32::from(temperature)));
            out.put_u32(row.bytes);
            out.put_u32(row.live_bytes);
            out.put_u32(row.cell);
            out.put_u32(row.live.len() as u32);
            row.live.iter().for_each(|word| out.put_u64(*word));
        }
        let body = out.len() - HEAD_BYTES;
        let crc = crc32c(&out[HEAD_BYTES..]);
        let mut head = Vec::with_capacity(HEAD_BYTES);
        head.put(MAGIC);
        head.put_u32(VERSION);
        head.put_u32(crc);
        head.put_u64(body as u64);
        let head_crc = crc32c(&head);
        head.put_u32(head_crc);
        out[..head.len()].copy_from_slice(&head);
        out
    }

    /// Reads the head alone: how many bytes of body follow, and their checksum.
    pub fn decode_head(bytes: &[u8]) -> Result<(u64, u32), FormatError> {
        let mut from = Reader::new("checkpoint", bytes);
        if from.take(8)? != MAGIC {
            return Err(FormatError { structure: "checkpoint", offset: 0, problem: Problem::Magic });
        }
        let version = from.u32()?;
        let crc = from.u32()?;
        let length = from.u64()?;
        if from.u32()? != crc32c(&bytes[..24]) {
            return Err(from.error(Problem::Checksum));
        }
        // Behind the checksum: an unknown version is what a newer release wrote, not what a crash left.
        if version != VERSION {
            return Err(FormatError { structure: "checkpoint", offset: 8, problem: Problem::Version(version) });
        }
        if length > 1 << 32 {
            return Err(from.field("bytes of the body"));
        }
        from.zeros(HEAD_BYTES - from.at())?;
        Ok((length, crc))
    }

    /// Reads head and body. What follows the body is padding.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let (length, crc) = Self::decode_head(bytes)?;
        let end = HEAD_BYTES + length as usize;
        let Some(body) = bytes.get(HEAD_BYTES..end) else {
            return Err(FormatError { structure: "checkpoint", offset: bytes.len(), problem: Problem::Truncated });
        };
        if crc32c(body) != crc {
            return Err(FormatError { structure: "checkpoint", offset: HEAD_BYTES, problem: Problem::Checksum });
        }
        let mut from = Reader::new("checkpoint", body);
        let volume = VolumeId(from.array()?);
        let number = from.u64()?;
        let through = Seq(from.u64()?);
        let chain = ChainHash(from.array()?);
        let committed = Seq(from.u64()?);
        let signed = from.u8()?;
        from.zeros(7)?;
        let root = match signed {
            0 => None,
            1 => Some(SignedRoot::decode(&mut from)?),
            _ => return Err(from.field("signed")),
        };
        let boundary = SegmentNumber(from.u32()?);
        let next_segment = SegmentNumber(from.u32()?);
        let index_bytes = from.u32()? as usize;
        let index = IndexRoot::decode(from.take(index_bytes)?)?;
        let epochs = list(&mut from, 56, |from| {
            Ok(EpochRow {
                generation: Generation(from.u64()?),
                epoch: Epoch(from.u64()?),
                base: Seq(from.u64()?),
                base_chain: ChainHash(from.array()?),
            })
        })?;
        let periods = list(&mut from, PeriodRow::BYTES + 8, |from| Ok((PeriodRow::decode(from)?, from.u64()?)))?;
        let segments = list(&mut from, 40, decode_segment)?;
        from.end()?;
        Ok(Self {
            volume,
            number,
            through,
            chain,
            committed,
            root,
            boundary,
            next_segment,
            index,
            epochs,
            periods,
            segments,
        })
    }
}

fn decode_segment(from: &mut Reader<'_>) -> Result<SegmentRow, FormatError> {
    let number = SegmentNumber(from.u32()?);
    let instance = InstanceId(from.array()?);
    let temperature = match from.u32()? {
        0 => None,
        moved @ 1..=256 => Some((moved - 1) as u8),
        _ => return Err(from.field("temperature")),
    };
    let bytes = from.u32()?;
    let live_bytes = from.u32()?;
    let cell = from.u32()?;
    if !matches!(cell, 1024 | 4096) {
        return Err(from.field("cell"));
    }
    let words = from.u32()? as usize;
    if words > holdfast_log::segment::SEGMENT_BYTES_MAX as usize / 1024 / 64 {
        return Err(from.field("live map"));
    }
    let live = (0..words).map(|_| from.u64()).collect::<Result<_, _>>()?;
    Ok(SegmentRow { number, instance, temperature, bytes, live_bytes, cell, live })
}

/// Reads a count and so many of something that takes `bytes_min` bytes at least.
fn list<T>(
    from: &mut Reader<'_>,
    bytes_min: usize,
    mut one: impl FnMut(&mut Reader<'_>) -> Result<T, FormatError>,
) -> Result<Vec<T>, FormatError> {
    let count = from.u32()? as usize;
    if count > COUNT_MAX {
        return Err(from.field("count"));
    }
    let mut all = Vec::with_capacity(count.min(from.left() / bytes_min));
    for _ in 0..count {
        all.push(one(from)?);
    }
    Ok(all)
}

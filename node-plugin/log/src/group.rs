//! A group: what one commit adds to the log.
//!
//! The *header* is the same on every replica: the session writes it, the chain runs through it, the session's MAC ends
//! it. The *frame* before it belongs to one store and one segment file. Tags lie beside their ciphertext; the header
//! carries their digest, so that a chain of headers binds every byte of the log.

use holdfast_vocabulary::{BlockIndex, Epoch, Generation, InstanceId, PeriodNumber, Seq, SessionId, VolumeId};

use crate::bytes::{FormatError, Problem, Put, Reader};
use crate::hash::{self, ChainHash, TagsDigest};
use crate::period::PeriodRow;
use crate::place::Shape;

/// The most entries that a group may have.
pub const GROUP_ENTRIES_MAX: usize = 256;
/// The most members that a start record can name.
pub const SET_MEMBERS_MAX: usize = 16;

const HEADER_VERSION: u16 = 1;
const FIXED_BYTES: usize = 128;
const ENTRY_BYTES: usize = 16;
const MAC_BYTES: usize = 32;

/// One record of a data group. Its seq is the group's first plus its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupEntry {
    /// The block, or the first of the blocks that an unmap covers.
    pub block: BlockIndex,
    /// Length and flags.
    pub shape: Shape,
    /// A sealed block: CRC32C over ciphertext and tag. An unmap: how many blocks.
    pub crc_or_count: u32,
}

/// How an epoch begins: what it stands on, and who is in its set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartRecord {
    /// The session that was granted the epoch.
    pub session: SessionId,
    /// The last record of earlier epochs that counts. What lies above it is void.
    pub base: Seq,
    /// The chain up to the base.
    pub base_chain: ChainHash,
    /// The version of the in-sync set.
    pub set_version: u64,
    /// The in-sync set's members, as the registry names them.
    pub set: Vec<[u8; 16]>,
    /// The period that the session opens.
    pub period: PeriodRow,
}

/// What a group holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBody {
    /// Sealed blocks and unmaps.
    Data(Vec<GroupEntry>),
    /// The beginning of an epoch. It takes no seq.
    Start(StartRecord),
}

/// A group's header, without chain and MAC, which follow from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupHeader {
    /// The volume.
    pub volume: VolumeId,
    /// The registry's generation.
    pub generation: Generation,
    /// The epoch that sealed the group.
    pub epoch: Epoch,
    /// The seq of the first entry.
    pub first_seq: Seq,
    /// The highest seq known durable on every in-sync replica when the group was sealed.
    pub committed: Seq,
    /// The period of every sealed block in it.
    pub period: PeriodNumber,
    /// Bytes of packed records that follow the header.
    pub data_bytes: u32,
    /// The chain up to the group before.
    pub previous: ChainHash,
    /// The digest of the tags.
    pub tags: TagsDigest,
    /// What it holds.
    pub body: GroupBody,
}

impl GroupHeader {
    /// How many seqs the group takes.
    #[must_use]
    pub fn records(&self) -> u64 {
        match &self.body {
            GroupBody::Data(entries) => entries.len() as u64,
            GroupBody::Start(_) => 0,
        }
    }

    /// The last seq that the group takes; for a start record, the one before it.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        Seq(self.first_seq.0 + self.records() - 1)
    }

    /// The header's bytes without the MAC: what the chain runs through.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, count) = match &self.body {
            GroupBody::Data(entries) => (0, entries.len()),
            GroupBody::Start(start) => (1, start.set.len()),
        };
        let mut out = Vec::with_capacity(FIXED_BYTES + count * ENTRY_BYTES + 256 + MAC_BYTES);
        out.put_u16(HEADER_VERSION);
        out.put_u8(kind);
        out.put_u8(0);
        out.put_u32(count as u32);
        out.put(&self.volume.0);
        out.put_u64(self.generation.0);
        out.put_u64(self.epoch.0);
        out.put_u64(self.first_seq.0);
        out.put_u64(self.committed.0);
        out.put_u32(self.period.0);
        out.put_u32(self.data_bytes);
        out.put(&self.previous.0);
        out.put(&self.tags.0);
        match &self.body {
            GroupBody::Data(entries) => {
                for entry in entries {
                    out.put_u64(entry.block.0 | u64::from(entry.shape.packed()) << 48);
                    out.put_u32(entry.crc_or_count);
                    out.put_u32(0);
                }
            }
            GroupBody::Start(start) => {
                out.put(&start.session.0);
                out.put_u64(start.base.0);
                out.put(&start.base_chain.0);
                out.put_u64(start.set_version);
                start.set.iter().for_each(|member| out.put(member));
                start.period.encode(&mut out);
            }
        }
        out
    }

    /// Reads a header with the MAC behind it, and gives both.
    pub fn decode(bytes: &[u8]) -> Result<(Self, [u8; 32]), FormatError> {
        let mut from = Reader::new("group header", bytes);
        let version = from.u16()?;
        if version != HEADER_VERSION {
            return Err(from.error(Problem::Version(version.into())));
        }
        let kind = from.u8()?;
        from.zeros(1)?;
        let count = from.u32()? as usize;
        let mut header = Self {
            volume: VolumeId(from.array()?),
            generation: Generation(from.u64()?),
            epoch: Epoch(from.u64()?),
            first_seq: Seq(from.u64()?),
            committed: Seq(from.u64()?),
            period: PeriodNumber(from.u32()?),
            data_bytes: from.u32()?,
            previous: ChainHash(from.array()?),
            tags: TagsDigest(from.array()?),
            body: GroupBody::Data(Vec::new()),
        };
        if header.first_seq.0 == 0 || header.first_seq.0 > u64::MAX - GROUP_ENTRIES_MAX as u64 {
            return Err(from.field("first seq"));
        }
        if header.committed >= header.first_seq {
            return Err(from.field("committed mark"));
        }
        header.body = match kind {
            0 => GroupBody::Data(decode_entries(&mut from, count, header.data_bytes)?),
            1 => GroupBody::Start(decode_start(&mut from, count, &header)?),
            _ => return Err(from.field("kind")),
        };
        let mac = from.array()?;
        from.end()?;
        Ok((header, mac))
    }

    /// The chain up to and including this group.
    #[must_use]
    pub fn chain(&self) -> ChainHash {
        hash::chain(self.previous, &self.encode())
    }
}

fn decode_entries(from: &mut Reader<'_>, count: usize, data_bytes: u32) -> Result<Vec<GroupEntry>, FormatError> {
    if count == 0 || count > GROUP_ENTRIES_MAX {
        return Err(from.field("count of entries"));
    }
    let mut entries = Vec::with_capacity(count);
    let mut packed = 0;
    for _ in 0..count {
        let word = from.u64()?;
        let shape = Shape::from_packed((word >> 48) as u16).ok_or_else(|| from.field("length and flags"))?;
        let block = BlockIndex(word & ((1 << 48) - 1));
        let crc_or_count = from.u32()?;
        from.zeros(4)?;
        let blocks = if shape.is_unmap() { u64::from(crc_or_count) } else { 1 };
        if blocks == 0 || block.0 + blocks > holdfast_vocabulary::VolumeSize::BLOCKS_MAX {
            return Err(from.field("block"));
        }
        packed += shape.stored_bytes();
        entries.push(GroupEntry { block, shape, crc_or_count });
    }
    if packed != data_bytes as usize {
        return Err(from.field("bytes of data"));
    }
    Ok(entries)
}

fn decode_start(from: &mut Reader<'_>, count: usize, header: &GroupHeader) -> Result<StartRecord, FormatError> {
    if count > SET_MEMBERS_MAX {
        return Err(from.field("count of members"));
    }
    let session = SessionId(from.array()?);
    let base = Seq(from.u64()?);
    let base_chain = ChainHash(from.array()?);
    let set_version = from.u64()?;
    let set = (0..count).map(|_| from.array()).collect::<Result<_, _>>()?;
    let period = PeriodRow::decode(from)?;
    if base != Seq(header.first_seq.0 - 1) || header.data_bytes != 0 || base_chain != header.previous {
        return Err(from.field("base"));
    }
    if period.number != header.period || period.epoch != header.epoch {
        return Err(from.field("period row"));
    }
    Ok(StartRecord { session, base, base_chain, set_version, set, period })
}

/// What a store puts before a header in one of its segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of header, with its MAC.
    pub header_bytes: u32,
    /// Bytes of packed records.
    pub data_bytes: u32,
    /// The life of the segment file that the group was written in.
    pub instance: InstanceId,
}

impl Frame {
    /// Bytes of a frame.
    pub const BYTES: usize = 32;
    const MAGIC: u32 = u32::from_le_bytes(*b"HFGR");
    /// No header is longer.
    pub const HEADER_BYTES_MAX: usize = FIXED_BYTES + GROUP_ENTRIES_MAX * ENTRY_BYTES + MAC_BYTES;

    /// Frame, header and MAC in one piece, without padding.
    #[must_use]
    pub fn wrap(instance: InstanceId, header: &[u8], mac: &[u8; 32], data_bytes: u32) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::BYTES + header.len() + MAC_BYTES);
        out.put_u32(Self::MAGIC);
        out.put_u32((header.len() + MAC_BYTES) as u32);
        out.put_u32(data_bytes);
        out.put_u32(0);
        out.put(&instance.0);
        out.put(header);
        out.put(mac);
        let crc = hash::crc32c(&out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the frame alone, to learn how long the header is. Proves nothing yet.
    pub fn peek(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut from = Reader::new("group frame", bytes);
        if from.u32()? != Self::MAGIC {
            return Err(FormatError { structure: "group frame", offset: 0, problem: Problem::Magic });
        }
        let header_bytes = from.u32()?;
        let data_bytes = from.u32()?;
        let _crc = from.u32()?;
        let instance = InstanceId(from.array()?);
        if header_bytes as usize > Self::HEADER_BYTES_MAX || header_bytes as usize <= FIXED_BYTES {
            return Err(from.field("bytes of header"));
        }
        Ok(Self { header_bytes, data_bytes, instance })
    }

    /// Checks frame and header against their checksum and reads the header.
    pub fn unwrap(bytes: &[u8]) -> Result<(Self, GroupHeader, [u8; 32]), FormatError> {
        let frame = Self::peek(bytes)?;
        let end = Self::BYTES + frame.header_bytes as usize;
        let Some(whole) = bytes.get(..end) else {
            return Err(FormatError { structure: "group frame", offset: bytes.len(), problem: Problem::Truncated });
        };
        let mut copy = whole.to_vec();
        copy[12..16].fill(0);
        if hash::crc32c(&copy).to_le_bytes() != whole[12..16] {
            return Err(FormatError { structure: "group frame", offset: 12, problem: Problem::Checksum });
        }
        let (header, mac) = GroupHeader::decode(&whole[Self::BYTES..])?;
        if header.data_bytes != frame.data_bytes {
            return Err(FormatError { structure: "group frame", offset: 8, problem: Problem::Field("bytes of data") });
        }
        Ok((frame, header, mac))
    }
}

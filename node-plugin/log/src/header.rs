//! What a replica says of itself: enough to find its volume, its size and whether it was ever formatted, with nothing
//! else at hand. The session writes and MACs it; a store keeps it and cannot change it unnoticed.

use holdfast_vocabulary::{BLOCK_BYTES, Epoch, Generation, KeyId, VolumeId, VolumeSize};

use crate::bytes::{FormatError, Problem, Put, Reader};
use crate::hash::crc32c;
use crate::period::Compression;

/// Whether a file system may be made on the volume. It only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Formatted {
    /// Nobody ever formatted it or took it as a raw device.
    Never,
    /// A format was begun under some grant; it may be repeated, and nothing may be mounted yet.
    Formatting,
    /// It holds something that belongs to somebody.
    Formatted,
}

/// The authenticated header of a volume's replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VolumeHeader {
    /// The volume.
    pub volume: VolumeId,
    /// How large it is. Only grows.
    pub size: VolumeSize,
    /// The registry's generation of the session that wrote this.
    pub generation: Generation,
    /// The epoch of the session that wrote this.
    pub epoch: Epoch,
    /// Which volume key the header is MACed under.
    pub key_id: KeyId,
    /// The fact on which formatting rests.
    pub formatted: Formatted,
    /// What new periods do before sealing.
    pub compression: Compression,
}

impl VolumeHeader {
    /// Bytes of a header file, MAC and checksum included.
    pub const BYTES: usize = 512;
    const MAGIC: &'static [u8; 8] = b"HFVOLUME";
    const VERSION: u16 = 1;
    const MAC_AT: usize = Self::BYTES - 36;

    /// The bytes that the MAC covers.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::BYTES);
        out.put(Self::MAGIC);
        out.put_u16(Self::VERSION);
        out.put_u8(match self.formatted {
            Formatted::Never => 0,
            Formatted::Formatting => 1,
            Formatted::Formatted => 2,
        });
        out.put_u8(self.compression.code());
        out.put_u32(BLOCK_BYTES as u32);
        out.put(&self.volume.0);
        out.put_u64(self.size.blocks());
        out.put_u64(self.generation.0);
        out.put_u64(self.epoch.0);
        out.put(&self.key_id.0);
        out.resize(Self::MAC_AT, 0);
        out
    }

    /// The whole file: header, MAC, checksum.
    #[must_use]
    pub fn with_mac(&self, mac: &[u8; 32]) -> Vec<u8> {
        let mut out = self.encode();
        out.put(mac);
        let crc = crc32c(&out);
        out.put_u32(crc);
        out
    }

    /// Reads a header file and the MAC in it, which the caller checks: without it nothing here is proven.
    pub fn decode(bytes: &[u8]) -> Result<(Self, [u8; 32]), FormatError> {
        let mut from = Reader::new("volume header", bytes);
        if from.take(8)? != Self::MAGIC {
            return Err(FormatError { structure: "volume header", offset: 0, problem: Problem::Magic });
        }
        let version = from.u16()?;
        if version != Self::VERSION {
            return Err(from.error(Problem::Version(version.into())));
        }
        if bytes.len() != Self::BYTES {
            return Err(from.error(Problem::Truncated));
        }
        if crc32c(&bytes[..Self::BYTES - 4]).to_le_bytes() != bytes[Self::BYTES - 4..] {
            return Err(FormatError {
                structure: "volume header",
                offset: Self::BYTES - 4,
                problem: Problem::Checksum,
            });
        }
        let formatted = match from.u8()? {
            0 => Formatted::Never,
            1 => Formatted::Formatting,
            2 => Formatted::Formatted,
            _ => return Err(from.field("formatted")),
        };
        let compression = Compression::from_code(from.u8()?).ok_or_else(|| from.field("compression"))?;
        if from.u32()? as usize != BLOCK_BYTES {
            return Err(from.field("block size"));
        }
        let volume = VolumeId(from.array()?);
        let blocks = from.u64()?;
        let size = blocks.checked_mul(BLOCK_BYTES as u64).and_then(|bytes| VolumeSize::from_bytes(bytes).ok());
        let size = size.ok_or_else(|| from.field("size"))?;
        let header = Self {
            volume,
            size,
            generation: Generation(from.u64()?),
            epoch: Epoch(from.u64()?),
            key_id: KeyId(from.array()?),
            formatted,
            compression,
        };
        from.zeros(Self::MAC_AT - from.at())?;
        Ok((header, from.array()?))
    }
}

//! Period rows: under which subkey a block was sealed. A row is durable before its first use, and travels with every
//! checkpoint and with every segment that holds a block of it, so that the volume key and one segment open its blocks.

use holdfast_vocabulary::{Epoch, KeyId, PeriodNumber, VolumeId};

use crate::bytes::{FormatError, Put, Reader};

/// How a period's blocks are made smaller before they are sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4 block format, only where it saves at least a quarter of the block.
    Lz4,
}

impl Compression {
    /// The number in the format.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
        }
    }

    /// From the number in the format.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            _ => None,
        }
    }
}

/// One row of the period table. Nothing in it is secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodRow {
    /// What blocks name it by.
    pub number: PeriodNumber,
    /// The layout of the additional authenticated data.
    pub aad_version: u8,
    /// What was done before sealing.
    pub compression: Compression,
    /// The volume that the blocks were sealed for; a clone keeps its origin's rows.
    pub origin: VolumeId,
    /// The session's epoch that opened the period.
    pub epoch: Epoch,
    /// Which volume key the subkey comes from.
    pub key_id: KeyId,
    /// Drawn at random when the period was opened.
    pub salt: [u8; 32],
    /// Tells whether a subkey is the right one, without trying it on a block.
    pub check: [u8; 32],
}

impl PeriodRow {
    /// Bytes of a row.
    pub const BYTES: usize = 112;

    /// Appends the row.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put_u32(self.number.0);
        out.put_u8(self.aad_version);
        out.put_u8(self.compression.code());
        out.put_u16(0);
        out.put(&self.origin.0);
        out.put_u64(self.epoch.0);
        out.put(&self.key_id.0);
        out.put(&self.salt);
        out.put(&self.check);
    }

    /// Reads a row.
    pub fn decode(from: &mut Reader<'_>) -> Result<Self, FormatError> {
        let number = PeriodNumber(from.u32()?);
        if number.0 == 0 {
            return Err(from.field("period number"));
        }
        let aad_version = from.u8()?;
        let compression = Compression::from_code(from.u8()?).ok_or_else(|| from.field("compression"))?;
        from.zeros(2)?;
        Ok(Self {
            number,
            aad_version,
            compression,
            origin: VolumeId(from.array()?),
            epoch: Epoch(from.u64()?),
            key_id: KeyId(from.array()?),
            salt: from.array()?,
            check: from.array()?,
        })
    }
}

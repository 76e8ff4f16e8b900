//! The first 512 bytes of the file: written once, before the file has its name.
//!
//! ```text
//!   0..8    magic "HFCTRLST"
//!   8..10   version, little-endian
//!  10..12   zero
//!  12..16   bytes of a cell, little-endian
//!  16..48   salt of the file's key
//!  48..80   check value: commits to that key
//!  80..508  zero
//! 508..512  CRC-32C of 0..508, little-endian
//! ```

use crc_fast::{CrcAlgorithm, checksum};

use crate::cell::CELL_BYTES;
use crate::error::StoreError;

pub(crate) const HEAD_BYTES: usize = 512;
const MAGIC: &[u8; 8] = b"HFCTRLST";
const VERSION: u16 = 1;

/// What the head says.
pub(crate) struct Head {
    pub(crate) salt: [u8; 32],
    pub(crate) check: [u8; 32],
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(CELL_BYTES as u32).to_le_bytes());
        bytes[16..48].copy_from_slice(&self.salt);
        bytes[48..80].copy_from_slice(&self.check);
        let crc = crc32c(&bytes[..508]);
        bytes[508..].copy_from_slice(&crc);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEAD_BYTES]) -> Result<Self, StoreError> {
        let damaged = |what: &str| StoreError::Damaged { what: format!("its head {what}") };
        if &bytes[..8] != MAGIC {
            return Err(damaged("does not begin with the magic of a control store"));
        }
        if bytes[508..] != crc32c(&bytes[..508]) {
            return Err(damaged("does not fit its checksum"));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(StoreError::NewerFormat { found: version, known: VERSION });
        }
        let mut head = Self { salt: [0; 32], check: [0; 32] };
        head.salt.copy_from_slice(&bytes[16..48]);
        head.check.copy_from_slice(&bytes[48..80]);
        // Whatever else differs was not written by this version.
        if *bytes != head.encode() {
            return Err(damaged("has bytes where there must be zeros"));
        }
        Ok(head)
    }
}

fn crc32c(bytes: &[u8]) -> [u8; 4] {
    // The algorithm's answer is 32 bits wide.
    u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, bytes)).unwrap_or_default().to_le_bytes()
}

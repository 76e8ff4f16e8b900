//! The promise: the newest grant that this store obeys. A page of its own, because it is all that fencing rests on.

use holdfast_log::bytes::{FormatError, Problem, Put, Reader};
use holdfast_log::hash::crc32c;
use holdfast_vocabulary::{Epoch, Generation, Grant, SessionId};

/// Bytes of the promise file: one sector of the smallest kind.
pub const BYTES: usize = 512;
const MAGIC: &[u8; 8] = b"HFPROMIS";

/// The promise file's content.
pub fn encode(grant: &Grant) -> Vec<u8> {
    let mut out = Vec::with_capacity(BYTES);
    out.put(MAGIC);
    out.put_u32(1);
    out.put_u32(0);
    out.put_u64(grant.generation.0);
    out.put_u64(grant.epoch.0);
    out.put(&grant.session.0);
    out.resize(BYTES - 4, 0);
    let crc = crc32c(&out);
    out.put_u32(crc);
    out
}

/// Reads the promise file.
pub fn decode(bytes: &[u8]) -> Result<Grant, FormatError> {
    let mut from = Reader::new("promise", bytes.get(..BYTES).unwrap_or(bytes));
    if from.take(8)? != MAGIC {
        return Err(FormatError { structure: "promise", offset: 0, problem: Problem::Magic });
    }
    let version = from.u32()?;
    if version != 1 {
        return Err(from.error(Problem::Version(version)));
    }
    if bytes.len() < BYTES || crc32c(&bytes[..BYTES - 4]).to_le_bytes() != bytes[BYTES - 4..BYTES] {
        return Err(from.error(Problem::Checksum));
    }
    from.zeros(4)?;
    let grant =
        Grant { generation: Generation(from.u64()?), epoch: Epoch(from.u64()?), session: SessionId(from.array()?) };
    from.zeros(BYTES - 4 - from.at())?;
    Ok(grant)
}

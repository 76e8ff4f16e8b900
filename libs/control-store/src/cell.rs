//! A page of the database as it lies in the file: sealed, with what opens it beside it.
//!
//! ```text
//!    0..32    salt, drawn for this write
//!   32..40    count, little-endian: of the first page's writes; zero for every other page
//!   40..48    zero
//!   48..64    tag
//!   64..4160  ciphertext
//! 4160..4608  zero, so that cells begin where sectors do
//! ```

use holdfast_ports::Random;
use holdfast_seal::{FreshSalt, NotAuthentic, PageKey, PageSeal, Tag};

/// Bytes of a page: the database's own.
pub(crate) const PAGE_BYTES: usize = 4096;
/// Bytes of a cell: whole sectors of 512.
pub(crate) const CELL_BYTES: usize = 4608;

/// Seals a page into a cell.
pub(crate) fn seal(key: &PageKey, random: &dyn Random, page: u64, count: u64, plain: &[u8], cell: &mut [u8]) -> Tag {
    let mut salt = [0; 32];
    random.fill(&mut salt);
    cell.fill(0);
    cell[64..64 + PAGE_BYTES].copy_from_slice(plain);
    let seal = key.seal(FreshSalt::drawn(salt), page, count, &mut cell[64..64 + PAGE_BYTES]);
    cell[..32].copy_from_slice(&seal.salt);
    cell[32..40].copy_from_slice(&count.to_le_bytes());
    cell[48..64].copy_from_slice(&seal.tag.0);
    seal.tag
}

/// Opens a cell into `out`, one page; its tag and its count.
pub(crate) fn open(key: &PageKey, page: u64, cell: &[u8], out: &mut [u8]) -> Result<(Tag, u64), NotAuthentic> {
    let mut seal = PageSeal { salt: [0; 32], tag: Tag([0; 16]) };
    let mut count = [0; 8];
    if cell.len() != CELL_BYTES || cell[40..48].iter().chain(&cell[64 + PAGE_BYTES..]).any(|byte| *byte != 0) {
        out.fill(0);
        return Err(NotAuthentic);
    }
    seal.salt.copy_from_slice(&cell[..32]);
    count.copy_from_slice(&cell[32..40]);
    seal.tag.0.copy_from_slice(&cell[48..64]);
    let count = u64::from_le_bytes(count);
    key.open(&seal, page, count, &cell[64..64 + PAGE_BYTES], out)?;
    Ok((seal.tag, count))
}

//! Writing: seal, then publish. A write is acknowledged when reads see it; a flush makes it durable.

use std::sync::atomic::Ordering;

use holdfast_log::group::GroupEntry;
use holdfast_log::hash::crc32c;
use holdfast_log::period::Compression;
use holdfast_log::place::{Shape, TAG_BYTES};
use holdfast_log::seam::Purpose;
use holdfast_seal::SeqRange;
use holdfast_vocabulary::{BLOCK_BYTES, BlockIndex};

use crate::credit::Credit;
use crate::error::SessionError;
use crate::limits::CREDIT_RECORD;
use crate::order::{Place, Want};
use crate::pending::{Part, PartEntries};

/// A block is stored compressed when its record takes at most three quarters of a block: below that, the time to
/// decompress at every read buys too little room.
const COMPRESSED_STORED_MAX: usize = BLOCK_BYTES / 4 * 3;
/// What a block may grow to when it does not compress.
const PACKED_MAX: usize = lz4_flex::block::get_maximum_output_size(BLOCK_BYTES);
/// The most one unmap record can say.
const UNMAP_BLOCKS_MAX: u64 = u32::MAX as u64;

impl crate::Session {
    /// Writes whole blocks. When it returns, every read sees them; after the next [`Self::flush`] they are durable.
    ///
    /// A request of more than 1 MiB may be partly written when it fails.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), SessionError> {
        let (mut block, _) = self.blocks_of(offset, bytes.len() as u64)?;
        for chunk in bytes.chunks(self.limits.group_records * BLOCK_BYTES) {
            self.write_part(BlockIndex(block), chunk)?;
            block += (chunk.len() / BLOCK_BYTES) as u64;
        }
        Ok(())
    }

    /// Makes whole blocks read as zeros and gives their room back, by one record for the whole range.
    pub fn discard(&self, offset: u64, length: u64) -> Result<(), SessionError> {
        let (mut block, mut left) = self.blocks_of(offset, length)?;
        while left > 0 {
            let count = left.min(UNMAP_BLOCKS_MAX);
            self.unmap_part(BlockIndex(block), count as u32)?;
            block += count;
            left -= count;
        }
        Ok(())
    }

    /// Makes whole blocks read as zeros. That is what [`Self::discard`] promises too, so it is done the same way.
    pub fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), SessionError> {
        self.discard(offset, length)
    }

    /// The first block and the count of blocks of a request, if the volume has them.
    pub(crate) fn blocks_of(&self, offset: u64, length: u64) -> Result<(u64, u64), SessionError> {
        self.end.check()?;
        let unit = BLOCK_BYTES as u64;
        if !offset.is_multiple_of(unit) || !length.is_multiple_of(unit) {
            return Err(SessionError::NotAligned { offset, length });
        }
        let size = self.blocks.load(Ordering::Acquire) * unit;
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(SessionError::OutOfRange { offset, length, size });
        }
        Ok((offset / unit, length / unit))
    }

    fn write_part(&self, first: BlockIndex, bytes: &[u8]) -> Result<(), SessionError> {
        let count = (bytes.len() / BLOCK_BYTES) as u64;
        self.make_way()?;
        let credit = self.take_credit(Credit::of_blocks(count), Purpose::Data)?;
        let mut place = self.take_place(Want::Blocks(count as u32), credit, Purpose::Data)?;
        let part = self.seal(&mut place, first, bytes);
        let seq = place.first_seq;
        place.fill(part, || self.view.load().active.map(first.0, count, seq))
    }

    fn unmap_part(&self, first: BlockIndex, count: u32) -> Result<(), SessionError> {
        self.make_way()?;
        let credit = self.take_credit(CREDIT_RECORD, Purpose::Upkeep)?;
        let place = self.take_place(Want::Unmap, credit, Purpose::Upkeep)?;
        let entry = GroupEntry { block: first, shape: Shape::UNMAPPED, crc_or_count: count };
        let part = Part { entries: PartEntries::One(entry), bytes: None, used: 0 };
        let seq = place.first_seq;
        place.fill(part, || self.view.load().active.unmap(first.0, count.into(), seq))
    }

    /// Waits or helps while too much is pending, and makes a new base when the replica takes nothing more without one.
    fn make_way(&self) -> Result<(), SessionError> {
        if self.advance_needed.load(Ordering::Acquire) {
            self.advance_if_needed()?;
        }
        while self.pending.bytes() >= self.limits.pending_bytes_max {
            if self.pending.groups() < 2 {
                // Only the open group is left to wait for, and nobody else would close it.
                self.close_open_group();
            }
            self.send_assembled()?;
            let bound = self.limits.pending_bytes_max;
            self.pending
                .wait_unless(|_| self.pending.bytes() < bound || self.pending.groups() < 2 || self.end.is_set());
            self.end.check()?;
        }
        Ok(())
    }

    /// Seals each block, once, from bytes that are borrowed meanwhile into memory that nobody else can reach.
    fn seal(&self, place: &mut Place<'_>, first: BlockIndex, bytes: &[u8]) -> Part {
        let (Some(mut range), Some(mut room)) = (place.range.take(), place.bytes.take()) else {
            return Part { entries: PartEntries::Many(Vec::new()), bytes: None, used: 0 };
        };
        let mut used = 0;
        let mut one = |block, plain: &[u8]| {
            let entry = seal_block(&mut range, self.compression, block, plain, &mut room[used..]);
            used += entry.shape.stored_bytes();
            entry
        };
        let entries = if bytes.len() == BLOCK_BYTES {
            PartEntries::One(one(first, bytes))
        } else {
            let blocks = (first.0..).map(BlockIndex).zip(bytes.chunks_exact(BLOCK_BYTES));
            PartEntries::Many(blocks.map(|(block, plain)| one(block, plain)).collect())
        };
        Part { entries, bytes: Some(room), used }
    }
}

/// Puts one record to the front of `out`: the ciphertext, its tag, and the zeros that a compressed one ends with.
fn seal_block(
    range: &mut SeqRange,
    compression: Compression,
    block: BlockIndex,
    plain: &[u8],
    out: &mut [u8],
) -> GroupEntry {
    let mut packed = [0; PACKED_MAX];
    let (shape, content) = match compression {
        Compression::None => (Shape::WHOLE, plain),
        Compression::Lz4 => compress(plain, &mut packed),
    };
    let (ciphertext, rest) = out.split_at_mut(content.len());
    let (tag, rest) = rest.split_at_mut(TAG_BYTES);
    match range.next_slot() {
        Some(slot) => tag.copy_from_slice(&slot.seal(block, shape.aad_flags(), content, ciphertext).0),
        // A place has as many seqs as blocks. Were one missing, the record must not hold what lay in the memory before.
        None => {
            ciphertext.fill(0);
            tag.fill(0);
        }
    }
    let sealed = content.len() + TAG_BYTES;
    rest[..shape.stored_bytes() - sealed].fill(0);
    GroupEntry { block, shape, crc_or_count: crc32c(&out[..sealed]) }
}

/// The compressed block if that is worth it, else the block.
fn compress<'a>(plain: &'a [u8], packed: &'a mut [u8; PACKED_MAX]) -> (Shape, &'a [u8]) {
    let length = lz4_flex::block::compress_into(plain, packed).unwrap_or(BLOCK_BYTES);
    match u16::try_from(length).ok().and_then(Shape::compressed) {
        Some(shape) if shape.stored_bytes() <= COMPRESSED_STORED_MAX => (shape, &packed[..length]),
        Some(_) | None => (Shape::WHOLE, plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pending::WHOLE_STORED;
    use holdfast_seal::{FreshSalt, VolumeKey};
    use holdfast_vocabulary::{Epoch, Seq, VolumeId};

    #[test]
    fn a_record_is_as_long_as_its_shape_says_and_compressed_only_where_it_is_worth_it() {
        let key = VolumeKey::from_bytes([1; 32]);
        let mut sealer = key.begin_period(VolumeId([2; 16]), Epoch(1), FreshSalt::drawn([3; 32]), Seq(1));
        let mut noise = vec![0_u8; BLOCK_BYTES];
        let mut state = 1_u32;
        for byte in &mut noise {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        }
        for (quiet, compressed) in [(BLOCK_BYTES, true), (BLOCK_BYTES / 2, true), (BLOCK_BYTES / 8, false), (0, false)]
        {
            let mut plain = noise.clone();
            plain[..quiet].fill(0);
            for compression in [Compression::None, Compression::Lz4] {
                let Some(mut range) = sealer.reserve(1) else { panic!("the period has room") };
                let mut out = vec![0xaa; WHOLE_STORED];
                let entry = seal_block(&mut range, compression, BlockIndex(7), &plain, &mut out);
                let (out, behind) = out.split_at(entry.shape.stored_bytes());
                assert!(behind.iter().all(|byte| *byte == 0xaa), "nothing is written behind the record");
                assert_eq!(entry.shape.is_compressed(), compressed && compression == Compression::Lz4);
                let record = usize::from(entry.shape.ciphertext_bytes()) + TAG_BYTES;
                assert_eq!(entry.crc_or_count, crc32c(&out[..record]));
                assert!(out[record..].iter().all(|byte| *byte == 0));
            }
        }
    }
}

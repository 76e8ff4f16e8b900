//! Any bytes of a volume, out of a target that knows whole blocks only.
//!
//! The loop device asks for whole blocks, and those pass straight through. Whoever opens the file itself may ask for
//! anything; a part of a block is then read, changed and written back, alone on its blocks ([`crate::ranges`]).

use std::ops::Range;
use std::sync::Arc;

use crate::ranges::{Claimed, Ranges};
use crate::target::{Target, TargetError};

/// The target's unit.
pub(crate) const BLOCK_BYTES: usize = 4096;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// How bytes become zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clearing {
    /// Whole blocks give their room back.
    Discard,
    /// They keep it, if the target likes.
    WriteZeroes,
}

pub(crate) struct Blocks {
    target: Arc<dyn Target>,
    ranges: Ranges,
}

impl Blocks {
    pub(crate) fn new(target: Arc<dyn Target>, requests: usize) -> Self {
        Self { target, ranges: Ranges::with_capacity(requests) }
    }

    /// Bytes of the volume, in whole blocks.
    pub(crate) fn size(&self) -> u64 {
        self.target.size() / BLOCK * BLOCK
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.target.read_only()
    }

    pub(crate) fn flush(&self) -> Result<(), TargetError> {
        self.target.flush()
    }

    /// Reads so many bytes, fewer at the end of the volume; returns where in `space` they are. `space` needs room for
    /// the blocks that they touch.
    pub(crate) fn read(&self, offset: u64, size: usize, space: &mut [u8]) -> Result<Range<usize>, TargetError> {
        let end = self.size().min(offset.saturating_add(size as u64));
        if offset >= end {
            return Ok(0..0);
        }
        let first = offset / BLOCK * BLOCK;
        let length = (end.next_multiple_of(BLOCK) - first) as usize;
        let blocks = space.get_mut(..length).ok_or(TargetError::Invalid)?;
        self.target.read(first, blocks)?;
        Ok((offset - first) as usize..(end - first) as usize)
    }

    /// Writes as many of the bytes as lie in the volume, and returns how many. `scratch` is a block for our use.
    pub(crate) fn write(&self, offset: u64, bytes: &[u8], scratch: &mut [u8]) -> Result<usize, TargetError> {
        let length = self.inside(offset, bytes.len() as u64)?;
        let bytes = &bytes[..length as usize];
        let _claimed = self.claim(offset, length);
        for part in parts(offset, length) {
            let place = (part.start - offset) as usize..(part.end - offset) as usize;
            if is_whole(&part) {
                self.target.write(part.start, &bytes[place])?;
            } else {
                self.change(&part, scratch, |old| old.copy_from_slice(&bytes[place]))?;
            }
        }
        Ok(bytes.len())
    }

    /// Makes zeros of the bytes, as far as they lie in the volume.
    pub(crate) fn clear(&self, offset: u64, length: u64, how: Clearing, scratch: &mut [u8]) -> Result<(), TargetError> {
        if self.is_read_only() {
            return Err(TargetError::ReadOnly);
        }
        let length = length.min(self.size().saturating_sub(offset));
        let _claimed = self.claim(offset, length);
        for part in parts(offset, length) {
            match how {
                _ if !is_whole(&part) => self.change(&part, scratch, |old| old.fill(0))?,
                Clearing::Discard => self.target.discard(part.start, part.end - part.start)?,
                Clearing::WriteZeroes => self.target.write_zeroes(part.start, part.end - part.start)?,
            }
        }
        Ok(())
    }

    fn inside(&self, offset: u64, length: u64) -> Result<u64, TargetError> {
        match self.size().saturating_sub(offset) {
            _ if self.is_read_only() => Err(TargetError::ReadOnly),
            // A block device says so, too, to whoever writes behind its end.
            0 if length > 0 => Err(TargetError::NoSpace),
            room => Ok(room.min(length)),
        }
    }

    /// Claims the blocks of a range; alone, if it begins or ends inside of one.
    fn claim(&self, offset: u64, length: u64) -> Claimed<'_> {
        let end = offset + length;
        let is_alone = !is_whole(&(offset..end));
        self.ranges.claim(offset / BLOCK * BLOCK..end.next_multiple_of(BLOCK), is_alone)
    }

    /// Reads the block that holds `part`, lets `with` change that part, and writes the block back.
    fn change(&self, part: &Range<u64>, scratch: &mut [u8], with: impl FnOnce(&mut [u8])) -> Result<(), TargetError> {
        let block = scratch.get_mut(..BLOCK_BYTES).ok_or(TargetError::Invalid)?;
        let first = part.start / BLOCK * BLOCK;
        self.target.read(first, block)?;
        with(&mut block[(part.start - first) as usize..(part.end - first) as usize]);
        self.target.write(first, block)
    }
}

fn is_whole(range: &Range<u64>) -> bool {
    range.start.is_multiple_of(BLOCK) && range.end.is_multiple_of(BLOCK)
}

/// At most three parts: the rest of a block, whole blocks, the beginning of a block.
fn parts(offset: u64, length: u64) -> impl Iterator<Item = Range<u64>> {
    let end = offset + length;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at == end {
            return None;
        }
        let stop = match (at % BLOCK, end / BLOCK * BLOCK) {
            (0, last) if last > at => last,
            _ => end.min((at / BLOCK + 1) * BLOCK),
        };
        let part = at..stop;
        at = stop;
        Some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_range_with_whole_blocks_in_the_middle() {
        let of = |offset, length| parts(offset, length).map(|part| (part.start, part.end)).collect::<Vec<_>>();
        assert_eq!(of(4096, 0), []);
        assert_eq!(of(4096, 8192), [(4096, 12288)]);
        assert_eq!(of(100, 50), [(100, 150)]);
        assert_eq!(of(100, 5000), [(100, 4096), (4096, 5100)]);
        assert_eq!(of(100, 20000), [(100, 4096), (4096, 16384), (16384, 20100)]);
        assert_eq!(of(0, 5000), [(0, 4096), (4096, 5000)]);
        assert_eq!(of(100, 3996), [(100, 4096)]);
    }
}

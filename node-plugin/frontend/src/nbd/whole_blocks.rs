//! Requests of any bytes on a target that takes whole blocks only.
//!
//! A part of a block is written by reading the block, changing it and writing it back, alone on its blocks meanwhile;
//! see [`Ranges`].

use std::ops::Range;

use super::BLOCK_BYTES;
use crate::ranges::Ranges;
use crate::target::{Target, TargetError};

const BLOCK: usize = BLOCK_BYTES as usize;

/// The whole blocks around some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cover {
    /// What was asked for, in the export.
    pub(crate) wanted: Range<u64>,
    /// The blocks that hold it, in the export.
    pub(crate) blocks: Range<u64>,
}

impl Cover {
    pub(crate) fn of(offset: u64, length: u64) -> Self {
        let end = offset.saturating_add(length);
        let blocks =
            offset / BLOCK_BYTES * BLOCK_BYTES..end.saturating_add(BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
        Self { wanted: offset..end, blocks }
    }

    /// Cuts a request where its blocks reach multiples of `most` from their start, so that each piece fits a buffer.
    pub(crate) fn pieces(offset: u64, length: u64, most: u64) -> impl Iterator<Item = Self> {
        let whole = Self::of(offset, length);
        let mut at = whole.wanted.start;
        let mut edge = whole.blocks.start;
        std::iter::from_fn(move || {
            edge += most;
            let end = edge.min(whole.wanted.end);
            let piece = (at < end).then(|| Self::of(at, end - at));
            at = end;
            piece
        })
    }

    /// Bytes of the blocks: what a buffer must hold.
    pub(crate) fn bytes(&self) -> usize {
        (self.blocks.end - self.blocks.start) as usize
    }

    /// Where in the buffer the wanted bytes are.
    pub(crate) fn inner(&self) -> Range<usize> {
        let start = (self.wanted.start - self.blocks.start) as usize;
        start..start + (self.wanted.end - self.wanted.start) as usize
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.wanted == self.blocks
    }

    /// The whole blocks inside; empty if there are none.
    fn inside(&self) -> Range<u64> {
        let start = self.wanted.start.div_ceil(BLOCK_BYTES) * BLOCK_BYTES;
        let end = self.wanted.end / BLOCK_BYTES * BLOCK_BYTES;
        start..end.max(start)
    }
}

/// Reads the blocks into `buffer`; the wanted bytes are at [`Cover::inner`].
pub(crate) fn read(target: &dyn Target, cover: &Cover, buffer: &mut [u8]) -> Result<(), TargetError> {
    target.read(cover.blocks.start, &mut buffer[..cover.bytes()])
}

/// Writes the bytes at [`Cover::inner`] of `buffer`. What is beside them in the buffer is overwritten.
pub(crate) fn write(target: &dyn Target, ranges: &Ranges, cover: &Cover, buffer: &mut [u8]) -> Result<(), TargetError> {
    let _held = ranges.claim(cover.blocks.clone(), !cover.is_whole());
    let buffer = &mut buffer[..cover.bytes()];
    let Range { start, end } = cover.inner();
    let mut block = [0; BLOCK];
    if start > 0 {
        target.read(cover.blocks.start, &mut block)?;
        buffer[..start].copy_from_slice(&block[..start]);
    }
    if end < buffer.len() {
        let last = buffer.len() - BLOCK;
        target.read(cover.blocks.start + last as u64, &mut block)?;
        buffer[end..].copy_from_slice(&block[end - last..]);
    }
    target.write(cover.blocks.start, buffer)
}

/// Makes bytes zeros, whole blocks by `whole`: with or without giving their room back.
pub(crate) fn zero(
    target: &dyn Target,
    ranges: &Ranges,
    cover: &Cover,
    whole: impl Fn(u64, u64) -> Result<(), TargetError>,
) -> Result<(), TargetError> {
    let _held = ranges.claim(cover.blocks.clone(), !cover.is_whole());
    let inside = cover.inside();
    if inside.start < inside.end {
        whole(inside.start, inside.end - inside.start)?;
    }
    let first = cover.wanted.start..cover.wanted.end.min(inside.start);
    zero_part(target, first)?;
    zero_part(target, cover.wanted.start.max(inside.end)..cover.wanted.end)
}

/// Zeros inside of one block.
fn zero_part(target: &dyn Target, part: Range<u64>) -> Result<(), TargetError> {
    if part.is_empty() {
        return Ok(());
    }
    let cover = Cover::of(part.start, part.end - part.start);
    let mut block = [0; BLOCK];
    target.read(cover.blocks.start, &mut block)?;
    block[cover.inner()].fill(0);
    target.write(cover.blocks.start, &block)
}

/// Gives back the room of the whole blocks inside. The rest stays: to trim is a hint.
pub(crate) fn trim(target: &dyn Target, ranges: &Ranges, cover: &Cover) -> Result<(), TargetError> {
    let inside = cover.inside();
    if inside.is_empty() {
        return Ok(());
    }
    let _held = ranges.claim(inside.clone(), false);
    target.discard(inside.start, inside.end - inside.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_fit_and_join_without_gap() {
        for offset in [0, 1, 511, 4095, 4096, 8191, 1 << 40] {
            for length in [1, 512, 4096, 4097, 65536, 65537, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 32 << 20] {
                let mut at = offset;
                for piece in Cover::pieces(offset, length, 1 << 20) {
                    assert_eq!(piece.wanted.start, at);
                    assert!(piece.bytes() <= 1 << 20 && piece.bytes() > 0, "{offset} {length}");
                    assert_eq!(piece.blocks.start % BLOCK_BYTES, 0);
                    assert_eq!(piece.inner().len() as u64, piece.wanted.end - piece.wanted.start);
                    at = piece.wanted.end;
                }
                assert_eq!(at, offset + length);
            }
        }
        assert_eq!(Cover::pieces(7, 0, 4096).count(), 0);
    }

    #[test]
    fn the_blocks_inside_are_whole() {
        assert_eq!(Cover::of(0, 8192).inside(), 0..8192);
        assert_eq!(Cover::of(1, 8191).inside(), 4096..8192);
        assert_eq!(Cover::of(1, 100).inside(), 4096..4096);
        assert_eq!(Cover::of(4095, 2).inside(), 4096..4096);
    }
}

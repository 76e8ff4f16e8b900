//! Which records of a segment the base maps: one bit for each cell of the file, exact as of the base.
//!
//! No two records start in one cell, so a bit is a record. The map lets collection find what is live without looking
//! up every record of a victim in an index that does not fit into memory.

use holdfast_log::place::{Place, Shape};

/// The bits of one segment, and the bytes that they stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveMap {
    cell: u32,
    bits: Vec<u64>,
    live_bytes: u32,
}

impl LiveMap {
    /// Nothing is live in a file of `bytes`. With `fine` cells, records as short as 1 KiB have one each.
    pub fn new(bytes: u32, fine: bool) -> Self {
        let cell = if fine { 1024 } else { 4096 };
        Self { cell, bits: vec![0; bytes.div_ceil(cell).div_ceil(64) as usize], live_bytes: 0 }
    }

    /// As a checkpoint holds it.
    pub fn from_parts(cell: u32, bits: Vec<u64>, live_bytes: u32) -> Self {
        Self { cell, bits, live_bytes }
    }

    /// Bytes that one bit stands for.
    pub fn cell(&self) -> u32 {
        self.cell
    }

    /// The bits.
    pub fn bits(&self) -> &[u64] {
        &self.bits
    }

    /// Stored bytes of the records that are live.
    pub fn live_bytes(&self) -> u32 {
        self.live_bytes
    }

    /// Memory that it takes.
    pub fn memory_bytes(&self) -> usize {
        self.bits.len() * 8
    }

    fn bit(&self, offset: u32) -> (usize, u64) {
        let cell = offset / self.cell;
        (cell as usize / 64, 1 << (cell % 64))
    }

    /// Whether the record that starts at `offset` is live.
    pub fn is_live(&self, offset: u32) -> bool {
        let (word, mask) = self.bit(offset);
        self.bits.get(word).is_some_and(|bits| bits & mask != 0)
    }

    /// The base maps the record at `place` now.
    pub fn born(&mut self, place: Place, shape: Shape) {
        let (word, mask) = self.bit(place.offset);
        if let Some(bits) = self.bits.get_mut(word)
            && *bits & mask == 0
        {
            *bits |= mask;
            self.live_bytes += shape.stored_bytes() as u32;
        }
    }

    /// The base does not map the record at `place` any more.
    pub fn died(&mut self, place: Place, shape: Shape) {
        let (word, mask) = self.bit(place.offset);
        if let Some(bits) = self.bits.get_mut(word)
            && *bits & mask != 0
        {
            *bits &= !mask;
            self.live_bytes = self.live_bytes.saturating_sub(shape.stored_bytes() as u32);
        }
    }
}

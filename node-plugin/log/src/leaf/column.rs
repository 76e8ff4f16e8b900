//! One column of a leaf page: numbers as a line, and what each is above it in as few bits as the farthest needs.

use super::LEAF_BLOCKS;

/// Where a column's bits lie, and how to read them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Column {
    pub base: u64,
    pub at: u32,
    pub slope: u16,
    pub width: u8,
}

const fn mask(width: u8) -> u64 {
    match width {
        0 => 0,
        width => u64::MAX >> (64 - width),
    }
}

/// Bits that hold every number up to `most`. Between 57 and 63 bits a number could straddle nine bytes, so none has.
const fn width_for(most: u64) -> u8 {
    match 64 - most.leading_zeros() {
        width @ 0..=56 => width as u8,
        _ => 64,
    }
}

/// The eight bytes at a place; zeros if they are not all there.
#[inline]
pub fn load(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

impl Column {
    /// The column of numbers that point into a dictionary.
    pub const fn of_dictionary(size: usize) -> Self {
        Self { base: 0, at: 0, slope: 0, width: width_for((size as u64).saturating_sub(1)) }
    }

    /// Bytes that `count` packed numbers take.
    pub const fn packed_bytes(&self, count: usize) -> usize {
        (self.width as usize * count).div_ceil(8)
    }

    #[inline]
    fn line(&self, rank: usize) -> u64 {
        self.base.wrapping_add(u64::from(self.slope) * rank as u64)
    }

    #[inline]
    fn packed(&self, bytes: &[u8], rank: usize) -> u64 {
        let bit = rank * usize::from(self.width);
        load(bytes, self.at as usize + bit / 8) >> (bit % 8) & mask(self.width)
    }

    /// One number.
    #[inline]
    pub fn get(&self, bytes: &[u8], rank: usize) -> u64 {
        // Most columns are constant, or a line, and touching their memory is what would cost.
        let packed = if self.width == 0 { 0 } else { self.packed(bytes, rank) };
        self.line(rank).wrapping_add(packed)
    }

    /// The first `numbers.len()` numbers.
    pub fn unpack(&self, bytes: &[u8], numbers: &mut [u64]) {
        if self.width == 0 {
            numbers.iter_mut().enumerate().for_each(|(rank, number)| *number = self.line(rank));
        } else {
            let each = numbers.iter_mut().enumerate();
            each.for_each(|(rank, number)| *number = self.line(rank).wrapping_add(self.packed(bytes, rank)));
        }
    }

    /// Packs numbers, which [`Self::fit`] or a dictionary has made small, into its place.
    pub fn pack(&self, bytes: &mut [u8], numbers: &[u64]) {
        let width = u32::from(self.width);
        if width == 0 {
            return;
        }
        let Some(room) = bytes.get_mut(self.at as usize..self.at as usize + self.packed_bytes(numbers.len())) else {
            return;
        };
        // Whole words are gathered in a register: reading back what was just stored would stall at each number.
        let mut chunks = room.chunks_mut(8);
        let mut store = |word: u64| {
            if let Some(chunk) = chunks.next() {
                chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
            }
        };
        let (mut word, mut filled) = (0, 0);
        for &number in numbers {
            word |= number << filled;
            filled += width;
            if filled >= 64 {
                store(word);
                filled -= 64;
                word = if filled == 0 { 0 } else { number >> (width - filled) };
            }
        }
        if filled > 0 {
            store(word);
        }
    }

    /// The least and the most that any bits could make of a number here; nothing if they could wrap around.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        let steepest = u64::from(self.slope) * (LEAF_BLOCKS as u64 - 1);
        Some((self.base, self.base.checked_add(steepest)?.checked_add(mask(self.width))?))
    }

    /// Chooses the slope that leaves the fewest bits, and makes each number what is to be packed.
    pub fn fit(numbers: &mut [u64], slopes: &[u16]) -> Self {
        let Some(&first) = numbers.first() else {
            return Self::default();
        };
        let mut best: Option<Self> = None;
        for &slope in slopes {
            // Distances from a line through the first number, as signed ones: a slope may be too steep for some numbers
            // and too flat for others.
            let (mut least, mut most) = (0, 0);
            let mut line = first;
            for number in numbers.iter() {
                let distance = number.wrapping_sub(line) as i64;
                least = distance.min(least);
                most = distance.max(most);
                line = line.wrapping_add(slope.into());
            }
            let width = width_for(most.wrapping_sub(least) as u64);
            if best.is_none_or(|best| width < best.width) {
                best = Some(Self { base: first.wrapping_add(least as u64), at: 0, slope, width });
            }
            if width == 0 {
                break;
            }
        }
        let column = best.unwrap_or_default();
        for (rank, number) in numbers.iter_mut().enumerate() {
            *number = number.wrapping_sub(column.line(rank));
        }
        column
    }
}

/// Replaces each number by its place among the distinct ones, which it gives, rising.
pub fn dictionary(numbers: &mut [u64]) -> Vec<u64> {
    let mut distinct: Vec<u64> = numbers.first().copied().into_iter().collect();
    let mut last = distinct.first().copied();
    for &number in numbers.iter() {
        // Neighbours mostly agree, and then no search is needed.
        if last != Some(number) {
            last = Some(number);
            if let Err(place) = distinct.binary_search(&number) {
                distinct.insert(place, number);
            }
        }
    }
    if distinct.len() < 2 {
        numbers.fill(0);
    } else {
        numbers.iter_mut().for_each(|number| *number = distinct.partition_point(|below| below < number) as u64);
    }
    distinct
}

//! A leaf page taken apart: its numbers column by column, to be changed and packed again.

use super::column::{Column, dictionary};
use super::{COLUMNS, DICTIONARIES_AT, LEAF_BLOCKS, LeafPage, MAGIC, OFFSET_STRIDE, OFFSET_UNIT, PRESENCE_WORDS};
use super::{TAIL_BYTES, VERSION};
use crate::bytes::Put;
use crate::hash;
use crate::place::Entry;

type Numbers = [u64; LEAF_BLOCKS];

/// The columns of a page; of each, the first `count` numbers count.
pub struct Table {
    presence: [u64; PRESENCE_WORDS],
    count: usize,
    seq: Numbers,
    segment: Numbers,
    offset: Numbers,
    shape: Numbers,
    epoch: Numbers,
    period: Numbers,
}

impl Table {
    /// Nothing mapped.
    pub const fn new() -> Self {
        let zeros = [0; LEAF_BLOCKS];
        Self {
            presence: [0; PRESENCE_WORDS],
            count: 0,
            seq: zeros,
            segment: zeros,
            offset: zeros,
            shape: zeros,
            epoch: zeros,
            period: zeros,
        }
    }

    /// What a page holds.
    pub fn of(page: &LeafPage) -> Self {
        let mut table = Self::new();
        let count = page.mapped();
        table.count = count;
        table.presence = std::array::from_fn(|word| page.presence(word));
        page.seq.unpack(&page.bytes, &mut table.seq[..count]);
        page.segment.unpack(&page.bytes, &mut table.segment[..count]);
        page.offset.unpack(&page.bytes, &mut table.offset[..count]);
        page.shape.unpack(&page.bytes, &mut table.shape[..count]);
        page.epoch.unpack(&page.bytes, &mut table.epoch[..count]);
        page.period.unpack(&page.bytes, &mut table.period[..count]);
        table.epoch[..count].iter_mut().for_each(|epoch| *epoch = page.epoch_of(*epoch).0);
        table.period[..count].iter_mut().for_each(|period| *period = page.period_of(*period).0.into());
        table
    }

    /// Adds the entry of a block right of all others.
    pub const fn push(&mut self, position: usize, entry: &Entry) {
        self.presence[position / 64] |= 1 << (position % 64);
        self.set(self.count, entry);
        self.count += 1;
    }

    const fn set(&mut self, rank: usize, entry: &Entry) {
        debug_assert!(entry.version.seq.0 != 0, "seq 0 is before any record");
        debug_assert!(entry.place.offset.is_multiple_of(OFFSET_UNIT), "offsets are multiples of 16");
        debug_assert!(!entry.shape.is_unmap(), "an unmapped block has no entry");
        self.seq[rank] = entry.version.seq.0;
        self.segment[rank] = entry.place.segment.0 as u64;
        self.offset[rank] = (entry.place.offset / OFFSET_UNIT) as u64;
        self.shape[rank] = entry.shape.packed() as u64;
        self.epoch[rank] = entry.version.epoch.0;
        self.period[rank] = entry.period.0 as u64;
    }

    const fn copy(&mut self, position: usize, from: &Self, rank: usize) {
        self.presence[position / 64] |= 1 << (position % 64);
        self.seq[self.count] = from.seq[rank];
        self.segment[self.count] = from.segment[rank];
        self.offset[self.count] = from.offset[rank];
        self.shape[self.count] = from.shape[rank];
        self.epoch[self.count] = from.epoch[rank];
        self.period[self.count] = from.period[rank];
        self.count += 1;
    }

    const fn maps(&self, position: usize) -> bool {
        self.presence[position / 64] >> (position % 64) & 1 == 1
    }

    fn rank(&self, position: usize) -> usize {
        let whole: u32 = self.presence[..position / 64].iter().map(|word| word.count_ones()).sum();
        (whole + (self.presence[position / 64] & ((1 << (position % 64)) - 1)).count_ones()) as usize
    }

    /// Changes blocks, which rise by position.
    pub fn with(mut self, changes: &[(usize, Option<Entry>)]) -> Self {
        // Most changes overwrite, and then nobody's rank changes.
        if changes.iter().all(|(position, entry)| entry.is_some() == self.maps(*position)) {
            for (position, entry) in changes {
                if let Some(entry) = entry {
                    self.set(self.rank(*position), entry);
                }
            }
            return self;
        }
        let mut changed = Self::new();
        let (mut rank, mut next) = (0, 0);
        for position in 0..LEAF_BLOCKS {
            let mapped = self.maps(position);
            match changes.get(next) {
                Some((at, entry)) if *at == position => {
                    next += 1;
                    if let Some(entry) = entry {
                        changed.push(position, entry);
                    }
                }
                _ if mapped => changed.copy(position, &self, rank),
                _ => {}
            }
            rank += usize::from(mapped);
        }
        changed
    }

    /// Packs the columns into a page.
    pub fn pack(mut self) -> LeafPage {
        let count = self.count;
        let epochs = dictionary(&mut self.epoch[..count]);
        let periods = dictionary(&mut self.period[..count]);
        let mut all = [
            (Column::fit(&mut self.seq[..count], &[0, 1]), &self.seq),
            (Column::fit(&mut self.segment[..count], &[0]), &self.segment),
            (Column::fit(&mut self.offset[..count], &[0, OFFSET_STRIDE]), &self.offset),
            (Column::fit(&mut self.shape[..count], &[0]), &self.shape),
            (Column::of_dictionary(epochs.len()), &self.epoch),
            (Column::of_dictionary(periods.len()), &self.period),
        ];
        let mut at = DICTIONARIES_AT + 8 * epochs.len() + 4 * periods.len();
        for (column, _) in &mut all {
            column.at = at as u32;
            at += column.packed_bytes(count);
        }
        let mut out = Vec::with_capacity(at + TAIL_BYTES);
        out.put(&MAGIC);
        out.put(&[VERSION, 0]);
        out.put_u16(count as u16);
        self.presence.iter().for_each(|&word| out.put_u64(word));
        for (column, _) in &all[..COLUMNS] {
            out.put_u64(column.base);
            out.put_u16(column.slope);
            out.put_u8(column.width);
        }
        out.put_u16(epochs.len() as u16);
        out.put_u16(periods.len() as u16);
        epochs.iter().for_each(|&epoch| out.put_u64(epoch));
        periods.iter().for_each(|&period| out.put_u32(period as u32));
        out.resize(at + TAIL_BYTES, 0);
        for (column, numbers) in &all {
            column.pack(&mut out, &numbers[..count]);
        }
        let sum = hash::crc32c(&out[..at + TAIL_BYTES - 4]);
        out[at + TAIL_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        let [seq, segment, offset, shape, epoch, period] = all.map(|(column, _)| column);
        LeafPage {
            bytes: out.into_boxed_slice(),
            ranks: super::ranks(&self.presence),
            mapped: count as u16,
            epochs: epochs.len() as u16,
            periods: periods.len() as u16,
            seq,
            segment,
            offset,
            shape,
            epoch,
            period,
        }
    }
}

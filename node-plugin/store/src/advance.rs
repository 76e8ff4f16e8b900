//! A new base: the overlay is merged into the index, and a checkpoint says so.
//!
//! `freeze` fixes what the base will hold, `merge` does the work in steps that the session follows leaf by leaf, `finish`
//! makes it so. A crash anywhere before the end of `finish` leaves the old base, with everything above it still in the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_log::anchor::SignedRoot;
use holdfast_log::bytes::round_up;
use holdfast_log::hash::ChainHash;
use holdfast_log::place::Entry;
use holdfast_log::seam::{MergedLeaf, ReplicaError};
use holdfast_ports::{AlignedBuffer, Disk};
use holdfast_vocabulary::{BlockIndex, Grant, PeriodNumber, SegmentNumber, Seq};

use crate::checkpoint::{Checkpoint, SegmentRow};
use crate::failure::disk_error;
use crate::index::{IndexFile, IndexRoot};
use crate::live_map::LiveMap;
use crate::names;
use crate::segments::Segment;
use crate::store::{Counters, Store};

/// Epochs that a log remembers. Logs are compared by this table; two that parted longer ago are compared by their trees.
const EPOCHS_MAX: usize = 4096;

/// A new base in the making.
pub(crate) struct Advance {
    /// It will hold exactly the records up to this one.
    through: Seq,
    /// The chain up to it.
    chain: ChainHash,
    /// Log segments below are covered by it.
    boundary: SegmentNumber,
    /// What will be live in the segments that there were at the freeze; all of them are closed.
    live: BTreeMap<SegmentNumber, LiveMap>,
    /// By how much the count of mapped blocks of each period changes.
    periods: BTreeMap<PeriodNumber, i64>,
}

impl Advance {
    fn changed(&mut self, old: Option<&Entry>, new: Option<&Entry>) {
        if let Some(old) = old {
            *self.periods.entry(old.period).or_default() -= 1;
            if let Some(live) = self.live.get_mut(&old.place.segment) {
                live.died(old.place, old.shape);
            }
        }
        if let Some(new) = new {
            *self.periods.entry(new.period).or_default() += 1;
            if let Some(live) = self.live.get_mut(&new.place.segment) {
                live.born(new.place, new.shape);
            }
        }
    }
}

impl Store {
    pub(crate) fn begin_advance(&self, grant: &Grant, through: Seq) -> Result<(), ReplicaError> {
        let _upkeep = self.upkeep.lock();
        let mut log = self.log.lock();
        let mut base = self.base.lock();
        self.obeys(base.promised.as_ref(), grant)?;
        let ready = log.flights.is_empty() && log.head == through && self.committed() >= through;
        if !ready || base.advance.is_some() {
            return Err(ReplicaError::NotNext { head: log.head, chain: log.chain, offered: through });
        }
        drop(base);
        // The tail above the new base starts with a segment of its own.
        self.close_open_segment(&mut log)?;
        self.index.freeze(through)?;
        let boundary = log.prepared.front().map_or(log.next_number, |segment| segment.number);
        // A file that collection is still filling holds nothing that the index knows yet: it stays part of the tail.
        let segments = self.segments.read();
        let closed = segments.rows().filter(|row| row.is_closed());
        let live = closed.map(|row| (row.segment.number, row.live().clone())).collect();
        drop(segments);
        base = self.base.lock();
        base.advance = Some(Advance { through, chain: log.chain, boundary, live, periods: BTreeMap::new() });
        Ok(())
    }

    pub(crate) fn step_advance(&self, grant: &Grant, leaves_max: usize) -> Result<Vec<MergedLeaf>, ReplicaError> {
        let mut base = self.base.lock();
        self.obeys(base.promised.as_ref(), grant)?;
        // The base is not kept locked while pages are read; there is one advance at a time, so nobody misses it.
        let Some(mut advance) = base.advance.take() else {
            return Err(ReplicaError::NotPromised);
        };
        drop(base);
        let mut listener = |_: BlockIndex, old: Option<&Entry>, new: Option<&Entry>| advance.changed(old, new);
        let merged = self.index.merge_step(leaves_max, &mut listener);
        self.base.lock().advance = Some(advance);
        Ok(merged?)
    }

    pub(crate) fn finish_advance(&self, grant: &Grant, root: &SignedRoot) -> Result<(), ReplicaError> {
        let _upkeep = self.upkeep.lock();
        let advance = {
            let mut base = self.base.lock();
            self.obeys(base.promised.as_ref(), grant)?;
            base.advance.take().ok_or(ReplicaError::NotPromised)?
        };
        let index = match self.index.merge_finish() {
            Ok(index) => index,
            Err(error) => {
                self.index.merge_abandon();
                return Err(error.into());
            }
        };
        if index.hash != root.statement.root || root.statement.through != advance.through {
            let error =
                ReplicaError::Diverged { through: advance.through, here: index.hash, expected: root.statement.root };
            return Err(self.faulted(error));
        }
        let (checkpoint, kept, pages) = self.take_base(advance, index, root);
        // The tables of closed segments must be durable before a checkpoint relies on the segments.
        self.sync_log(grant)?;
        let written = write_checkpoint(&*self.disk, &checkpoint).map_err(|error| self.faulted(error))?;
        Counters::add(&self.counters.index_bytes, written + pages);
        self.base.lock().slot_bytes[(checkpoint.number % 2) as usize] = written;
        self.index.remove_files_not_in(&[&kept[0], &kept[1]])?;
        self.free_segments(checkpoint.number)
    }

    /// Takes over what the new base says. Gives the checkpoint to write, the index files that both slots will need, and
    /// the bytes of index pages that were written for it.
    fn take_base(&self, advance: Advance, index: IndexRoot, root: &SignedRoot) -> (Checkpoint, [IndexRoot; 2], u64) {
        let next_segment = self.log.lock().next_number;
        let mut base = self.base.lock();
        let number = base.checkpoint + 1;
        for (period, change) in &advance.periods {
            if let Some((_, count)) = base.periods.get_mut(period) {
                *count = count.saturating_add_signed(*change);
            }
        }
        base.checkpoint = number;
        base.through = advance.through;
        base.chain = advance.chain;
        base.root = Some(*root);
        base.index_before = std::mem::replace(&mut base.index, index);
        let surplus = base.epochs.len().saturating_sub(EPOCHS_MAX);
        base.epochs.drain(..surplus);
        base.epochs_of_base = base.epochs.len();
        base.boundary = advance.boundary;
        // The newest row stays in any case, so that no number is ever given out again.
        let newest = base.periods.keys().next_back().copied();
        base.periods.retain(|period, (_, count)| *count > 0 || Some(*period) == newest);
        let checkpoint = Checkpoint {
            volume: self.volume,
            number,
            through: advance.through,
            chain: advance.chain,
            committed: self.committed(),
            root: Some(*root),
            boundary: advance.boundary,
            next_segment,
            index: base.index.clone(),
            epochs: base.epochs.clone(),
            periods: base.periods.values().copied().collect(),
            segments: self.cover_segments(advance, number),
        };
        let pages = bytes_added(&base.index_before, &base.index);
        (checkpoint, [base.index.clone(), base.index_before.clone()], pages)
    }

    /// Every segment that the new base covers, with what is live in it now.
    fn cover_segments(&self, advance: Advance, number: u64) -> Vec<SegmentRow> {
        let mut segments = self.segments.write();
        for (segment, live) in advance.live {
            segments.cover(segment, live, number);
        }
        let covered = segments.rows().filter(|row| row.covered_by().is_some());
        covered
            .map(|row| SegmentRow {
                number: row.segment.number,
                instance: row.segment.instance,
                temperature: row.segment.temperature,
                bytes: row.segment.bytes(),
                live_bytes: row.live().live_bytes(),
                cell: row.live().cell(),
                live: row.live().bits().to_vec(),
            })
            .collect()
    }

    pub(crate) fn abandon_advance(&self) {
        let _upkeep = self.upkeep.lock();
        if self.base.lock().advance.take().is_some() {
            self.index.merge_abandon();
        }
    }

    /// Removes the segments that neither slot names any more: nothing was live in them at this checkpoint and at the
    /// one before.
    fn free_segments(&self, number: u64) -> Result<(), ReplicaError> {
        let mut segments = self.segments.write();
        let mut free: Vec<Arc<Segment>> = Vec::new();
        for row in segments.rows_mut() {
            let covered = row.covered_by().is_some_and(|covered| covered < number);
            if row.live().live_bytes() > 0 || row.covered_by().is_none() {
                row.empty_since = None;
            } else if covered && row.empty_since.is_some_and(|since| since < number) {
                free.push(Arc::clone(&row.segment));
            } else {
                row.empty_since = row.empty_since.or(Some(number));
            }
        }
        for segment in &free {
            segments.remove(segment.number);
        }
        drop(segments);
        self.remove_segments(&free)
    }

    /// Removes files that nothing refers to any more.
    pub(crate) fn remove_segments(&self, free: &[Arc<Segment>]) -> Result<(), ReplicaError> {
        for segment in free {
            self.log.lock().dirty.remove(&segment.number);
            self.disk.remove(&segment.name).map_err(disk_error)?;
            self.counters.freed_segments.fetch_add(1, Ordering::Relaxed);
        }
        if !free.is_empty() {
            self.log.lock().names_dirty = true;
        }
        Ok(())
    }
}

/// Bytes of pages that the new root's files have beyond those of the old one.
fn bytes_added(before: &IndexRoot, after: &IndexRoot) -> u64 {
    let known: BTreeMap<u32, u64> = before.files.iter().map(|file| (file.number, file.bytes)).collect();
    let added = |file: &IndexFile| file.bytes.saturating_sub(known.get(&file.number).copied().unwrap_or(0));
    after.files.iter().map(added).sum()
}

/// Writes a checkpoint into its slot. Gives the bytes that were written.
pub(crate) fn write_checkpoint(disk: &dyn Disk, checkpoint: &Checkpoint) -> Result<u64, ReplicaError> {
    let name = names::CHECKPOINTS[(checkpoint.number % 2) as usize];
    let content = checkpoint.encode();
    let mut bytes = AlignedBuffer::with_len(round_up(content.len(), disk.sector_bytes()));
    bytes[..content.len()].copy_from_slice(&content);
    let file = match disk.open(name) {
        Ok(file) => file,
        Err(error) if error.is_not_found() => disk.create(name).map_err(disk_error)?,
        Err(error) => return Err(disk_error(error)),
    };
    file.write_at(0, &bytes).and_then(|()| file.set_len(bytes.len() as u64)).map_err(disk_error)?;
    file.sync().map_err(disk_error)?;
    disk.sync_names().map_err(disk_error)?;
    Ok(bytes.len() as u64)
}

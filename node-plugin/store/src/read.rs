//! Blocks out: from a block's number to its sealed bytes, in as few reads as the places allow.

use std::cell::RefCell;
use std::sync::Arc;

use holdfast_log::place::{Entry, Place, TAG_BYTES};
use holdfast_log::seam::{BlockSink, ReplicaError, SealedBlock};
use holdfast_ports::AlignedBuffer;
use holdfast_vocabulary::BlockIndex;

use crate::failure::disk_error;
use crate::segments::Segment;
use crate::store::Store;

/// Blocks that are looked up at a time: one leaf's worth is one access to the index.
const BATCH_BLOCKS: u32 = 256;
/// How often a lookup is repeated because its segment was collected between lookup and read. Each repetition means that
/// a whole segment was moved in the meantime, so a handful is already beyond belief.
const LOOKUPS_MAX: usize = 16;

thread_local! {
    /// Reused, so that a read allocates nothing.
    static SCRATCH: RefCell<(Vec<Option<Entry>>, AlignedBuffer)> =
        RefCell::new((Vec::new(), AlignedBuffer::with_len(0)));
}

impl Store {
    pub(crate) fn read_blocks(
        &self,
        first: BlockIndex,
        count: u32,
        sink: &mut BlockSink<'_>,
    ) -> Result<(), ReplicaError> {
        self.healthy()?;
        // The sink may read again on this thread, so the scratch is taken, not borrowed, while it runs.
        let empty = || (Vec::new(), AlignedBuffer::with_len(0));
        let (mut entries, mut buffer) = SCRATCH.with(|scratch| scratch.replace(empty()));
        let result = self.read_batches(first, count, sink, &mut entries, &mut buffer);
        SCRATCH.with(|scratch| scratch.replace((entries, buffer)));
        result
    }

    fn read_batches(
        &self,
        first: BlockIndex,
        count: u32,
        sink: &mut BlockSink<'_>,
        entries: &mut Vec<Option<Entry>>,
        buffer: &mut AlignedBuffer,
    ) -> Result<(), ReplicaError> {
        let mut done = 0;
        while done < count {
            let batch = BATCH_BLOCKS.min(count - done);
            let start = BlockIndex(first.0 + u64::from(done));
            entries.clear();
            if batch == 1 {
                // By far the most frequent, and cheaper by all that a range has to keep.
                entries.push(self.index.lookup(start)?);
            } else {
                self.index.lookup_range(start, batch, entries)?;
            }
            let mut position = 0;
            while position < entries.len() {
                let run = run_length(&entries[position..]);
                let block = BlockIndex(start.0 + position as u64);
                if entries[position].is_none() {
                    (0..run as u64).for_each(|step| sink(BlockIndex(block.0 + step), None));
                } else {
                    self.read_run(block, &mut entries[position..position + run], sink, buffer)?;
                }
                position += run;
            }
            done += batch;
        }
        Ok(())
    }

    /// Reads records that lie behind one another.
    fn read_run(
        &self,
        first: BlockIndex,
        run: &mut [Option<Entry>],
        sink: &mut BlockSink<'_>,
        buffer: &mut AlignedBuffer,
    ) -> Result<(), ReplicaError> {
        let (Some(head), Some(last)) = (run.first().copied().flatten(), run.last().copied().flatten()) else {
            return Ok(());
        };
        let Some(segment) = self.segment_of(head.place) else {
            return self.read_apart(first, run, sink, buffer);
        };
        let sector = u64::from(self.sector);
        let from = u64::from(head.place.offset) / sector * sector;
        let end = u64::from(last.place.offset) + last.shape.stored_bytes() as u64;
        let span = (end.div_ceil(sector) * sector - from) as usize;
        if buffer.len() < span {
            buffer.resize_stale(span);
        }
        segment.file()?.read_at(from, &mut buffer[..span]).map_err(disk_error)?;
        for (position, entry) in run.iter().enumerate() {
            let Some(entry) = entry else { continue };
            let block = BlockIndex(first.0 + position as u64);
            hand_out(block, entry, &buffer[(u64::from(entry.place.offset) - from) as usize..], sink);
        }
        Ok(())
    }

    /// The segment of a run was collected between lookup and read: each block is looked up again by itself.
    fn read_apart(
        &self,
        first: BlockIndex,
        run: &mut [Option<Entry>],
        sink: &mut BlockSink<'_>,
        buffer: &mut AlignedBuffer,
    ) -> Result<(), ReplicaError> {
        for position in 0..run.len() {
            let block = BlockIndex(first.0 + position as u64);
            let mut found = None;
            for _ in 0..LOOKUPS_MAX {
                let entry = self.index.lookup(block)?;
                found = Some((entry, entry.and_then(|entry| self.segment_of(entry.place))));
                if matches!(found, Some((None, _) | (Some(_), Some(_)))) {
                    break;
                }
            }
            match found {
                Some((Some(entry), Some(_))) => self.read_run(block, &mut [Some(entry)], sink, buffer)?,
                Some((Some(entry), None)) => return Err(missing(entry.place)),
                _ => sink(block, None),
            }
        }
        Ok(())
    }

    pub(crate) fn segment_of(&self, place: Place) -> Option<Arc<Segment>> {
        self.segments.read().get(place.segment).map(|row| Arc::clone(&row.segment))
    }
}

fn missing(place: Place) -> ReplicaError {
    ReplicaError::Missing { file: crate::names::segment(place.segment), needed_by: "the index".to_owned() }
}

/// How many entries from the first on are unmapped, or lie directly behind one another.
fn run_length(entries: &[Option<Entry>]) -> usize {
    let mut length = 1;
    while length < entries.len() {
        let joined = match (&entries[length - 1], &entries[length]) {
            (None, None) => true,
            (Some(before), Some(next)) => {
                next.place.segment == before.place.segment
                    && u64::from(next.place.offset)
                        == u64::from(before.place.offset) + before.shape.stored_bytes() as u64
            }
            _ => false,
        };
        if !joined {
            break;
        }
        length += 1;
    }
    length
}

fn hand_out(block: BlockIndex, entry: &Entry, record: &[u8], sink: &mut BlockSink<'_>) {
    let length = entry.shape.ciphertext_bytes() as usize;
    let Some((ciphertext, rest)) = record.split_at_checked(length) else { return };
    let Some((tag, _)) = rest.split_first_chunk::<TAG_BYTES>() else { return };
    sink(
        block,
        Some(SealedBlock { version: entry.version, period: entry.period, shape: entry.shape, ciphertext, tag }),
    );
}

//! What a crash left behind: from files to an open store.
//!
//! Recovery starts from the newest whole checkpoint, puts the log above it together ([`crate::replay`]) and brings the
//! index up to date. It changes nothing on the disk: that begins with the next epoch's start record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};

use holdfast_log::bytes::Problem;
use holdfast_log::group::GroupBody;
use holdfast_log::header::VolumeHeader;
use holdfast_log::period::PeriodRow;
use holdfast_log::place::{Entry, Place, Version};
use holdfast_log::seam::{ReplicaError, SealedHeader};
use holdfast_ports::Disk;
use holdfast_vocabulary::{PeriodNumber, SegmentNumber, Seq, VolumeId};
use parking_lot::{Mutex, RwLock};

use crate::append::{LogEnd, data_offset};
use crate::checkpoint::Checkpoint;
use crate::collect::Collector;
use crate::failure::{damaged, disk_error};
use crate::index::{Index, IndexRoot};
use crate::live_map::LiveMap;
use crate::names;
use crate::options::StoreOptions;
use crate::replay::{Found, Replay, TailGroup, examine};
use crate::scan;
use crate::segments::{Row, Segment, SegmentTable};
use crate::store::{Base, Counters, Store};

impl Store {
    /// Opens a store that [`crate::create()`] made. Changes nothing on the disk.
    pub fn open(disk: Arc<dyn Disk>, options: StoreOptions) -> Result<Self, ReplicaError> {
        let sector = disk.sector_bytes() as u32;
        let header = read_small(&*disk, names::HEADER)?;
        let header = header.get(..VolumeHeader::BYTES).unwrap_or(&header).to_vec();
        let (facts, _) = VolumeHeader::decode(&header).map_err(|error| damaged(names::HEADER, 0, &error))?;
        let volume = facts.volume;
        let promised = match read_small(&*disk, names::PROMISE) {
            Ok(bytes) => Some(crate::promise::decode(&bytes).map_err(|error| damaged(names::PROMISE, 0, &error))?),
            Err(ReplicaError::Missing { .. }) => None,
            Err(error) => return Err(error),
        };
        let (checkpoint, before, slot_bytes) = read_checkpoints(&*disk, volume)?;
        let listed: BTreeMap<_, _> = checkpoint.segments.iter().map(|row| (row.number, row)).collect();
        let names = disk.list().map_err(disk_error)?;
        let present: BTreeSet<SegmentNumber> = names.iter().filter_map(|name| names::segment_number(name)).collect();
        let mut found = Vec::new();
        for number in present.iter().filter(|number| !listed.contains_key(number)) {
            found.push(examine(&disk, *number, volume, sector, checkpoint.boundary)?);
        }
        let replay = Replay::run(
            checkpoint.through,
            checkpoint.chain,
            &checkpoint.epochs,
            checkpoint.committed,
            &found,
            sector,
        )?;
        let index = Index::open(Arc::clone(&disk), &checkpoint.index, &options.budget)?
            .with_garbage_bytes(options.index_garbage_bytes());
        let mut periods: BTreeMap<_, _> =
            checkpoint.periods.iter().map(|(row, count)| (row.number, (*row, *count))).collect();
        replay_index(&index, &replay.groups, &found, &mut periods, sector);
        let mut gathered = Gathered::default();
        gathered.covered(&disk, &checkpoint, &present, &found)?;
        gathered.tail(&found);
        gathered.garbage.extend(names.iter().filter(|name| name.ends_with(names::UNFINISHED)).cloned());
        let next_number = present.iter().map(|number| number.next()).fold(checkpoint.next_segment, Ord::max);
        let recovered_tail = replay
            .groups
            .iter()
            .map(|one| SealedHeader { header: one.group.header.clone(), mac: one.group.mac })
            .collect();
        let store = Self {
            sector,
            volume,
            index,
            segments: RwLock::new(gathered.table),
            // What was read may still be only in the system's memory; it counts once it was synced again.
            log: Mutex::new(LogEnd::new(&replay, next_number, options.segment_bytes_min(), gathered.dirty)),
            sync_turn: Mutex::new(()),
            base: Mutex::new(Base {
                header,
                promised,
                checkpoint: checkpoint.number,
                slot_bytes,
                through: checkpoint.through,
                chain: checkpoint.chain,
                root: checkpoint.root,
                index: checkpoint.index.clone(),
                index_before: before,
                epochs: replay.epochs,
                periods,
                advance: None,
                epochs_of_base: checkpoint.epochs.len(),
                boundary: checkpoint.boundary,
                recovered_tail: Some(recovered_tail),
                garbage: gathered.garbage,
            }),
            upkeep: Mutex::new(Collector::default()),
            committed: AtomicU64::new(checkpoint.committed.max(replay.mark).0),
            fault: OnceLock::new(),
            collect_due: AtomicBool::new(false),
            starved: AtomicBool::new(false),
            counters: Counters::default(),
            disk,
            options,
        };
        store.weigh_collection();
        Ok(store)
    }
}

/// The segments of a store that is being opened.
#[derive(Default)]
struct Gathered {
    table: SegmentTable,
    /// Segments of the tail, which may still be only in the system's memory.
    dirty: BTreeMap<SegmentNumber, Arc<Segment>>,
    garbage: Vec<String>,
}

impl Gathered {
    /// The segments that the checkpoint lists. One that is not there must be one that nothing needs any more.
    fn covered(
        &mut self,
        disk: &Arc<dyn Disk>,
        checkpoint: &Checkpoint,
        present: &BTreeSet<SegmentNumber>,
        found: &[Found],
    ) -> Result<(), ReplicaError> {
        for row in &checkpoint.segments {
            if present.contains(&row.number) {
                let segment = Segment::new(disk, row.number, row.instance, row.temperature, row.bytes);
                let live = LiveMap::from_parts(row.cell, row.live.clone(), row.live_bytes);
                self.table.insert(Row::covered(segment, live, checkpoint.number));
            } else if row.live_bytes > 0 && !emptied_by(found, row.number) {
                let moved = unfinished(found).map_or_else(String::new, |names| {
                    format!(", unless they were moved to what is not whole: {names}")
                });
                let needed_by = format!("checkpoint {} (blocks of the volume lie in it{moved})", checkpoint.number);
                return Err(ReplicaError::Missing { file: names::segment(row.number), needed_by });
            }
        }
        Ok(())
    }

    /// The segments above the checkpoint.
    fn tail(&mut self, found: &[Found]) {
        for one in found {
            let (segment, fine) = match one {
                Found::Log { segment, head, .. } => (segment, head.has_short_records()),
                Found::Moved { segment, table } => (segment, table.has_short_records()),
                Found::Headless { number, .. } => {
                    self.garbage.push(names::segment(*number));
                    continue;
                }
                Found::Garbage { name } => {
                    self.garbage.push(name.clone());
                    continue;
                }
            };
            self.dirty.insert(segment.number, Arc::clone(segment));
            self.table.insert(Row::of_tail(Arc::clone(segment), fine));
        }
    }
}

impl Store {
    /// The tail, read from the disk again: a store outlives the sessions that write to it.
    pub(crate) fn read_tail(&self) -> Result<Vec<SealedHeader>, ReplicaError> {
        let log = self.log.lock();
        let base = self.base.lock();
        if !log.flights.is_empty() {
            return Err(ReplicaError::NotNext { head: log.head, chain: log.chain, offered: log.completed() });
        }
        let uncovered: Vec<SegmentNumber> = self
            .segments
            .read()
            .rows()
            .filter(|row| row.covered_by().is_none() && row.segment.temperature.is_none())
            .map(|row| row.segment.number)
            .collect();
        let mut found = Vec::new();
        for number in uncovered {
            found.push(examine(&self.disk, number, self.volume, self.sector, base.boundary)?);
        }
        let epochs = &base.epochs[..base.epochs_of_base.min(base.epochs.len())];
        let replay = Replay::run(base.through, base.chain, epochs, self.committed(), &found, self.sector)?;
        Ok(replay.groups.into_iter().map(|one| SealedHeader { header: one.group.header, mac: one.group.mac }).collect())
    }
}

/// Reads a file of a few sectors.
fn read_small(disk: &dyn Disk, name: &str) -> Result<Vec<u8>, ReplicaError> {
    let file = disk.open(name).map_err(|error| {
        if error.is_not_found() {
            return ReplicaError::Missing { file: name.to_owned(), needed_by: "this store".to_owned() };
        }
        disk_error(error)
    })?;
    Ok(scan::read_file(&*file, disk.sector_bytes())?.to_vec())
}

/// The newest whole checkpoint, the index files of the other slot if that is whole too, and the bytes of both slots.
fn read_checkpoints(disk: &dyn Disk, volume: VolumeId) -> Result<(Checkpoint, IndexRoot, [u64; 2]), ReplicaError> {
    let mut whole = Vec::new();
    let mut bytes = [0; 2];
    let mut trouble = None;
    for (slot, name) in names::CHECKPOINTS.into_iter().enumerate() {
        let content = match read_small(disk, name) {
            Ok(content) => content,
            Err(ReplicaError::Missing { .. }) => continue,
            Err(error) => return Err(error),
        };
        bytes[slot] = content.len() as u64;
        match Checkpoint::decode(&content) {
            Ok(checkpoint) if checkpoint.volume == volume => whole.push(checkpoint),
            Ok(checkpoint) => {
                return Err(ReplicaError::Damaged {
                    file: name.to_owned(),
                    offset: crate::checkpoint::HEAD_BYTES as u64,
                    problem: format!(
                        "it belongs to volume {}, but this store's header says {volume}; \
                         two stores were mixed up in one directory",
                        checkpoint.volume
                    ),
                });
            }
            // Starting from the other slot would throw away what a newer release has done since.
            Err(error) if matches!(error.problem, Problem::Version(_)) => return Err(damaged(name, 0, &error)),
            Err(error) => trouble = trouble.or(Some(damaged(name, 0, &error))),
        }
    }
    whole.sort_by_key(|checkpoint| checkpoint.number);
    let Some(newest) = whole.pop() else {
        return Err(trouble.unwrap_or(ReplicaError::Missing {
            file: names::CHECKPOINTS[0].to_owned(),
            needed_by: "this store".to_owned(),
        }));
    };
    let before = whole.pop().map_or_else(|| newest.index.clone(), |checkpoint| checkpoint.index);
    Ok((newest, before, bytes))
}

/// The segments that count for nothing: one of them may be a moved segment that was damaged.
fn unfinished(found: &[Found]) -> Option<String> {
    let names = found.iter().filter_map(|one| match one {
        Found::Headless { number, .. } => Some(names::segment(*number)),
        Found::Garbage { name } => Some(name.clone()),
        Found::Log { .. } | Found::Moved { .. } => None,
    });
    Some(names.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
}

fn emptied_by(found: &[Found], number: SegmentNumber) -> bool {
    found.iter().any(|one| matches!(one, Found::Moved { table, .. } if table.emptied.contains(&number)))
}

fn replay_index(
    index: &Index,
    groups: &[TailGroup],
    found: &[Found],
    periods: &mut BTreeMap<PeriodNumber, (PeriodRow, u64)>,
    sector: u32,
) {
    for TailGroup { group, segment } in groups {
        match &group.header.body {
            GroupBody::Start(start) => {
                periods.entry(start.period.number).or_insert((start.period, 0));
            }
            GroupBody::Data(entries) => {
                let offset = group.offset + data_offset(group.header_bytes as usize, sector);
                let mut place = Place { segment: segment.number, offset };
                for (position, entry) in entries.iter().enumerate() {
                    let seq = Seq(group.header.first_seq.0 + position as u64);
                    let version = Version { epoch: group.header.epoch, seq };
                    if entry.shape.is_unmap() {
                        index.unmap(entry.block, entry.crc_or_count.into(), version);
                    } else {
                        let period = group.header.period;
                        index.put(entry.block, Entry { version, place, period, shape: entry.shape });
                        place.offset += entry.shape.stored_bytes() as u32;
                    }
                }
            }
        }
    }
    for one in found {
        let Found::Moved { segment, table } = one else { continue };
        for row in &table.periods {
            periods.entry(row.number).or_insert((*row, 0));
        }
        let mut place = Place { segment: segment.number, offset: sector };
        for entry in &table.entries {
            index.relocate(entry.block, entry.version, entry.from, place);
            place.offset += entry.shape.stored_bytes() as u32;
        }
    }
}

//! Garbage out: what is still live in an old segment moves, and the file is freed.
//!
//! Ciphertext moves verbatim, so no key is needed. A victim's live records are known from its live map, which is exact as
//! of the base; what the committed log superseded since then stays behind. The moves become visible when the segment that
//! they went to is closed and durable: then each is a compare-and-set in the index, and the victims may go.
//!
//! Only segments that both checkpoint slots cover are victims: whichever slot recovery chooses, the moved segment is in
//! the tail that it replays, so no place in a freed file is ever named.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;
use std::sync::Arc;

use holdfast_log::bytes::round_up;
use holdfast_log::group::GroupBody;
use holdfast_log::hash::{ChainHash, crc32c};
use holdfast_log::period::{Compression, PeriodRow};
use holdfast_log::place::{Place, Version};
use holdfast_log::seam::ReplicaError;
use holdfast_log::segment::{MovedEntry, MovedTable, SegmentHead, SegmentKind};
use holdfast_ports::AlignedBuffer;
use holdfast_vocabulary::{Epoch, Generation, PeriodNumber, SegmentNumber, Seq};

use crate::append::data_offset;
use crate::failure::disk_error;
use crate::live_map::LiveMap;
use crate::scan;
use crate::segments::{Row, Segment, closing_room};
use crate::store::{Counters, Store};
use crate::window::Window;

/// Records that were moved so often are as cold as it gets; more streams would only leave more files half full.
const TEMPERATURE_MAX: u8 = 3;
/// What is gathered before it is written.
const WRITE_BYTES: usize = 1 << 20;

/// Where collection stands: one half-full segment for each temperature.
#[derive(Default)]
pub(crate) struct Collector {
    outputs: BTreeMap<u8, Output>,
    window: Window,
}

/// A moved segment that is being filled.
struct Output {
    segment: Arc<Segment>,
    /// Where the next bytes of `gathered` go.
    written: u32,
    gathered: AlignedBuffer,
    table: MovedTable,
    periods: BTreeMap<PeriodNumber, PeriodRow>,
}

impl Store {
    /// Whether there is a victim worth it now, and whether room is short while only a new base would give victims.
    pub(crate) fn collection_wanted(&self) -> (bool, bool) {
        let newest = self.base.lock().checkpoint;
        let segments = self.segments.read();
        let (mut bytes, mut live, mut ready_garbage, mut young_garbage, mut moved_garbage) = (0u64, 0, 0, 0, 0);
        for row in segments.rows().filter(|row| row.is_closed()) {
            bytes += u64::from(row.segment.bytes());
            live += u64::from(row.live().live_bytes());
            let garbage = row.garbage();
            if is_victim(row, newest) {
                ready_garbage += garbage;
            } else if row.emptied {
                moved_garbage += garbage;
            } else {
                young_garbage += garbage;
            }
        }
        drop(segments);
        let segment = u64::from(self.options.segment_bytes_max);
        let limit = self.data_limit();
        let used = self.used_bytes(&self.log.lock());
        let short = used + 2 * segment > limit;
        let dirty = bytes > live
            && (bytes - live).saturating_mul(1000) > bytes.saturating_mul(self.options.garbage_permille_max.into())
            && bytes - live > 2 * segment;
        // With nothing left to gather, what was gathered is worth a file that is not full.
        let collect = ready_garbage > segment / 8 && (short || dirty) || short && moved_garbage > 0;
        (collect, short && !collect && young_garbage > segment)
    }

    /// Collects one victim; when there is none left and room is short, ends the files that are being filled, which frees
    /// the victims that were gathered in them.
    pub(crate) fn collect_one(&self) -> Result<bool, ReplicaError> {
        self.healthy()?;
        let mut collector = self.upkeep.lock();
        let Some((victim, temperature)) = self.choose_victim() else {
            let short = self.room_is_short() && !collector.outputs.is_empty();
            return if short { self.close_outputs(&mut collector).map(|()| true) } else { Ok(false) };
        };
        let temperature = (temperature + 1).min(TEMPERATURE_MAX);
        let moved = self
            .live_records(&victim)
            .and_then(|keeps| self.move_records(&mut collector, temperature, &victim, &keeps));
        if let Err(error) = moved {
            // What is wrong with it stays wrong: it keeps what can still be read, and others are collected.
            if let Some(row) = self.segments.write().get_mut(victim.number)
                && !matches!(error, ReplicaError::NoSpace { .. })
            {
                row.uncollectable = true;
            }
            return Err(error);
        }
        // What was gathered for a victim is worth a file only when it is full; until then the victim waits, marked.
        if let Some(row) = self.segments.write().get_mut(victim.number) {
            row.emptied = true;
        }
        // Also a victim of which nothing is left is named in a table, because a checkpoint may still count on its file.
        self.output(&mut collector.outputs, temperature)?.table.emptied.push(victim.number);
        Ok(true)
    }

    fn room_is_short(&self) -> bool {
        let limit = self.data_limit();
        self.used_bytes(&self.log.lock()) + u64::from(self.options.segment_bytes_max) > limit
    }

    /// The best of the victims: most room for least work, old before young (Rosenblum and Ousterhout's cost-benefit).
    fn choose_victim(&self) -> Option<(Arc<Segment>, u8)> {
        let newest = self.base.lock().checkpoint;
        let next = self.log.lock().next_number;
        let segments = self.segments.read();
        let mut best: Option<(u128, &Row)> = None;
        for row in segments.rows().filter(|row| is_victim(row, newest)) {
            let bytes = u64::from(row.segment.bytes()).max(1);
            let live = u64::from(row.live().live_bytes()).min(bytes);
            if live == bytes {
                continue;
            }
            let age = u64::from(next.0 - row.segment.number.0);
            // benefit / cost = free × age / (1 + live), all in parts of a million.
            let free_ppm = (bytes - live) * 1_000_000 / bytes;
            let live_ppm = live * 1_000_000 / bytes;
            let score = u128::from(free_ppm) * u128::from(age) * 1_000_000 / u128::from(1_000_000 + live_ppm);
            if best.as_ref().is_none_or(|(most, _)| score > *most) {
                best = Some((score, row));
            }
        }
        best.map(|(_, row)| (Arc::clone(&row.segment), row.segment.temperature.unwrap_or(0)))
    }

    /// The records of a segment that the base maps and that no committed record superseded since.
    fn live_records(&self, victim: &Arc<Segment>) -> Result<Vec<MovedEntry>, ReplicaError> {
        let committed = self.committed();
        let segments = self.segments.read();
        let Some(row) = segments.get(victim.number) else {
            return Ok(Vec::new());
        };
        let live = row.live().clone();
        drop(segments);
        if live.live_bytes() == 0 {
            return Ok(Vec::new());
        }
        let records = self.records_of(victim)?;
        all_listed(victim, &live, &records)?;
        let mut keeps = Vec::new();
        for entry in records {
            if live.is_live(entry.from.offset) && !self.index.superseded(entry.block, entry.version, committed) {
                keeps.push(entry);
            }
        }
        Ok(keeps)
    }

    /// All records of a closed segment, as its table lists them.
    pub(crate) fn records_of(&self, segment: &Arc<Segment>) -> Result<Vec<MovedEntry>, ReplicaError> {
        let damage = |problem: &str| ReplicaError::Damaged {
            file: segment.name.clone(),
            offset: 0,
            problem: problem.to_owned(),
        };
        let file = segment.file()?;
        let head = scan::read_head(&**file, &segment.name, self.sector as usize)?
            .map_err(|error| damage(&error.to_string()))?;
        if head.instance != segment.instance || head.number != segment.number {
            return Err(damage("it is not the file that the checkpoint knows under this name"));
        }
        let mut records = Vec::new();
        if let SegmentKind::Moved { .. } = head.kind {
            let table = scan::read_moved(&**file, self.sector as usize, head.instance)?
                .ok_or_else(|| damage("its table is damaged"))?;
            let mut offset = self.sector;
            for entry in table.entries {
                let place = Place { segment: segment.number, offset };
                offset += entry.shape.stored_bytes() as u32;
                records.push(MovedEntry { from: place, ..entry });
            }
            return Ok(records);
        }
        for group in scan::scan_log(&**file, self.sector, &head)?.groups {
            let GroupBody::Data(entries) = &group.header.body else { continue };
            let mut offset = group.offset + data_offset(group.header_bytes as usize, self.sector);
            for (position, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.shape.is_unmap()) {
                let seq = Seq(group.header.first_seq.0 + position as u64);
                records.push(MovedEntry {
                    block: entry.block,
                    version: Version { epoch: group.header.epoch, seq },
                    period: group.header.period,
                    shape: entry.shape,
                    crc: entry.crc_or_count,
                    from: Place { segment: segment.number, offset },
                });
                offset += entry.shape.stored_bytes() as u32;
            }
        }
        Ok(records)
    }

    fn move_records(
        &self,
        collector: &mut Collector,
        temperature: u8,
        victim: &Arc<Segment>,
        keeps: &[MovedEntry],
    ) -> Result<(), ReplicaError> {
        if keeps.is_empty() {
            return Ok(());
        }
        let file = victim.file()?;
        collector.window.reset();
        for entry in keeps {
            let start = entry.from.offset as usize;
            let stored = entry.shape.stored_bytes();
            if !self.output_has_room(collector, temperature, stored) {
                self.close_output(collector, temperature)?;
            }
            let Collector { outputs, window } = collector;
            let output = self.output(outputs, temperature)?;
            let record = window.record(&**file, self.sector as usize, start, stored)?.filter(|record| {
                // Rot must not be spread: a record that is not what its table says stays where it is, and is reported.
                let sealed = entry.shape.ciphertext_bytes() as usize + holdfast_log::place::TAG_BYTES;
                crc32c(&record[..sealed]) == entry.crc
            });
            let Some(record) = record else {
                return Err(ReplicaError::Damaged {
                    file: victim.name.clone(),
                    offset: start as u64,
                    problem: format!("the record of block {} does not match its checksum", entry.block),
                });
            };
            output.gathered.extend_from_slice(record);
            output.table.entries.push(*entry);
            if !output.periods.contains_key(&entry.period)
                && let Some((row, _)) = self.base.lock().periods.get(&entry.period)
            {
                output.periods.insert(entry.period, *row);
            }
            if output.gathered.len() >= WRITE_BYTES {
                self.write_gathered(output, false)?;
            }
        }
        Ok(())
    }

    fn output_has_room(&self, collector: &Collector, temperature: u8, record: usize) -> bool {
        let Some(output) = collector.outputs.get(&temperature) else {
            return true;
        };
        let table = 16
            + (output.periods.len() + 1) * PeriodRow::BYTES
            + (output.table.emptied.len() + 2) * 4
            + (output.table.entries.len() + 1) * MovedTable::ENTRY_BYTES;
        let data = output.written as usize + round_up(output.gathered.len() + record, self.sector as usize);
        // One more sector for the foot, one more period and one more victim than are known now.
        data + closing_room(table, self.sector) as usize <= output.segment.bytes() as usize
    }

    /// The segment that is being filled for a temperature; a new one if there is none.
    fn output<'a>(
        &self,
        outputs: &'a mut BTreeMap<u8, Output>,
        temperature: u8,
    ) -> Result<&'a mut Output, ReplicaError> {
        Ok(match outputs.entry(temperature) {
            Slot::Occupied(slot) => slot.into_mut(),
            Slot::Vacant(slot) => slot.insert(self.open_output(temperature)?),
        })
    }

    fn open_output(&self, temperature: u8) -> Result<Output, ReplicaError> {
        let number = self.log.lock().take_number();
        let capacity = self.options.segment_bytes_max;
        let segment = Segment::prepare(&self.disk, number, self.new_instance(), Some(temperature), capacity)?;
        self.log.lock().names_dirty = true;
        let head = SegmentHead {
            volume: self.volume,
            number,
            capacity,
            sector: self.sector,
            instance: segment.instance,
            generation: Generation(0),
            epoch: Epoch(0),
            first_seq: Seq(0),
            chain: ChainHash::default(),
            kind: SegmentKind::Moved { temperature },
        };
        segment.begin(&head).map_err(|error| self.faulted(error))?;
        Counters::add(&self.counters.table_bytes, self.sector.into());
        let fine = self.base.lock().periods.values().any(|(row, _)| row.compression != Compression::None);
        self.segments.write().insert(Row::open(Arc::clone(&segment), fine));
        Ok(Output {
            segment,
            written: self.sector,
            gathered: AlignedBuffer::with_capacity(WRITE_BYTES + (64 << 10)),
            table: MovedTable::default(),
            periods: BTreeMap::new(),
        })
    }

    /// Writes what was gathered, whole sectors of it; at the end also the rest, padded.
    fn write_gathered(&self, output: &mut Output, end: bool) -> Result<(), ReplicaError> {
        let sector = self.sector as usize;
        if end {
            let padded = round_up(output.gathered.len(), sector);
            output.gathered.resize(padded, 0);
        }
        let whole = output.gathered.len() / sector * sector;
        if whole == 0 {
            return Ok(());
        }
        output
            .segment
            .file()?
            .write_at(output.written.into(), &output.gathered[..whole])
            .map_err(|error| self.faulted(disk_error(error)))?;
        Counters::add(&self.counters.moved_bytes, whole as u64);
        output.written += whole as u32;
        let rest = output.gathered[whole..].to_vec();
        output.gathered.truncate(0);
        output.gathered.extend_from_slice(&rest);
        Ok(())
    }

    pub(crate) fn close_outputs(&self, collector: &mut Collector) -> Result<(), ReplicaError> {
        let temperatures: Vec<u8> = collector.outputs.keys().copied().collect();
        temperatures.into_iter().try_for_each(|temperature| self.close_output(collector, temperature))
    }

    /// Makes the moves of one output durable, then visible, then frees the victims.
    fn close_output(&self, collector: &mut Collector, temperature: u8) -> Result<(), ReplicaError> {
        let Some(mut output) = collector.outputs.remove(&temperature) else {
            return Ok(());
        };
        self.write_gathered(&mut output, true)?;
        // Recovery believes a whole table, so no byte of it may reach the disk before the records have.
        output.segment.sync().map_err(|error| self.faulted(error))?;
        output.table.periods = output.periods.values().copied().collect();
        let table = output.table.encode();
        let count = output.table.entries.len() as u32;
        let written =
            output.segment.close(self.sector, output.written, &table, count).map_err(|error| self.faulted(error))?;
        Counters::add(&self.counters.table_bytes, written);
        output.segment.sync().map_err(|error| self.faulted(error))?;
        self.disk.sync_names().map_err(|error| self.faulted(disk_error(error)))?;
        self.segments.write().close(output.segment.number);
        let mut place = Place { segment: output.segment.number, offset: self.sector };
        for entry in &output.table.entries {
            self.index.relocate(entry.block, entry.version, entry.from, place);
            place.offset += entry.shape.stored_bytes() as u32;
        }
        Counters::add(&self.counters.moved_records, u64::from(count));
        self.release_victims(&output.table.emptied)
    }

    fn release_victims(&self, victims: &[SegmentNumber]) -> Result<(), ReplicaError> {
        let mut free = Vec::new();
        for number in victims {
            free.extend(self.segments.write().remove(*number).map(|row| row.segment));
        }
        self.remove_segments(&free)
    }
}

/// Whether the headers of a segment list every record that the base maps in it. If they do not, some of them are damaged:
/// what they do not list would be taken for garbage.
pub(crate) fn all_listed(segment: &Segment, live: &LiveMap, records: &[MovedEntry]) -> Result<(), ReplicaError> {
    let mapped = records.iter().filter(|entry| live.is_live(entry.from.offset));
    let listed: u64 = mapped.map(|entry| entry.shape.stored_bytes() as u64).sum();
    if listed == u64::from(live.live_bytes()) {
        return Ok(());
    }
    Err(ReplicaError::Damaged {
        file: segment.name.clone(),
        offset: 0,
        problem: format!(
            "blocks of the volume lie in {} bytes of its records, but its headers list only {listed} of them; \
             rebuild this replica from another",
            live.live_bytes()
        ),
    })
}

/// Closed, not emptied already, and covered by the checkpoint before the newest, so that both slots cover it.
fn is_victim(row: &Row, newest: u64) -> bool {
    row.is_closed() && !row.emptied && !row.uncollectable && row.covered_by().is_some_and(|covered| covered < newest)
}

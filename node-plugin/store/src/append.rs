//! Groups in: the end of the log.
//!
//! `admit` gives a group its place, in order, under one short lock; `complete` writes its bytes, several groups at once.
//! A hole that a crash leaves between two of them ends the log for recovery, so the order of the writes does not matter.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_log::bytes::round_up;
use holdfast_log::group::{Frame, GroupBody, GroupEntry, GroupHeader, StartRecord};
use holdfast_log::hash::ChainHash;
use holdfast_log::period::{Compression, PeriodRow};
use holdfast_log::place::{Entry, Place, Version};
use holdfast_log::seam::{EpochRow, ReplicaError, SealedGroup, Ticket};
use holdfast_log::segment::{HeaderCopy, SegmentHead, SegmentKind, encode_header_copies};
use holdfast_ports::AlignedBuffer;
use holdfast_vocabulary::{Epoch, Generation, Grant, InstanceId, SegmentNumber, Seq};

use crate::failure::disk_error;
use crate::replay::Replay;
use crate::segments::{Row, Segment, closing_room};
use crate::store::{Counters, Store};

/// With more than this between two syncs, a journal commit is lost in the time that the bytes take.
const AHEAD_WORTH_BELOW: u64 = 64 << 10;
/// How far zeros are written ahead: a commit is then paid once for some thirty small flushes.
const AHEAD_BYTES: u32 = 256 << 10;
/// With less than this left of them, more are written.
const AHEAD_BYTES_LEAST: u32 = 64 << 10;

/// Groups up to this long are copied behind their header and written with one call; longer ones with two.
const ONE_WRITE_BYTES_MAX: usize = 128 << 10;

/// The end of the log.
pub(crate) struct LogEnd {
    /// The newest record that was admitted.
    pub head: Seq,
    /// The chain up to the newest group that was admitted.
    pub chain: ChainHash,
    /// The epoch that the newest start record began.
    pub epoch: Option<(Generation, Epoch)>,
    /// Its period.
    pub period: Option<PeriodRow>,
    /// Where the next group goes.
    pub open: Option<OpenSegment>,
    /// Files whose room is taken, for when the open segment is full.
    pub prepared: VecDeque<Arc<Segment>>,
    /// Credit that was given and not used yet.
    pub reserved: u64,
    /// The number of the next segment of either kind.
    pub next_number: SegmentNumber,
    /// The capacity of the next log segment.
    pub next_capacity: u32,
    /// Groups whose bytes are being written.
    pub flights: BTreeMap<u64, Flight>,
    /// Counts tickets.
    pub next_ticket: u64,
    /// Segments with writes since they were last synced.
    pub dirty: BTreeMap<SegmentNumber, Arc<Segment>>,
    /// Files were created or removed since names were last synced.
    pub names_dirty: bool,
    /// Bytes of groups since the last sync.
    pub unsynced: u64,
}

/// A log segment that is not closed yet.
pub(crate) struct OpenSegment {
    pub segment: Arc<Segment>,
    pub capacity: u32,
    /// Where the next frame goes.
    pub at: u32,
    /// Copies of the headers, for the table.
    pub copies: Vec<HeaderCopy>,
    /// Bytes that the table takes so far.
    pub table_bytes: usize,
    /// Up to here the file was written once, with zeros where no frame is yet.
    pub ahead: u32,
}

/// A group on its way to the disk.
pub(crate) struct Flight {
    pub segment: Arc<Segment>,
    pub offset: u32,
    /// The record before its first.
    pub before: Seq,
}

impl LogEnd {
    /// The end of a log that was just put together; nothing is open for append, because nothing ever is again.
    pub fn new(
        replay: &Replay,
        next_number: SegmentNumber,
        next_capacity: u32,
        dirty: BTreeMap<SegmentNumber, Arc<Segment>>,
    ) -> Self {
        Self {
            head: replay.head,
            chain: replay.chain,
            epoch: replay.epoch,
            period: None,
            open: None,
            prepared: VecDeque::new(),
            reserved: 0,
            next_number,
            next_capacity,
            flights: BTreeMap::new(),
            next_ticket: 1,
            dirty,
            names_dirty: true,
            unsynced: 0,
        }
    }

    /// Everything up to here was written; nothing is known of what lies above.
    pub fn completed(&self) -> Seq {
        self.flights.values().map(|flight| flight.before).min().unwrap_or(self.head)
    }

    /// The number of a new segment.
    pub fn take_number(&mut self) -> SegmentNumber {
        let number = self.next_number;
        self.next_number = number.next();
        number
    }
}

/// Where a group's records start, counted from its frame.
pub(crate) fn data_offset(header_bytes: usize, sector: u32) -> u32 {
    round_up(Frame::BYTES + header_bytes, sector as usize) as u32
}

/// Bytes that a group takes in a segment.
pub(crate) fn group_bytes(header_bytes: usize, data_bytes: usize, sector: u32) -> u32 {
    data_offset(header_bytes, sector) + round_up(data_bytes, sector as usize) as u32
}

impl Store {
    pub(crate) fn admit_group(&self, grant: &Grant, group: &Arc<SealedGroup>) -> Result<Ticket, ReplicaError> {
        // An earlier session's sync must be over before a start record relies on what it made durable.
        let _turn = matches!(group.header.body, GroupBody::Start(_)).then(|| self.sync_turn.lock());
        let mut log = self.log.lock();
        self.obeys(self.base.lock().promised.as_ref(), grant)?;
        let header = &group.header;
        if header.previous != log.chain || header.first_seq != log.head.next() || header.volume != self.volume {
            return Err(ReplicaError::NotNext { head: log.head, chain: log.chain, offered: header.first_seq });
        }
        match &header.body {
            GroupBody::Start(start) => self.begin_epoch(&mut log, group, start)?,
            GroupBody::Data(_) if log.epoch == Some((header.generation, header.epoch)) => {}
            GroupBody::Data(_) => return Err(ReplicaError::NotPromised),
        }
        let header_bytes = group.header_bytes.len() + group.mac.len();
        let bytes = group_bytes(header_bytes, header.data_bytes as usize, self.sector);
        self.make_room(&mut log, bytes, header_bytes)?;
        log.reserved = log.reserved.saturating_sub(group.reserved_bytes);
        let before = log.head;
        log.head = header.last_seq();
        log.chain = group.chain;
        let ticket = log.next_ticket;
        log.next_ticket += 1;
        let Some(open) = log.open.as_mut() else {
            return Err(ReplicaError::NotPromised);
        };
        let mut copy = Vec::with_capacity(header_bytes);
        copy.extend_from_slice(&group.header_bytes);
        copy.extend_from_slice(&group.mac);
        open.copies.push(HeaderCopy { offset: open.at, header: copy });
        open.table_bytes += 8 + header_bytes;
        let flight = Flight { segment: Arc::clone(&open.segment), offset: open.at, before };
        open.at += bytes;
        log.unsynced += u64::from(bytes);
        log.flights.insert(ticket, flight);
        Ok(Ticket(ticket))
    }

    /// The start record gets a small segment of its own: the first segment with data comes with the first data.
    fn begin_epoch(&self, log: &mut LogEnd, group: &SealedGroup, start: &StartRecord) -> Result<(), ReplicaError> {
        let order = (group.header.generation, group.header.epoch);
        if log.epoch.is_some_and(|newest| newest >= order) || !log.flights.is_empty() {
            return Err(ReplicaError::NotNext { head: log.head, chain: log.chain, offered: group.header.first_seq });
        }
        // A start record vouches for everything up to its base. So that is durable before any byte of the record is written:
        // what was found after the death of a process alone may still be in the system's memory only.
        self.sync_files(&std::mem::take(&mut log.dirty), std::mem::take(&mut log.names_dirty))?;
        let header_bytes = group.header_bytes.len() + group.mac.len();
        let capacity =
            self.sector + group_bytes(header_bytes, 0, self.sector) + closing_room(8 + header_bytes, self.sector);
        let number = log.take_number();
        let segment = Segment::prepare(&self.disk, number, self.new_instance(), None, capacity)?;
        log.names_dirty = true;
        self.close_open_segment(log)?;
        // What was prepared for the session before has a lower number than the start record's segment, and recovery
        // goes by numbers. Its credit is void with it.
        self.drop_prepared(log);
        log.reserved = 0;
        log.period = Some(start.period);
        log.epoch = Some(order);
        self.open_segment(log, segment)?;
        let mut base = self.base.lock();
        base.recovered_tail = None;
        base.periods.insert(start.period.number, (start.period, 0));
        base.epochs.push(EpochRow {
            generation: order.0,
            epoch: order.1,
            base: start.base,
            base_chain: start.base_chain,
        });
        Ok(())
    }

    /// Removes files that were prepared and never begun. What fails here is swept up at the next opening.
    pub(crate) fn drop_prepared(&self, log: &mut LogEnd) {
        for segment in log.prepared.drain(..) {
            let _ = self.disk.remove(&segment.name);
        }
    }

    /// Sees to it that the open segment has room for a group.
    fn make_room(&self, log: &mut LogEnd, bytes: u32, header_bytes: usize) -> Result<(), ReplicaError> {
        let fits = |open: &OpenSegment| {
            let closing = closing_room(open.table_bytes + 8 + header_bytes, self.sector);
            u64::from(open.at) + u64::from(bytes) + u64::from(closing) <= u64::from(open.capacity)
        };
        let least = self.sector + bytes + closing_room(8 + header_bytes, self.sector);
        if log.epoch.is_none() || (least > self.options.segment_bytes_max && !log.open.as_ref().is_some_and(fits)) {
            return Err(ReplicaError::NoSpace { wanted: bytes.into(), free: self.options.segment_bytes_max.into() });
        }
        while !log.open.as_ref().is_some_and(fits) {
            self.close_open_segment(log)?;
            let segment = match log.prepared.pop_front() {
                Some(segment) => segment,
                // Credit was given for prepared files only, so this is a session that asked for none.
                None => self.prepare_log_segment(log, u64::from(bytes))?,
            };
            self.open_segment(log, segment)?;
        }
        Ok(())
    }

    /// Takes the room of the next log segment on the disk.
    pub(crate) fn prepare_log_segment(&self, log: &mut LogEnd, need: u64) -> Result<Arc<Segment>, ReplicaError> {
        let max = self.options.segment_bytes_max;
        // Head, table and foot come on top of what is needed.
        let wanted = u32::try_from(need + 64 * 1024).unwrap_or(max).min(max);
        let capacity = log.next_capacity.max(wanted.next_power_of_two()).min(max);
        let number = log.take_number();
        let segment = Segment::prepare(&self.disk, number, self.new_instance(), None, capacity)?;
        log.next_capacity = (log.next_capacity.saturating_mul(2)).min(max);
        log.names_dirty = true;
        Ok(segment)
    }

    pub(crate) fn new_instance(&self) -> InstanceId {
        let mut id = [0; 16];
        self.options.random.fill(&mut id);
        InstanceId(id)
    }

    fn open_segment(&self, log: &mut LogEnd, segment: Arc<Segment>) -> Result<(), ReplicaError> {
        let (Some((generation, epoch)), Some(period)) = (log.epoch, log.period) else {
            return Err(ReplicaError::NotPromised);
        };
        let head = SegmentHead {
            volume: self.volume,
            number: segment.number,
            capacity: segment.bytes(),
            sector: self.sector,
            instance: segment.instance,
            generation,
            epoch,
            first_seq: log.head.next(),
            chain: log.chain,
            kind: SegmentKind::Log { period },
        };
        segment.begin(&head).map_err(|error| self.faulted(error))?;
        Counters::add(&self.counters.table_bytes, self.sector.into());
        let fine = period.compression != Compression::None;
        self.segments.write().insert(Row::open(Arc::clone(&segment), fine));
        log.dirty.insert(segment.number, Arc::clone(&segment));
        log.open = Some(OpenSegment {
            capacity: segment.bytes(),
            segment,
            at: self.sector,
            copies: Vec::new(),
            table_bytes: 0,
            ahead: self.sector,
        });
        Ok(())
    }

    /// Ends the open segment with its table. Groups of it may still be in flight: they have their places already.
    pub(crate) fn close_open_segment(&self, log: &mut LogEnd) -> Result<(), ReplicaError> {
        let Some(open) = log.open.take() else {
            return Ok(());
        };
        let table = encode_header_copies(&open.copies);
        let written = open
            .segment
            .close(self.sector, open.at, &table, open.copies.len() as u32)
            .map_err(|error| self.faulted(error))?;
        Counters::add(&self.counters.table_bytes, written);
        log.dirty.insert(open.segment.number, Arc::clone(&open.segment));
        self.segments.write().close(open.segment.number);
        Ok(())
    }

    pub(crate) fn complete_group(&self, ticket: &Ticket, group: &Arc<SealedGroup>) -> Result<(), ReplicaError> {
        self.healthy()?;
        let (segment, offset) = {
            let log = self.log.lock();
            let flight = log.flights.get(&ticket.0).ok_or(ReplicaError::NotPromised)?;
            (Arc::clone(&flight.segment), flight.offset)
        };
        let header_bytes = group.header_bytes.len() + group.mac.len();
        let data_at = data_offset(header_bytes, self.sector);
        self.write_group(&segment, offset, data_at as usize, group).map_err(|error| self.faulted(error))?;
        if let GroupBody::Data(entries) = &group.header.body {
            self.index_group(&group.header, entries, Place { segment: segment.number, offset: offset + data_at });
        }
        let mut log = self.log.lock();
        log.flights.remove(&ticket.0);
        log.dirty.insert(segment.number, segment);
        Ok(())
    }

    /// Makes the records of a group visible, the first of which lies at `place`.
    fn index_group(&self, header: &GroupHeader, entries: &[GroupEntry], mut place: Place) {
        let mut puts = Vec::with_capacity(entries.len());
        for (entry, seq) in entries.iter().zip(header.first_seq.0..) {
            let version = Version { epoch: header.epoch, seq: Seq(seq) };
            if entry.shape.is_unmap() {
                self.index.unmap(entry.block, entry.crc_or_count.into(), version);
            } else {
                puts.push((entry.block, Entry { version, place, period: header.period, shape: entry.shape }));
                place.offset += entry.shape.stored_bytes() as u32;
            }
        }
        self.index.put_all(&puts);
    }

    fn write_group(
        &self,
        segment: &Segment,
        offset: u32,
        data_at: usize,
        group: &SealedGroup,
    ) -> Result<(), ReplicaError> {
        let data_bytes = round_up(group.header.data_bytes as usize, self.sector as usize);
        let frame = Frame::wrap(segment.instance, &group.header_bytes, &group.mac, group.header.data_bytes);
        let joined = data_bytes <= ONE_WRITE_BYTES_MAX;
        let mut first = AlignedBuffer::with_len(if joined { data_at + data_bytes } else { data_at });
        first[..frame.len()].copy_from_slice(&frame);
        if joined {
            first[data_at..].copy_from_slice(&group.data[..data_bytes]);
        }
        segment.file()?.write_at(offset.into(), &first).map_err(disk_error)?;
        if !joined {
            let at = u64::from(offset) + data_at as u64;
            segment.file()?.write_at(at, &group.data[..data_bytes]).map_err(disk_error)?;
        }
        Counters::add(&self.counters.log_bytes, (data_at + data_bytes) as u64);
        Ok(())
    }

    /// Makes everything that was completed before this call durable.
    pub(crate) fn sync_log(&self, grant: &Grant) -> Result<Seq, ReplicaError> {
        // One at a time: whoever finds nothing dirty must know that what was dirty is durable, not on its way.
        let _turn = self.sync_turn.lock();
        let (completed, dirty, names) = {
            let mut log = self.log.lock();
            self.obeys(self.base.lock().promised.as_ref(), grant)?;
            self.write_ahead(&mut log)?;
            (log.completed(), std::mem::take(&mut log.dirty), std::mem::take(&mut log.names_dirty))
        };
        self.sync_files(&dirty, false)?;
        self.remove_garbage()?;
        self.sync_files(&BTreeMap::new(), names)?;
        Ok(completed)
    }

    /// Where little is written between syncs, writes zeros ahead of the log's end. A file system notes the first write to
    /// each part of a file in its journal, and without this would commit that journal at every sync.
    ///
    /// Nobody gets a place while it runs, so nothing that was appended is ever written over.
    fn write_ahead(&self, log: &mut LogEnd) -> Result<(), ReplicaError> {
        let appended = std::mem::take(&mut log.unsynced);
        let Some(open) = log.open.as_mut().filter(|_| (1..AHEAD_WORTH_BELOW).contains(&appended)) else {
            return Ok(());
        };
        let (from, end) = (open.at.max(open.ahead), open.capacity.min(open.at.saturating_add(AHEAD_BYTES)));
        if open.at.saturating_add(AHEAD_BYTES_LEAST) <= open.ahead || from >= end {
            return Ok(());
        }
        let zeros = AlignedBuffer::with_len((end - from) as usize);
        open.segment.file()?.write_at(from.into(), &zeros).map_err(|error| self.faulted(disk_error(error)))?;
        open.ahead = end;
        Counters::add(&self.counters.ahead_bytes, zeros.len() as u64);
        Ok(())
    }

    fn sync_files(&self, dirty: &BTreeMap<SegmentNumber, Arc<Segment>>, names: bool) -> Result<(), ReplicaError> {
        for segment in dirty.values() {
            segment.sync().map_err(|error| self.faulted(error))?;
            Counters::add(&self.counters.syncs, 1);
        }
        if names {
            self.disk.sync_names().map_err(|error| self.faulted(disk_error(error)))?;
        }
        Ok(())
    }

    pub(crate) fn note_committed(&self, grant: &Grant, through: Seq) -> Result<(), ReplicaError> {
        self.obeys(self.base.lock().promised.as_ref(), grant)?;
        self.committed.fetch_max(through.0, Ordering::AcqRel);
        Ok(())
    }
}

//! The store's segments: which files there are, what is live in each, and the life of a file from birth to removal.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use holdfast_log::bytes::round_up;
use holdfast_log::seam::ReplicaError;
use holdfast_log::segment::{HEAD_BYTES, SegmentFoot, SegmentHead};
use holdfast_ports::{AlignedBuffer, Disk, File};
use holdfast_vocabulary::{InstanceId, SegmentNumber};

use crate::failure::disk_error;
use crate::live_map::LiveMap;
use crate::names;

/// One segment file. Readers hold it by `Arc`, so a file that was removed stays readable for those who found it before.
/// It is opened when it is first needed: a volume of a terabyte has more segments than a process may have open files.
pub struct Segment {
    /// Its number.
    pub number: SegmentNumber,
    /// Its name in the store's directory.
    pub name: String,
    disk: Arc<dyn Disk>,
    open: OnceLock<Arc<dyn File>>,
    /// This life of it.
    pub instance: InstanceId,
    /// `None` for a log segment, else how often its records were moved.
    pub temperature: Option<u8>,
    /// The bytes that it takes on the disk: its capacity while it is open, its length once it is closed.
    bytes: AtomicU32,
}

impl Segment {
    /// A segment that is in a file already.
    pub fn new(
        disk: &Arc<dyn Disk>,
        number: SegmentNumber,
        instance: InstanceId,
        temperature: Option<u8>,
        bytes: u32,
    ) -> Arc<Self> {
        Arc::new(Self {
            number,
            name: names::segment(number),
            disk: Arc::clone(disk),
            open: OnceLock::new(),
            instance,
            temperature,
            bytes: AtomicU32::new(bytes),
        })
    }

    /// The open file.
    pub fn file(&self) -> Result<&Arc<dyn File>, ReplicaError> {
        if let Some(file) = self.open.get() {
            return Ok(file);
        }
        let file = self.disk.open(&self.name).map_err(|error| {
            if error.is_not_found() {
                return ReplicaError::Missing { file: self.name.clone(), needed_by: "the index".to_owned() };
            }
            disk_error(error)
        })?;
        Ok(self.open.get_or_init(|| file))
    }

    /// Makes everything that was written to it durable.
    pub fn sync(&self) -> Result<(), ReplicaError> {
        self.file()?.sync().map_err(disk_error)
    }

    /// The bytes that it takes on the disk.
    pub fn bytes(&self) -> u32 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Creates the file of a segment and takes its room on the disk. Until [`Self::begin`] wrote its head it counts for
    /// nothing, and recovery removes it.
    pub fn prepare(
        disk: &Arc<dyn Disk>,
        number: SegmentNumber,
        instance: InstanceId,
        temperature: Option<u8>,
        capacity: u32,
    ) -> Result<Arc<Self>, ReplicaError> {
        let segment = Self::new(disk, number, instance, temperature, capacity);
        let file = disk.create(&segment.name).map_err(disk_error)?;
        if let Err(error) = file.allocate(capacity.into()) {
            // A file without room is worth nothing; if it cannot be removed either, recovery will do it.
            drop(file);
            let _ = disk.remove(&segment.name);
            return Err(disk_error(error));
        }
        let _ = segment.open.set(file);
        Ok(segment)
    }

    /// Writes the head.
    pub fn begin(&self, head: &SegmentHead) -> Result<(), ReplicaError> {
        let mut sector = AlignedBuffer::with_len(head.sector as usize);
        sector[..HEAD_BYTES].copy_from_slice(&head.encode());
        self.file()?.write_at(0, &sector).map_err(disk_error)
    }

    /// Writes the table behind the last record, the foot behind the table, and gives the rest of the file back.
    /// Gives the bytes that were written.
    pub fn close(&self, sector: u32, end: u32, table: &[u8], count: u32) -> Result<u64, ReplicaError> {
        let sector = sector as usize;
        let table_room = round_up(table.len(), sector);
        let mut tail = AlignedBuffer::with_len(table_room + sector);
        tail[..table.len()].copy_from_slice(table);
        let foot = SegmentFoot {
            instance: self.instance,
            table_offset: end,
            table_bytes: table.len() as u32,
            table_crc: holdfast_log::hash::crc32c(table),
            count,
        };
        tail[table_room..table_room + HEAD_BYTES].copy_from_slice(&foot.encode());
        self.file()?.write_at(end.into(), &tail).map_err(disk_error)?;
        let length = end + tail.len() as u32;
        self.file()?.set_len(length.into()).map_err(disk_error)?;
        self.bytes.store(length, Ordering::Relaxed);
        Ok(tail.len() as u64)
    }
}

/// The room that a table and a foot take at the end of a segment.
pub fn closing_room(table_bytes: usize, sector: u32) -> u32 {
    (round_up(table_bytes, sector as usize) + sector as usize) as u32
}

/// A segment and what is known of its content.
pub struct Row {
    /// The file.
    pub segment: Arc<Segment>,
    /// What the base maps in it.
    live: LiveMap,
    /// What it counts for in the table's total.
    bytes: u32,
    /// Closed: nothing is appended any more.
    closed: bool,
    /// The number of the checkpoint that covered it first; `None` while it belongs to the tail.
    covered: Option<u64>,
    /// Everything live in it was copied elsewhere; it goes when the copy is durable.
    pub emptied: bool,
    /// Something in it cannot be read, so it cannot be moved either.
    pub uncollectable: bool,
    /// The first of the checkpoints since which nothing in it is live.
    pub empty_since: Option<u64>,
}

impl Row {
    /// A segment that is being filled; `fine` if it may hold records shorter than a block.
    pub fn open(segment: Arc<Segment>, fine: bool) -> Self {
        let (live, bytes) = (LiveMap::new(segment.bytes(), fine), segment.bytes());
        Self {
            segment,
            live,
            bytes,
            closed: false,
            covered: None,
            emptied: false,
            uncollectable: false,
            empty_since: None,
        }
    }

    /// A whole segment above the newest checkpoint.
    pub fn of_tail(segment: Arc<Segment>, fine: bool) -> Self {
        Self { closed: true, ..Self::open(segment, fine) }
    }

    /// A segment that a checkpoint lists.
    pub fn covered(segment: Arc<Segment>, live: LiveMap, checkpoint: u64) -> Self {
        Self { live, covered: Some(checkpoint), ..Self::of_tail(segment, false) }
    }

    /// What the base maps in it.
    pub const fn live(&self) -> &LiveMap {
        &self.live
    }

    /// Nothing is appended to it any more.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// The number of the checkpoint that covered it first; `None` while it belongs to the tail.
    pub const fn covered_by(&self) -> Option<u64> {
        self.covered
    }

    /// Bytes in it that nobody will miss.
    pub fn garbage(&self) -> u64 {
        u64::from(self.bytes.saturating_sub(self.live.live_bytes()))
    }
}

/// All segments, by number, and their sums: a terabyte has 65536 of them, and the sums are asked for all the time.
#[derive(Default)]
pub struct SegmentTable {
    rows: BTreeMap<SegmentNumber, Row>,
    bytes: u64,
    live_bytes: u64,
    memory_bytes: usize,
}

/// A row beside its live map.
const ROW_BYTES: usize = 160;

impl SegmentTable {
    /// The row of a segment.
    pub fn get(&self, number: SegmentNumber) -> Option<&Row> {
        self.rows.get(&number)
    }

    /// The row of a segment.
    pub fn get_mut(&mut self, number: SegmentNumber) -> Option<&mut Row> {
        self.rows.get_mut(&number)
    }

    /// Adds a segment.
    pub fn insert(&mut self, row: Row) {
        self.count(&row);
        if let Some(old) = self.rows.insert(row.segment.number, row) {
            self.discount(&old);
        }
    }

    /// Takes a segment out.
    pub fn remove(&mut self, number: SegmentNumber) -> Option<Row> {
        let row = self.rows.remove(&number)?;
        self.discount(&row);
        Some(row)
    }

    /// Notes that a segment was closed, which made its file shorter.
    pub fn close(&mut self, number: SegmentNumber) {
        self.change(number, |row| {
            row.closed = true;
            row.bytes = row.segment.bytes();
        });
    }

    /// Notes what a new base maps in a segment, and which checkpoint says so.
    pub fn cover(&mut self, number: SegmentNumber, live: LiveMap, checkpoint: u64) {
        self.change(number, |row| {
            row.live = live;
            row.covered = row.covered.or(Some(checkpoint));
        });
    }

    fn change(&mut self, number: SegmentNumber, change: impl FnOnce(&mut Row)) {
        if let Some(mut row) = self.remove(number) {
            change(&mut row);
            self.insert(row);
        }
    }

    fn count(&mut self, row: &Row) {
        self.bytes += u64::from(row.bytes);
        self.live_bytes += u64::from(row.live.live_bytes());
        self.memory_bytes += row.live.memory_bytes() + ROW_BYTES;
    }

    fn discount(&mut self, row: &Row) {
        self.bytes -= u64::from(row.bytes);
        self.live_bytes -= u64::from(row.live.live_bytes());
        self.memory_bytes -= row.live.memory_bytes() + ROW_BYTES;
    }

    /// All rows, by number.
    pub fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// All rows, by number.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut Row> {
        self.rows.values_mut()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes that all files take.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Stored bytes that the base maps.
    pub const fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// Memory of the live maps.
    pub const fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

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
    pub live: LiveMap,
    /// Closed: nothing is appended any more.
    pub closed: bool,
    /// The number of the checkpoint that covered it first; `None` while it belongs to the tail.
    pub covered: Option<u64>,
    /// Everything live in it was copied elsewhere; it goes when the copy is durable.
    pub emptied: bool,
    /// Something in it cannot be read, so it cannot be moved either.
    pub uncollectable: bool,
    /// The first of the checkpoints since which nothing in it is live.
    pub empty_since: Option<u64>,
}

/// All segments, by number.
#[derive(Default)]
pub struct SegmentTable {
    rows: BTreeMap<SegmentNumber, Row>,
}

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
        self.rows.insert(row.segment.number, row);
    }

    /// Takes a segment out.
    pub fn remove(&mut self, number: SegmentNumber) -> Option<Row> {
        self.rows.remove(&number)
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
    pub fn bytes(&self) -> u64 {
        self.rows.values().map(|row| u64::from(row.segment.bytes())).sum()
    }

    /// Stored bytes that the base maps.
    pub fn live_bytes(&self) -> u64 {
        self.rows.values().map(|row| u64::from(row.live.live_bytes())).sum()
    }

    /// Memory of the live maps.
    pub fn memory_bytes(&self) -> usize {
        self.rows.values().map(|row| row.live.memory_bytes() + 160).sum()
    }
}

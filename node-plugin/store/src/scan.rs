//! Reading segments back: what a file says it holds, and how much of that is whole.

use holdfast_log::bytes::{FormatError, Problem};
use holdfast_log::group::{Frame, GroupBody, GroupHeader};
use holdfast_log::hash::{self, ChainHash, TagsDigest, crc32c};
use holdfast_log::place::TAG_BYTES;
use holdfast_log::seam::ReplicaError;
use holdfast_log::segment::{HEAD_BYTES, MovedTable, SegmentFoot, SegmentHead, decode_header_copies};
use holdfast_ports::{AlignedBuffer, File};
use holdfast_vocabulary::{InstanceId, Seq};

use crate::append::{data_offset, group_bytes};
use crate::failure::{damaged, disk_error};

/// A group as it was found.
pub(crate) struct ScannedGroup {
    /// Where its frame starts.
    pub offset: u32,
    /// Bytes of header and MAC.
    pub header_bytes: u32,
    pub header: GroupHeader,
    pub mac: [u8; 32],
    /// The chain up to and including it.
    pub chain: ChainHash,
}

/// What a log segment holds.
pub(crate) struct LogScan {
    /// The groups from the start of the file on, as far as their headers are whole.
    pub groups: Vec<ScannedGroup>,
    /// Where they break off: the end of what was written, or damage. `None` for a segment that was closed.
    pub end: Option<u32>,
    /// The highest committed mark in whole headers behind the break.
    pub mark_behind: Seq,
}

/// Reads a whole file. The last bytes of one whose length is no multiple of a sector cannot be read and do not count.
pub(crate) fn read_file(file: &dyn File, sector: usize) -> Result<AlignedBuffer, ReplicaError> {
    let length = file.len().map_err(disk_error)? as usize / sector * sector;
    let mut bytes = AlignedBuffer::with_len(length);
    file.read_at(0, &mut bytes).map_err(disk_error)?;
    Ok(bytes)
}

/// Reads a head. `Ok(Err(_))` is a head that is not whole: a file that was never begun, or damage.
pub(crate) fn read_head(
    file: &dyn File,
    name: &str,
    sector: usize,
) -> Result<Result<SegmentHead, FormatError>, ReplicaError> {
    if file.len().map_err(disk_error)? < sector as u64 {
        return Ok(Err(FormatError { structure: "segment head", offset: 0, problem: Problem::Truncated }));
    }
    let mut bytes = AlignedBuffer::with_len(sector);
    file.read_at(0, &mut bytes).map_err(disk_error)?;
    match SegmentHead::decode(&bytes) {
        Err(error) if matches!(error.problem, Problem::Version(_)) => Err(damaged(name, 0, &error)),
        other => Ok(other),
    }
}

/// Reads foot and table of a closed segment; `None` if it was never closed, or if either is not whole.
pub(crate) fn read_table(
    file: &dyn File,
    sector: usize,
    instance: InstanceId,
) -> Result<Option<(SegmentFoot, AlignedBuffer)>, ReplicaError> {
    let length = file.len().map_err(disk_error)?;
    if length < 2 * sector as u64 || !length.is_multiple_of(sector as u64) {
        return Ok(None);
    }
    let mut last = AlignedBuffer::with_len(sector);
    file.read_at(length - sector as u64, &mut last).map_err(disk_error)?;
    let Ok(foot) = SegmentFoot::decode(&last[..HEAD_BYTES]) else {
        return Ok(None);
    };
    let table_end = u64::from(foot.table_offset) + u64::from(foot.table_bytes);
    let placed = u64::from(foot.table_offset).is_multiple_of(sector as u64);
    if foot.instance != instance || !placed || table_end > length - sector as u64 {
        return Ok(None);
    }
    let room = holdfast_log::bytes::round_up(foot.table_bytes as usize, sector);
    let mut table = AlignedBuffer::with_len(room);
    file.read_at(foot.table_offset.into(), &mut table).map_err(disk_error)?;
    table.truncate(foot.table_bytes as usize);
    Ok((crc32c(&table) == foot.table_crc).then_some((foot, table)))
}

/// The table of a moved segment, if the segment is whole.
pub(crate) fn read_moved(
    file: &dyn File,
    sector: usize,
    instance: InstanceId,
) -> Result<Option<MovedTable>, ReplicaError> {
    Ok(read_table(file, sector, instance)?.and_then(|(_, table)| MovedTable::decode(&table).ok()))
}

/// Reads the headers of a log segment: from its table if it was closed, else one after the other.
pub(crate) fn scan_log(file: &dyn File, sector: u32, head: &SegmentHead) -> Result<LogScan, ReplicaError> {
    if let Some((foot, table)) = read_table(file, sector as usize, head.instance)?
        && let Some(groups) = groups_of_table(&table, &foot, sector)
    {
        return Ok(LogScan { groups, end: None, mark_behind: Seq(0) });
    }
    let bytes = read_file(file, sector as usize)?;
    let mut groups = Vec::new();
    let mut at = sector as usize;
    while let Some(found) = bytes.get(at..).and_then(|rest| group_at(rest, at as u32, Some(head.instance))) {
        at += group_bytes(found.header_bytes as usize, found.header.data_bytes as usize, sector) as usize;
        groups.push(found);
    }
    let mark_behind = highest_mark(&bytes, at + sector as usize, sector as usize, Some(head.instance));
    Ok(LogScan { groups, end: Some(at as u32), mark_behind })
}

/// The highest committed mark in any whole header of a file whose head is not whole.
pub(crate) fn marks_of(file: &dyn File, sector: u32) -> Result<Seq, ReplicaError> {
    Ok(highest_mark(&read_file(file, sector as usize)?, 0, sector as usize, None))
}

fn highest_mark(bytes: &[u8], from: usize, sector: usize, instance: Option<InstanceId>) -> Seq {
    (from..bytes.len())
        .step_by(sector)
        .filter_map(|at| group_at(&bytes[at..], at as u32, instance))
        .map(|found| found.header.committed)
        .max()
        .unwrap_or_default()
}

fn group_at(bytes: &[u8], offset: u32, instance: Option<InstanceId>) -> Option<ScannedGroup> {
    let peeked = Frame::peek(bytes).ok()?;
    if instance.is_some_and(|instance| instance != peeked.instance) {
        return None;
    }
    let (frame, header, mac) = Frame::unwrap(bytes).ok()?;
    let chain = header.chain();
    Some(ScannedGroup { offset, header_bytes: frame.header_bytes, header, mac, chain })
}

/// The groups of a table, if it is one that could have been written: all of them between head and table.
fn groups_of_table(table: &[u8], foot: &SegmentFoot, sector: u32) -> Option<Vec<ScannedGroup>> {
    let copies = decode_header_copies(table, foot.count).ok()?;
    let mut groups = Vec::with_capacity(copies.len());
    for copy in copies {
        let (header, mac) = GroupHeader::decode(&copy.header).ok()?;
        let bytes = group_bytes(copy.header.len(), header.data_bytes as usize, sector);
        let end = u64::from(copy.offset) + u64::from(bytes);
        if copy.offset < sector || !copy.offset.is_multiple_of(sector) || end > foot.table_offset.into() {
            return None;
        }
        let chain = hash::chain(header.previous, &copy.header[..copy.header.len() - mac.len()]);
        groups.push(ScannedGroup { offset: copy.offset, header_bytes: copy.header.len() as u32, header, mac, chain });
    }
    Some(groups)
}

/// Whether a group's records are what its header says.
pub(crate) fn data_is_whole(file: &dyn File, sector: u32, group: &ScannedGroup) -> Result<bool, ReplicaError> {
    let data_bytes = group.header.data_bytes as usize;
    let at = u64::from(group.offset) + u64::from(data_offset(group.header_bytes as usize, sector));
    let mut data = AlignedBuffer::with_len(holdfast_log::bytes::round_up(data_bytes, sector as usize));
    if at + data.len() as u64 > file.len().map_err(disk_error)? {
        return Ok(false);
    }
    file.read_at(at, &mut data).map_err(disk_error)?;
    Ok(records_match(&group.header, &data[..data_bytes]))
}

/// Whether packed records have the checksums and the tags that their header names.
pub(crate) fn records_match(header: &GroupHeader, data: &[u8]) -> bool {
    let GroupBody::Data(entries) = &header.body else {
        return true;
    };
    let mut tags = Vec::with_capacity(entries.len());
    let mut at = 0;
    for entry in entries.iter().filter(|entry| !entry.shape.is_unmap()) {
        let length = entry.shape.ciphertext_bytes() as usize;
        let Some(record) = data.get(at..at + length + TAG_BYTES) else {
            return false;
        };
        if crc32c(record) != entry.crc_or_count {
            return false;
        }
        tags.push(&record[length..]);
        at += entry.shape.stored_bytes();
    }
    if tags.is_empty() {
        return header.tags == TagsDigest::default();
    }
    hash::tags(tags) == header.tags
}

//! Groups and segments: §3, §4 and §6.

use std::collections::BTreeMap;

use super::primitives::{Bytes, blake3, crc32c, expand};
use super::{Files, mac};

/// A row of the table of periods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub number: u32,
    pub origin: [u8; 16],
    epoch: u64,
    key_id: [u8; 16],
    salt: [u8; 32],
    pub check: [u8; 32],
}

impl Row {
    pub fn read(from: &mut Bytes<'_>) -> Self {
        let (number, aad_version, compression) = (from.u32(), from.u8(), from.u8());
        assert!(number != 0 && aad_version == 1 && compression <= 1);
        from.zeros(2);
        Self {
            number,
            origin: from.array(),
            epoch: from.u64(),
            key_id: from.array(),
            salt: from.array(),
            check: from.array(),
        }
    }

    /// §2: from the volume key to what belongs to this row.
    pub fn derive(&self, key: &[u8; 32], label: &[u8]) -> [u8; 32] {
        expand(key, Some(&self.salt), &[label, &self.origin, &[1], &self.epoch.to_le_bytes(), &self.key_id])
    }
}

/// One entry of a data group.
pub struct Entry {
    pub block: u64,
    pub shape: u16,
    pub crc_or_count: u32,
    /// Where its record starts in the file.
    pub at: u32,
}

/// A group as it was found.
pub struct Group {
    pub epoch: u64,
    pub first_seq: u64,
    pub period: u32,
    pub previous: [u8; 32],
    pub chain: [u8; 32],
    pub entries: Vec<Entry>,
    /// The period that a start record opens.
    pub start: Option<Row>,
}

/// A record of a moved segment.
pub struct Moved {
    pub block: u64,
    pub seq: u64,
    pub epoch: u64,
    pub from: (u32, u32),
    pub at: u32,
}

/// A segment.
pub struct Segment {
    pub instance: [u8; 16],
    pub bytes: u32,
    pub is_moved: bool,
    pub groups: Vec<Group>,
    pub moved: Vec<Moved>,
    pub rows: Vec<Row>,
}

/// Bytes that a record takes: §2.
pub fn stored_bytes(shape: u16) -> usize {
    let length = usize::from(shape & 0x1fff) + 16;
    match shape >> 13 {
        0 => {
            assert_eq!(length, 4112);
            length
        }
        1 => 0,
        2 => length.next_multiple_of(1024),
        _ => panic!("no record has these flags"),
    }
}

/// Every segment by number. Whatever can be checked in one is checked.
pub fn read_segments(files: &Files, volume: &[u8; 16], key: &[u8; 32]) -> BTreeMap<u32, Segment> {
    let mut all = BTreeMap::new();
    for (name, file) in files.iter().filter(|(name, _)| name.starts_with("seg-")) {
        let number = u32::from_str_radix(&name[4..], 16).unwrap();
        all.insert(number, read_segment(number, file, volume, key));
    }
    all
}

fn read_segment(number: u32, file: &[u8], volume: &[u8; 16], key: &[u8; 32]) -> Segment {
    let mut head = Bytes::new(file);
    assert_eq!(head.take(8), b"HFSEGMNT");
    assert_eq!(head.u16(), 1);
    let (kind, _temperature) = (head.u8(), head.u8());
    assert_eq!((head.u32(), head.array()), (number, *volume));
    let (instance, capacity, sector) = (head.array(), head.u32() as usize, head.u32() as usize);
    assert!(file.len() <= capacity);
    let (_generation, _epoch, first_seq) = (head.u64(), head.u64(), head.u64());
    let chain: [u8; 32] = head.array();
    let mut segment = Segment {
        instance,
        bytes: file.len() as u32,
        is_moved: kind == 2,
        groups: Vec::new(),
        moved: Vec::new(),
        rows: Vec::new(),
    };
    if kind == 1 {
        segment.rows.push(Row::read(&mut head));
    } else {
        head.zeros(112);
    }
    head.zeros(508 - head.at);
    assert_eq!(head.u32(), crc32c(&file[..508]));
    let table = read_foot(file, sector, &instance);
    if kind == 2 {
        let (table, count) = table.expect("a moved segment without a table counts for nothing");
        read_moved(table, count, file, sector, &mut segment);
        return segment;
    }
    let mut at = sector;
    while let Some(group) = read_group(file, &mut at, sector, &instance, volume, key) {
        let (previous, seq) = segment
            .groups
            .last()
            .map_or((chain, first_seq), |last| (last.chain, last.first_seq + last.entries.len() as u64));
        assert_eq!((group.previous, group.first_seq), (previous, seq), "groups follow one another");
        assert_eq!(group.period, segment.rows[0].number);
        segment.groups.push(group);
    }
    if let Some((table, count)) = table {
        assert_eq!(count as usize, segment.groups.len());
        check_copies(table, file);
    }
    segment
}

/// §4: the foot and the table, of a segment that was closed.
fn read_foot<'a>(file: &'a [u8], sector: usize, instance: &[u8; 16]) -> Option<(&'a [u8], u32)> {
    let last = &file[file.len() - sector..];
    let mut from = Bytes::new(last);
    if from.take(8) != b"HFSEGEND" {
        return None;
    }
    assert_eq!((from.u16(), from.array()), (1, *instance));
    let (offset, bytes, crc, count) = (from.u32() as usize, from.u32() as usize, from.u32(), from.u32());
    from.zeros(508 - from.at);
    assert_eq!(from.u32(), crc32c(&last[..508]));
    let table = &file[offset..offset + bytes];
    assert_eq!(crc32c(table), crc);
    assert!(file[offset + bytes..file.len() - sector].iter().all(|byte| *byte == 0));
    Some((table, count))
}

/// A log segment's table repeats what the frames have.
fn check_copies(table: &[u8], file: &[u8]) {
    let mut from = Bytes::new(table);
    while from.at < table.len() {
        let (offset, bytes) = (from.u32() as usize, from.u32() as usize);
        assert_eq!(from.take(bytes), &file[offset + 32..offset + 32 + bytes]);
    }
}

/// §4: a frame, §3: the group in it. Moves on to where the next frame would be.
fn read_group(
    file: &[u8],
    at: &mut usize,
    sector: usize,
    instance: &[u8; 16],
    volume: &[u8; 16],
    key: &[u8; 32],
) -> Option<Group> {
    let frame = file.get(*at..*at + 32).filter(|frame| frame.starts_with(b"HFGR"))?;
    let mut from = Bytes::new(&frame[4..]);
    let (header_bytes, data_bytes, crc) = (from.u32() as usize, from.u32() as usize, from.u32());
    assert_eq!(from.array(), *instance);
    let with_mac = &file[*at + 32..*at + 32 + header_bytes];
    assert_eq!(crc32c(&[&frame[..12], &[0; 4], &frame[16..], with_mac].concat()), crc);
    let data_at = (*at + 32 + header_bytes).next_multiple_of(sector);
    let end = (data_at + data_bytes).next_multiple_of(sector);
    assert!(file[*at + 32 + header_bytes..data_at].iter().all(|byte| *byte == 0));
    assert!(file[data_at + data_bytes..end].iter().all(|byte| *byte == 0));
    *at = end;
    let (header, given_mac) = with_mac.split_at(header_bytes - 32);
    let group = read_header(header, file, data_at, data_bytes, volume);
    assert_eq!(mac(key, 1, volume, &group.chain), given_mac, "a session made this group");
    Some(group)
}

fn read_header(header: &[u8], file: &[u8], data_at: usize, data_bytes: usize, volume: &[u8; 16]) -> Group {
    let mut from = Bytes::new(header);
    assert_eq!(from.u16(), 1);
    let kind = from.u8();
    from.zeros(1);
    let count = from.u32();
    assert_eq!(from.array(), *volume);
    let (_generation, epoch, first_seq, committed) = (from.u64(), from.u64(), from.u64(), from.u64());
    assert!(committed < first_seq);
    let period = from.u32();
    assert_eq!(from.u32() as usize, data_bytes);
    let (previous, tags): ([u8; 32], [u8; 32]) = (from.array(), from.array());
    let chain = blake3("holdfast v1 chain of groups", &[&previous, header]);
    let mut group = Group { epoch, first_seq, period, previous, chain, entries: Vec::new(), start: None };
    let mut found = Vec::new();
    if kind == 0 {
        let mut at = data_at;
        for _ in 0..count {
            let word = from.u64();
            let (block, shape, crc_or_count) = (word & 0xffff_ffff_ffff, (word >> 48) as u16, from.u32());
            from.zeros(4);
            group.entries.push(Entry { block, shape, crc_or_count, at: at as u32 });
            let stored = stored_bytes(shape);
            if stored > 0 {
                let length = usize::from(shape & 0x1fff);
                let record = &file[at..at + length + 16];
                assert_eq!(crc32c(record), crc_or_count);
                assert!(file[at + length + 16..at + stored].iter().all(|byte| *byte == 0));
                found.push(&record[length..]);
            }
            at += stored;
        }
        assert_eq!(at, data_at + data_bytes, "records follow one another without gaps");
    } else {
        assert_eq!(kind, 1);
        let (_session, base): ([u8; 16], u64) = (from.array(), from.u64());
        assert_eq!((base + 1, from.array()), (first_seq, previous));
        let _set_version = from.u64();
        from.take(16 * count as usize);
        group.start = Some(Row::read(&mut from));
    }
    from.end();
    let digest = if found.is_empty() { [0; 32] } else { blake3("holdfast v1 digest of tags", &found) };
    assert_eq!(digest, tags);
    group
}

/// §6.
fn read_moved(table: &[u8], count: u32, file: &[u8], sector: usize, segment: &mut Segment) {
    let mut from = Bytes::new(table);
    let (rows, emptied, records) = (from.u32(), from.u32(), from.u32());
    from.zeros(4);
    assert_eq!(records, count);
    segment.rows = (0..rows).map(|_| Row::read(&mut from)).collect();
    from.take(4 * emptied as usize);
    let mut at = sector;
    for _ in 0..records {
        let word = from.u64();
        let (block, shape) = (word & 0xffff_ffff_ffff, (word >> 48) as u16);
        let (seq, epoch, period, crc) = (from.u64(), from.u64(), from.u32(), from.u32());
        let place = (from.u32(), from.u32());
        assert!(segment.rows.iter().any(|row| row.number == period));
        assert_eq!(crc32c(&file[at..at + usize::from(shape & 0x1fff) + 16]), crc);
        segment.moved.push(Moved { block, seq, epoch, from: place, at: at as u32 });
        at += stored_bytes(shape);
    }
    from.end();
}

//! Targets for the formats of the log: frames and headers, segments' heads, tables and feet, rows, anchors.
//!
//! Whoever writes to a disk can make every checksum right, so each target decodes its input twice: as it is, and with the
//! checksums repaired.

use holdfast_log::anchor::{Anchor, SignedRoot};
use holdfast_log::bytes::Reader;
use holdfast_log::group::{Frame, GROUP_ENTRIES_MAX, GroupBody, GroupHeader, SET_MEMBERS_MAX};
use holdfast_log::hash::{self, crc32c};
use holdfast_log::header::VolumeHeader;
use holdfast_log::node::PageRef;
use holdfast_log::period::PeriodRow;
use holdfast_log::place::{Shape, TAG_BYTES};
use holdfast_log::segment::{
    HEAD_BYTES, MovedTable, SegmentFoot, SegmentHead, decode_header_copies, encode_header_copies,
};
use holdfast_vocabulary::{BLOCK_BYTES, VolumeSize};

use crate::repair;

/// A group's header and MAC.
pub fn group_header(data: &[u8]) {
    if let Ok((header, mac)) = GroupHeader::decode(data) {
        check_header(&header, &mac, data);
    }
}

fn check_header(header: &GroupHeader, mac: &[u8; 32], data: &[u8]) {
    let mut again = header.encode();
    assert_eq!(header.chain(), hash::chain(header.previous, &again));
    again.extend_from_slice(mac);
    assert!(again == data, "a header that was read is written differently");
    assert!(header.committed < header.first_seq && header.last_seq().0 + 1 == header.first_seq.0 + header.records());
    match &header.body {
        GroupBody::Data(entries) => {
            assert!((1..=GROUP_ENTRIES_MAX).contains(&entries.len()));
            assert_eq!(
                entries.iter().map(|entry| entry.shape.stored_bytes()).sum::<usize>(),
                header.data_bytes as usize
            );
            for entry in entries {
                let count = if entry.shape.is_unmap() { u64::from(entry.crc_or_count) } else { 1 };
                assert!(count > 0 && entry.block.0 + count <= VolumeSize::BLOCKS_MAX);
            }
        }
        GroupBody::Start(start) => {
            assert!(start.set.len() <= SET_MEMBERS_MAX && start.base.next() == header.first_seq);
            assert_eq!((header.records(), header.data_bytes), (0, 0));
        }
    }
}

/// A frame with the header behind it.
pub fn group_frame(data: &[u8]) {
    let _ = Frame::peek(data);
    for bytes in [data.to_vec(), repair::frame(data)] {
        let Ok((frame, header, mac)) = Frame::unwrap(&bytes) else { continue };
        assert_eq!(Frame::peek(&bytes).as_ref(), Ok(&frame));
        let end = Frame::BYTES + frame.header_bytes as usize;
        check_header(&header, &mac, &bytes[Frame::BYTES..end]);
        assert!(Frame::wrap(frame.instance, &header.encode(), &mac, frame.data_bytes) == bytes[..end]);
    }
}

/// The first sector of a segment.
pub fn segment_head(data: &[u8]) {
    for bytes in [data.to_vec(), repair::sector(data)] {
        let Ok(head) = SegmentHead::decode(&bytes) else { continue };
        assert!(head.encode() == bytes[..HEAD_BYTES], "a head that was read is written differently");
        assert!(matches!(head.sector, 512 | 4096) && head.capacity >= head.sector);
    }
}

/// The last sector of a closed segment.
pub fn segment_foot(data: &[u8]) {
    for bytes in [data.to_vec(), repair::sector(data)] {
        let Ok(foot) = SegmentFoot::decode(&bytes) else { continue };
        assert!(foot.encode() == bytes[..HEAD_BYTES], "a foot that was read is written differently");
    }
}

/// A log segment's table; the first four bytes say how many rows are asked for.
pub fn header_copies(data: &[u8]) {
    let Some((count, table)) = data.split_first_chunk::<4>() else { return };
    let count = u32::from_le_bytes(*count);
    if let Ok(copies) = decode_header_copies(table, count) {
        assert_eq!(copies.len(), count as usize);
        assert!(copies.capacity() <= table.len());
        assert!(encode_header_copies(&copies) == table);
        copies.iter().for_each(|copy| group_header(&copy.header));
    }
}

/// A moved segment's table.
pub fn moved_table(data: &[u8]) {
    let Ok(table) = MovedTable::decode(data) else { return };
    assert!(table.encode() == data);
    assert!(table.entries.len() * MovedTable::ENTRY_BYTES <= data.len());
    for entry in &table.entries {
        assert!(!entry.shape.is_unmap() && entry.block.0 < VolumeSize::BLOCKS_MAX);
    }
}

/// A volume's header file.
pub fn volume_header(data: &[u8]) {
    for bytes in [data.to_vec(), repair::sector(data)] {
        let Ok((header, mac)) = VolumeHeader::decode(&bytes) else { continue };
        assert!(header.with_mac(&mac) == bytes);
        assert!((1..=VolumeSize::BLOCKS_MAX).contains(&header.size.blocks()));
    }
}

/// An anchor.
pub fn anchor(data: &[u8]) {
    if let Ok(anchor) = Anchor::from_bytes(data) {
        assert!(anchor.to_bytes() == data);
    }
}

/// A signed root.
pub fn signed_root(data: &[u8]) {
    let mut from = Reader::new("signed root", data);
    if let Ok(root) = SignedRoot::decode(&mut from) {
        let mut again = Vec::new();
        root.encode(&mut again);
        assert!(again == data[..from.at()]);
    }
}

/// A row of the table of periods.
pub fn period_row(data: &[u8]) {
    let mut from = Reader::new("period row", data);
    if let Ok(row) = PeriodRow::decode(&mut from) {
        let mut again = Vec::new();
        row.encode(&mut again);
        assert!(again == data[..from.at()]);
        assert!(row.number.0 != 0);
    }
}

/// Lengths with flags, and places of pages.
pub fn shape_and_place(data: &[u8]) {
    for pair in data.chunks_exact(2) {
        let packed = u16::from_le_bytes([pair[0], pair[1]]);
        let Some(shape) = Shape::from_packed(packed) else { continue };
        let length = usize::from(shape.ciphertext_bytes());
        assert_eq!(shape.packed(), packed);
        assert!(length <= BLOCK_BYTES && shape.aad_flags() < 8);
        match (shape.is_unmap(), shape.is_compressed()) {
            (true, compressed) => assert!(length == 0 && shape.stored_bytes() == 0 && !compressed),
            (false, true) => {
                assert_eq!(Some(shape), Shape::compressed(shape.ciphertext_bytes()));
                let stored = shape.stored_bytes();
                assert!(
                    stored.is_multiple_of(1024) && stored >= length + TAG_BYTES && stored < length + TAG_BYTES + 1024
                );
            }
            (false, false) => assert!(shape == Shape::WHOLE && shape.stored_bytes() == BLOCK_BYTES + TAG_BYTES),
        }
    }
    let mut from = Reader::new("page", data);
    if let Ok(page) = PageRef::decode(&mut from) {
        let mut again = Vec::new();
        page.encode(&mut again);
        assert!(again == data[..PageRef::PACKED_BYTES]);
        assert!(page.bytes != 0 && page.offset.checked_add(page.bytes.into()).is_some());
    }
}

/// CRC32C itself against the definition, bit by bit: every check on a disk rests on it.
pub fn checksum(data: &[u8]) {
    let mut register = u32::MAX;
    for byte in data {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            register = (register >> 1) ^ (0x82f6_3b78 & (register & 1).wrapping_neg());
        }
    }
    assert_eq!(crc32c(data), !register);
}

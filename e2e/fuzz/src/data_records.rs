//! The records of a group above every mark: they count exactly when they are what the header says.
//!
//! The input says what entries the header has and what bytes follow it. An independent walk over the bytes decides whether they
//! fit; a store that finds them after a crash must come to the same answer, and must hand out exactly those bytes.

use std::sync::Arc;

use holdfast_disk::{Faults, SimulatedDisk};
use holdfast_log::group::{GroupBody, GroupEntry};
use holdfast_log::hash::{self, TagsDigest};
use holdfast_log::place::{Shape, TAG_BYTES};
use holdfast_log::seam::{Replica, ReplicaError};
use holdfast_ports::Disk;
use holdfast_store::Store;
use holdfast_vocabulary::{BlockIndex, Seq};

use crate::sample::CAPACITY;
use crate::scribe::{self, Scribe};
use crate::store_open::Script;

/// Blocks that entries name.
const BLOCKS: u32 = 64;

/// A record that the header promises.
struct Record {
    entry: GroupEntry,
    /// Where it lies in the data.
    at: usize,
}

fn records(script: &mut Script<'_>) -> Vec<Record> {
    let count = 1 + usize::from(script.u8()) % 8;
    let (mut records, mut at) = (Vec::new(), 0);
    for _ in 0..count {
        let block = BlockIndex(u64::from(script.u8()) % u64::from(BLOCKS));
        let shape = match script.u16() {
            kind if kind % 8 == 0 => Shape::UNMAPPED,
            kind if kind % 8 == 1 => Shape::WHOLE,
            kind => Shape::compressed(1 + kind % 4095).unwrap_or(Shape::WHOLE),
        };
        let crc_or_count = if shape.is_unmap() { 1 + u32::from(script.u8()) % 4 } else { 0 };
        records.push(Record { entry: GroupEntry { block, shape, crc_or_count }, at });
        at += shape.stored_bytes();
    }
    records
}

/// The target.
pub fn data_records(data: &[u8]) {
    let mut script = Script(data);
    let mut records = records(&mut script);
    let total: usize = records.iter().map(|record| record.entry.shape.stored_bytes()).sum();
    let lie = script.u8();
    let mut bytes: Vec<u8> = if script.0.is_empty() { vec![0] } else { script.0.to_vec() };
    bytes = bytes.iter().copied().cycle().take(total).collect();
    let mut tags = Vec::new();
    for record in records.iter_mut().filter(|record| !record.entry.shape.is_unmap()) {
        let length = usize::from(record.entry.shape.ciphertext_bytes());
        let sealed = &bytes[record.at..record.at + length + TAG_BYTES];
        record.entry.crc_or_count = hash::crc32c(sealed);
        tags.push(sealed[length..].to_vec());
    }
    let mut digest = match tags.as_slice() {
        [] => TagsDigest::default(),
        tags => hash::tags(tags.iter().map(Vec::as_slice)),
    };
    // What may be wrong: a checksum, the digest, or a byte that was changed after both were computed.
    let victim = usize::from(lie >> 2) % records.len();
    let sealed = !records[victim].entry.shape.is_unmap();
    let whole = match lie % 4 {
        1 if sealed => {
            records[victim].entry.crc_or_count ^= 1 << (lie >> 3);
            false
        }
        2 => {
            digest.0[usize::from(lie >> 3)] ^= 1;
            false
        }
        3 if sealed => {
            let length = usize::from(records[victim].entry.shape.ciphertext_bytes()) + TAG_BYTES;
            bytes[records[victim].at + usize::from(lie) % length] ^= 0x40;
            false
        }
        _ => true,
    };
    check(&records, &bytes, digest, whole).expect("a disk without faults takes a group and gives it back");
}

fn check(records: &[Record], bytes: &[u8], digest: TagsDigest, whole: bool) -> Result<(), ReplicaError> {
    let disk: Arc<dyn Disk> = SimulatedDisk::new(1, Faults::none()).handle();
    scribe::create(&disk)?;
    let open = || Store::open(Arc::clone(&disk), scribe::options(CAPACITY)).map(Arc::new);
    let mut scribe = Scribe::open(open()?, 1, Default::default())?;
    scribe.append(GroupBody::Data(records.iter().map(|record| record.entry).collect()), bytes, digest)?;
    drop(scribe);
    let store = open()?;
    let head = store.report().head;
    if !whole {
        assert_eq!(head, Seq(0), "records that do not match their header were taken for whole");
        return Ok(());
    }
    assert_eq!(head, Seq(records.len() as u64), "whole records were taken for torn");
    store.read(BlockIndex(0), BLOCKS + 8, &mut |block, sealed| {
        // The newest record that names the block decides.
        let covers = |record: &&Record| {
            let entry = record.entry;
            let count = if entry.shape.is_unmap() { u64::from(entry.crc_or_count) } else { 1 };
            (entry.block.0..entry.block.0 + count).contains(&block.0)
        };
        let newest = records.iter().rev().find(covers).filter(|record| !record.entry.shape.is_unmap());
        assert_eq!(newest.is_some(), sealed.is_some(), "block {block}");
        if let (Some(record), Some(sealed)) = (newest, sealed) {
            let length = usize::from(record.entry.shape.ciphertext_bytes());
            assert_eq!(sealed.shape, record.entry.shape);
            assert!(sealed.ciphertext == &bytes[record.at..record.at + length], "block {block}");
            assert!(sealed.tag == &bytes[record.at + length..record.at + length + TAG_BYTES], "block {block}");
        }
    })?;
    assert!(store.scrub()?.findings.is_empty());
    Ok(())
}

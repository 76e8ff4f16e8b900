//! Every byte of every file: bent, and cut off there. The volume is right, or it is refused with words that name the file.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, in its helpers too")]

mod damage;

use std::collections::BTreeMap;
use std::ops::Range;

use damage::{VOLUME, all, judge, try_damage};
use holdfast_hostile::attempt;
use holdfast_log::group::{Frame, GroupBody};
use holdfast_log::place::Shape;
use holdfast_log::segment::{MovedTable, SegmentFoot, SegmentHead, SegmentKind};
use holdfast_store::checkpoint::Checkpoint;

/// Long stretches of zeros are room that was taken and never written to. Their edges are tried, not every byte of them.
const ZEROS_TRIED: usize = 128;

fn files() -> Vec<(String, Vec<u8>)> {
    VOLUME.image.files().map(|(name, _)| (name.to_owned(), VOLUME.image.bytes(name).unwrap())).collect()
}

/// The offsets worth trying in a file.
fn offsets(bytes: &[u8]) -> Vec<usize> {
    let (mut offsets, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let zeros = bytes[at..].iter().take_while(|byte| **byte == 0).count();
        let run = at..at + zeros.max(1);
        let edge = |place: &usize| place - run.start < ZEROS_TRIED || run.end - place <= ZEROS_TRIED;
        offsets.extend(run.clone().filter(edge));
        at = run.end;
    }
    offsets
}

/// Where records lie that are not looked at before they are read: in moved segments, and in those that the newest
/// checkpoint covers. Each is read by itself, so that one byte of all of them can be bent at once.
fn records_read_alone() -> Vec<(String, Range<usize>)> {
    let slots = ["checkpoint-0", "checkpoint-1"].map(|name| VOLUME.image.bytes(name).unwrap());
    let newest = slots.iter().map(|bytes| Checkpoint::decode(bytes).unwrap()).max_by_key(|one| one.number).unwrap();
    let mut records = Vec::new();
    for (name, bytes) in files().into_iter().filter(|(name, _)| name.starts_with("seg-")) {
        let head = SegmentHead::decode(&bytes).unwrap();
        let mut add = |at: &mut usize, shape: Shape| {
            if !shape.is_unmap() {
                // What pads a record belongs to no checksum, and is tried byte by byte.
                records.push((name.clone(), *at..*at + usize::from(shape.ciphertext_bytes()) + 16));
                *at += shape.stored_bytes();
            }
        };
        if let SegmentKind::Moved { .. } = head.kind {
            let foot = SegmentFoot::decode(&bytes[bytes.len() - 512..]).unwrap();
            let table = &bytes[foot.table_offset as usize..][..foot.table_bytes as usize];
            let mut at = 512;
            MovedTable::decode(table).unwrap().entries.iter().for_each(|entry| add(&mut at, entry.shape));
            continue;
        }
        if newest.segments.iter().all(|row| row.number != head.number) {
            continue;
        }
        for start in (0..bytes.len()).step_by(512) {
            let Ok((frame, header, _)) = Frame::unwrap(&bytes[start..]) else { continue };
            let GroupBody::Data(entries) = &header.body else { continue };
            let mut at = start + (Frame::BYTES + frame.header_bytes as usize).next_multiple_of(512);
            entries.iter().for_each(|entry| add(&mut at, entry.shape));
        }
    }
    records
}

/// A byte and what becomes of it.
struct Bent {
    file: usize,
    offset: usize,
    value: u8,
}

#[test]
fn a_bent_byte_outside_of_records() {
    let (files, records) = (files(), records_read_alone());
    let mut cases = Vec::new();
    for (file, (name, bytes)) in files.iter().enumerate() {
        let inside = |offset: usize| records.iter().any(|(of, range)| of == name && range.contains(&offset));
        for offset in offsets(bytes).into_iter().filter(|offset| !inside(*offset)) {
            let now = bytes[offset];
            let extreme = if offset % 2 == 0 { 0 } else { 0xff };
            let other = if now == extreme { !now } else { extreme };
            cases.push(Bent { file, offset, value: now ^ 1 << (offset % 8) });
            cases.extend((offset % 3 == 0).then_some(Bent { file, offset, value: other }));
        }
    }
    assert!(cases.len() > 20_000, "only {} cases", cases.len());
    all(&cases, |case| {
        let (name, bytes) = &files[case.file];
        let what = format!("{name} at {}: {:02x} became {:02x}", case.offset, bytes[case.offset], case.value);
        try_damage(&what, &[name], |image| {
            image.overwrite(name, case.offset as u64, &[case.value]);
        })
        .map(drop)
    });
}

/// The same byte of every record at once: each record is read, and judged, by itself.
#[test]
fn a_bent_byte_in_every_record() {
    let records = records_read_alone();
    assert!(records.len() > 20, "only {} records", records.len());
    let longest = records.iter().map(|(_, range)| range.len()).max().unwrap();
    let damaged: Vec<&str> =
        BTreeMap::from_iter(records.iter().map(|(name, _)| (name.as_str(), ()))).into_keys().collect();
    let cases: Vec<usize> = (0..longest).collect();
    all(&cases, |place| {
        let mut image = VOLUME.image.clone();
        for (name, range) in records.iter().filter(|(_, range)| *place < range.len()) {
            image.flip(name, (range.start + place) as u64, 1 << (place % 8));
        }
        let attempt = attempt(&VOLUME, &image);
        judge(&format!("byte {place} of every record"), &image, &damaged, &attempt)?;
        if attempt.refused.is_some()
            || attempt.unreadable.is_empty()
            || attempt.findings.len() < attempt.unreadable.len()
        {
            return Err(format!("byte {place} of every record: {:?}", attempt.messages().collect::<Vec<_>>()));
        }
        Ok(())
    });
}

#[test]
fn a_file_cut_off_at_any_length() {
    let files = files();
    let mut cases = Vec::new();
    for (file, (_, bytes)) in files.iter().enumerate() {
        // Every length near what is written; in the middle of records one in 16, and every sector.
        let near = |at: &usize| at % 512 < 2 || at.is_multiple_of(16) || bytes.len() - at < 600 || *at < 1200;
        cases.extend(offsets(bytes).into_iter().filter(near).map(|length| (file, length)));
    }
    all(&cases, |(file, length)| {
        let (name, _) = &files[*file];
        let what = format!("{name} cut off at {length}");
        try_damage(&what, &[name], |image| {
            image.set_len(name, *length as u64);
        })
        .map(drop)
    });
}

#[test]
fn a_file_that_goes_on_behind_its_end() {
    let files = files();
    let mut cases = Vec::new();
    for file in 0..files.len() {
        cases.extend([1, 15, 511, 512, 513, 4096, 70_000].map(|more| (file, more, 0)));
        cases.extend([1, 511, 512, 4096, 70_000].map(|more| (file, more, 0xa5)));
    }
    all(&cases, |(file, more, value)| {
        let (name, bytes) = &files[*file];
        let longer = [bytes.as_slice(), &vec![*value; *more]].concat();
        try_damage(&format!("{name} with {more} bytes more"), &[name], |image| image.insert(name, &longer)).map(drop)
    });
}

//! Checksums made right again, as an enemy who writes to the disk would: a checksum keeps nobody out, it only hides what is
//! behind it from a fuzzer.

use holdfast_log::group::Frame;
use holdfast_log::hash::crc32c;
use holdfast_log::segment::{HEAD_BYTES, SegmentFoot};
use holdfast_store::checkpoint;

/// Puts the checksum of `bytes[..at]` at `at`.
fn close(bytes: &mut [u8], at: usize) {
    if let Some((covered, rest)) = bytes.split_at_mut_checked(at)
        && let Some(sum) = rest.first_chunk_mut()
    {
        *sum = crc32c(covered).to_le_bytes();
    }
}

/// A structure of one small sector: heads, feet, headers, promises.
pub fn sector(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    close(&mut bytes, HEAD_BYTES - 4);
    bytes
}

/// A structure whose last four bytes are its checksum: pages.
pub fn page(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let at = bytes.len().saturating_sub(4);
    close(&mut bytes, at);
    bytes
}

/// A frame with the header behind it.
pub fn frame(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if let Ok(frame) = Frame::peek(data)
        && let Some(whole) = bytes.get_mut(..Frame::BYTES + frame.header_bytes as usize)
    {
        whole[12..16].fill(0);
        let sum = crc32c(whole);
        whole[12..16].copy_from_slice(&sum.to_le_bytes());
    }
    bytes
}

/// A checkpoint's head and body. The body ends where the head says, if that is inside, else with the bytes.
pub fn checkpoint(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    if bytes.len() < checkpoint::HEAD_BYTES {
        return bytes;
    }
    let (head, body) = bytes.split_at_mut(checkpoint::HEAD_BYTES);
    let said = head[16..24].first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    let length = usize::try_from(said).ok().filter(|said| *said <= body.len()).unwrap_or(body.len());
    head[16..24].copy_from_slice(&(length as u64).to_le_bytes());
    head[12..16].copy_from_slice(&crc32c(&body[..length]).to_le_bytes());
    close(head, 24);
    bytes
}

/// A whole file of a store, by its name: every structure that can be found in it.
pub fn file(name: &str, data: &[u8]) -> Vec<u8> {
    match name {
        "header" | "promise" => sector(data),
        "checkpoint-0" | "checkpoint-1" => checkpoint(data),
        _ if name.starts_with("seg-") => segment(data),
        _ if name.starts_with("idx-") => index(data),
        _ => data.to_vec(),
    }
}

fn segment(data: &[u8]) -> Vec<u8> {
    let mut bytes = sector(data);
    for at in (HEAD_BYTES..bytes.len()).step_by(HEAD_BYTES) {
        if bytes[at..].starts_with(b"HFGR") {
            let repaired = frame(&bytes[at..]);
            bytes[at..].copy_from_slice(&repaired);
        }
    }
    let Some(foot_at) = bytes.len().checked_sub(HEAD_BYTES).filter(|at| at.is_multiple_of(HEAD_BYTES)) else {
        return bytes;
    };
    close(&mut bytes[foot_at..], HEAD_BYTES - 4);
    if let Ok(foot) = SegmentFoot::decode(&bytes[foot_at..])
        && let Some(table) =
            bytes.get(foot.table_offset as usize..).and_then(|rest| rest.get(..foot.table_bytes as usize))
    {
        let foot = SegmentFoot { table_crc: crc32c(table), ..foot };
        bytes[foot_at..].copy_from_slice(&foot.encode());
    }
    bytes
}

/// Pages start at sectors and do not say how long they are, so each is tried with every length up to the next one; the
/// length that was right before is found by the zeros that pad it.
fn index(data: &[u8]) -> Vec<u8> {
    let mut bytes = data.to_vec();
    let starts: Vec<usize> = (0..bytes.len())
        .step_by(HEAD_BYTES)
        .filter(|at| matches!(bytes[*at..].first_chunk(), Some(b"HFlf" | b"HFnd")))
        .collect();
    for (number, start) in starts.iter().enumerate() {
        let end = starts.get(number + 1).copied().unwrap_or(bytes.len());
        let page = &mut bytes[*start..end];
        let used = page.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        close(page, used.saturating_sub(4));
    }
    bytes
}

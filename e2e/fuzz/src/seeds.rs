//! Seeds: real encodings, one structure each, cut out of the files of a small real store.

use holdfast_disk::Image;
use holdfast_log::anchor::{Anchor, RootStatement, SignedRoot};
use holdfast_log::group::{Frame, GroupBody};
use holdfast_log::hash::{ChainHash, TreeHash, crc32c};
use holdfast_log::leaf::{LEAF_BLOCKS, LeafPage};
use holdfast_log::period::PeriodRow;
use holdfast_log::place::{Entry, Place, Shape, Version};
use holdfast_log::segment::{HEAD_BYTES, SegmentFoot};
use holdfast_store::checkpoint::{Checkpoint, HEAD_BYTES as CHECKPOINT_HEAD_BYTES};
use holdfast_vocabulary::{Epoch, Generation, PeriodNumber, SegmentNumber, Seq};

use crate::sample::SAMPLE;
use crate::scribe::VOLUME;

/// A seed: its target, and its bytes.
pub type Seed = (&'static str, Vec<u8>);

/// Every seed. The same every time.
#[must_use]
pub fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let image = SAMPLE.newest();
    for (name, _) in image.files() {
        let bytes = image.bytes(name).unwrap_or_default();
        match name {
            "header" => seeds.push(("volume_header", bytes)),
            "promise" => seeds.push(("promise", bytes)),
            "checkpoint-0" | "checkpoint-1" => checkpoint(bytes, &mut seeds),
            _ if name.starts_with("seg-") => segment(&bytes, &mut seeds),
            _ if name.starts_with("idx-") => index(&bytes, &mut seeds),
            _ => {}
        }
    }
    by_hand(&mut seeds);
    scripts(image, &mut seeds);
    seeds
}

fn checkpoint(bytes: Vec<u8>, seeds: &mut Vec<Seed>) {
    if let Ok(checkpoint) = Checkpoint::decode(&bytes) {
        seeds.push(("index_root", checkpoint.index.encode()));
        if let Some(root) = &checkpoint.root {
            let mut signed = Vec::new();
            root.encode(&mut signed);
            seeds.push(("signed_root", signed));
        }
    }
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    seeds.push(("checkpoint", bytes[..used.max(CHECKPOINT_HEAD_BYTES)].to_vec()));
}

fn segment(bytes: &[u8], seeds: &mut Vec<Seed>) {
    let Some(head) = bytes.get(..HEAD_BYTES) else { return };
    seeds.push(("segment_head", head.to_vec()));
    for at in (0..bytes.len()).step_by(HEAD_BYTES) {
        let Ok((frame, header, _)) = Frame::unwrap(&bytes[at..]) else { continue };
        let end = at + Frame::BYTES + frame.header_bytes as usize;
        seeds.push(("group_frame", bytes[at..end].to_vec()));
        seeds.push(("group_header", bytes[at + Frame::BYTES..end].to_vec()));
        if let GroupBody::Start(start) = &header.body {
            let mut row = Vec::new();
            start.period.encode(&mut row);
            seeds.push(("period_row", row));
        }
    }
    let Some(foot_bytes) = bytes.len().checked_sub(HEAD_BYTES).map(|at| &bytes[at..]) else { return };
    let Ok(foot) = SegmentFoot::decode(foot_bytes) else { return };
    seeds.push(("segment_foot", foot_bytes.to_vec()));
    let table = &bytes[foot.table_offset as usize..][..foot.table_bytes as usize];
    if head[10] == 2 {
        seeds.push(("moved_table", table.to_vec()));
    } else {
        seeds.push(("header_copies", [&foot.count.to_le_bytes(), table].concat()));
    }
}

fn index(bytes: &[u8], seeds: &mut Vec<Seed>) {
    for at in (0..bytes.len()).step_by(HEAD_BYTES) {
        let target = match bytes[at..].first_chunk() {
            Some(b"HFlf") => "leaf_page",
            Some(b"HFnd") => "node_page",
            _ => continue,
        };
        // A page does not say how long it is; its checksum tells.
        let room = &bytes[at..];
        let whole = (8..room.len())
            .find(|end| room[*end..].first_chunk().is_some_and(|sum| crc32c(&room[..*end]).to_le_bytes() == *sum));
        if let Some(end) = whole {
            seeds.push((target, room[..end + 4].to_vec()));
        }
    }
}

/// What the sample has no good example of.
fn by_hand(seeds: &mut Vec<Seed>) {
    let statement = RootStatement {
        volume: VOLUME,
        generation: Generation(3),
        epoch: Epoch(4),
        through: Seq(5),
        chain: ChainHash([6; 32]),
        root: TreeHash([7; 32]),
    };
    let (generation, epoch, seq, chain) = (statement.generation, statement.epoch, Seq(9), ChainHash([8; 32]));
    let root = SignedRoot { statement, mac: [1; 32] };
    seeds.push(("anchor", Anchor { generation, epoch, seq, chain, root, mac: [2; 32] }.to_bytes()));
    let shapes = [Shape::WHOLE, Shape::UNMAPPED, Shape::compressed(1).unwrap_or(Shape::WHOLE)];
    seeds.push(("shape_and_place", shapes.iter().flat_map(|shape| shape.packed().to_le_bytes()).collect()));
    seeds.push(("shape_and_place", [1u32.to_le_bytes(), [0; 4], [0; 4], 600u32.to_le_bytes()].concat()));
    seeds.push(("checksum", b"123456789".to_vec()));
    // Leaves whose columns need all that the format has: two epochs and periods, short records, far places.
    for spread in [1u64, 0x9e37_79b9_7f4a_7c15] {
        let entries: Vec<Option<Entry>> = (0..LEAF_BLOCKS as u64)
            .map(|position| {
                let drawn = position.wrapping_mul(spread);
                let length = 1 + (drawn % 4000) as u16;
                (drawn % 5 != 4).then_some(Entry {
                    version: Version { epoch: Epoch(1 + position / 300), seq: Seq(1 + drawn % (1 << 40)) },
                    place: Place {
                        segment: SegmentNumber(1 + drawn as u32 % 70),
                        offset: (drawn as u32 % 90_000) * 16,
                    },
                    period: PeriodNumber(1 + (position / 200) as u32),
                    shape: Shape::compressed(length).unwrap_or(Shape::WHOLE),
                })
            })
            .collect();
        seeds.push(("leaf_page", LeafPage::encode(&entries).bytes().to_vec()));
    }
    debug_assert_eq!(PeriodRow::BYTES, 112);
}

/// Scripts for the targets that take one.
fn scripts(image: &Image, seeds: &mut Vec<Seed>) {
    seeds.push(("operations", vec![0, 3, 1, 0, 2, 0, 3, 0, 7, 9, 12, 0, 1, 1, 0xd0, 13]));
    // Rounds of writing the same blocks, new bases and collection, then a crash.
    let round = [0, 9, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0, 9, 0, 9, 11, 15];
    seeds.push(("operations", [round.repeat(6), vec![14, 1, 2, 0, 1, 5, 0]].concat()));
    seeds.push(("session_operations", vec![1, 0, 3, 2, 2, 9, 1, 8, 10, 12, 0, 5, 9, 13, 7, 7, 2, 14]));
    let round = [0, 1, 4, 1, 0, 9, 7, 2, 0, 20, 3, 8, 10, 11, 15];
    seeds.push(("session_operations", [vec![0], round.repeat(5), vec![14, 3, 0, 2, 2, 12]].concat()));
    seeds.push(("data_records", vec![2, 1, 1, 0, 2, 0x12, 0x34, 3, 8, 0, 2, 0, 7, 8, 9]));
    for lie in [1, 2, 3] {
        seeds.push(("data_records", vec![1, 1, 1, 0, 2, 1, 0, lie, 7, 8, 9, 10]));
    }
    for (position, _) in image.files().enumerate() {
        let file = position as u8;
        // Flip a bit in front, cut the end off, remove; and damage that is hidden by right checksums.
        seeds.push(("store_open", vec![0, file, 9, 0, 0, 1]));
        seeds.push(("store_open", vec![4, file, 200, 0, 0x80]));
        seeds.push(("store_open", vec![6, file]));
        seeds.push(("store_open", vec![2, file, 48, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 11, file]));
        seeds.push(("store_open", vec![10, file, 1]));
    }
}

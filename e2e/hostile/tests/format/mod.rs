//! A reader of a store, written from `docs/format.md`, section by section, on a cipher and hashes alone.

mod pages;
mod primitives;
mod segments;

use std::collections::BTreeMap;

use pages::{Mapped, read_tree};
pub use primitives::sha256;
use primitives::{Bytes, block_aad, crc32c, expand, hmac, lz4_block, open};
use segments::{Group, Row, read_segments};

/// The key of the test vectors.
pub const KEY: [u8; 32] = {
    let mut bytes = [0; 32];
    let mut place = 0;
    while place < 32 {
        bytes[place] = 0x80 + 3 * place as u8;
        place += 1;
    }
    bytes
};

/// Name → bytes.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What came out of a store.
pub struct Rescued {
    /// Block → plaintext, for every mapped block.
    pub blocks: BTreeMap<u64, Vec<u8>>,
    /// Groups above the base, start records included.
    pub groups: usize,
    /// Mapped records in moved segments.
    pub moved: usize,
    /// Mapped blocks that were compressed.
    pub compressed: usize,
    /// Leaves of the base.
    pub leaves: usize,
    volume: [u8; 16],
    /// The end of the log.
    head: u64,
    chain: [u8; 32],
    signed_root: Vec<u8>,
}

/// §2: a MAC key, and the MAC.
pub fn mac(key: &[u8; 32], purpose: u8, volume: &[u8; 16], bytes: &[u8]) -> [u8; 32] {
    let mac_key: [u8; 32] = expand(key, None, &[b"holdfast mac v1", &[purpose], volume]);
    hmac(&mac_key, bytes)
}

/// §9. Gives the volume and its size in blocks.
fn read_header(file: &[u8], key: &[u8; 32]) -> ([u8; 16], u64) {
    let mut from = Bytes::new(file);
    assert_eq!(from.take(8), b"HFVOLUME");
    assert_eq!(from.u16(), 1);
    let (_formatted, _compression) = (from.u8(), from.u8());
    assert_eq!(from.u32(), 4096);
    let volume = from.array();
    let blocks = from.u64();
    let (_generation, _epoch) = (from.u64(), from.u64());
    let key_id: [u8; 16] = expand(key, None, &[b"holdfast key id v1"]);
    assert_eq!(from.array(), key_id);
    from.zeros(476 - from.at);
    assert_eq!(from.array(), mac(key, 2, &volume, &file[..476]), "the header is authentic");
    assert_eq!(from.u32(), crc32c(&file[..508]));
    (volume, blocks)
}

/// §10.
fn read_promise(file: &[u8]) {
    let mut from = Bytes::new(file);
    assert_eq!(from.take(8), b"HFPROMIS");
    assert_eq!((from.u32(), from.u32()), (1, 0));
    let (_generation, _epoch, _session) = (from.u64(), from.u64(), from.take(16));
    from.zeros(508 - from.at);
    assert_eq!(from.u32(), crc32c(&file[..508]));
}

/// §8: what recovery needs of a slot.
struct Checkpoint {
    volume: [u8; 16],
    number: u64,
    through: u64,
    chain: [u8; 32],
    signed_root: Vec<u8>,
    boundary: u32,
    /// Place and length of the root page, if there is one.
    root: Option<(u32, u64, u32)>,
    root_hash: [u8; 32],
    epochs: Vec<(u64, u64)>,
    periods: Vec<Row>,
    segments: BTreeMap<u32, Listed>,
}

/// A segment that the base covers.
struct Listed {
    instance: [u8; 16],
    bytes: u32,
    live_bytes: u32,
    cell: u32,
    map: Vec<u64>,
}

fn read_checkpoint(file: &[u8]) -> Checkpoint {
    let mut head = Bytes::new(file);
    assert_eq!(head.take(8), b"HFCHKPNT");
    assert_eq!(head.u32(), 1);
    let (crc, length) = (head.u32(), head.u64() as usize);
    assert_eq!(head.u32(), crc32c(&file[..24]));
    head.zeros(4);
    let body = &file[32..32 + length];
    assert_eq!(crc32c(body), crc);
    let mut from = Bytes::new(body);
    let (volume, number, through, chain) = (from.array(), from.u64(), from.u64(), from.array());
    let committed = from.u64();
    assert!(committed >= through);
    let signed = from.u8();
    from.zeros(7);
    let signed_root = if signed == 1 { from.take(136).to_vec() } else { Vec::new() };
    let (boundary, _next) = (from.u32(), from.u32());
    let index = from.u32() as usize;
    let mut index = Bytes::new(from.take(index));
    let root = (index.u8() == 1).then(|| (index.u32(), index.u64(), index.u32()));
    let root_hash = index.array();
    assert_eq!(index.u64(), through);
    let (_next_file, live, files) = (index.u32(), index.u64(), index.u32());
    let of_files: u64 = (0..files).map(|_| (index.u32(), index.u64(), index.u64()).2).sum();
    assert_eq!(of_files, live);
    index.end();
    let epochs = (0..from.u32())
        .map(|_| {
            let (_generation, epoch, base) = (from.u64(), from.u64(), from.u64());
            from.take(32);
            (base, epoch)
        })
        .collect();
    let periods = (0..from.u32()).map(|_| (Row::read(&mut from), from.u64()).0).collect();
    let segments = (0..from.u32())
        .map(|_| {
            let (number, instance, _temperature) = (from.u32(), from.array(), from.u32());
            let (bytes, live_bytes, cell) = (from.u32(), from.u32(), from.u32());
            let map = (0..from.u32()).map(|_| from.u64()).collect();
            (number, Listed { instance, bytes, live_bytes, cell, map })
        })
        .collect();
    from.end();
    Checkpoint { volume, number, through, chain, signed_root, boundary, root, root_hash, epochs, periods, segments }
}

/// §8: the signed root of a checkpoint says what the base is, and only a session can have said it.
fn check_signed_root(checkpoint: &Checkpoint, key: &[u8; 32]) {
    let mut from = Bytes::new(&checkpoint.signed_root);
    assert_eq!(from.array(), checkpoint.volume);
    let (_generation, _epoch) = (from.u64(), from.u64());
    assert_eq!((from.u64(), from.array()), (checkpoint.through, checkpoint.chain));
    assert_eq!(from.array(), checkpoint.root_hash);
    assert_eq!(from.array(), mac(key, 3, &checkpoint.volume, &checkpoint.signed_root[..104]));
}

/// §8, the live map: exactly the starts of the records that the base maps.
fn check_live_maps(checkpoint: &Checkpoint, base: &BTreeMap<u64, Mapped>) {
    for (number, listed) in &checkpoint.segments {
        let (mut map, mut live_bytes) = (vec![0u64; listed.map.len()], 0);
        for mapped in base.values().filter(|mapped| mapped.segment == *number) {
            let bit = mapped.offset / listed.cell;
            assert_eq!(map[bit as usize / 64] >> (bit % 64) & 1, 0, "two records start in one cell");
            map[bit as usize / 64] |= 1 << (bit % 64);
            live_bytes += segments::stored_bytes(mapped.shape) as u32;
        }
        assert_eq!((&map, live_bytes), (&listed.map, listed.live_bytes), "segment {number}");
    }
}

/// Everything, from files to plaintext.
pub fn rescue(files: &Files, key: &[u8; 32]) -> Rescued {
    let (volume, size) = read_header(&files["header"], key);
    read_promise(&files["promise"]);
    let slots = ["checkpoint-0", "checkpoint-1"].map(|name| read_checkpoint(&files[name]));
    let checkpoint = slots.into_iter().max_by_key(|slot| slot.number).unwrap();
    assert_eq!(checkpoint.volume, volume);
    check_signed_root(&checkpoint, key);

    let mut mapped = BTreeMap::new();
    let leaves = match checkpoint.root {
        Some(root) => read_tree(files, root, checkpoint.root_hash, &mut mapped),
        None => 0,
    };
    let all = read_segments(files, &volume, key);
    for (number, listed) in &checkpoint.segments {
        if let Some(segment) = all.get(number) {
            assert_eq!((segment.instance, segment.bytes), (listed.instance, listed.bytes), "segment {number}");
        }
    }
    check_live_maps(&checkpoint, &mapped);
    // §5: the tail, in order, as one unbroken chain.
    let mut log = Log {
        head: checkpoint.through,
        chain: checkpoint.chain,
        epoch: checkpoint.epochs.last().map_or(0, |(_, epoch)| *epoch),
        groups: 0,
        mapped,
        periods: checkpoint.periods.iter().map(|row| (row.number, row.clone())).collect(),
    };
    for (number, segment) in all.range(checkpoint.boundary..) {
        if !checkpoint.segments.contains_key(number) {
            segment.groups.iter().for_each(|group| log.replay(group, *number));
        }
    }
    let Log { head, chain, groups, mut mapped, mut periods, .. } = log;
    // §6: what collection moved since, each a compare-and-set.
    for (number, segment) in all.iter().filter(|(number, _)| !checkpoint.segments.contains_key(number)) {
        periods.extend(segment.rows.iter().map(|row| (row.number, row.clone())));
        for moved in &segment.moved {
            if let Some(now) = mapped.get_mut(&moved.block)
                && (now.seq, now.epoch, now.segment, now.offset) == (moved.seq, moved.epoch, moved.from.0, moved.from.1)
            {
                (now.segment, now.offset) = (*number, moved.at);
            }
        }
    }

    let mut rescued = Rescued {
        blocks: BTreeMap::new(),
        groups,
        moved: 0,
        compressed: 0,
        leaves,
        volume,
        head,
        chain,
        signed_root: checkpoint.signed_root.clone(),
    };
    for (block, place) in mapped {
        assert!(block < size);
        rescued.moved += usize::from(all[&place.segment].is_moved);
        rescued.compressed += usize::from(place.shape & 0x4000 != 0);
        let file = &files[&format!("seg-{:08x}", place.segment)];
        rescued.blocks.insert(block, open_block(file, block, &place, &periods[&place.period], key));
    }
    rescued
}

/// §5: the log as it is put together.
struct Log {
    head: u64,
    chain: [u8; 32],
    epoch: u64,
    groups: usize,
    mapped: BTreeMap<u64, Mapped>,
    periods: BTreeMap<u32, Row>,
}

impl Log {
    fn replay(&mut self, group: &Group, segment: u32) {
        assert_eq!(group.previous, self.chain, "the chain is unbroken");
        assert_eq!(group.first_seq, self.head + 1);
        self.chain = group.chain;
        self.groups += 1;
        if let Some(row) = &group.start {
            self.epoch = group.epoch;
            self.periods.insert(row.number, row.clone());
            return;
        }
        assert_eq!(group.epoch, self.epoch);
        for entry in &group.entries {
            self.head += 1;
            if entry.shape & 0x2000 != 0 {
                let unmapped = entry.block..entry.block + u64::from(entry.crc_or_count);
                self.mapped.retain(|block, _| !unmapped.contains(block));
                continue;
            }
            let (seq, epoch, period) = (self.head, group.epoch, group.period);
            let place = Mapped { seq, epoch, period, segment, offset: entry.at, shape: entry.shape };
            self.mapped.insert(entry.block, place);
        }
    }
}

/// §2: one sealed block.
fn open_block(file: &[u8], block: u64, place: &Mapped, row: &Row, key: &[u8; 32]) -> Vec<u8> {
    let length = usize::from(place.shape & 0x1fff);
    let record = &file[place.offset as usize..place.offset as usize + length + 16];
    let subkey: [u8; 32] = row.derive(key, b"holdfast period v1");
    let check: [u8; 32] = row.derive(key, b"holdfast period check v1");
    assert_eq!(check, row.check, "the subkey is the row's");
    let compressed = place.shape & 0x4000 != 0;
    let aad = block_aad(u8::from(compressed) << 1, length, &row.origin, block, place.epoch, place.seq);
    let plain = open(&subkey, place.seq, &aad, record);
    if compressed { lz4_block(&plain) } else { plain }
}

/// §8: the anchor names the head of the log and the newest root.
pub fn check_anchor(anchor: &[u8], rescued: &Rescued, key: &[u8; 32]) {
    let mut from = Bytes::new(anchor);
    let (_generation, _epoch) = (from.u64(), from.u64());
    assert_eq!((from.u64(), from.array()), (rescued.head, rescued.chain), "the anchor is the end of the log");
    assert_eq!(from.take(136), rescued.signed_root);
    let signed = from.at;
    assert_eq!(from.array(), mac(key, 4, &rescued.volume, &anchor[..signed]));
    from.end();
}

//! A scribe: writes well-formed groups without any key, so that a store can be tested by itself. What it "seals" is a
//! pattern that names block and seq, so a wrong record is seen at once.

#![allow(dead_code, clippy::unwrap_used, reason = "each test program uses a part of it, and a test may unwrap")]

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_disk::{AlignedBuffer, Disk, SeededRandom};
use holdfast_log::anchor::{RootStatement, SignedRoot};
use holdfast_log::group::{GroupBody, GroupEntry, GroupHeader, StartRecord};
use holdfast_log::hash::{self, ChainHash, TagsDigest, TreeHash};
use holdfast_log::header::{Formatted, VolumeHeader};
use holdfast_log::period::{Compression, PeriodRow};
use holdfast_log::place::Shape;
use holdfast_log::seam::{Replica, ReplicaError, SealedGroup};
use holdfast_ports::budget::MemoryBudget;
use holdfast_store::{Store, StoreOptions};
use holdfast_vocabulary::{
    BlockIndex, Epoch, Generation, Grant, KeyId, PeriodNumber, Seq, SessionId, VolumeId, VolumeSize,
};

pub const VOLUME: VolumeId = VolumeId([7; 16]);

pub fn options(capacity_bytes: u64) -> StoreOptions {
    let mut options = StoreOptions::new(capacity_bytes, Arc::new(SeededRandom::new(9)), MemoryBudget::new(32 << 20));
    options.segment_bytes_max = 256 << 10;
    options
}

pub fn create(disk: &Arc<dyn Disk>) {
    let header = VolumeHeader {
        volume: VOLUME,
        size: VolumeSize::from_bytes(1 << 30).unwrap(),
        generation: Generation(1),
        epoch: Epoch(0),
        key_id: KeyId([1; 16]),
        formatted: Formatted::Never,
        compression: Compression::None,
    };
    holdfast_store::create(disk, &header.with_mac(&[0; 32])).unwrap();
}

/// One change of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Put(u64),
    Unmap(u64, u32),
}

pub struct Scribe {
    pub store: Arc<Store>,
    pub grant: Grant,
    pub head: Seq,
    pub chain: ChainHash,
    pub committed: Seq,
    period: PeriodNumber,
    /// What each mapped block must hold: the seq that wrote it.
    pub model: BTreeMap<u64, Seq>,
}

pub fn content(block: u64, seq: Seq) -> (Vec<u8>, [u8; 16]) {
    let mut bytes = vec![0; 4096];
    for (place, chunk) in bytes.chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&(block.wrapping_mul(0x9e37_79b9) ^ (seq.0 << 20) ^ place as u64).to_le_bytes());
    }
    let mut tag = [0; 16];
    tag[..8].copy_from_slice(&block.to_le_bytes());
    tag[8..].copy_from_slice(&seq.0.to_le_bytes());
    (bytes, tag)
}

impl Scribe {
    /// Opens an epoch on a store.
    pub fn open(store: Arc<Store>, epoch: u64) -> Result<Self, ReplicaError> {
        let grant = Grant { generation: Generation(1), epoch: Epoch(epoch), session: SessionId([epoch as u8; 16]) };
        store.promise(&grant)?;
        let report = store.report();
        let period = PeriodNumber(report.periods.iter().map(|row| row.number.0).max().unwrap_or(0) + 1);
        let mut scribe = Self {
            store,
            grant,
            head: report.head,
            chain: report.chain,
            committed: report.head,
            period,
            model: BTreeMap::new(),
        };
        let row = PeriodRow {
            number: period,
            aad_version: 1,
            compression: Compression::None,
            origin: VOLUME,
            epoch: grant.epoch,
            key_id: KeyId([1; 16]),
            salt: [epoch as u8; 32],
            check: [0; 32],
        };
        let start = StartRecord {
            session: grant.session,
            base: scribe.head,
            base_chain: scribe.chain,
            set_version: 1,
            set: vec![[1; 16]],
            period: row,
        };
        scribe.append(GroupBody::Start(start), Vec::new(), TagsDigest::default())?;
        scribe.flush()?;
        Ok(scribe)
    }

    fn append(&mut self, body: GroupBody, data: Vec<u8>, tags: TagsDigest) -> Result<(), ReplicaError> {
        let header = GroupHeader {
            volume: VOLUME,
            generation: self.grant.generation,
            epoch: self.grant.epoch,
            first_seq: self.head.next(),
            committed: self.committed,
            period: self.period,
            data_bytes: data.len() as u32,
            previous: self.chain,
            tags,
            body,
        };
        let header_bytes = header.encode();
        let chain = hash::chain(self.chain, &header_bytes);
        let mut buffer = AlignedBuffer::with_len(data.len().next_multiple_of(4096));
        buffer[..data.len()].copy_from_slice(&data);
        let head = header.last_seq();
        let group = Arc::new(SealedGroup {
            header,
            header_bytes,
            mac: [3; 32],
            chain,
            data: Arc::new(buffer),
            reserved_bytes: 0,
        });
        let ticket = self.store.admit(&self.grant, &group)?;
        self.head = head;
        self.chain = chain;
        self.store.complete(ticket, &group)
    }

    /// One group.
    pub fn write(&mut self, changes: &[Change]) -> Result<(), ReplicaError> {
        let (mut entries, mut data, mut tags) = (Vec::new(), Vec::new(), Vec::new());
        let mut model = self.model.clone();
        for (position, change) in changes.iter().enumerate() {
            let seq = Seq(self.head.0 + 1 + position as u64);
            match *change {
                Change::Put(block) => {
                    let (bytes, tag) = content(block, seq);
                    let start = data.len();
                    data.extend_from_slice(&bytes);
                    data.extend_from_slice(&tag);
                    let crc = hash::crc32c(&data[start..]);
                    tags.push(tag);
                    entries.push(GroupEntry { block: BlockIndex(block), shape: Shape::WHOLE, crc_or_count: crc });
                    model.insert(block, seq);
                }
                Change::Unmap(block, count) => {
                    entries.push(GroupEntry { block: BlockIndex(block), shape: Shape::UNMAPPED, crc_or_count: count });
                    model.retain(|at, _| *at < block || *at >= block + u64::from(count));
                }
            }
        }
        let digest =
            if tags.is_empty() { TagsDigest::default() } else { hash::tags(tags.iter().map(|tag| tag.as_slice())) };
        self.append(GroupBody::Data(entries), data, digest)?;
        self.model = model;
        Ok(())
    }

    pub fn flush(&mut self) -> Result<(), ReplicaError> {
        let durable = self.store.sync(&self.grant)?;
        assert_eq!(durable, self.head);
        self.store.commit(&self.grant, durable)?;
        self.committed = durable;
        Ok(())
    }

    pub fn advance(&mut self) -> Result<TreeHash, ReplicaError> {
        self.flush()?;
        self.store.freeze(&self.grant, self.head)?;
        let mut root = TreeHash::EMPTY;
        while !self.store.merge(&self.grant, 8)?.is_empty() {}
        // The scribe does not compute the root itself: it asks twice, and takes the answer that the refusal names.
        root = self.root_at_head().unwrap_or(root);
        let statement = RootStatement {
            volume: VOLUME,
            generation: self.grant.generation,
            epoch: self.grant.epoch,
            through: self.head,
            chain: self.chain,
            root,
        };
        self.store.finish(&self.grant, &SignedRoot { statement, mac: [4; 32] })?;
        Ok(root)
    }

    /// The root of the state tree as the model has it.
    fn root_at_head(&self) -> Option<TreeHash> {
        model_root(&self.model, self.epochs())
    }

    fn epochs(&self) -> Vec<(Seq, Epoch)> {
        self.store.report().epochs.iter().map(|row| (row.base, row.epoch)).collect()
    }

    /// Reads everything and compares it with the model.
    pub fn check(&self, blocks: u64) {
        check(&self.store, &self.model, blocks);
    }
}

pub fn check(store: &Store, model: &BTreeMap<u64, Seq>, blocks: u64) {
    let mut seen = 0;
    store
        .read(BlockIndex(0), blocks as u32, &mut |block, sealed| {
            assert_eq!(block.0, seen);
            seen += 1;
            match (model.get(&block.0), sealed) {
                (None, None) => {}
                (Some(seq), Some(sealed)) => {
                    assert_eq!(sealed.version.seq, *seq, "block {block}");
                    let (bytes, tag) = content(block.0, *seq);
                    assert!(bytes == sealed.ciphertext && tag == *sealed.tag, "block {block}");
                }
                (expected, found) => panic!("block {block}: {expected:?}, found {found:?}"),
            }
        })
        .unwrap();
    assert_eq!(seen, blocks);
}

/// The state tree of a model, computed from the document alone.
pub fn model_root(model: &BTreeMap<u64, Seq>, epochs: Vec<(Seq, Epoch)>) -> Option<TreeHash> {
    let epoch_of = |seq: Seq| epochs.iter().rev().find(|(base, _)| *base < seq).map_or(Epoch(0), |(_, epoch)| *epoch);
    let mut level: BTreeMap<u64, TreeHash> = BTreeMap::new();
    let leaves: std::collections::BTreeSet<u64> = model.keys().map(|block| block / 512).collect();
    for leaf in leaves {
        let mut canonical = vec![0; 4096];
        let mut last = None;
        let mut runs = Vec::new();
        for (block, seq) in model.range(leaf * 512..(leaf + 1) * 512) {
            let at = (block % 512) as usize;
            canonical[at * 8..at * 8 + 8].copy_from_slice(&seq.0.to_le_bytes());
            if last != Some(epoch_of(*seq)) {
                last = Some(epoch_of(*seq));
                runs.extend_from_slice(&(at as u16).to_le_bytes());
                runs.extend_from_slice(&epoch_of(*seq).0.to_le_bytes());
            }
        }
        canonical.extend_from_slice(&runs);
        level.insert(leaf, hash::leaf(&canonical));
    }
    for height in 1u8..=4 {
        let mut above: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (number, hash) in &level {
            let canonical = above.entry(number / 256).or_insert_with(|| vec![height]);
            canonical.push((number % 256) as u8);
            canonical.extend_from_slice(&hash.0);
        }
        level = above.into_iter().map(|(number, canonical)| (number, hash::node(&canonical))).collect();
    }
    level.get(&0).copied()
}

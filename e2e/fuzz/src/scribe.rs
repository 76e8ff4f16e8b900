//! A scribe: writes well-formed groups to a store without any key. What it "seals" is a pattern that names block and seq, so
//! that a wrong record is seen at once, and it remembers what the volume held after every group.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_disk::SeededRandom;
use holdfast_log::anchor::{RootStatement, SignedRoot};
use holdfast_log::group::{GroupBody, GroupEntry, GroupHeader, StartRecord};
use holdfast_log::hash::{self, ChainHash, TagsDigest, TreeHash};
use holdfast_log::header::{Formatted, VolumeHeader};
use holdfast_log::leaf::{LEAF_BLOCKS, state_hash_of};
use holdfast_log::node::{NODE_CHILDREN, ROOT_LEVEL};
use holdfast_log::period::{Compression, PeriodRow};
use holdfast_log::place::{Shape, Version};
use holdfast_log::seam::{Replica, ReplicaError, SealedGroup};
use holdfast_ports::budget::MemoryBudget;
use holdfast_ports::{AlignedBuffer, Disk};
use holdfast_store::{Store, StoreOptions};
use holdfast_vocabulary::{
    BlockIndex, Epoch, Generation, Grant, KeyId, PeriodNumber, Seq, SessionId, VolumeId, VolumeSize,
};

/// The volume that every scribe writes.
pub const VOLUME: VolumeId = VolumeId([7; 16]);
/// Small, so that a handful of blocks is several files.
const SEGMENT_BYTES: u32 = 64 << 10;

/// What each mapped block holds: the seq that wrote it.
pub type Model = BTreeMap<u64, Seq>;
/// The model after each group, by the last seq of the group.
pub type History = BTreeMap<Seq, Model>;

/// Options of a store that is small enough to be collected after a few groups.
#[must_use]
pub fn options(capacity_bytes: u64) -> StoreOptions {
    let mut options = StoreOptions::new(capacity_bytes, Arc::new(SeededRandom::new(9)), MemoryBudget::new(8 << 20));
    options.segment_bytes_max = SEGMENT_BYTES;
    options
}

/// Makes an empty store.
pub fn create(disk: &Arc<dyn Disk>) -> Result<(), ReplicaError> {
    let header = VolumeHeader {
        volume: VOLUME,
        size: VolumeSize::from_bytes(1 << 30).expect("a power of two is whole blocks"),
        generation: Generation(1),
        epoch: Epoch(0),
        key_id: KeyId([1; 16]),
        formatted: Formatted::Never,
        compression: Compression::None,
    };
    holdfast_store::create(disk, &header.with_mac(&[0; 32]))
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A block is written.
    Put(u64),
    /// Blocks are unmapped: the first, and how many.
    Unmap(u64, u32),
}

/// What a scribe writes into a block: a pattern in place of ciphertext, and a tag that names block and seq.
#[must_use]
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

/// Writes one epoch.
pub struct Scribe {
    /// Where it writes.
    pub store: Arc<Store>,
    /// Its grant.
    pub grant: Grant,
    /// The newest record that was admitted.
    pub head: Seq,
    /// The newest record that was flushed.
    pub committed: Seq,
    /// What the volume holds now.
    pub model: Model,
    chain: ChainHash,
    period: PeriodNumber,
}

impl Scribe {
    /// Opens an epoch on a store whose content is `model`.
    pub fn open(store: Arc<Store>, epoch: u64, model: Model) -> Result<Self, ReplicaError> {
        let grant = Grant { generation: Generation(1), epoch: Epoch(epoch), session: SessionId([epoch as u8; 16]) };
        store.promise(&grant)?;
        let report = store.report();
        let period = PeriodNumber(report.periods.iter().map(|row| row.number.0).max().unwrap_or(0).saturating_add(1));
        let (head, chain) = (report.head, report.chain);
        let mut scribe = Self { store, grant, head, chain, committed: head, period, model };
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
            base: head,
            base_chain: chain,
            set_version: 1,
            set: vec![[1; 16]],
            period: row,
        };
        scribe.append(GroupBody::Start(start), &[], TagsDigest::default())?;
        scribe.flush()?;
        Ok(scribe)
    }

    /// Appends a group whose data need not fit its entries: what a disk did to a good one is left to the caller.
    pub fn append(&mut self, body: GroupBody, data: &[u8], tags: TagsDigest) -> Result<(), ReplicaError> {
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
        buffer[..data.len()].copy_from_slice(data);
        let (head, data) = (header.last_seq(), Arc::new(buffer));
        let group = Arc::new(SealedGroup { header, header_bytes, mac: [3; 32], chain, data, reserved_bytes: 0 });
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
                    let crc_or_count = hash::crc32c(&data[start..]);
                    tags.push(tag);
                    entries.push(GroupEntry { block: BlockIndex(block), shape: Shape::WHOLE, crc_or_count });
                    model.insert(block, seq);
                }
                Change::Unmap(block, crc_or_count) => {
                    entries.push(GroupEntry { block: BlockIndex(block), shape: Shape::UNMAPPED, crc_or_count });
                    model.retain(|at, _| *at < block || *at >= block + u64::from(crc_or_count));
                }
            }
        }
        let digest = match tags.as_slice() {
            [] => TagsDigest::default(),
            tags => hash::tags(tags.iter().map(<[u8; 16]>::as_slice)),
        };
        self.append(GroupBody::Data(entries), &data, digest)?;
        self.model = model;
        Ok(())
    }

    /// Makes everything durable and says so.
    pub fn flush(&mut self) -> Result<(), ReplicaError> {
        let durable = self.store.sync(&self.grant)?;
        assert_eq!(durable, self.head, "what was completed is what a sync makes durable");
        self.store.commit(&self.grant, durable)?;
        self.committed = durable;
        Ok(())
    }

    /// Makes a new base, with the root as the model has it: the store must have come to the same one.
    pub fn advance(&mut self) -> Result<(), ReplicaError> {
        self.flush()?;
        self.store.freeze(&self.grant, self.head)?;
        loop {
            match self.store.merge(&self.grant, 2) {
                Ok(leaves) if leaves.is_empty() => break,
                Ok(_) => {}
                Err(error) => {
                    self.store.abandon();
                    return Err(error);
                }
            }
        }
        let epochs: Vec<(Seq, Epoch)> = self.store.report().epochs.iter().map(|row| (row.base, row.epoch)).collect();
        let statement = RootStatement {
            volume: VOLUME,
            generation: self.grant.generation,
            epoch: self.grant.epoch,
            through: self.head,
            chain: self.chain,
            root: root_of(&self.model, &epochs),
        };
        self.store.finish(&self.grant, &SignedRoot { statement, mac: [4; 32] })
    }
}

/// The state tree of a model, from the definition.
fn root_of(model: &Model, epochs: &[(Seq, Epoch)]) -> TreeHash {
    let epoch_of = |seq: Seq| epochs.iter().rev().find(|(base, _)| *base < seq).map_or(Epoch(0), |(_, epoch)| *epoch);
    let mut leaves: BTreeMap<u64, Vec<(usize, Version)>> = BTreeMap::new();
    for (block, seq) in model {
        let (leaf, position) = (block / LEAF_BLOCKS as u64, (block % LEAF_BLOCKS as u64) as usize);
        leaves.entry(leaf).or_default().push((position, Version { epoch: epoch_of(*seq), seq: *seq }));
    }
    let mut level: BTreeMap<u64, TreeHash> =
        leaves.into_iter().map(|(number, versions)| (number, state_hash_of(versions))).collect();
    for height in 1..=ROOT_LEVEL {
        let mut above: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (number, hash) in &level {
            let canonical = above.entry(number / NODE_CHILDREN as u64).or_insert_with(|| vec![height]);
            canonical.push((number % NODE_CHILDREN as u64) as u8);
            canonical.extend_from_slice(&hash.0);
        }
        level = above.into_iter().map(|(number, canonical)| (number, hash::node(&canonical))).collect();
    }
    level.get(&0).copied().unwrap_or(TreeHash::EMPTY)
}

/// Reads every block below `blocks` and gives those whose bytes are not what the scribe wrote as the version that the store
/// names. The versions themselves must be the model's: a store that cannot tell must fail, not guess.
pub fn wrong_blocks(store: &Store, model: &Model, blocks: u32) -> Result<Vec<u64>, ReplicaError> {
    let (mut seen, mut wrong) = (0, Vec::new());
    store.read(BlockIndex(0), blocks, &mut |block, sealed| {
        assert_eq!(block.0, seen, "blocks are handed out in order, none left out");
        seen += 1;
        assert_eq!(sealed.as_ref().map(|sealed| sealed.version.seq), model.get(&block.0).copied(), "block {block}");
        if let Some(sealed) = sealed {
            let (bytes, tag) = content(block.0, sealed.version.seq);
            if bytes != sealed.ciphertext || tag != *sealed.tag {
                wrong.push(block.0);
            }
        }
    })?;
    assert_eq!(seen, u64::from(blocks), "every block is handed out");
    Ok(wrong)
}

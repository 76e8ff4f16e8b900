//! Deliberate mistakes, to prove that the judges can condemn. Each sits outside of store and session, where a disk, a
//! replica or a source of chance could really be so wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_disk::{Disk, DiskError, File, Random};
use holdfast_log::anchor::SignedRoot;
use holdfast_log::leaf::LeafPage;
use holdfast_log::node::NodePage;
use holdfast_log::place::{Shape, Version};
use holdfast_log::seam::{
    BlockSink, MergedLeaf, Pressure, Purpose, Replica, ReplicaError, ReplicaStats, Report, ScrubReport, SealedBlock,
    SealedGroup, SealedHeader, Ticket,
};
use holdfast_store::StoreOptions;
use holdfast_vocabulary::{BlockIndex, Grant, PeriodNumber, Seq};
use parking_lot::Mutex;

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The disk's sync of a file does nothing.
    SyncDoesNothing,
    /// The disk's sync of names does nothing.
    NamesAreForgotten,
    /// The disk drops what is written to the checkpoint slots once both are there: an old one is replayed.
    OldCheckpoint,
    /// The replica says "durable" before it is.
    EarlyAcknowledgement,
    /// The replica answers reads with the oldest version of a block that it ever read.
    OldVersions,
    /// The replica says of mapped blocks that they are unmapped, now and then.
    FalseUnmapped,
    /// The replica lets whoever knew it once go on, however old the grant.
    NoFence,
    /// Salts are always the same.
    SaltRepeats,
    /// The store takes four times the room that it was given.
    Hoarder,
    /// The replica forgets discards.
    DiscardsForgotten,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::SyncDoesNothing,
        Self::NamesAreForgotten,
        Self::OldCheckpoint,
        Self::EarlyAcknowledgement,
        Self::OldVersions,
        Self::FalseUnmapped,
        Self::NoFence,
        Self::SaltRepeats,
        Self::Hoarder,
        Self::DiscardsForgotten,
    ];

    /// The disk with the mistake.
    #[must_use]
    pub fn disk(self, inner: Arc<dyn Disk>) -> Arc<dyn Disk> {
        match self {
            Self::SyncDoesNothing | Self::NamesAreForgotten | Self::OldCheckpoint => {
                Arc::new(BadDisk { inner, mistake: self })
            }
            _ => inner,
        }
    }

    /// The replica with the mistake.
    #[must_use]
    pub fn replica(self, inner: Arc<dyn Replica>) -> Arc<dyn Replica> {
        match self {
            Self::EarlyAcknowledgement
            | Self::OldVersions
            | Self::FalseUnmapped
            | Self::NoFence
            | Self::DiscardsForgotten => Arc::new(BadReplica { inner, mistake: self, memory: Mutex::default() }),
            _ => inner,
        }
    }

    /// The salts with the mistake.
    #[must_use]
    pub fn salts(self, inner: Arc<dyn Random>) -> Arc<dyn Random> {
        if self == Self::SaltRepeats { Arc::new(NoChance) } else { inner }
    }

    /// The store's options with the mistake.
    pub fn options(self, options: &mut StoreOptions) {
        if self == Self::Hoarder {
            options.capacity_bytes *= 4;
        }
    }
}

struct NoChance;

impl Random for NoChance {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(4);
    }
}

struct BadDisk {
    inner: Arc<dyn Disk>,
    mistake: Mutant,
}

struct BadFile {
    inner: Arc<dyn File>,
    sync_works: bool,
    writes_work: bool,
}

impl BadDisk {
    fn file(&self, name: &str, inner: Arc<dyn File>, is_new: bool) -> Arc<dyn File> {
        let is_slot = name.starts_with("checkpoint-");
        let writes_work = is_new || !is_slot || self.mistake != Mutant::OldCheckpoint;
        Arc::new(BadFile { inner, sync_works: self.mistake != Mutant::SyncDoesNothing, writes_work })
    }
}

impl Disk for BadDisk {
    fn open(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        Ok(self.file(name, self.inner.open(name)?, false))
    }
    fn create(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        Ok(self.file(name, self.inner.create(name)?, true))
    }
    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.inner.remove(name)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.inner.rename(from, to)
    }
    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.inner.list()
    }
    fn sync_names(&self) -> Result<(), DiskError> {
        if self.mistake == Mutant::NamesAreForgotten { Ok(()) } else { self.inner.sync_names() }
    }
    fn free_bytes(&self) -> Result<u64, DiskError> {
        self.inner.free_bytes()
    }
    fn sector_bytes(&self) -> usize {
        self.inner.sector_bytes()
    }
}

impl File for BadFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.inner.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        if self.writes_work { self.inner.write_at(offset, bytes) } else { Ok(()) }
    }
    fn len(&self) -> Result<u64, DiskError> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        if self.writes_work { self.inner.set_len(len) } else { Ok(()) }
    }
    fn allocate(&self, len: u64) -> Result<(), DiskError> {
        self.inner.allocate(len)
    }
    fn punch(&self, offset: u64, len: u64) -> Result<(), DiskError> {
        self.inner.punch(offset, len)
    }
    fn sync(&self) -> Result<(), DiskError> {
        if self.sync_works { self.inner.sync() } else { Ok(()) }
    }
}

/// A sealed block as it was read once.
struct Kept {
    version: Version,
    period: PeriodNumber,
    shape: Shape,
    ciphertext: Vec<u8>,
    tag: [u8; 16],
}

#[derive(Default)]
struct Memory {
    blocks: BTreeMap<u64, Kept>,
    reads: u64,
    newest: Option<Grant>,
}

struct BadReplica {
    inner: Arc<dyn Replica>,
    mistake: Mutant,
    memory: Mutex<Memory>,
}

impl BadReplica {
    /// The grant that the store will hear.
    fn heard(&self, grant: &Grant) -> Grant {
        let newest = self.memory.lock().newest;
        if self.mistake == Mutant::NoFence { newest.unwrap_or(*grant) } else { *grant }
    }
}

impl Replica for BadReplica {
    fn report(&self) -> Report {
        self.inner.report()
    }
    fn promise(&self, grant: &Grant) -> Result<(), ReplicaError> {
        self.inner.promise(grant)?;
        self.memory.lock().newest = Some(*grant);
        Ok(())
    }
    fn put_header(&self, grant: &Grant, header: &[u8]) -> Result<(), ReplicaError> {
        self.inner.put_header(&self.heard(grant), header)
    }
    fn tail(&self) -> Result<Vec<SealedHeader>, ReplicaError> {
        self.inner.tail()
    }
    fn reserve(&self, grant: &Grant, bytes: u64, purpose: Purpose) -> Result<(), ReplicaError> {
        self.inner.reserve(&self.heard(grant), bytes, purpose)
    }
    fn release(&self, bytes: u64) {
        self.inner.release(bytes);
    }
    fn admit(&self, grant: &Grant, group: &Arc<SealedGroup>) -> Result<Ticket, ReplicaError> {
        self.inner.admit(&self.heard(grant), group)
    }
    fn complete(&self, ticket: Ticket, group: &Arc<SealedGroup>) -> Result<(), ReplicaError> {
        self.inner.complete(ticket, group)
    }
    fn sync(&self, grant: &Grant) -> Result<Seq, ReplicaError> {
        if self.mistake == Mutant::EarlyAcknowledgement {
            return Ok(self.inner.report().head);
        }
        self.inner.sync(&self.heard(grant))
    }
    fn commit(&self, grant: &Grant, through: Seq) -> Result<(), ReplicaError> {
        self.inner.commit(&self.heard(grant), through)
    }
    fn read(&self, first: BlockIndex, count: u32, sink: &mut BlockSink<'_>) -> Result<(), ReplicaError> {
        let mut memory = self.memory.lock();
        let mistake = self.mistake;
        self.inner.read(first, count, &mut |block, sealed| {
            memory.reads += 1;
            match (mistake, sealed) {
                (Mutant::FalseUnmapped, Some(_)) if memory.reads.is_multiple_of(7) => sink(block, None),
                (Mutant::OldVersions, Some(sealed)) => {
                    let kept = memory.blocks.entry(block.0).or_insert_with(|| Kept {
                        version: sealed.version,
                        period: sealed.period,
                        shape: sealed.shape,
                        ciphertext: sealed.ciphertext.to_vec(),
                        tag: *sealed.tag,
                    });
                    let Kept { version, period, shape, .. } = *kept;
                    sink(
                        block,
                        Some(SealedBlock { version, period, shape, ciphertext: &kept.ciphertext, tag: &kept.tag }),
                    );
                }
                (Mutant::DiscardsForgotten, None) if memory.blocks.contains_key(&block.0) => {
                    let kept = &memory.blocks[&block.0];
                    let Kept { version, period, shape, .. } = *kept;
                    sink(
                        block,
                        Some(SealedBlock { version, period, shape, ciphertext: &kept.ciphertext, tag: &kept.tag }),
                    );
                }
                (Mutant::DiscardsForgotten, Some(sealed)) => {
                    let kept = Kept {
                        version: sealed.version,
                        period: sealed.period,
                        shape: sealed.shape,
                        ciphertext: sealed.ciphertext.to_vec(),
                        tag: *sealed.tag,
                    };
                    memory.blocks.insert(block.0, kept);
                    sink(block, Some(sealed));
                }
                (_, sealed) => sink(block, sealed),
            }
        })
    }
    fn place_of(&self, block: BlockIndex) -> Option<(String, u64)> {
        self.inner.place_of(block)
    }
    fn leaf(&self, number: u64) -> Result<Arc<LeafPage>, ReplicaError> {
        self.inner.leaf(number)
    }
    fn node(&self, level: u8, index: u64) -> Result<Arc<NodePage>, ReplicaError> {
        self.inner.node(level, index)
    }
    fn freeze(&self, grant: &Grant, through: Seq) -> Result<(), ReplicaError> {
        self.inner.freeze(&self.heard(grant), through)
    }
    fn merge(&self, grant: &Grant, leaves_max: usize) -> Result<Vec<MergedLeaf>, ReplicaError> {
        self.inner.merge(&self.heard(grant), leaves_max)
    }
    fn finish(&self, grant: &Grant, root: &SignedRoot) -> Result<(), ReplicaError> {
        self.inner.finish(&self.heard(grant), root)
    }
    fn abandon(&self) {
        self.inner.abandon();
    }
    fn pressure(&self) -> Pressure {
        self.inner.pressure()
    }
    fn collect(&self) -> Result<bool, ReplicaError> {
        self.inner.collect()
    }
    fn scrub(&self) -> Result<ScrubReport, ReplicaError> {
        self.inner.scrub()
    }
    fn stats(&self) -> ReplicaStats {
        self.inner.stats()
    }
}

//! The seam: what a session may ask of a replica, wherever the replica is.
//!
//! Every call that changes something carries the session's grant, and a replica refuses one that is behind its promise.
//! Arguments and answers are plain values, so that a replica may live in another process. A session trusts none of the
//! answers: it opens what is sealed, and checks every claim about the index against a root that it computed itself.

use std::fmt;
use std::sync::Arc;

use holdfast_ports::AlignedBuffer;
use holdfast_vocabulary::{BlockIndex, Epoch, Generation, Grant, PeriodNumber, Seq};

use crate::anchor::SignedRoot;
use crate::group::GroupHeader;
use crate::hash::{ChainHash, TreeHash};
use crate::leaf::LeafPage;
use crate::node::NodePage;
use crate::period::PeriodRow;
use crate::place::{Shape, Version};

/// A group as a session hands it out: sealed, chained, MACed, and never changed again. A retry resends these bytes.
#[derive(Clone)]
pub struct SealedGroup {
    /// The header.
    pub header: GroupHeader,
    /// The header's bytes, without MAC.
    pub header_bytes: Vec<u8>,
    /// The session's MAC over the chain.
    pub mac: [u8; 32],
    /// The chain up to and including this group.
    pub chain: ChainHash,
    /// The packed records: for each sealed block ciphertext and tag. At least `header.data_bytes` long; its length is
    /// a multiple of 4096 and what follows the records is zero.
    pub data: Arc<AlignedBuffer>,
    /// The credit that was taken for it by [`Replica::reserve`] and is given back now.
    pub reserved_bytes: u64,
}

/// The place of a group in the order of a replica's log, between [`Replica::admit`] and [`Replica::complete`].
#[derive(Debug)]
pub struct Ticket(pub u64);

/// Where an epoch stands in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochRow {
    /// The registry's generation.
    pub generation: Generation,
    /// The epoch.
    pub epoch: Epoch,
    /// The last record of earlier epochs that counts.
    pub base: Seq,
    /// The chain up to the base.
    pub base_chain: ChainHash,
}

/// What a replica says of itself before anything was agreed.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The header file's bytes.
    pub header: Vec<u8>,
    /// The newest grant that it promised to obey.
    pub promised: Option<Grant>,
    /// The epochs of its log, oldest first.
    pub epochs: Vec<EpochRow>,
    /// Its newest record.
    pub head: Seq,
    /// The chain up to its newest group.
    pub chain: ChainHash,
    /// The highest committed mark that it knows.
    pub committed: Seq,
    /// The signed root of its base; `None` while the base is empty and nobody signed it.
    pub root: Option<SignedRoot>,
    /// The rows of the periods that its blocks name.
    pub periods: Vec<PeriodRow>,
}

/// A group's header as it lies in the log.
#[derive(Clone, Debug)]
pub struct SealedHeader {
    /// The header.
    pub header: GroupHeader,
    /// The session's MAC over the chain.
    pub mac: [u8; 32],
}

/// A sealed block as a replica hands it out.
#[derive(Debug)]
pub struct SealedBlock<'a> {
    /// What the replica claims it to be.
    pub version: Version,
    /// The subkey to open it with.
    pub period: PeriodNumber,
    /// Length and flags.
    pub shape: Shape,
    /// Exactly the ciphertext.
    pub ciphertext: &'a [u8],
    /// The tag.
    pub tag: &'a [u8; 16],
}

/// Receives the blocks of a read in rising order: `None` where the replica says that nothing is mapped.
pub type BlockSink<'a> = dyn FnMut(BlockIndex, Option<SealedBlock<'_>>) + 'a;

/// One leaf that changed from the old base to the next.
#[derive(Clone)]
pub struct MergedLeaf {
    /// Which leaf.
    pub number: u64,
    /// As of the old base.
    pub old: Arc<LeafPage>,
    /// As of the new base.
    pub new: Arc<LeafPage>,
    /// The hash of `new`, as the replica computed it.
    pub new_hash: TreeHash,
}

/// What room is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Data: refused when the store is nearly full.
    Data,
    /// Something that frees room or that must never fail for want of it: unmaps, start records.
    Upkeep,
}

/// What a replica wants done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Records above the base.
    pub tail_records: u64,
    /// A new base should be made soon.
    pub advance_due: bool,
    /// A new base must be made before more is written.
    pub advance_needed: bool,
    /// There is garbage worth collecting, or room is short.
    pub collect_due: bool,
}

/// Figures of a replica. Bytes on the device are counted by cause, so that amplification is a sum, not a guess.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaStats {
    /// Stored bytes of the records that the base maps, tags included.
    pub live_bytes: u64,
    /// Bytes of all segment files.
    pub segment_bytes: u64,
    /// Bytes of all index files, checkpoints and headers.
    pub metadata_bytes: u64,
    /// How many segments.
    pub segments: u64,
    /// The most bytes that the store may take.
    pub capacity_bytes: u64,
    /// Device bytes written for groups: frames, headers, records, padding.
    pub written_log_bytes: u64,
    /// Device bytes written for the heads, tables and feet of segments.
    pub written_table_bytes: u64,
    /// Device bytes written by collection.
    pub written_moved_bytes: u64,
    /// Device bytes written for index pages and checkpoints.
    pub written_index_bytes: u64,
    /// Device bytes written ahead as zeros, to spare journal commits.
    pub written_ahead_bytes: u64,
    /// Records that collection moved.
    pub moved_records: u64,
    /// Segments that were freed.
    pub freed_segments: u64,
    /// Bytes of memory that the index and its caches take now.
    pub index_memory_bytes: u64,
    /// Index pages that a lookup had to read from the disk.
    pub cold_reads: u64,
    /// Disk syncs.
    pub syncs: u64,
    /// How full the store is of what must stay, in thousandths.
    pub fill_permille: u32,
}

/// One thing that a scrub found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// Where in it.
    pub offset: u64,
    /// The block it belongs to, if it belongs to one.
    pub block: Option<BlockIndex>,
    /// What is wrong.
    pub problem: String,
}

/// What a scrub saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubReport {
    /// Records whose bytes were read and compared with their checksum.
    pub records: u64,
    /// Index pages whose hash was computed again.
    pub pages: u64,
    /// Everything that is wrong.
    pub findings: Vec<Finding>,
}

/// Why a replica did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaError {
    /// The caller's grant is behind one that this replica promised to obey.
    Fenced {
        /// The newest grant.
        promised: Grant,
    },
    /// The caller's grant was never promised here.
    NotPromised,
    /// The replica failed earlier, refuses everything since, and must be rebuilt.
    Faulted {
        /// What failed first.
        cause: String,
    },
    /// There is no room, and nothing was written.
    NoSpace {
        /// Bytes that were wanted.
        wanted: u64,
        /// Bytes that are free for this purpose.
        free: u64,
    },
    /// A file holds what cannot be right.
    Damaged {
        /// The file.
        file: String,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        problem: String,
    },
    /// A file that must be there is not.
    Missing {
        /// The file.
        file: String,
        /// Who says that it must be there.
        needed_by: String,
    },
    /// Records that were acknowledged are not readable here any more. This replica must be rebuilt from another.
    Lost {
        /// The file.
        file: String,
        /// Where in it the log breaks off.
        offset: u64,
        /// The first record that is missing.
        from: Seq,
        /// The highest mark that says it was committed.
        committed: Seq,
    },
    /// The disk failed.
    Disk {
        /// The file.
        file: String,
        /// Where in it, if that has a meaning.
        offset: Option<u64>,
        /// The system's words.
        detail: String,
    },
    /// A group does not continue this replica's log.
    NotNext {
        /// Where the log ends here.
        head: Seq,
        /// The chain up to there.
        chain: ChainHash,
        /// Where the group starts.
        offered: Seq,
    },
    /// The state tree of this replica is not the session's.
    Diverged {
        /// The seq at which both were computed.
        through: Seq,
        /// The replica's root.
        here: TreeHash,
        /// The session's root.
        expected: TreeHash,
    },
}

impl fmt::Display for ReplicaError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced { promised } => write!(
                out,
                "fenced: this replica obeys epoch {} of generation {} by now; open the volume anew to write",
                promised.epoch.0, promised.generation.0
            ),
            Self::NotPromised => out.write_str("this replica never promised to obey the caller's grant"),
            Self::Faulted { cause } => {
                write!(out, "this replica is faulted and must be rebuilt or opened again; first failure: {cause}")
            }
            Self::NoSpace { wanted, free } => write!(
                out,
                "no space: {wanted} bytes wanted, {free} free; discard data, delete volumes or add capacity"
            ),
            Self::Damaged { file, offset, problem } => write!(out, "{file} at byte {offset}: {problem}"),
            Self::Missing { file, needed_by } => {
                write!(out, "{file} is missing, but {needed_by} needs it; restore it or rebuild this replica")
            }
            Self::Lost { file, offset, from, committed } => write!(
                out,
                "{file} at byte {offset}: record {from} cannot be read, yet everything up to {committed} was \
                 acknowledged; this is lost data, not an unfinished write: rebuild this replica from another"
            ),
            Self::Disk { file, offset: Some(offset), detail } => write!(out, "{file} at byte {offset}: {detail}"),
            Self::Disk { file, offset: None, detail } => write!(out, "{file}: {detail}"),
            Self::NotNext { head, chain, offered } => write!(
                out,
                "a group that starts at record {offered} does not continue this log, which ends at {head} \
                 with chain {chain}"
            ),
            Self::Diverged { through, here, expected } => write!(
                out,
                "the state tree at record {through} is {here} here, but the session computed {expected}; \
                 this replica must be rebuilt"
            ),
        }
    }
}

impl std::error::Error for ReplicaError {}

/// A store, as a session sees it.
pub trait Replica: Send + Sync {
    /// What it holds. Changes nothing.
    fn report(&self) -> Report;
    /// Promises to obey `grant` and nothing older. Durable before it answers.
    fn promise(&self, grant: &Grant) -> Result<(), ReplicaError>;
    /// Keeps a new header. Durable before it answers.
    fn put_header(&self, grant: &Grant, header: &[u8]) -> Result<(), ReplicaError>;
    /// The groups above the base, in order of the log, without what a start record voided.
    fn tail(&self) -> Result<Vec<SealedHeader>, ReplicaError>;
    /// Takes room for `bytes` of group (as [`group_room`] counts them) before anything is sealed.
    fn reserve(&self, grant: &Grant, bytes: u64, purpose: Purpose) -> Result<(), ReplicaError>;
    /// Gives unused credit back.
    fn release(&self, bytes: u64);
    /// Takes the next group of the log into its order. Called in order; quick. The bytes are written by `complete`,
    /// which may run for several groups at once.
    fn admit(&self, grant: &Grant, group: &Arc<SealedGroup>) -> Result<Ticket, ReplicaError>;
    /// Writes an admitted group and indexes it. Afterwards reads see it. Not yet durable.
    fn complete(&self, ticket: Ticket, group: &Arc<SealedGroup>) -> Result<(), ReplicaError>;
    /// Makes everything that was completed before this call durable, and gives its last seq.
    fn sync(&self, grant: &Grant) -> Result<Seq, ReplicaError>;
    /// Tells what is durable on every in-sync replica.
    fn commit(&self, grant: &Grant, through: Seq) -> Result<(), ReplicaError>;
    /// Reads `count` blocks from `first`, the newest version of each that was completed.
    fn read(&self, first: BlockIndex, count: u32, sink: &mut BlockSink<'_>) -> Result<(), ReplicaError>;
    /// Where the newest version of a block lies: file and offset, for a message. `None` if that means nothing here.
    fn place_of(&self, block: BlockIndex) -> Option<(String, u64)>;
    /// A leaf of the base.
    fn leaf(&self, number: u64) -> Result<Arc<LeafPage>, ReplicaError>;
    /// A node of the base; level 4 has one, the root.
    fn node(&self, level: u8, index: u64) -> Result<Arc<NodePage>, ReplicaError>;
    /// Begins a new base at `through`, which must be committed and the head of the log, with nothing in flight.
    fn freeze(&self, grant: &Grant, through: Seq) -> Result<(), ReplicaError>;
    /// Merges the next leaves, at most `leaves_max`; empty when all are done.
    fn merge(&self, grant: &Grant, leaves_max: usize) -> Result<Vec<MergedLeaf>, ReplicaError>;
    /// Makes the new base the base, if its root is the session's. Durable before it answers.
    fn finish(&self, grant: &Grant, root: &SignedRoot) -> Result<(), ReplicaError>;
    /// Gives a begun base up. Everything is as before `freeze`.
    fn abandon(&self);
    /// What it wants done.
    fn pressure(&self) -> Pressure;
    /// Collects one segment, if there is one worth it. Gives whether there was.
    fn collect(&self) -> Result<bool, ReplicaError>;
    /// Reads everything and compares it with its checksums and hashes. Writes nothing.
    fn scrub(&self) -> Result<ScrubReport, ReplicaError>;
    /// Its figures.
    fn stats(&self) -> ReplicaStats;
}

/// The room that a group of `entries` with `data_bytes` of records takes at most, whatever the sector.
#[must_use]
pub const fn group_room(entries: usize, data_bytes: usize) -> u64 {
    const SECTOR_MAX: usize = 4096;
    let head = crate::bytes::round_up(crate::group::Frame::BYTES + 160 + 16 * entries, SECTOR_MAX);
    let data = crate::bytes::round_up(data_bytes, SECTOR_MAX);
    // The copy of the header in the segment's table counts too.
    (head + data + 8 + 160 + 16 * entries) as u64
}

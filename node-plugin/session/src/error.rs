//! What can go wrong, an enum for each purpose. A message names what, where, and what to do.

use std::sync::Arc;

use holdfast_log::bytes::FormatError;
use holdfast_log::hash::{ChainHash, TreeHash};
use holdfast_log::header::Formatted;
use holdfast_log::place::Version;
use holdfast_log::seam::ReplicaError;
use holdfast_vocabulary::{
    BLOCK_BYTES, BlockIndex, Epoch, Generation, Grant, KeyId, PeriodNumber, Seq, VolumeId, VolumeSizeError,
};

/// Why a volume was not opened. Nothing was sealed, and nothing was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Another number of replicas than this release can use.
    #[error("a session needs exactly one replica in this release, {given} were given")]
    Replicas {
        /// How many there were.
        given: usize,
    },
    /// The replica refused or failed.
    #[error("the replica did not take part in the opening: {0}")]
    Replica(#[from] ReplicaError),
    /// The header is no header.
    #[error("the replica's header is unusable: {0}; rebuild the replica from another")]
    Header(#[source] FormatError),
    /// The key is not the one.
    #[error("the volume is sealed under key {sealed}, but key {given} was given; give the key of this volume")]
    WrongKey {
        /// The key that the header names.
        sealed: KeyId,
        /// The key that was given.
        given: KeyId,
    },
    /// The header was not written by a session of this volume.
    #[error("the replica's header does not authenticate: it was changed since a session wrote it; rebuild the replica")]
    HeaderForged,
    /// It is another volume.
    #[error("the replica holds volume {found}, but volume {expected} was asked for; check which disk this is")]
    ForeignVolume {
        /// The volume that was asked for.
        expected: VolumeId,
        /// The volume that is there.
        found: VolumeId,
    },
    /// The anchor was not written by a session of this volume.
    #[error("the registry's anchor does not authenticate for this volume; it was changed or belongs to another volume")]
    AnchorForged,
    /// The root was not signed by a session of this volume.
    #[error("the replica's root at record {through} does not authenticate; rebuild the replica from another")]
    RootForged {
        /// The record that the root claims to be at.
        through: Seq,
    },
    /// The replica is older than what is known of the volume.
    #[error("the replica was rolled back: expected {expected}, found {found}; rebuild it from one that is newer")]
    RolledBack {
        /// What the anchor says.
        expected: Box<Point>,
        /// What the replica has.
        found: Box<Point>,
    },
    /// A group does not follow from the one before it, or is not formed as it must be.
    #[error("group {position} of the replica's log, from record {first}, is wrong: {problem}; rebuild the replica")]
    Log {
        /// Counted from the base.
        position: usize,
        /// Its first record.
        first: Seq,
        /// What is wrong with it.
        problem: LogProblem,
    },
    /// What the replica says of its end is not what its groups add up to.
    #[error("the replica says that its log ends at {claimed}, but its groups end at {found}; rebuild the replica")]
    End {
        /// What it reported.
        claimed: Box<Point>,
        /// What its groups say.
        found: Box<Point>,
    },
    /// The grant is no news.
    #[error(
        "the grant for epoch {} of generation {} is not newer than the log, which has epoch {} of generation {}; \
         an epoch is opened once: draw a new grant", grant.epoch.0, grant.generation.0, epoch.0, generation.0
    )]
    OldGrant {
        /// The grant that was given.
        grant: Grant,
        /// The newest generation of the log.
        generation: Generation,
        /// The newest epoch of the log.
        epoch: Epoch,
    },
    /// Two rows have one number.
    #[error("the replica has two different rows for period {0}; rebuild the replica")]
    PeriodTwice(PeriodNumber),
    /// No number is left for a new period.
    #[error("no number is left for a new period (the replica names period {0}); rebuild the replica")]
    PeriodsUsedUp(PeriodNumber),
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// What it is of: "the log", "the root".
    pub what: &'static str,
    /// The generation and epoch, where they matter.
    pub order: Option<(Generation, Epoch)>,
    /// The record.
    pub seq: Seq,
    /// The chain up to it, where it is known.
    pub chain: Option<ChainHash>,
}

impl std::fmt::Display for Point {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} at record {}", self.what, self.seq)?;
        if let Some((generation, epoch)) = self.order {
            write!(out, " of epoch {} of generation {}", epoch.0, generation.0)?;
        }
        match self.chain {
            Some(chain) => write!(out, " with chain {chain}"),
            None => Ok(()),
        }
    }
}

/// What can be wrong with a group of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogProblem {
    /// Its header was not written by a session of this volume.
    #[error("its header does not authenticate")]
    Mac,
    /// It is of another volume.
    #[error("it belongs to volume {0}")]
    Volume(VolumeId),
    /// The chain breaks here.
    #[error("it continues chain {named}, but the groups before it have chain {actual}")]
    Chain {
        /// The chain that it names.
        named: ChainHash,
        /// The chain of what precedes it.
        actual: ChainHash,
    },
    /// Records are missing before it, or there twice.
    #[error("the record before it is {0}")]
    Gap(Seq),
    /// Its epoch is not the one that is open at this place of the log.
    #[error("its epoch {} of generation {} does not belong here", .1.0, .0.0)]
    Epoch(Generation, Epoch),
    /// Its period is not the one that the epoch's start record opened.
    #[error("it names period {0}, which its epoch did not open")]
    Period(PeriodNumber),
    /// A start record that contradicts itself or its place.
    #[error("it is a start record that is not formed as one must be")]
    Start,
    /// An entry lies outside of the volume.
    #[error("its entry for block {0} lies outside of the volume")]
    Outside(BlockIndex),
}

/// Why a session ended. Every call after that is answered with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndCause {
    /// It was closed.
    #[error("it was closed")]
    Closed,
    /// The replica failed or refused while something was on its way to it.
    #[error("the replica failed to {step}: {error}")]
    Replica {
        /// What it was asked.
        step: &'static str,
        /// Its answer.
        error: ReplicaError,
    },
    /// The replica said that less is durable than was completed.
    #[error("the replica synced up to record {synced} only, although it had completed {completed}")]
    SyncBehind {
        /// What it said.
        synced: Seq,
        /// What it had said before.
        completed: Seq,
    },
    /// A writer took its place in the log and never delivered.
    #[error("a writer gave up between taking its place in the log and sealing")]
    WriterGone,
    /// 2^32 blocks were sealed under one subkey.
    #[error("its period is used up after 2^32 blocks; open the volume anew, which begins another")]
    PeriodUsedUp,
}

/// Why an open volume did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The session is over; open the volume anew.
    #[error("the session has ended: {cause}")]
    SessionEnded {
        /// What ended it.
        cause: Arc<EndCause>,
    },
    /// No room. Nothing was sealed; the session goes on.
    #[error("no space: {wanted} bytes wanted, {free} free; discard data, delete volumes or add capacity")]
    NoSpace {
        /// Bytes that were wanted.
        wanted: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// Not a whole number of blocks.
    #[error("offset {offset} and length {length} must both be multiples of {BLOCK_BYTES}")]
    NotAligned {
        /// Where.
        offset: u64,
        /// How much.
        length: u64,
    },
    /// Outside of the volume.
    #[error("{length} bytes at offset {offset} reach beyond the end of the volume, which has {size} bytes")]
    OutOfRange {
        /// Where.
        offset: u64,
        /// How much.
        length: u64,
        /// The volume's size in bytes.
        size: u64,
    },
    /// A replica's answer for a block is not what was written there. No byte of it was returned.
    #[error("block {block} is not authentic on this replica{}: {fault}; repair it from another replica", place(at.as_ref()))]
    NotAuthentic {
        /// The block.
        block: BlockIndex,
        /// The replica's file and the offset in it, if it says.
        at: Option<(String, u64)>,
        /// What is wrong.
        fault: BlockFault,
    },
    /// A page of the state tree is not the one that the trusted root names.
    #[error("{0}; repair the replica from another")]
    Tree(#[from] TreeFault),
    /// The replica could not answer.
    #[error("the replica could not answer: {0}")]
    Replica(ReplicaError),
    /// The anchor could not be kept. The session goes on, and tries again at the next tick.
    #[error("the anchor at record {seq} could not be kept: {detail}")]
    Anchor {
        /// The record.
        seq: Seq,
        /// The keeper's words.
        detail: String,
    },
    /// Not a possible size.
    #[error("the volume cannot have that size: {0}")]
    Size(#[from] VolumeSizeError),
    /// A volume does not shrink.
    #[error("the volume has {size} bytes and cannot shrink to {wanted}; copy its content to a smaller one")]
    Shrink {
        /// The size now.
        size: u64,
        /// The size that was asked for.
        wanted: u64,
    },
    /// The formatted fact moves forward only.
    #[error("the volume is {now:?}; that is never taken back to {wanted:?}")]
    FormattedBackwards {
        /// The fact now.
        now: Formatted,
        /// What was asked for.
        wanted: Formatted,
    },
}

/// What is wrong with a block that a replica handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockFault {
    /// It is another version, also when it is a true one of that block.
    #[error("expected {}, got {}", words(*.expected), words(*.got))]
    Version {
        /// What the trusted root and the changes since say; `None` is unmapped.
        expected: Option<Version>,
        /// What the replica claimed.
        got: Option<Version>,
    },
    /// It has the right version, but its bytes, tag, length or flags are not those that were sealed.
    #[error("it does not open as epoch {} seq {} under period {period}", version.epoch.0, version.seq)]
    Seal {
        /// The version.
        version: Version,
        /// The period that the replica named.
        period: PeriodNumber,
    },
    /// It names a period that nobody knows.
    #[error("it names period {0}, of which there is no row")]
    NoPeriod(PeriodNumber),
    /// The row of its period does not fit the volume's key.
    #[error("the row of period {0} does not fit the key: its check value differs")]
    PeriodKey(PeriodNumber),
    /// The row of its period was made under another key.
    #[error("period {period} was sealed under key {sealed}, which this session does not have")]
    OtherKey {
        /// The period.
        period: PeriodNumber,
        /// The key that it needs.
        sealed: KeyId,
    },
    /// It opened, but what it holds does not decompress to one block.
    #[error("it opened, but does not decompress to one block of {BLOCK_BYTES} bytes")]
    Compression,
}

fn words(version: Option<Version>) -> String {
    match version {
        Some(version) => format!("epoch {} seq {}", version.epoch.0, version.seq),
        None => "unmapped".to_owned(),
    }
}

/// What is wrong with a page of the state tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeFault {
    /// A leaf has another state.
    #[error("leaf {number} of the state tree is {got}, but the trusted root says {expected}")]
    Leaf {
        /// Which leaf.
        number: u64,
        /// By the trusted root.
        expected: TreeHash,
        /// By the replica's page.
        got: TreeHash,
    },
    /// A node has another state or level.
    #[error("node {index} of level {level} of the state tree is {got}, but the trusted root says {expected}")]
    Node {
        /// Its level.
        level: u8,
        /// Its place in the level.
        index: u64,
        /// By the trusted root.
        expected: TreeHash,
        /// By the replica's page.
        got: TreeHash,
    },
    /// The next base has a leaf that does not follow from the last base and the changes since.
    #[error("the next base's leaf {number} does not hold what was written: block {block} differs")]
    Merged {
        /// Which leaf.
        number: u64,
        /// The first block that differs.
        block: BlockIndex,
    },
    /// The next base lacks a leaf that was written to.
    #[error("the next base leaves out leaf {number}, which was written to")]
    LeftOut {
        /// Which leaf.
        number: u64,
    },
}

fn place(at: Option<&(String, u64)>) -> String {
    at.map_or_else(String::new, |(file, offset)| format!(" (in {file} at byte {offset})"))
}

//! The replica in memory. A crash keeps what was synced and, of what was not, a prefix that the test chooses.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use holdfast_log::anchor::SignedRoot;
use holdfast_log::group::GroupBody;
use holdfast_log::hash::{ChainHash, TreeHash, crc32c};
use holdfast_log::leaf::{LEAF_BLOCKS, LeafPage};
use holdfast_log::node::{Child, NodePage, PageRef, ROOT_LEVEL};
use holdfast_log::period::PeriodRow;
use holdfast_log::place::{Entry, Place, Shape, TAG_BYTES, Version};
use holdfast_log::seam::{
    BlockSink, EpochRow, MergedLeaf, Pressure, Purpose, Replica, ReplicaError, ReplicaStats, Report, ScrubReport,
    SealedBlock, SealedGroup, SealedHeader, Ticket, group_room,
};
use holdfast_vocabulary::{BlockIndex, Epoch, Generation, Grant, PeriodNumber, SegmentNumber, Seq};

/// A sealed record as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub version: Version,
    pub period: PeriodNumber,
    pub shape: Shape,
    pub ciphertext: Vec<u8>,
    pub tag: [u8; TAG_BYTES],
}

#[derive(Clone, Default)]
pub struct Base {
    pub root: Option<SignedRoot>,
    pub through: Seq,
    pub chain: ChainHash,
    pub blocks: BTreeMap<u64, Stored>,
    pub leaves: BTreeMap<u64, Arc<LeafPage>>,
    pub nodes: HashMap<(u8, u64), Arc<NodePage>>,
}

#[derive(Clone)]
pub struct Group {
    pub sealed: SealedGroup,
    pub completed: bool,
}

type Overlay = BTreeMap<u64, (Version, Option<Stored>)>;

#[derive(Clone)]
struct Frozen {
    through: Seq,
    chain: ChainHash,
    overlay: Overlay,
    next: Base,
    todo: VecDeque<u64>,
}

/// What goes wrong next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub admit: bool,
    pub complete: bool,
    pub sync: bool,
    pub finish: bool,
}

#[derive(Clone, Default)]
pub struct State {
    pub header: Vec<u8>,
    pub promised: Option<Grant>,
    pub base: Base,
    pub log: Vec<Group>,
    pub durable: usize,
    pub epochs: Vec<EpochRow>,
    pub periods: BTreeMap<u32, PeriodRow>,
    pub committed: Seq,
    pub overlay: Overlay,
    frozen: Option<Frozen>,
    /// Bytes that may still be reserved.
    pub room: Option<u64>,
    pub reserved: u64,
    pub faults: Faults,
    /// Something failed: it refuses everything until it is switched off and on.
    pub faulted: bool,
    pub tail_due: u64,
    pub tail_max: u64,
    pub syncs: u64,
}

/// Every block that was ever handed over sealed, by salt and seq: the nonce's whole life.
pub type Sealed = Arc<Mutex<HashMap<([u8; 32], u64), [u8; TAG_BYTES]>>>;

pub struct Memory {
    pub state: Mutex<State>,
    pub sealed: Sealed,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    pub fn new() -> Self {
        let state = State { tail_due: u64::MAX, tail_max: u64::MAX, ..State::default() };
        Self { state: Mutex::new(state), sealed: Sealed::default() }
    }

    /// A copy of the disk, as an image or a clone of the machine would have it.
    pub fn copy(&self) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(self.state.lock().clone()), sealed: self.sealed.clone() })
    }

    /// Power off and on: of the groups that were not synced the first `keep` are found again.
    pub fn crash(&self, keep: usize) -> Arc<Self> {
        let mut state = self.state.lock().clone();
        state.frozen = None;
        state.faulted = false;
        state.faults = Faults::default();
        state.log.truncate(state.durable + keep);
        state.reserved = 0;
        state.overlay.clear();
        let head = state.log.last().map_or(state.base.through, |group| group.sealed.header.last_seq());
        state.epochs.retain(|row| {
            row.base < head
                || state.log.iter().any(|group| group.sealed.header.epoch == row.epoch)
                || state.base.root.is_some_and(|root| root.statement.epoch == row.epoch)
        });
        for group in &mut state.log {
            group.completed = true;
            index(&mut state.overlay, &group.sealed);
        }
        Arc::new(Self { state: Mutex::new(state), sealed: self.sealed.clone() })
    }

    pub fn unsynced(&self) -> usize {
        let state = self.state.lock();
        state.log.len() - state.durable
    }

    pub fn fault(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// What it would hand out for a block.
    pub fn stored(&self, block: u64) -> Option<Stored> {
        self.state.lock().find(block)
    }

    fn note_nonces(&self, group: &SealedGroup, state: &State) {
        let GroupBody::Data(entries) = &group.header.body else { return };
        let salt = state.periods[&group.header.period.0].salt;
        let mut sealed = self.sealed.lock();
        for (seq, record) in records(group, entries.len()) {
            if let Some(record) = record {
                let known = sealed.insert((salt, seq), record.tag);
                assert!(known.is_none_or(|tag| tag == record.tag), "salt and seq {seq} sealed two contents");
            }
        }
    }
}

fn records(group: &SealedGroup, count: usize) -> Vec<(u64, Option<Stored>)> {
    let GroupBody::Data(entries) = &group.header.body else { return Vec::new() };
    assert_eq!(entries.len(), count);
    let mut at = 0;
    let mut out = Vec::new();
    for (position, entry) in entries.iter().enumerate() {
        let seq = group.header.first_seq.0 + position as u64;
        if entry.shape.is_unmap() {
            out.push((seq, None));
            continue;
        }
        let length = usize::from(entry.shape.ciphertext_bytes());
        let record = &group.data[at..at + length + TAG_BYTES];
        assert_eq!(crc32c(record), entry.crc_or_count, "the checksum of record {seq}");
        let (ciphertext, tag) = record.split_at(length);
        out.push((
            seq,
            Some(Stored {
                version: Version { epoch: group.header.epoch, seq: Seq(seq) },
                period: group.header.period,
                shape: entry.shape,
                ciphertext: ciphertext.to_vec(),
                tag: tag.try_into().unwrap(),
            }),
        ));
        at += entry.shape.stored_bytes();
    }
    assert_eq!(at, group.header.data_bytes as usize);
    assert!(group.data.len().is_multiple_of(4096) && group.data[at..].iter().all(|byte| *byte == 0));
    out
}

fn index(overlay: &mut Overlay, group: &SealedGroup) {
    let GroupBody::Data(entries) = &group.header.body else { return };
    for (entry, (seq, record)) in entries.iter().zip(records(group, entries.len())) {
        let version = Version { epoch: group.header.epoch, seq: Seq(seq) };
        let count = if entry.shape.is_unmap() { u64::from(entry.crc_or_count) } else { 1 };
        for block in entry.block.0..entry.block.0 + count {
            let slot = overlay.entry(block).or_insert((version, None));
            if slot.0.seq <= version.seq {
                *slot = (version, record.clone());
            }
        }
    }
}

impl State {
    fn head(&self) -> Seq {
        self.log.last().map_or(self.base.through, |group| group.sealed.header.last_seq())
    }

    fn chain(&self) -> ChainHash {
        self.log.last().map_or(self.base.chain, |group| group.sealed.chain)
    }

    fn works(&self) -> Result<(), ReplicaError> {
        let cause = "it was told to fail".to_owned();
        if self.faulted { Err(ReplicaError::Faulted { cause }) } else { Ok(()) }
    }

    fn fail(&mut self, what: &str) -> ReplicaError {
        self.faulted = true;
        disk_fault(what)
    }

    pub fn find(&self, block: u64) -> Option<Stored> {
        if let Some((_, stored)) = self.overlay.get(&block) {
            return stored.clone();
        }
        if let Some((_, stored)) = self.frozen.as_ref().and_then(|frozen| frozen.overlay.get(&block)) {
            return stored.clone();
        }
        self.base.blocks.get(&block).cloned()
    }

    fn obeys(&self, grant: &Grant) -> Result<(), ReplicaError> {
        self.works()?;
        match self.promised {
            Some(promised) if promised == *grant => Ok(()),
            Some(promised) if promised.order() >= grant.order() => Err(ReplicaError::Fenced { promised }),
            _ => Err(ReplicaError::NotPromised),
        }
    }
}

fn disk_fault(what: &str) -> ReplicaError {
    ReplicaError::Disk { file: "memory".to_owned(), offset: None, detail: format!("{what} was told to fail") }
}

/// The page of a leaf.
pub fn leaf_page(blocks: &BTreeMap<u64, Stored>, number: u64) -> Arc<LeafPage> {
    let first = number * LEAF_BLOCKS as u64;
    let mut entries = vec![None; LEAF_BLOCKS];
    for (block, stored) in blocks.range(first..first + LEAF_BLOCKS as u64) {
        entries[(block - first) as usize] = Some(Entry {
            version: stored.version,
            place: Place { segment: SegmentNumber(1), offset: 16 },
            period: stored.period,
            shape: stored.shape,
        });
    }
    Arc::new(LeafPage::encode(&entries))
}

/// All nodes above some leaves.
pub fn nodes_above(leaves: &BTreeMap<u64, Arc<LeafPage>>) -> HashMap<(u8, u64), Arc<NodePage>> {
    let page = PageRef { file: 1, offset: 0, bytes: 4096 };
    let mut nodes = HashMap::new();
    let mut below: BTreeMap<u64, TreeHash> = leaves.iter().map(|(number, leaf)| (*number, leaf.state_hash())).collect();
    for level in 1..=ROOT_LEVEL {
        let mut above: BTreeMap<u64, NodePage> = BTreeMap::new();
        for (child, hash) in below {
            let node = above.entry(child >> 8).or_insert_with(|| NodePage::empty(level));
            node.set(child as u8, Some(Child { page, hash }));
        }
        below = above.iter().map(|(index, node)| (*index, node.hash())).collect();
        nodes.extend(above.into_iter().map(|(index, node)| ((level, index), Arc::new(node))));
    }
    nodes
}

impl Replica for Memory {
    fn report(&self) -> Report {
        let state = self.state.lock();
        Report {
            header: state.header.clone(),
            promised: state.promised,
            epochs: state.epochs.clone(),
            head: state.head(),
            chain: state.chain(),
            committed: state.committed,
            root: state.base.root,
            periods: state.periods.values().copied().collect(),
        }
    }

    fn promise(&self, grant: &Grant) -> Result<(), ReplicaError> {
        let mut state = self.state.lock();
        state.works()?;
        match state.promised {
            Some(promised) if promised.order() > grant.order() => Err(ReplicaError::Fenced { promised }),
            Some(promised) if promised.order() == grant.order() && promised.session != grant.session => {
                Err(ReplicaError::Fenced { promised })
            }
            _ => {
                state.promised = Some(*grant);
                Ok(())
            }
        }
    }

    fn put_header(&self, grant: &Grant, header: &[u8]) -> Result<(), ReplicaError> {
        let mut state = self.state.lock();
        state.obeys(grant)?;
        state.header = header.to_vec();
        Ok(())
    }

    fn tail(&self) -> Result<Vec<SealedHeader>, ReplicaError> {
        let state = self.state.lock();
        let of = |group: &Group| SealedHeader { header: group.sealed.header.clone(), mac: group.sealed.mac };
        Ok(state.log.iter().map(of).collect())
    }

    fn reserve(&self, grant: &Grant, bytes: u64, purpose: Purpose) -> Result<(), ReplicaError> {
        let mut state = self.state.lock();
        state.obeys(grant)?;
        if let Some(room) = state.room
            && purpose == Purpose::Data
        {
            let free = room.checked_sub(bytes).ok_or(ReplicaError::NoSpace { wanted: bytes, free: room })?;
            state.room = Some(free);
        }
        state.reserved += bytes;
        Ok(())
    }

    fn release(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.reserved = state.reserved.checked_sub(bytes).expect("credit that was never given is not given back");
        state.room = state.room.map(|room| room + bytes);
    }

    fn admit(&self, grant: &Grant, group: &Arc<SealedGroup>) -> Result<Ticket, ReplicaError> {
        let mut state = self.state.lock();
        state.obeys(grant)?;
        let header = &group.header;
        assert_eq!(group.header_bytes, header.encode());
        let (decoded, _) = holdfast_log::group::GroupHeader::decode(&[&group.header_bytes[..], &group.mac].concat())
            .expect("a session hands out headers that decode");
        assert_eq!(decoded, *header);
        assert_eq!(group.chain, header.chain());
        if header.previous != state.chain() || header.first_seq != state.head().next() {
            let (head, chain) = (state.head(), state.chain());
            return Err(ReplicaError::NotNext { head, chain, offered: header.first_seq });
        }
        let order = (header.generation, header.epoch);
        match &header.body {
            GroupBody::Start(start) => {
                let newest = state.epochs.last().map(|row| (row.generation, row.epoch));
                assert!(newest < Some(order), "an epoch begins once");
                state.periods.insert(start.period.number.0, start.period);
                state.epochs.push(EpochRow {
                    generation: order.0,
                    epoch: order.1,
                    base: start.base,
                    base_chain: start.base_chain,
                });
            }
            GroupBody::Data(entries) => {
                assert_eq!(state.epochs.last().map(|row| (row.generation, row.epoch)), Some(order));
                assert!(group.reserved_bytes >= group_room(entries.len(), header.data_bytes as usize));
            }
        }
        self.note_nonces(group, &state);
        if state.faults.admit {
            return Err(state.fail("admit"));
        }
        assert!(header.committed <= state.committed, "nothing is called committed before it is");
        state.reserved = state.reserved.checked_sub(group.reserved_bytes).expect("credit was taken before");
        state.log.push(Group { sealed: SealedGroup::clone(group), completed: false });
        Ok(Ticket(group.header.first_seq.0 << 1 | u64::from(header.records() == 0)))
    }

    fn complete(&self, ticket: Ticket, group: &Arc<SealedGroup>) -> Result<(), ReplicaError> {
        let mut state = self.state.lock();
        state.works()?;
        if state.faults.complete {
            return Err(state.fail("complete"));
        }
        let (first, start) = (Seq(ticket.0 >> 1), ticket.0 & 1 == 1);
        let place = state
            .log
            .iter()
            .rposition(|held| held.sealed.header.first_seq == first && (held.sealed.header.records() == 0) == start);
        let held = &mut state.log[place.expect("it was admitted")];
        assert_eq!(held.sealed.chain, group.chain);
        held.completed = true;
        let mut overlay = std::mem::take(&mut state.overlay);
        index(&mut overlay, group);
        state.overlay = overlay;
        Ok(())
    }

    fn sync(&self, grant: &Grant) -> Result<Seq, ReplicaError> {
        let mut state = self.state.lock();
        state.obeys(grant)?;
        if state.faults.sync {
            return Err(state.fail("sync"));
        }
        state.syncs += 1;
        state.durable = state.log.iter().take_while(|group| group.completed).count();
        let last = state.durable.checked_sub(1).map(|last| state.log[last].sealed.header.last_seq());
        Ok(last.unwrap_or(state.base.through))
    }

    fn commit(&self, grant: &Grant, through: Seq) -> Result<(), ReplicaError> {
        let mut state = self.state.lock();
        state.obeys(grant)?;
        state.committed = state.committed.max(through);
        Ok(())
    }

    fn read(&self, first: BlockIndex, count: u32, sink: &mut BlockSink<'_>) -> Result<(), ReplicaError> {
        let found: Vec<_> = {
            let state = self.state.lock();
            (first.0..first.0 + u64::from(count)).map(|block| (block, state.find(block))).collect()
        };
        for (block, stored) in &found {
            hand_out(*block, stored.as_ref(), sink);
        }
        Ok(())
    }

    fn place_of(&self, _: BlockIndex) -> Option<(String, u64)> {
        None
    }
    fn leaf(&self, number: u64) -> Result<Arc<LeafPage>, ReplicaError> {
        let state = self.state.lock();
        Ok(state.base.leaves.get(&number).cloned().unwrap_or_else(LeafPage::empty))
    }

    fn node(&self, level: u8, index: u64) -> Result<Arc<NodePage>, ReplicaError> {
        let state = self.state.lock();
        Ok(state.base.nodes.get(&(level, index)).cloned().unwrap_or_else(|| Arc::new(NodePage::empty(level))))
    }

    fn freeze(&self, grant: &Grant, through: Seq) -> Result<(), ReplicaError> {
        let mut state = self.state.lock();
        state.obeys(grant)?;
        assert!(state.frozen.is_none(), "one base at a time");
        assert_eq!(through, state.head());
        assert_eq!(through, state.committed);
        assert!(state.log.iter().all(|group| group.completed) && state.durable == state.log.len());
        let overlay = std::mem::take(&mut state.overlay);
        let mut next = state.base.clone();
        for (block, (_, stored)) in &overlay {
            match stored {
                Some(stored) => next.blocks.insert(*block, stored.clone()),
                None => next.blocks.remove(block),
            };
        }
        let mut todo: Vec<u64> = overlay.keys().map(|block| block / LEAF_BLOCKS as u64).collect();
        todo.dedup();
        let chain = state.chain();
        state.frozen = Some(Frozen { through, chain, overlay, next, todo: todo.into() });
        Ok(())
    }

    fn merge(&self, grant: &Grant, leaves_max: usize) -> Result<Vec<MergedLeaf>, ReplicaError> {
        let mut state = self.state.lock();
        state.obeys(grant)?;
        let state = &mut *state;
        let frozen = state.frozen.as_mut().expect("a base was begun");
        let mut out = Vec::new();
        while out.len() < leaves_max
            && let Some(number) = frozen.todo.pop_front()
        {
            let old = state.base.leaves.get(&number).cloned().unwrap_or_else(LeafPage::empty);
            let new = leaf_page(&frozen.next.blocks, number);
            if *old == *new {
                continue;
            }
            if new.is_empty() {
                frozen.next.leaves.remove(&number);
            } else {
                frozen.next.leaves.insert(number, new.clone());
            }
            out.push(MergedLeaf { number, old, new_hash: new.state_hash(), new });
        }
        Ok(out)
    }

    fn finish(&self, grant: &Grant, root: &SignedRoot) -> Result<(), ReplicaError> {
        let mut state = self.state.lock();
        state.obeys(grant)?;
        if state.faults.finish {
            return Err(ReplicaError::NoSpace { wanted: 1, free: 0 });
        }
        let mut frozen = state.frozen.take().expect("a base was begun");
        frozen.next.nodes = nodes_above(&frozen.next.leaves);
        let here = frozen.next.nodes.get(&(ROOT_LEVEL, 0)).map_or(TreeHash::EMPTY, |node| node.hash());
        let (through, expected) = (root.statement.through, root.statement.root);
        if here != expected || through != frozen.through || root.statement.chain != frozen.chain {
            state.frozen = Some(frozen);
            return Err(ReplicaError::Diverged { through, here, expected });
        }
        frozen.next.root = Some(*root);
        frozen.next.through = frozen.through;
        frozen.next.chain = frozen.chain;
        state.base = frozen.next;
        let covered = state.log.iter().position(|group| group.sealed.chain == frozen.chain).map_or(0, |last| last + 1);
        state.log.drain(..covered);
        state.durable = state.durable.saturating_sub(covered);
        Ok(())
    }

    fn abandon(&self) {
        let mut state = self.state.lock();
        if let Some(frozen) = state.frozen.take() {
            for (block, change) in frozen.overlay {
                state.overlay.entry(block).or_insert(change);
            }
        }
    }

    fn pressure(&self) -> Pressure {
        let state = self.state.lock();
        let tail_records: u64 = state.log.iter().map(|group| group.sealed.header.records()).sum();
        Pressure {
            tail_records,
            advance_due: tail_records >= state.tail_due,
            advance_needed: tail_records >= state.tail_max,
            collect_due: false,
        }
    }

    fn collect(&self) -> Result<bool, ReplicaError> {
        Ok(false)
    }

    fn scrub(&self) -> Result<ScrubReport, ReplicaError> {
        Ok(ScrubReport::default())
    }

    fn stats(&self) -> ReplicaStats {
        ReplicaStats { syncs: self.state.lock().syncs, ..ReplicaStats::default() }
    }
}

/// Gives one block to a sink.
pub fn hand_out(block: u64, stored: Option<&Stored>, sink: &mut BlockSink<'_>) {
    let sealed = stored.map(|stored| SealedBlock {
        version: stored.version,
        period: stored.period,
        shape: stored.shape,
        ciphertext: &stored.ciphertext,
        tag: &stored.tag,
    });
    sink(BlockIndex(block), sealed);
}

/// The order of an epoch, for tests that forge.
pub fn order(epoch: u64) -> (Generation, Epoch) {
    (Generation(1), Epoch(epoch))
}

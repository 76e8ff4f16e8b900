//! The store's face: what a session may ask of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_log::anchor::SignedRoot;
use holdfast_log::leaf::LeafPage;
use holdfast_log::node::NodePage;
use holdfast_log::seam::{
    BlockSink, MergedLeaf, Pressure, Purpose, Replica, ReplicaError, ReplicaStats, Report, ScrubReport, SealedGroup,
    SealedHeader, Ticket,
};
use holdfast_vocabulary::{BlockIndex, Grant, Seq};

use crate::create::replace_file;
use crate::store::Store;
use crate::{names, promise};

impl Replica for Store {
    fn report(&self) -> Report {
        let log = self.log.lock();
        let base = self.base.lock();
        Report {
            header: base.header.clone(),
            promised: base.promised,
            epochs: base.epochs.clone(),
            head: log.head,
            chain: log.chain,
            committed: self.committed(),
            root: base.root,
            periods: base.periods.values().map(|(row, _)| *row).collect(),
        }
    }

    fn promise(&self, grant: &Grant) -> Result<(), ReplicaError> {
        self.healthy()?;
        let mut base = self.base.lock();
        if let Some(promised) = base.promised
            && promised != *grant
            && promised.order() >= grant.order()
        {
            return Err(ReplicaError::Fenced { promised });
        }
        // The registry never gives an epoch twice, so one that the log knows already was claimed by somebody else.
        let known = base.epochs.last().map(|row| (row.generation, row.epoch));
        if base.promised != Some(*grant)
            && let Some(known) = known.filter(|known| *known >= grant.order())
        {
            let session = base.promised.map_or(grant.session, |promised| promised.session);
            return Err(ReplicaError::Fenced { promised: Grant { generation: known.0, epoch: known.1, session } });
        }
        replace_file(&*self.disk, names::PROMISE, &promise::encode(grant)).map_err(|error| self.faulted(error))?;
        base.promised = Some(*grant);
        Ok(())
    }

    fn put_header(&self, grant: &Grant, header: &[u8]) -> Result<(), ReplicaError> {
        let mut base = self.base.lock();
        self.obeys(base.promised.as_ref(), grant)?;
        replace_file(&*self.disk, names::HEADER, header).map_err(|error| self.faulted(error))?;
        base.header = header.to_vec();
        Ok(())
    }

    fn tail(&self) -> Result<Vec<SealedHeader>, ReplicaError> {
        self.healthy()?;
        let recovered = self.base.lock().recovered_tail.take();
        recovered.map_or_else(|| self.read_tail(), Ok)
    }

    fn reserve(&self, grant: &Grant, bytes: u64, purpose: Purpose) -> Result<(), ReplicaError> {
        let reserved = self.reserve_room(grant, bytes, purpose);
        if matches!(reserved, Err(ReplicaError::NoSpace { .. })) {
            // Whoever is refused asks next whether collection would help, and must not hear an old answer.
            self.weigh_collection();
        }
        reserved
    }

    fn release(&self, bytes: u64) {
        let mut log = self.log.lock();
        log.reserved = log.reserved.saturating_sub(bytes);
    }

    fn admit(&self, grant: &Grant, group: &Arc<SealedGroup>) -> Result<Ticket, ReplicaError> {
        self.admit_group(grant, group)
    }

    fn complete(&self, ticket: Ticket, group: &Arc<SealedGroup>) -> Result<(), ReplicaError> {
        self.complete_group(&ticket, group)
    }

    fn sync(&self, grant: &Grant) -> Result<Seq, ReplicaError> {
        self.sync_log(grant)
    }

    fn commit(&self, grant: &Grant, through: Seq) -> Result<(), ReplicaError> {
        self.note_committed(grant, through)
    }

    fn read(&self, first: BlockIndex, count: u32, sink: &mut BlockSink<'_>) -> Result<(), ReplicaError> {
        self.read_blocks(first, count, sink)
    }

    fn place_of(&self, block: BlockIndex) -> Option<(String, u64)> {
        let place = self.index.lookup(block).ok()??.place;
        Some((names::segment(place.segment), place.offset.into()))
    }

    fn leaf(&self, number: u64) -> Result<Arc<LeafPage>, ReplicaError> {
        self.healthy()?;
        Ok(self.index.base_leaf(number)?)
    }

    fn node(&self, level: u8, index: u64) -> Result<Arc<NodePage>, ReplicaError> {
        self.healthy()?;
        Ok(self.index.base_node(level, index)?)
    }

    fn freeze(&self, grant: &Grant, through: Seq) -> Result<(), ReplicaError> {
        self.begin_advance(grant, through)
    }

    fn merge(&self, grant: &Grant, leaves_max: usize) -> Result<Vec<MergedLeaf>, ReplicaError> {
        self.step_advance(grant, leaves_max)
    }

    fn finish(&self, grant: &Grant, root: &SignedRoot) -> Result<(), ReplicaError> {
        self.finish_advance(grant, root)?;
        self.weigh_collection();
        Ok(())
    }

    fn abandon(&self) {
        self.abandon_advance();
    }

    fn pressure(&self) -> Pressure {
        self.pressure_now()
    }

    fn collect(&self) -> Result<bool, ReplicaError> {
        let collected = self.collect_one();
        self.weigh_collection();
        collected
    }

    fn scrub(&self) -> Result<ScrubReport, ReplicaError> {
        self.scrub_all()
    }

    fn stats(&self) -> ReplicaStats {
        self.stats_now()
    }
}

impl Store {
    /// Looks at all segments and notes whether collection is due. Done when something changed, not at each question:
    /// a large volume has thousands of segments, and the question is asked with every write.
    pub(crate) fn weigh_collection(&self) {
        let (due, starved) = self.collection_wanted();
        self.collect_due.store(due, Ordering::Relaxed);
        self.starved.store(starved, Ordering::Relaxed);
    }
}

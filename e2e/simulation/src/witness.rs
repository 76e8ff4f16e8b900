//! A replica that passes everything on, and shows every group to the ledger of nonces before the store sees it.

use std::sync::Arc;

use holdfast_log::anchor::SignedRoot;
use holdfast_log::leaf::LeafPage;
use holdfast_log::node::NodePage;
use holdfast_log::seam::{
    BlockSink, MergedLeaf, Pressure, Purpose, Replica, ReplicaError, ReplicaStats, Report, ScrubReport, SealedGroup,
    SealedHeader, Ticket,
};
use holdfast_vocabulary::{BlockIndex, Grant, Seq};
use parking_lot::Mutex;

use crate::checker::nonce::Ledger;

/// See the page's head.
pub struct Witness {
    inner: Arc<dyn Replica>,
    ledger: Arc<Mutex<Ledger>>,
}

impl Witness {
    /// Watches what goes to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Replica>, ledger: Arc<Mutex<Ledger>>) -> Self {
        Self { inner, ledger }
    }
}

impl Replica for Witness {
    fn report(&self) -> Report {
        self.inner.report()
    }
    fn promise(&self, grant: &Grant) -> Result<(), ReplicaError> {
        self.inner.promise(grant)
    }
    fn put_header(&self, grant: &Grant, header: &[u8]) -> Result<(), ReplicaError> {
        self.inner.put_header(grant, header)
    }
    fn tail(&self) -> Result<Vec<SealedHeader>, ReplicaError> {
        self.inner.tail()
    }
    fn reserve(&self, grant: &Grant, bytes: u64, purpose: Purpose) -> Result<(), ReplicaError> {
        self.inner.reserve(grant, bytes, purpose)
    }
    fn release(&self, bytes: u64) {
        self.inner.release(bytes);
    }
    fn admit(&self, grant: &Grant, group: &Arc<SealedGroup>) -> Result<Ticket, ReplicaError> {
        self.ledger.lock().see(group);
        self.inner.admit(grant, group)
    }
    fn complete(&self, ticket: Ticket, group: &Arc<SealedGroup>) -> Result<(), ReplicaError> {
        self.inner.complete(ticket, group)
    }
    fn sync(&self, grant: &Grant) -> Result<Seq, ReplicaError> {
        self.inner.sync(grant)
    }
    fn commit(&self, grant: &Grant, through: Seq) -> Result<(), ReplicaError> {
        self.inner.commit(grant, through)
    }
    fn read(&self, first: BlockIndex, count: u32, sink: &mut BlockSink<'_>) -> Result<(), ReplicaError> {
        self.inner.read(first, count, sink)
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
        self.inner.freeze(grant, through)
    }
    fn merge(&self, grant: &Grant, leaves_max: usize) -> Result<Vec<MergedLeaf>, ReplicaError> {
        self.inner.merge(grant, leaves_max)
    }
    fn finish(&self, grant: &Grant, root: &SignedRoot) -> Result<(), ReplicaError> {
        self.inner.finish(grant, root)
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

//! A replica that lies: an honest one inside, and a hook on each of its answers.

use parking_lot::Mutex;
use std::sync::Arc;

use holdfast_log::anchor::SignedRoot;
use holdfast_log::leaf::LeafPage;
use holdfast_log::node::NodePage;
use holdfast_log::seam::{
    BlockSink, MergedLeaf, Pressure, Purpose, Replica, ReplicaError, ReplicaStats, Report, ScrubReport, SealedGroup,
    SealedHeader, Ticket,
};
use holdfast_vocabulary::{BlockIndex, Grant, Seq};

use super::memory::{Memory, Stored, hand_out};

type Hook<T> = Mutex<Option<Box<dyn FnMut(T) -> T + Send>>>;

#[derive(Default)]
pub struct Evil {
    pub inner: Memory,
    pub read: Hook<(u64, Option<Stored>)>,
    pub report: Hook<Report>,
    pub tail: Hook<Vec<SealedHeader>>,
    pub leaf: Hook<(u64, Arc<LeafPage>)>,
    pub node: Hook<(u8, u64, Arc<NodePage>)>,
    pub merge: Hook<Vec<MergedLeaf>>,
    /// Runs when it has switched to a new base, before it says so.
    pub finished: Hook<()>,
}

fn bend<T>(hook: &Hook<T>, truth: T) -> T {
    match &mut *hook.lock() {
        Some(hook) => hook(truth),
        None => truth,
    }
}

impl Evil {
    pub fn new(inner: Memory) -> Arc<Self> {
        Arc::new(Self { inner, ..Self::default() })
    }

    /// Lies about what is read, until told otherwise.
    pub fn lie_read(&self, hook: impl FnMut((u64, Option<Stored>)) -> (u64, Option<Stored>) + Send + 'static) {
        *self.read.lock() = Some(Box::new(hook));
    }

    pub fn honest(&self) {
        *self.read.lock() = None;
        *self.report.lock() = None;
        *self.tail.lock() = None;
        *self.leaf.lock() = None;
        *self.node.lock() = None;
        *self.merge.lock() = None;
        *self.finished.lock() = None;
    }
}

impl Replica for Evil {
    fn report(&self) -> Report {
        bend(&self.report, self.inner.report())
    }
    fn promise(&self, grant: &Grant) -> Result<(), ReplicaError> {
        self.inner.promise(grant)
    }
    fn put_header(&self, grant: &Grant, header: &[u8]) -> Result<(), ReplicaError> {
        self.inner.put_header(grant, header)
    }
    fn tail(&self) -> Result<Vec<SealedHeader>, ReplicaError> {
        Ok(bend(&self.tail, self.inner.tail()?))
    }
    fn reserve(&self, grant: &Grant, bytes: u64, purpose: Purpose) -> Result<(), ReplicaError> {
        self.inner.reserve(grant, bytes, purpose)
    }
    fn release(&self, bytes: u64) {
        self.inner.release(bytes);
    }
    fn admit(&self, grant: &Grant, group: &Arc<SealedGroup>) -> Result<Ticket, ReplicaError> {
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
        for block in first.0..first.0 + u64::from(count) {
            let (block, stored) = bend(&self.read, (block, self.inner.stored(block)));
            // A block that the hook gives the number `u64::MAX` is not handed out at all.
            if block != u64::MAX {
                hand_out(block, stored.as_ref(), sink);
            }
        }
        Ok(())
    }
    fn place_of(&self, block: BlockIndex) -> Option<(String, u64)> {
        self.inner.place_of(block)
    }
    fn leaf(&self, number: u64) -> Result<Arc<LeafPage>, ReplicaError> {
        Ok(bend(&self.leaf, (number, self.inner.leaf(number)?)).1)
    }
    fn node(&self, level: u8, index: u64) -> Result<Arc<NodePage>, ReplicaError> {
        Ok(bend(&self.node, (level, index, self.inner.node(level, index)?)).2)
    }
    fn freeze(&self, grant: &Grant, through: Seq) -> Result<(), ReplicaError> {
        self.inner.freeze(grant, through)
    }
    fn merge(&self, grant: &Grant, leaves_max: usize) -> Result<Vec<MergedLeaf>, ReplicaError> {
        let merged = self.inner.merge(grant, leaves_max)?;
        if merged.is_empty() { Ok(merged) } else { Ok(bend(&self.merge, merged)) }
    }
    fn finish(&self, grant: &Grant, root: &SignedRoot) -> Result<(), ReplicaError> {
        self.inner.finish(grant, root)?;
        bend(&self.finished, ());
        Ok(())
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

//! Groups between the first sealed byte and the replica's word that reads see them.
//!
//! ```text
//! open ──(full, flush, age)──> closed ──(last part ready)──> assembled ──(admit, complete)──> done
//! ```
//!
//! A group is made of parts, one for each request. Writers seal their parts apart from each other, each into its own range
//! of the group's buffer, and put them in as they are done; whoever brings the last part of a closed group assembles it.
//! Until it is done its blocks are read from here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use holdfast_log::group::GroupEntry;
use holdfast_log::hash::{self, ChainHash, TagsDigest};
use holdfast_log::place::{Shape, TAG_BYTES};
use holdfast_ports::{AlignedBuffer, Carved, Carving};
use holdfast_vocabulary::{BLOCK_BYTES, Seq};
use parking_lot::{Condvar, Mutex, RwLock};

use crate::limits::SPARE_BUFFERS_MAX;

/// The entries of a part; a lone one needs no allocation.
pub(crate) enum PartEntries {
    One(GroupEntry),
    Many(Vec<GroupEntry>),
}

impl PartEntries {
    fn as_slice(&self) -> &[GroupEntry] {
        match self {
            Self::One(entry) => std::slice::from_ref(entry),
            Self::Many(entries) => entries,
        }
    }
}

/// What one request adds to a group.
pub(crate) struct Part {
    pub entries: PartEntries,
    /// Its range of the group's buffer; the records lie at the front of it. Unmaps have none.
    pub bytes: Option<Carved>,
    /// How much of the range the records take: less than all of it when they are compressed.
    pub used: usize,
}

impl Part {
    fn as_slice(&self) -> &[u8] {
        self.bytes.as_deref().unwrap_or_default()
    }
}

/// A sealed block in a pending group.
pub(crate) struct PendingRecord<'a> {
    pub entry: GroupEntry,
    pub ciphertext: &'a [u8],
    pub tag: &'a [u8; TAG_BYTES],
}

enum Body {
    /// Parts by the position of their first record.
    Gathering(Vec<Option<Part>>),
    /// All in one buffer; `offsets` by record.
    Assembled { entries: Vec<GroupEntry>, offsets: Vec<u32>, data: Arc<AlignedBuffer> },
    /// The replica has it.
    Done,
}

/// Everything of a group that its header needs and that does not depend on the groups before it.
pub(crate) struct Assembled {
    pub entries: Vec<GroupEntry>,
    pub data: Arc<AlignedBuffer>,
    pub data_bytes: u32,
    pub tags: TagsDigest,
}

const OPEN: u32 = u32::MAX;

pub(crate) struct Group {
    pub first_seq: u64,
    pub opened_at: Duration,
    /// Credit that its parts brought.
    pub credit: AtomicU64,
    /// Counted against the bound on pending bytes.
    pub pending_bytes: AtomicU64,
    /// Records whose parts are here and whose blocks are in the map of changes.
    ready: AtomicU32,
    /// How many records it has; [`OPEN`] until that is known.
    total: AtomicU32,
    claimed: AtomicBool,
    buffer: Mutex<Option<Carving>>,
    assembled: Mutex<Option<Assembled>>,
    is_assembled: AtomicBool,
    /// The chain up to its end. Set before the body says [`Body::Done`], so whoever sees that finds it.
    chain: OnceLock<ChainHash>,
    body: RwLock<Body>,
}

impl Group {
    pub(crate) fn new(first_seq: u64, opened_at: Duration) -> Self {
        Self {
            first_seq,
            opened_at,
            credit: AtomicU64::new(0),
            pending_bytes: AtomicU64::new(0),
            ready: AtomicU32::new(0),
            total: AtomicU32::new(OPEN),
            claimed: AtomicBool::new(false),
            buffer: Mutex::new(None),
            assembled: Mutex::new(None),
            is_assembled: AtomicBool::new(false),
            chain: OnceLock::new(),
            body: RwLock::new(Body::Gathering(Vec::new())),
        }
    }

    /// Puts a part in: from now on it can be read here. It counts only once [`Self::ready`] was called.
    pub(crate) fn put(&self, slot: u32, part: Part) {
        let mut body = self.body.write();
        if let Body::Gathering(parts) = &mut *body {
            let slot = slot as usize;
            if parts.len() <= slot {
                parts.resize_with(slot + 1, || None);
            }
            parts[slot] = Some(part);
        }
    }

    /// Counts records as ready. True for exactly one caller: who must assemble the group.
    pub(crate) fn ready(&self, records: u32) -> bool {
        self.ready.fetch_add(records, Ordering::SeqCst);
        self.claim()
    }

    /// No more parts will come. True for exactly one caller, as above.
    pub(crate) fn close(&self, total: u32) -> bool {
        self.total.store(total, Ordering::SeqCst);
        self.claim()
    }

    fn claim(&self) -> bool {
        self.total.load(Ordering::SeqCst) == self.ready.load(Ordering::SeqCst)
            && !self.claimed.swap(true, Ordering::SeqCst)
    }

    /// Takes over the buffer that the parts' ranges are of. Before the group is closed.
    pub(crate) fn keep_buffer(&self, buffer: Carving) {
        *self.buffer.lock() = Some(buffer);
    }

    /// The last record, once it is closed.
    pub(crate) fn last_seq(&self) -> Seq {
        Seq(self.first_seq + u64::from(self.total.load(Ordering::SeqCst)) - 1)
    }

    pub(crate) fn is_assembled(&self) -> bool {
        self.is_assembled.load(Ordering::SeqCst)
    }

    pub(crate) fn take_assembled(&self) -> Option<Assembled> {
        self.assembled.lock().take()
    }

    /// Makes one buffer of all parts. They lie in it already, with gaps where records were compressed.
    pub(crate) fn assemble(&self) {
        let mut body = self.body.write();
        let Body::Gathering(parts) = &mut *body else { return };
        let parts = std::mem::take(parts);
        let mut entries = Vec::with_capacity(self.ready.load(Ordering::SeqCst) as usize);
        let mut places = Vec::with_capacity(parts.len());
        for part in parts.into_iter().flatten() {
            entries.extend_from_slice(part.entries.as_slice());
            places.extend(part.bytes.map(|range| (range.start(), part.used)));
        }
        // The parts' ranges are gone with them, and readers are kept out: nobody else holds any of the buffer.
        let buffer = self.buffer.lock().take().expect("a group is assembled once, after it was closed");
        let mut data = buffer.into_buffer().expect("all parts of a group are in before it is assembled");
        let data_bytes = pack(&mut data, &places);
        let offsets = offsets_of(&entries);
        let sealed = entries.iter().zip(&offsets).filter(|(entry, _)| !entry.shape.is_unmap());
        let tags = hash::tags(sealed.map(|(entry, offset)| {
            let tag = *offset as usize + usize::from(entry.shape.ciphertext_bytes());
            &data[tag..tag + TAG_BYTES]
        }));
        data.resize(data_bytes.next_multiple_of(BLOCK_BYTES), 0);
        let data = Arc::new(data);
        let assembled =
            Assembled { entries: entries.clone(), data: Arc::clone(&data), data_bytes: data_bytes as u32, tags };
        *body = Body::Assembled { entries, offsets, data };
        drop(body);
        *self.assembled.lock() = Some(assembled);
        self.is_assembled.store(true, Ordering::SeqCst);
    }

    /// Gives `found` the record at a position, or returns `None` if it is not here any more: then the replica has it.
    pub(crate) fn record<T>(&self, position: usize, found: impl FnOnce(PendingRecord<'_>) -> T) -> Option<T> {
        let body = self.body.read();
        let (entry, bytes) = match &*body {
            Body::Gathering(parts) => {
                let last = position.min(parts.len().checked_sub(1)?);
                let (slot, part) = (0..=last).rev().find_map(|slot| parts[slot].as_ref().map(|part| (slot, part)))?;
                let entries = part.entries.as_slice();
                let inside = position - slot;
                let offset: usize = entries.get(..inside)?.iter().map(|entry| entry.shape.stored_bytes()).sum();
                (*entries.get(inside)?, part.as_slice().get(offset..)?)
            }
            Body::Assembled { entries, offsets, data } => {
                (*entries.get(position)?, data.get(*offsets.get(position)? as usize..)?)
            }
            Body::Done => return None,
        };
        let ciphertext = usize::from(entry.shape.ciphertext_bytes());
        let (ciphertext, rest) = bytes.split_at_checked(ciphertext)?;
        Some(found(PendingRecord { entry, ciphertext, tag: rest.first_chunk()? }))
    }

    /// The replica has it: from now on it is read there. The buffer may serve the next group.
    fn finish(&self, chain: ChainHash, spare: &SpareBuffers) {
        let _ = self.chain.set(chain);
        let old = std::mem::replace(&mut *self.body.write(), Body::Done);
        if let Body::Assembled { data, .. } = old
            && let Ok(data) = Arc::try_unwrap(data)
        {
            spare.give(data);
        }
    }

    /// Whether the replica has it.
    pub(crate) fn is_done(&self) -> bool {
        matches!(&*self.body.read(), Body::Done)
    }

    /// The end of the log up to it, once the replica has it.
    fn mark(&self) -> Option<Mark> {
        let chain = self.is_done().then(|| self.chain.get()).flatten()?;
        Some(Mark { seq: self.last_seq(), chain: *chain })
    }
}

/// Moves what the parts used together, and gives its length.
fn pack(data: &mut AlignedBuffer, places: &[(usize, usize)]) -> usize {
    let mut end = 0;
    for (start, used) in places {
        if *start != end {
            data.copy_within(*start..start + used, end);
        }
        end += used;
    }
    data.truncate(end);
    end
}

/// Where each record lies in packed data.
fn offsets_of(entries: &[GroupEntry]) -> Vec<u32> {
    let next = |at: &mut u32, entry: &GroupEntry| {
        let offset = *at;
        *at += entry.shape.stored_bytes() as u32;
        Some(offset)
    };
    entries.iter().scan(0, next).collect()
}

/// Buffers that groups leave behind. Memory that the allocator gave back to the kernel and fetches again for every group
/// costs a page fault for each block.
#[derive(Default)]
pub(crate) struct SpareBuffers(Mutex<Vec<AlignedBuffer>>);

impl SpareBuffers {
    /// A buffer for a group; the one that was used last, so that as few as possible are ever touched.
    pub(crate) fn take(&self) -> AlignedBuffer {
        self.0.lock().pop().unwrap_or_default()
    }

    fn give(&self, buffer: AlignedBuffer) {
        let mut spare = self.0.lock();
        if spare.len() < SPARE_BUFFERS_MAX {
            spare.push(buffer);
        }
    }

    /// Gives all of it back: nobody writes.
    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
}

/// How far the log is on the replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub seq: Seq,
    pub chain: ChainHash,
}

/// All groups that are not done, oldest first.
pub(crate) struct Pending {
    queue: RwLock<VecDeque<Arc<Group>>>,
    bytes: AtomicU64,
    /// The longest prefix of the log that is done.
    completed: Mutex<Mark>,
    /// Its seq, for those who only look.
    completed_seq: AtomicU64,
    progress: Condvar,
    pub spare: SpareBuffers,
}

impl Pending {
    pub(crate) fn new(completed: Mark) -> Self {
        Self {
            queue: RwLock::default(),
            bytes: AtomicU64::new(0),
            completed: Mutex::new(completed),
            completed_seq: AtomicU64::new(completed.seq.0),
            progress: Condvar::new(),
            spare: SpareBuffers::default(),
        }
    }

    /// Adds the newest group.
    pub(crate) fn push(&self, group: Arc<Group>) {
        self.queue.write().push_back(group);
    }

    /// Counts bytes that a group will hold.
    pub(crate) fn add_bytes(&self, group: &Group, bytes: u64) {
        group.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How many groups are not done, the open one included.
    pub(crate) fn groups(&self) -> usize {
        self.queue.read().len()
    }

    /// The group that has a record, and the record's position in it.
    pub(crate) fn find(&self, seq: Seq) -> Option<(Arc<Group>, usize)> {
        let queue = self.queue.read();
        let after = queue.partition_point(|group| group.first_seq <= seq.0);
        let group = queue.get(after.checked_sub(1)?)?;
        Some((Arc::clone(group), (seq.0 - group.first_seq) as usize))
    }

    /// The group that starts with a record.
    pub(crate) fn starting_with(&self, seq: Seq) -> Option<Arc<Group>> {
        self.find(seq).filter(|(_, position)| *position == 0).map(|(group, _)| group)
    }

    pub(crate) fn completed(&self) -> Mark {
        *self.completed.lock()
    }

    pub(crate) fn completed_seq(&self) -> Seq {
        Seq(self.completed_seq.load(Ordering::Acquire))
    }

    /// Notes that a group is done, and tells those who wait.
    pub(crate) fn complete(&self, group: &Group, chain: ChainHash) {
        group.finish(chain, &self.spare);
        let mut completed = self.completed.lock();
        let mut queue = self.queue.write();
        while let Some(mark) = queue.front().and_then(|front| front.mark()) {
            *completed = mark;
            queue.pop_front();
        }
        drop(queue);
        self.completed_seq.store(completed.seq.0, Ordering::Release);
        self.bytes.fetch_sub(group.pending_bytes.load(Ordering::Relaxed), Ordering::Relaxed);
        self.progress.notify_all();
    }

    /// Waits until `enough` holds of what is completed, or until anything was completed if it does not yet.
    pub(crate) fn wait_unless(&self, enough: impl Fn(Mark) -> bool) {
        let mut completed = self.completed.lock();
        if !enough(*completed) {
            self.progress.wait(&mut completed);
        }
    }

    /// Wakes all who wait, because what they wait for will never come.
    pub(crate) fn wake(&self) {
        let _completed = self.completed.lock();
        self.progress.notify_all();
    }
}

/// The shape of a record that a whole sealed block takes.
pub(crate) const WHOLE_STORED: usize = Shape::WHOLE.stored_bytes();

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::thread;

    fn mark(seq: u64) -> Mark {
        let mut chain = ChainHash::default();
        chain.0[..8].copy_from_slice(&seq.to_le_bytes());
        Mark { seq: Seq(seq), chain }
    }

    /// Groups of one record each, with seqs from 1 on.
    fn pending_with(groups: u64) -> (Pending, Vec<Arc<Group>>) {
        let pending = Pending::new(mark(0));
        let groups: Vec<_> = (1..=groups).map(|seq| Arc::new(Group::new(seq, Duration::ZERO))).collect();
        for group in &groups {
            group.close(1);
            pending.push(Arc::clone(group));
        }
        (pending, groups)
    }

    #[test]
    fn the_mark_moves_over_groups_that_were_done_early() {
        let (pending, groups) = pending_with(3);
        for (done, completed) in [(2, 0), (0, 1), (1, 3)] {
            pending.complete(&groups[done], mark(done as u64 + 1).chain);
            assert_eq!(pending.completed(), mark(completed));
        }
        assert_eq!(pending.groups(), 0);
    }

    #[test]
    fn no_mark_is_lost_when_neighbours_complete_at_once() {
        const THREADS: usize = 4;
        for _ in 0..3000 {
            let (pending, groups) = pending_with(THREADS as u64);
            let start = Barrier::new(THREADS);
            thread::scope(|scope| {
                for (place, group) in groups.iter().enumerate() {
                    let (pending, start) = (&pending, &start);
                    scope.spawn(move || {
                        start.wait();
                        pending.complete(group, mark(place as u64 + 1).chain);
                    });
                }
            });
            assert_eq!(pending.completed(), mark(THREADS as u64));
            assert_eq!(pending.completed_seq(), Seq(THREADS as u64));
        }
    }
}

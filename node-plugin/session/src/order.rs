//! The order of writes: the one short lock under which a request gets its seqs and its place in a group.
//!
//! Nothing is sealed, copied or hashed under it; a place comes with the memory to seal into. Who has a place must fill it: the log has no holes, so a writer that
//! gives up in between ends the session.

use std::sync::Arc;

use holdfast_log::seam::Purpose;
use holdfast_ports::{Carved, Carving};
use holdfast_seal::{PeriodSealer, SeqRange};
use holdfast_vocabulary::{BLOCK_BYTES, Seq};

use crate::error::{EndCause, SessionError};
use crate::limits::CREDIT_GROUP;
use crate::pending::{Group, Part, WHOLE_STORED};

/// What is behind the lock.
pub(crate) struct Order {
    pub sealer: PeriodSealer,
    open: Option<OpenGroup>,
    /// New seqs have to wait, because a new base begins.
    pub paused: bool,
    /// Bytes that users wrote.
    pub written_bytes: u64,
    /// Groups that were opened.
    pub groups: u64,
}

struct OpenGroup {
    group: Arc<Group>,
    taken: u32,
    buffer: Carving,
}

impl Order {
    pub(crate) const fn new(sealer: PeriodSealer) -> Self {
        Self { sealer, open: None, paused: false, written_bytes: 0, groups: 0 }
    }

    /// The last seq that was given to anybody.
    pub(crate) const fn last_seq(&self) -> Seq {
        Seq(self.sealer.next_seq().0 - 1)
    }

    /// Closes the open group. Gives it if the caller is the one to assemble it.
    fn close(&mut self) -> Option<Arc<Group>> {
        let open = self.open.take()?;
        open.group.keep_buffer(open.buffer);
        open.group.close(open.taken).then_some(open.group)
    }
}

/// What a request wants a place for.
#[derive(Clone, Copy)]
pub(crate) enum Want {
    /// So many sealed blocks.
    Blocks(u32),
    /// One unmap record.
    Unmap,
}

/// A place in the log. Dropping it unfilled ends the session.
pub(crate) struct Place<'a> {
    session: &'a crate::Session,
    group: Arc<Group>,
    slot: u32,
    records: u32,
    pub first_seq: Seq,
    /// The seqs to seal with; `None` for an unmap.
    pub range: Option<SeqRange>,
    /// Where in the group's buffer to seal to: room for so many whole records.
    pub bytes: Option<Carved>,
    /// A group that was closed to make way and is the caller's to assemble.
    displaced: Option<Arc<Group>>,
    filled: bool,
}

impl Place<'_> {
    /// Fills the place: the part can be read, `note` puts its blocks into the changes, and only then may the group
    /// go to the replica. So nobody ever sees a version there that is not known here.
    pub(crate) fn fill(mut self, part: Part, note: impl FnOnce()) -> Result<(), SessionError> {
        self.group.put(self.slot, part);
        note();
        self.filled = true;
        let mine = self.group.ready(self.records).then(|| Arc::clone(&self.group));
        let mut any = false;
        for group in self.displaced.take().into_iter().chain(mine) {
            group.assemble();
            any = true;
        }
        if any { self.session.send_assembled() } else { Ok(()) }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.filled {
            self.session.end_with(EndCause::WriterGone);
        }
    }
}

impl crate::Session {
    /// Gives a request its seqs and its place. `credit` is what it took for itself and for a group of its own.
    pub(crate) fn take_place(&self, want: Want, credit: u64, purpose: Purpose) -> Result<Place<'_>, SessionError> {
        let (records, bytes) = match want {
            Want::Blocks(count) => (count, u64::from(count) * WHOLE_STORED as u64),
            Want::Unmap => (1, 0),
        };
        let most = self.limits.group_records as u32;
        let mut order = self.order.lock();
        loop {
            self.end.check()?;
            if !order.paused {
                break;
            }
            self.order_free.wait(&mut order);
        }
        let full = order.open.as_ref().is_some_and(|open| open.taken + records > most);
        let displaced = if full { order.close() } else { None };
        let first_seq = order.sealer.next_seq();
        let range = match want {
            Want::Blocks(count) => {
                let range = order.sealer.reserve(count.into());
                if range.is_none() {
                    drop(order);
                    return Err(self.end_with(EndCause::PeriodUsedUp));
                }
                range
            }
            Want::Unmap => {
                order.sealer.skip(1);
                None
            }
        };
        let joined = order.open.is_some();
        let open = self.open_group(&mut order, first_seq);
        let (group, slot) = (Arc::clone(&open.group), open.taken);
        open.taken += records;
        let room = open.buffer.carve(bytes as usize).expect("a group's buffer has room for all of its records");
        if let Want::Blocks(count) = want {
            order.written_bytes += u64::from(count) * BLOCK_BYTES as u64;
        }
        self.pending.add_bytes(&group, bytes);
        if slot + records >= most {
            // The caller still has its part to bring, so the group cannot be whole yet.
            order.close();
        }
        drop(order);
        // Room for a group was taken in case it needed one. What came from the reserve goes with the group.
        let spare = if joined && purpose == Purpose::Data { CREDIT_GROUP } else { 0 };
        self.credit.give(spare);
        group.credit.fetch_add(credit - spare, std::sync::atomic::Ordering::Relaxed);
        let bytes = range.is_some().then_some(room);
        Ok(Place { session: self, group, slot, records, first_seq, range, bytes, displaced, filled: false })
    }

    /// The open group; a new one if there is none.
    fn open_group<'a>(&self, order: &'a mut Order, first_seq: Seq) -> &'a mut OpenGroup {
        let Order { open, groups, .. } = order;
        open.get_or_insert_with(|| {
            let group = Arc::new(Group::new(first_seq.0, self.clock.now()));
            self.pending.push(Arc::clone(&group));
            *groups += 1;
            let buffer = Carving::new(self.pending.spare.take(), self.limits.group_records * WHOLE_STORED);
            OpenGroup { group, taken: 0, buffer }
        })
    }

    /// Closes the open group and assembles it if nobody is still sealing for it. Gives the last seq that was taken.
    pub(crate) fn close_open_group(&self) -> Seq {
        let mut order = self.order.lock();
        let group = order.close();
        let last = order.last_seq();
        drop(order);
        if let Some(group) = group {
            group.assemble();
        }
        last
    }

    /// Whether there is an open group that is older than its bound.
    pub(crate) fn open_group_is_old(&self) -> bool {
        let order = self.order.lock();
        let now = self.clock.now();
        order.open.as_ref().is_some_and(|open| now.saturating_sub(open.group.opened_at) >= self.limits.open_group_age)
    }
}

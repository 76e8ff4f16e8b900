//! Groups on their way to the replica: chained and admitted strictly in order, completed side by side.
//!
//! There is no thread for it. Whoever assembled a group sends it, and what became sendable with it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_log::group::{GroupBody, GroupHeader};
use holdfast_log::hash::{self, ChainHash};
use holdfast_log::seam::{SealedGroup, Ticket};
use holdfast_vocabulary::{PeriodNumber, Seq};
use parking_lot::Mutex;

use crate::error::SessionError;
use crate::pending::{Group, Mark};

/// The end of what was admitted.
pub(crate) struct Sender {
    next: Mutex<Mark>,
    /// The period of every group of this session.
    period: PeriodNumber,
}

/// A group that has its place in the replica's log and is not written yet.
struct Admitted {
    group: Arc<Group>,
    sealed: Arc<SealedGroup>,
    ticket: Ticket,
}

impl Sender {
    /// `end.seq` is the last record that was admitted.
    pub(crate) const fn new(end: Mark, period: PeriodNumber) -> Self {
        Self { next: Mutex::new(end), period }
    }

    /// The period that this session seals in.
    pub(crate) const fn period(&self) -> PeriodNumber {
        self.period
    }
}

impl crate::Session {
    /// Sends groups as long as the next one in order is assembled.
    pub(crate) fn send_assembled(&self) -> Result<(), SessionError> {
        while let Some(Admitted { group, sealed, ticket }) = self.admit_next()? {
            self.replica.complete(ticket, &sealed).map_err(|error| self.replica_failed("write a group", error))?;
            let chain = sealed.chain;
            self.unsynced_bytes.fetch_add(sealed.data.len() as u64, Ordering::Relaxed);
            // Ours is the only other holder of the buffer, which can then serve the next group.
            drop(sealed);
            self.pending.complete(&group, chain);
            if self.replica.pressure().advance_needed {
                self.advance_needed.store(true, Ordering::Release);
            }
            self.budget.relieve();
        }
        Ok(())
    }

    fn admit_next(&self) -> Result<Option<Admitted>, SessionError> {
        let mut end = self.sender.next.lock();
        self.end.check()?;
        let Some(group) = self.pending.starting_with(end.seq.next()).filter(|group| group.is_assembled()) else {
            return Ok(None);
        };
        let Some(assembled) = group.take_assembled() else {
            return Ok(None);
        };
        let header = GroupHeader {
            volume: self.volume,
            generation: self.grant.generation,
            epoch: self.grant.epoch,
            first_seq: Seq(group.first_seq),
            committed: Seq(self.durable_through.load(Ordering::Acquire)),
            period: self.sender.period,
            data_bytes: assembled.data_bytes,
            previous: end.chain,
            tags: assembled.tags,
            body: GroupBody::Data(assembled.entries),
        };
        let reserved = group.credit.load(Ordering::Relaxed);
        let sealed = Arc::new(self.macs.sealed_group(header, assembled.data, reserved));
        let admitted = self.replica.admit(&self.grant, &sealed);
        let ticket = admitted.map_err(|error| self.replica_failed("take a group", error))?;
        *end = Mark { seq: group.last_seq(), chain: sealed.chain };
        Ok(Some(Admitted { group, sealed, ticket }))
    }

    /// The chain up to the last group that was admitted.
    pub(crate) fn admitted(&self) -> Mark {
        *self.sender.next.lock()
    }
}

impl crate::keys::Macs {
    /// Chains and MACs a header.
    pub(crate) fn sealed_group(
        &self,
        header: GroupHeader,
        data: Arc<holdfast_ports::AlignedBuffer>,
        reserved_bytes: u64,
    ) -> SealedGroup {
        let header_bytes = header.encode();
        let chain: ChainHash = hash::chain(header.previous, &header_bytes);
        let mac = self.group(chain);
        SealedGroup { header, header_bytes, mac, chain, data, reserved_bytes }
    }
}

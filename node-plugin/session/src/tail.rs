//! The groups above the base, checked: pure code from what a replica handed out to what may be believed of it.

use holdfast_log::anchor::{Anchor, RootStatement};
use holdfast_log::group::GroupBody;
use holdfast_log::hash::ChainHash;
use holdfast_log::period::PeriodRow;
use holdfast_log::seam::SealedHeader;
use holdfast_vocabulary::{Epoch, Generation, PeriodNumber, Seq, VolumeId};

use crate::changes::Changes;
use crate::error::{LogProblem, OpenError, Point};
use crate::keys::Macs;

/// Which epoch sealed which seq, above the base.
#[derive(Clone, Debug, Default)]
pub(crate) struct Epochs {
    /// The seq that an epoch's records come after, and the epoch; rising.
    rows: Vec<(Seq, Epoch)>,
    /// The last seq of others; what is above is this session's.
    pub opened_at: Seq,
    /// This session's epoch.
    pub own: Epoch,
}

impl Epochs {
    /// The epoch that sealed a record.
    pub(crate) fn of(&self, seq: Seq) -> Epoch {
        if seq > self.opened_at {
            return self.own;
        }
        let after = self.rows.partition_point(|(base, _)| *base < seq);
        after.checked_sub(1).and_then(|row| self.rows.get(row)).map_or(Epoch(0), |(_, epoch)| *epoch)
    }
}

/// What the groups add up to.
#[derive(Debug)]
pub(crate) struct LogEnd {
    pub seq: Seq,
    pub chain: ChainHash,
    pub newest: Option<(Generation, Epoch)>,
    /// The highest committed mark that any of them carries.
    pub committed: Seq,
    pub epochs: Epochs,
    pub rows: Vec<PeriodRow>,
}

/// Where the walk stands.
struct Walk {
    seq: Seq,
    chain: ChainHash,
    order: Option<(Generation, Epoch)>,
    /// The period that the epoch opened; unknown while it is the one that the base ends with.
    period: Option<PeriodNumber>,
}

/// Checks every group from the base on, fills `changes`, and finds the anchor's point on the way.
pub(crate) fn check(
    volume: VolumeId,
    blocks: u64,
    root: Option<&RootStatement>,
    groups: &[SealedHeader],
    anchor: Option<&Anchor>,
    macs: &Macs,
    changes: &Changes,
) -> Result<LogEnd, OpenError> {
    let mut walk = Walk {
        seq: root.map_or(Seq(0), |root| root.through),
        chain: root.map_or(ChainHash::default(), |root| root.chain),
        order: root.map(|root| (root.generation, root.epoch)),
        period: None,
    };
    let mut end = LogEnd {
        seq: walk.seq,
        chain: walk.chain,
        newest: walk.order,
        committed: walk.seq,
        epochs: Epochs::default(),
        rows: Vec::new(),
    };
    end.epochs.rows.extend(root.map(|root| (root.through, root.epoch)));
    let mut passed = Passed::new(anchor, &walk);
    for (position, group) in groups.iter().enumerate() {
        let first = group.header.first_seq;
        step(&mut walk, volume, blocks, group, macs).map_err(|problem| OpenError::Log { position, first, problem })?;
        take(&mut end, &walk, group, changes);
        passed.look(anchor, &walk);
    }
    end.seq = walk.seq;
    end.chain = walk.chain;
    end.newest = walk.order;
    passed.found(anchor, &end)?;
    Ok(end)
}

/// Whether the walk came by the anchor's point. Several chains can belong to one seq, because start records take none.
struct Passed {
    yes: bool,
    /// The chain that was found at the anchor's seq instead.
    other: Option<ChainHash>,
    /// The base is newer than the anchor: there is nothing to come by.
    beyond: bool,
}

impl Passed {
    fn new(anchor: Option<&Anchor>, walk: &Walk) -> Self {
        // A later session may have made a base at the anchored record, behind its start record: then the chain at that
        // record is another one, and the signature of the later session is the proof.
        let beyond = anchor.is_some_and(|anchor| {
            let later = walk.order > Some((anchor.generation, anchor.epoch));
            walk.seq > anchor.seq || walk.seq == anchor.seq && later
        });
        let mut passed = Self { yes: false, other: None, beyond };
        passed.look(anchor, walk);
        passed
    }

    fn look(&mut self, anchor: Option<&Anchor>, walk: &Walk) {
        if let Some(anchor) = anchor.filter(|anchor| anchor.seq == walk.seq) {
            self.yes |= anchor.chain == walk.chain;
            self.other = Some(walk.chain);
        }
    }

    fn found(&self, anchor: Option<&Anchor>, end: &LogEnd) -> Result<(), OpenError> {
        let Some(anchor) = anchor.filter(|_| !self.yes && !self.beyond) else {
            return Ok(());
        };
        let order = Some((anchor.generation, anchor.epoch));
        let expected = Point { what: "the anchored head", order, seq: anchor.seq, chain: Some(anchor.chain) };
        let (seq, chain) = self.other.map_or((end.seq, end.chain), |chain| (anchor.seq, chain));
        let found = Point { what: "a log", order: end.newest, seq, chain: Some(chain) };
        Err(OpenError::RolledBack { expected: Box::new(expected), found: Box::new(found) })
    }
}

fn step(walk: &mut Walk, volume: VolumeId, blocks: u64, group: &SealedHeader, macs: &Macs) -> Result<(), LogProblem> {
    let header = &group.header;
    if header.volume != volume {
        return Err(LogProblem::Volume(header.volume));
    }
    if header.previous != walk.chain {
        return Err(LogProblem::Chain { named: header.previous, actual: walk.chain });
    }
    let chain = header.chain();
    if macs.check_group(chain, &group.mac).is_err() {
        return Err(LogProblem::Mac);
    }
    if header.first_seq != walk.seq.next() {
        return Err(LogProblem::Gap(walk.seq));
    }
    let order = (header.generation, header.epoch);
    match &header.body {
        GroupBody::Start(start) => {
            if walk.order.is_some_and(|open| order <= open) {
                return Err(LogProblem::Epoch(header.generation, header.epoch));
            }
            let formed = start.base == walk.seq
                && start.base_chain == walk.chain
                && start.period.number == header.period
                && start.period.epoch == header.epoch
                && header.data_bytes == 0;
            if !formed {
                return Err(LogProblem::Start);
            }
            walk.order = Some(order);
            walk.period = Some(header.period);
        }
        GroupBody::Data(entries) => {
            if walk.order != Some(order) {
                return Err(LogProblem::Epoch(header.generation, header.epoch));
            }
            if *walk.period.get_or_insert(header.period) != header.period {
                return Err(LogProblem::Period(header.period));
            }
            for entry in entries {
                let count = if entry.shape.is_unmap() { u64::from(entry.crc_or_count) } else { 1 };
                if entry.block.0.checked_add(count).is_none_or(|end| end > blocks) {
                    return Err(LogProblem::Outside(entry.block));
                }
            }
        }
    }
    walk.seq = header.last_seq();
    walk.chain = chain;
    Ok(())
}

fn take(end: &mut LogEnd, walk: &Walk, group: &SealedHeader, changes: &Changes) {
    let header = &group.header;
    end.committed = end.committed.max(header.committed);
    match &header.body {
        GroupBody::Start(start) => {
            end.epochs.rows.push((walk.seq, header.epoch));
            end.rows.push(start.period);
        }
        GroupBody::Data(entries) => {
            for (position, entry) in entries.iter().enumerate() {
                let seq = Seq(header.first_seq.0 + position as u64);
                if entry.shape.is_unmap() {
                    changes.unmap(entry.block.0, entry.crc_or_count.into(), seq);
                } else {
                    changes.map(entry.block.0, 1, seq);
                }
            }
        }
    }
}

//! Creating and opening: nothing that a replica says is believed before it was checked, in this order.
//!
//! 1. The replica promises the grant: from here on no older session can change it.
//! 2. Header: whose key, authentic, which volume.
//! 3. Anchor and root: authentic, and the root not behind the anchor.
//! 4. The groups above the root: one unbroken, authentic chain that comes by the anchored head.
//! 5. A new period, and the start record of a new epoch, durable. Only now may anything be read or written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use arc_swap::ArcSwap;
use holdfast_log::anchor::{Anchor, RootStatement, SignedRoot};
use holdfast_log::group::{GroupBody, GroupHeader, StartRecord};
use holdfast_log::hash::{self, ChainHash, TreeHash};
use holdfast_log::header::{Formatted, VolumeHeader};
use holdfast_log::period::{Compression, PeriodRow};
use holdfast_log::seam::{Purpose, Replica, Report, group_room};
use holdfast_ports::budget::MemoryBudget;
use holdfast_ports::{AlignedBuffer, Clock, Random};
use holdfast_seal::{FreshSalt, PeriodSealer, VolumeKey};
use holdfast_vocabulary::{Grant, PeriodNumber, Seq, VolumeId, VolumeSize};
use parking_lot::{Condvar, Mutex};

use crate::Session;
use crate::anchor::{AnchorKeeper, Anchored};
use crate::changes::Changes;
use crate::credit::Credit;
use crate::end::End;
use crate::error::{OpenError, Point, SessionError};
use crate::keys::{Macs, Periods};
use crate::limits::Limits;
use crate::order::Order;
use crate::pending::{Mark, Pending};
use crate::send::Sender;
use crate::stats::Counters;
use crate::tail::{self, LogEnd};
use crate::trust::{TrustCache, View};

/// A new volume.
#[derive(Clone, Debug)]
pub struct CreateOptions {
    /// Its id, drawn at random and never used before.
    pub volume: VolumeId,
    /// How large it is.
    pub size: VolumeSize,
    /// What its periods do before sealing.
    pub compression: Compression,
    /// Its key.
    pub key: VolumeKey,
}

/// How to open a volume.
#[derive(Clone)]
pub struct OpenOptions {
    /// Which volume the replica must hold.
    pub volume: VolumeId,
    /// The volume's key.
    pub key: VolumeKey,
    /// Permission for this one opening.
    pub grant: Grant,
    /// The version of the in-sync set that the registry gave with the grant.
    pub set_version: u64,
    /// The members of that set.
    pub set: Vec<[u8; 16]>,
    /// The head that the registry remembers; `None` only for a volume that was never anchored.
    pub anchor: Option<Anchor>,
    /// Who remembers the next one.
    pub anchors: Arc<dyn AnchorKeeper>,
    /// Salts are drawn from it.
    pub random: Arc<dyn Random>,
    /// The only time that a session knows.
    pub clock: Arc<dyn Clock>,
    /// The node's budget for what could be fetched again.
    pub budget: Arc<MemoryBudget>,
    /// Bounds.
    pub limits: Limits,
}

impl Session {
    /// The header file of a new volume, for a store to be made with. The volume is opened with a grant of its own.
    #[must_use]
    pub fn first_header(options: &CreateOptions, grant: &Grant) -> Vec<u8> {
        let header = VolumeHeader {
            volume: options.volume,
            size: options.size,
            generation: grant.generation,
            epoch: grant.epoch,
            key_id: options.key.id(),
            formatted: Formatted::Never,
            compression: options.compression,
        };
        header.with_mac(&Macs::new(&options.key, options.volume).header(&header))
    }

    /// Opens a volume. When it returns, a new epoch has begun, durably.
    pub fn open(replicas: Vec<Arc<dyn Replica>>, options: OpenOptions) -> Result<Self, OpenError> {
        let given = replicas.len();
        let mut replicas = replicas.into_iter();
        let (Some(replica), None) = (replicas.next(), replicas.next()) else {
            return Err(OpenError::Replicas { given });
        };
        replica.promise(&options.grant)?;
        let report = replica.report();
        let (header, macs) = check_header(&report, &options)?;
        check_anchor(&options, &macs)?;
        let root = check_root(&report, &options, &macs)?;
        let changes = Changes::new(&options.budget);
        let groups = replica.tail()?;
        let statement = root.as_ref().map(|root| &root.statement);
        let blocks = header.size.blocks();
        let anchor = options.anchor.as_ref();
        let mut end = tail::check(options.volume, blocks, statement, &groups, anchor, &macs, &changes)?;
        drop(groups);
        check_end(&report, &options, &end)?;
        end.epochs.opened_at = end.seq;
        end.epochs.own = options.grant.epoch;

        let mut periods = Periods::new(options.key.clone());
        for row in report.periods.iter().chain(&end.rows) {
            if !periods.add(*row) {
                return Err(OpenError::PeriodTwice(row.number));
            }
        }
        let (sealer, row) = begin_period(&options, &header, &periods, end.seq)?;
        periods.add(row);
        let chain = send_start(&*replica, &options, &macs, &end, row)?;

        let begun = Mark { seq: end.seq, chain };
        let signed = root.unwrap_or_else(|| sign_empty(&macs, &options));
        let anchored = Anchored::new(options.anchor.as_ref(), options.clock.now());
        Ok(Self {
            grant: options.grant,
            volume: options.volume,
            periods,
            epochs: end.epochs,
            compression: header.compression,
            blocks: AtomicU64::new(blocks),
            header: Mutex::new(header),
            order: Mutex::new(Order::new(sealer)),
            order_free: Condvar::new(),
            pending: Pending::new(begun),
            sender: Sender::new(begun, row.number),
            credit: Credit::new(options.limits.credit_piece_max),
            view: ArcSwap::from_pointee(View {
                base: 1,
                root: signed.statement.root,
                active: Arc::new(changes),
                frozen: None,
            }),
            trust: TrustCache::new(&options.budget),
            signed: Mutex::new(signed),
            durable: Mutex::new(begun),
            durable_through: AtomicU64::new(begun.seq.0),
            unsynced_bytes: AtomicU64::new(0),
            advancing: Mutex::new(()),
            switching: Mutex::new(()),
            advance_needed: AtomicBool::new(false),
            anchored: Mutex::new(anchored),
            upkeep: Mutex::default(),
            end: End::default(),
            counters: Counters::default(),
            limits: options.limits.sane(),
            anchors: options.anchors,
            clock: options.clock,
            budget: options.budget,
            macs,
            replica,
        })
    }

    /// Raises the size. What is new reads as zeros.
    pub fn resize(&self, size: VolumeSize) -> Result<(), SessionError> {
        self.change_header(|header| {
            if size < header.size {
                return Err(SessionError::Shrink { size: header.size.bytes(), wanted: size.bytes() });
            }
            header.size = size;
            Ok(())
        })
    }

    /// Notes how far the volume is on its way to belonging to somebody. It only ever moves forward.
    pub fn set_formatted(&self, formatted: Formatted) -> Result<(), SessionError> {
        self.change_header(|header| {
            if formatted < header.formatted {
                return Err(SessionError::FormattedBackwards { now: header.formatted, wanted: formatted });
            }
            header.formatted = formatted;
            Ok(())
        })
    }

    /// The header as it is now.
    #[must_use]
    pub fn header(&self) -> VolumeHeader {
        *self.header.lock()
    }

    fn change_header(
        &self,
        change: impl FnOnce(&mut VolumeHeader) -> Result<(), SessionError>,
    ) -> Result<(), SessionError> {
        self.end.check()?;
        let mut header = self.header.lock();
        let mut new = *header;
        change(&mut new)?;
        if new == *header {
            return Ok(());
        }
        new.generation = self.grant.generation;
        new.epoch = self.grant.epoch;
        self.replica
            .put_header(&self.grant, &new.with_mac(&self.macs.header(&new)))
            .map_err(|error| self.replica_failed("keep the volume's header", error))?;
        // No block beyond the old end is written before the header that has room for it is durable.
        self.blocks.store(new.size.blocks(), std::sync::atomic::Ordering::Release);
        *header = new;
        Ok(())
    }
}

fn check_header(report: &Report, options: &OpenOptions) -> Result<(VolumeHeader, Macs), OpenError> {
    let (header, mac) = VolumeHeader::decode(&report.header).map_err(OpenError::Header)?;
    let given = options.key.id();
    if header.key_id != given {
        return Err(OpenError::WrongKey { sealed: header.key_id, given });
    }
    let macs = Macs::new(&options.key, header.volume);
    if macs.check_header(&header, &mac).is_err() {
        return Err(OpenError::HeaderForged);
    }
    if header.volume != options.volume {
        return Err(OpenError::ForeignVolume { expected: options.volume, found: header.volume });
    }
    Ok((header, macs))
}

fn check_anchor(options: &OpenOptions, macs: &Macs) -> Result<(), OpenError> {
    let Some(anchor) = &options.anchor else { return Ok(()) };
    let authentic = macs.check_anchor(anchor).is_ok()
        && macs.check_root(&anchor.root).is_ok()
        && anchor.root.statement.volume == options.volume;
    if authentic { Ok(()) } else { Err(OpenError::AnchorForged) }
}

/// The replica's root must be signed, and must not be older than the one that was anchored.
fn check_root(report: &Report, options: &OpenOptions, macs: &Macs) -> Result<Option<SignedRoot>, OpenError> {
    if let Some(root) = &report.root
        && (macs.check_root(root).is_err() || root.statement.volume != options.volume)
    {
        return Err(OpenError::RootForged { through: root.statement.through });
    }
    let Some(anchor) = &options.anchor else { return Ok(report.root) };
    let point = |statement: &RootStatement| {
        let order = Some((statement.generation, statement.epoch));
        Box::new(Point { what: "the root", order, seq: statement.through, chain: Some(statement.chain) })
    };
    let anchored = &anchor.root.statement;
    let order = |statement: &RootStatement| (statement.generation, statement.epoch, statement.through);
    match &report.root {
        // An empty base is nobody's to sign; the anchor has the session's word for it.
        None if anchored.through == Seq(0) => Ok(None),
        None => {
            let found = Box::new(Point { what: "no root", order: None, seq: Seq(0), chain: None });
            Err(OpenError::RolledBack { expected: point(anchored), found })
        }
        Some(root) => {
            let found = &root.statement;
            let fits = if found.through <= anchor.seq {
                *root == anchor.root || order(found) > order(anchored)
            } else {
                (found.generation, found.epoch) >= (anchor.generation, anchor.epoch)
            };
            if fits {
                Ok(Some(*root))
            } else {
                Err(OpenError::RolledBack { expected: point(anchored), found: point(found) })
            }
        }
    }
}

/// The replica must agree with its own groups, and the grant must be newer than all of them.
fn check_end(report: &Report, options: &OpenOptions, end: &LogEnd) -> Result<(), OpenError> {
    if (report.head, report.chain) != (end.seq, end.chain) {
        let point = |seq, chain| Box::new(Point { what: "the log", order: None, seq, chain: Some(chain) });
        return Err(OpenError::End { claimed: point(report.head, report.chain), found: point(end.seq, end.chain) });
    }
    let reported = report.epochs.iter().map(|row| (row.generation, row.epoch));
    match reported.chain(end.newest).max() {
        Some((generation, epoch)) if options.grant.order() <= (generation, epoch) => {
            Err(OpenError::OldGrant { grant: options.grant, generation, epoch })
        }
        _ => Ok(()),
    }
}

fn begin_period(
    options: &OpenOptions,
    header: &VolumeHeader,
    periods: &Periods,
    head: Seq,
) -> Result<(PeriodSealer, PeriodRow), OpenError> {
    let newest = periods.newest();
    let number = newest.0.checked_add(1).map(PeriodNumber).ok_or(OpenError::PeriodsUsedUp(newest))?;
    let mut salt = [0; 32];
    options.random.fill(&mut salt);
    let fresh = FreshSalt::drawn(salt);
    let sealer = options.key.begin_period(options.volume, options.grant.epoch, fresh, head.next());
    let context = sealer.context();
    let row = PeriodRow {
        number,
        aad_version: context.aad_version,
        compression: header.compression,
        origin: context.origin,
        epoch: context.epoch,
        key_id: context.key_id,
        salt: context.salt,
        check: sealer.key().check_value(),
    };
    Ok((sealer, row))
}

/// Begins the epoch. Gives the chain up to and including the start record.
fn send_start(
    replica: &dyn Replica,
    options: &OpenOptions,
    macs: &Macs,
    end: &LogEnd,
    row: PeriodRow,
) -> Result<ChainHash, OpenError> {
    let grant = &options.grant;
    let start = StartRecord {
        session: grant.session,
        base: end.seq,
        base_chain: end.chain,
        set_version: options.set_version,
        set: options.set.clone(),
        period: row,
    };
    let anchored = options.anchor.as_ref().map_or(Seq(0), |anchor| anchor.seq);
    let header = GroupHeader {
        volume: options.volume,
        generation: grant.generation,
        epoch: grant.epoch,
        first_seq: end.seq.next(),
        committed: end.committed.max(anchored).min(end.seq),
        period: row.number,
        data_bytes: 0,
        previous: end.chain,
        tags: hash::tags([]),
        body: GroupBody::Start(start),
    };
    // The set and the period's row are longer than any entries that `group_room` would be told of.
    let room = group_room(0, 0) + 4096;
    replica.reserve(grant, room, Purpose::Upkeep)?;
    let group = Arc::new(macs.sealed_group(header, Arc::new(AlignedBuffer::new()), room));
    let ticket = replica.admit(grant, &group)?;
    replica.complete(ticket, &group)?;
    replica.sync(grant)?;
    replica.commit(grant, end.seq)?;
    Ok(group.chain)
}

/// This session's word that the base is empty, for anchors.
fn sign_empty(macs: &Macs, options: &OpenOptions) -> SignedRoot {
    let statement = RootStatement {
        volume: options.volume,
        generation: options.grant.generation,
        epoch: options.grant.epoch,
        through: Seq(0),
        chain: ChainHash::default(),
        root: TreeHash::EMPTY,
    };
    SignedRoot { statement, mac: macs.root(&statement.encode()) }
}

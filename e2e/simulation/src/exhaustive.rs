//! Every short history, and every crash in it.
//!
//! All sequences of up to four letters are played on a small, aged volume whose bounds are so tight that segments roll,
//! bases are made and victims are collected within them. The disk records every operation. Then, for the moment after each
//! operation, everything that a power cut may leave is opened: nothing un-synced, all of it, and samples of what lies
//! between. Each must open without any error, be one prefix with all that was acknowledged, verify, and go on working.
//!
//! A sequence's crash points are those of its last letter: the ones before belong to the shorter sequence that it begins
//! with, which is played as well.

use std::fmt;
use std::sync::Arc;

use holdfast_disk::{Image, ManualClock, RecordingDisk, SeededRandom};
use holdfast_log::anchor::Anchor;
use holdfast_log::period::Compression;
use holdfast_session::{Limits, SessionError};
use holdfast_vocabulary::BLOCK_BYTES;
use parking_lot::Mutex;

use crate::afterwards::{self, Expected};
use crate::checker::Violation;
use crate::content;
use crate::model::{Model, Record};
use crate::mutant::Mutant;
use crate::registry::Registry;
use crate::site::{Opened, Settings, Site};

/// One thing that is done to the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letter {
    /// A block that was never written.
    WriteNew,
    /// A block that lies in an old segment.
    Overwrite,
    /// Two blocks with one call.
    WriteTwo,
    /// Everything so far becomes durable and anchored.
    Flush,
    /// Blocks of all the other letters become zeros.
    Discard,
    /// A new base.
    Checkpoint,
    /// A few steps of collection.
    Collect,
    /// The process dies, the machine does not; the volume is opened anew.
    Reopen,
}

impl Letter {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::WriteNew,
        Self::Overwrite,
        Self::WriteTwo,
        Self::Flush,
        Self::Discard,
        Self::Checkpoint,
        Self::Collect,
        Self::Reopen,
    ];

    const fn name(self) -> char {
        match self {
            Self::WriteNew => 'n',
            Self::Overwrite => 'o',
            Self::WriteTwo => 't',
            Self::Flush => 'f',
            Self::Discard => 'd',
            Self::Checkpoint => 'c',
            Self::Collect => 'g',
            Self::Reopen => 'r',
        }
    }

    /// The letters of a word, as [`Failure`] prints it. Others are skipped.
    #[must_use]
    pub fn word(text: &str) -> Vec<Self> {
        text.chars().filter_map(|name| Self::ALL.into_iter().find(|letter| letter.name() == name)).collect()
    }
}

/// Steps of collection that one letter makes: enough to reach victims in which something lives.
const VICTIMS_MAX: usize = 8;

/// Longer histories that are worth it: each was thought of because it rolls, advances, collects and forgets in turn.
pub const LONGER: [&str; 8] =
    ["ofcofcgf", "dfcgcgrf", "tfcgogcrf", "nfdfcgcgr", "ofgdcgrcg", "ttttcgof", "cgcgcgcg", "nrnrfcgr"];

/// How the volume is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variety {
    /// Every record is a group of its own and goes to the disk at once; room is short.
    Tight,
    /// Records wait in groups until something sends them; blocks are compressed; there is room.
    Roomy,
}

impl Variety {
    fn settings(self) -> Settings {
        let tight = self == Self::Tight;
        Settings {
            blocks: 16,
            compression: if tight { Compression::None } else { Compression::Lz4 },
            capacity_bytes: if tight { 176 << 10 } else { 1 << 20 },
            segment_bytes_max: if tight { 16 << 10 } else { 32 << 10 },
            tail_records: (6, 4),
            garbage_permille_max: 100,
            budget_bytes: 1 << 20,
            limits: Limits {
                group_records: if tight { 1 } else { 4 },
                credit_piece_max: 8 << 10,
                merge_leaves: 1,
                ..Limits::default()
            },
        }
    }
}

/// What to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How the volume is set up.
    pub variety: Variety,
    /// The longest sequence.
    pub length: usize,
    /// How many subsets are sampled at a crash point, beside "all" and "nothing".
    pub samples: usize,
    /// Of how many workers this is which.
    pub shard: (usize, usize),
    /// A deliberate mistake.
    pub mutant: Option<Mutant>,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Sequences that were played.
    pub sequences: u64,
    /// Crash points.
    pub points: u64,
    /// States that were opened; equal ones at neighbouring points count once.
    pub states: u64,
    /// States that were equal to one of the point before.
    pub repeated: u64,
    /// Writes that were refused for want of room.
    pub refused: u64,
    /// Records that collection moved, and segments that it freed.
    pub moved: u64,
    /// See `moved`.
    pub freed: u64,
}

impl Tally {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            sequences: self.sequences + other.sequences,
            points: self.points + other.points,
            states: self.states + other.states,
            repeated: self.repeated + other.repeated,
            refused: self.refused + other.refused,
            moved: self.moved + other.moved,
            freed: self.freed + other.freed,
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} sequences ({} writes refused for want of room, {} records moved, {} segments freed), {} crash points, {} states \
             opened, {} repeated ones skipped",
            self.sequences, self.refused, self.moved, self.freed, self.points, self.states, self.repeated
        )
    }
}

/// A state that must not be.
#[derive(Clone, Debug)]
pub struct Failure {
    /// How the volume was set up.
    pub variety: Variety,
    /// The letters.
    pub word: Vec<Letter>,
    /// After which disk operation; `None` if it happened without any crash.
    pub point: Option<String>,
    /// What was broken.
    pub violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word: String = self.word.iter().map(|letter| letter.name()).collect();
        let point = self.point.as_deref().unwrap_or("without a crash");
        write!(out, "{:?} {word}, {point}: {}", self.variety, self.violation)
    }
}

/// The volume before the first letter.
#[derive(Clone)]
struct Aged {
    image: Image,
    model: Model,
    epoch: u64,
    anchor: Option<Anchor>,
    stamp: u64,
}

/// What is known to be safe from some disk operation on.
#[derive(Clone, Copy)]
struct Promise {
    position: usize,
    least: u64,
    anchor: Option<Anchor>,
}

/// One sequence being played.
struct Play<'a> {
    plan: &'a Plan,
    site: Site,
    disk: RecordingDisk,
    opened: Option<Opened>,
    model: Model,
    stamp: u64,
    promises: Vec<Promise>,
    refused: u64,
}

fn site_of(plan: &Plan, epoch: u64, anchor: Option<Anchor>, seed: u64) -> Site {
    Site {
        settings: plan.variety.settings(),
        registry: Arc::new(Registry::from_parts(epoch, anchor)),
        clock: ManualClock::new(),
        random: Arc::new(SeededRandom::new(seed)),
        ledger: Arc::new(Mutex::default()),
        mutant: plan.mutant,
    }
}

impl<'a> Play<'a> {
    fn begin(plan: &'a Plan, aged: &Aged) -> Result<Self, Violation> {
        let site = site_of(plan, aged.epoch, aged.anchor, 1);
        let disk = RecordingDisk::from_image(aged.image.clone());
        let (model, stamp) = (aged.model.clone(), aged.stamp);
        let mut play = Self { plan, site, disk, opened: None, model, stamp, promises: Vec::new(), refused: 0 };
        play.reopen()?;
        Ok(play)
    }

    fn reopen(&mut self) -> Result<(), Violation> {
        if let Some(opened) = self.opened.take() {
            opened.kill();
        }
        let grant = self.site.registry.grant();
        let opened = self
            .site
            .open(self.disk.handle(), grant, self.site.registry.anchor())
            .map_err(|refusal| Violation::new("open", refusal.to_string()))?;
        let head = opened.replica.report().head.0;
        afterwards::check_content(&opened, &self.model, self.site.settings.blocks, head, self.model.flushed())?;
        self.model.cut(head);
        self.model.begin_epoch(grant.epoch.0);
        self.opened = Some(opened);
        self.promise();
        Ok(())
    }

    /// What was acknowledged up to now must be there whenever a crash comes later.
    fn promise(&mut self) {
        let least = self.model.flushed();
        let promise = Promise { position: self.disk.position(), least, anchor: self.site.registry.anchor() };
        self.promises.push(promise);
    }

    fn write(&mut self, first: u64, count: u64) -> Result<(), Violation> {
        let Some(opened) = &self.opened else { return Ok(()) };
        let bytes = content::blocks(first, count, self.stamp);
        let before = opened.session.stats().records;
        let written = opened.session.write(first * BLOCK_BYTES as u64, &bytes);
        let taken = opened.session.stats().records - before;
        match written {
            Ok(()) if taken == count => {}
            Err(SessionError::NoSpace { .. }) => self.refused += 1,
            Ok(()) => return Err(Violation::new("calm", format!("{count} blocks took {taken} records"))),
            Err(error) => return Err(failed(error)),
        }
        for step in 0..taken {
            self.model.issue(Record::Put { block: first + step, stamp: self.stamp + step });
        }
        self.stamp += count;
        Ok(())
    }

    fn discard(&mut self, first: u64, count: u64) -> Result<(), Violation> {
        let Some(opened) = &self.opened else { return Ok(()) };
        self.model.issue(Record::Unmap { first, count });
        opened.session.discard(first * BLOCK_BYTES as u64, count * BLOCK_BYTES as u64).map_err(failed)
    }

    fn play(&mut self, letter: Letter) -> Result<(), Violation> {
        match letter {
            Letter::WriteNew => self.write(9, 1),
            Letter::Overwrite => self.write(2, 1),
            Letter::WriteTwo => self.write(4, 2),
            Letter::Discard => self.discard(1, 9),
            Letter::Reopen => self.reopen(),
            Letter::Flush | Letter::Checkpoint | Letter::Collect => {
                let Some(opened) = &self.opened else { return Ok(()) };
                match letter {
                    Letter::Flush => opened.session.anchor_now().map(|_| ()).map_err(failed)?,
                    Letter::Checkpoint => opened.session.checkpoint().map_err(failed)?,
                    _ => {
                        for _ in 0..VICTIMS_MAX {
                            let collected = opened.replica.collect();
                            if !collected.map_err(|error| Violation::new("calm", error.to_string()))? {
                                break;
                            }
                        }
                        return Ok(());
                    }
                }
                self.model.acknowledge();
                self.promise();
                Ok(())
            }
        }
    }
}

fn failed(error: SessionError) -> Violation {
    Violation::new("calm", format!("an error without a fault: {error}"))
}

/// Ages a volume: old versions lie in old segments, so that there is something to collect.
fn age(plan: &Plan) -> Result<Aged, Violation> {
    let site = site_of(plan, 0, None, 2);
    let disk = RecordingDisk::new();
    site.create(disk.handle()).map_err(|error| Violation::new("create", error.to_string()))?;
    let mut play =
        Play { plan, site, disk, opened: None, model: Model::new(), stamp: 1, promises: Vec::new(), refused: 0 };
    play.reopen()?;
    for block in 0..8 {
        play.write(block, 1)?;
    }
    play.play(Letter::Checkpoint)?;
    for block in [0, 2, 4] {
        play.write(block, 1)?;
    }
    play.play(Letter::Checkpoint)?;
    play.write(6, 1)?;
    play.discard(7, 1)?;
    play.play(Letter::Checkpoint)?;
    play.play(Letter::Flush)?;
    Ok(Aged {
        image: play.disk.image(),
        model: play.model,
        epoch: play.site.registry.epoch(),
        anchor: play.site.registry.anchor(),
        stamp: play.stamp,
    })
}

/// Plays every sequence of a plan's shard.
pub fn run(plan: &Plan) -> Result<Tally, Box<Failure>> {
    let aged = age(plan).map_err(|violation| failure(plan, &[], None, violation))?;
    let mut tally = Tally::default();
    let mut number = 0;
    for length in 1..=plan.length {
        for code in 0..Letter::ALL.len().pow(length as u32) {
            number += 1;
            if number % plan.shard.1 != plan.shard.0 {
                continue;
            }
            let letter = |place: u32| Letter::ALL[code / Letter::ALL.len().pow(place) % Letter::ALL.len()];
            let word: Vec<Letter> = (0..length as u32).rev().map(letter).collect();
            tally = tally.and(play_word(plan, &aged, &word, length - 1)?);
        }
    }
    for (place, word) in LONGER.iter().enumerate() {
        if place % plan.shard.1 == plan.shard.0 && plan.length > 2 {
            tally = tally.and(play_word(plan, &aged, &Letter::word(word), 0)?);
        }
    }
    Ok(tally)
}

/// Plays one sequence and examines the crash points from its letter number `from` on.
pub fn run_word(plan: &Plan, word: &[Letter], from: usize) -> Result<Tally, Box<Failure>> {
    let aged = age(plan).map_err(|violation| failure(plan, &[], None, violation))?;
    play_word(plan, &aged, word, from)
}

fn failure(plan: &Plan, word: &[Letter], point: Option<String>, violation: Violation) -> Box<Failure> {
    Box::new(Failure { variety: plan.variety, word: word.to_vec(), point, violation })
}

fn play_word(plan: &Plan, aged: &Aged, word: &[Letter], from: usize) -> Result<Tally, Box<Failure>> {
    let calm = |violation| failure(plan, word, None, violation);
    let mut play = Play::begin(plan, aged).map_err(calm)?;
    let mut first = 0;
    for (place, letter) in word.iter().enumerate() {
        if place == from {
            first = play.disk.position();
        }
        play.play(*letter).map_err(calm)?;
    }
    play.site.ledger.lock().verdict().map_err(calm)?;
    let mut tally = Tally { sequences: 1, refused: play.refused, ..Tally::default() };
    if let Some(opened) = play.opened.take() {
        let stats = opened.replica.stats();
        (tally.moved, tally.freed) = (stats.moved_records, stats.freed_segments);
        opened.kill();
    }
    let mut walk = play.disk.walk();
    walk.seek(first);
    let mut seen: Vec<Image> = Vec::new();
    while let Some(point) = walk.advance() {
        tally.points += 1;
        let promised = play.promises.iter().rev().find(|promise| promise.position <= point.after());
        let promised = promised.copied().unwrap_or(Promise { position: 0, least: 0, anchor: None });
        let mut images = Vec::new();
        for (place, state) in point.states(plan.samples, point.after() as u64).into_iter().enumerate() {
            if seen.contains(&state.image) {
                tally.repeated += 1;
            } else {
                tally.states += 1;
                let expected = Expected {
                    model: &play.model,
                    least: promised.least,
                    anchor: promised.anchor.filter(|_| place % 3 != 2),
                    epoch: play.site.registry.epoch(),
                    stamp: play.stamp,
                    thorough: (point.after() + place).is_multiple_of(2),
                };
                let site = site_of(play.plan, expected.epoch, expected.anchor, 3 + point.after() as u64);
                afterwards::check(&site, &state.image, &expected).map_err(|violation| {
                    let point =
                        format!("after operation {} ({:?}), {:?}", point.after(), point.operation(), state.crash);
                    failure(plan, word, Some(point), violation)
                })?;
            }
            images.push(state.image);
        }
        seen = images;
    }
    Ok(tally)
}

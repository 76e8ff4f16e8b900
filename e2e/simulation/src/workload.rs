//! What is asked of a volume, and how each answer is judged against the model.

use std::time::Duration;

use holdfast_log::seam::ReplicaError;
use holdfast_session::{EndCause, Session, SessionError};
use holdfast_vocabulary::BLOCK_BYTES;

use crate::checker::{Verdict, Violation, effort, speech, tree};
use crate::content::{self, Found};
use crate::faults::Climate;
use crate::model::Record;
use crate::registry::Registry;
use crate::site::{self, Opened};
use crate::world::World;

const UNIT: u64 = BLOCK_BYTES as u64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Write,
    Read,
    Discard,
    Zeroes,
    Flush,
    Tick,
    Checkpoint,
    Collect,
    Anchor,
    Resize,
    Scrub,
    Fence,
    StaleGrant,
    BadRequest,
    Adversity,
}

const ACTIONS: [Action; 15] = [
    Action::Write,
    Action::Read,
    Action::Discard,
    Action::Zeroes,
    Action::Flush,
    Action::Tick,
    Action::Checkpoint,
    Action::Collect,
    Action::Anchor,
    Action::Resize,
    Action::Scrub,
    Action::Fence,
    Action::StaleGrant,
    Action::BadRequest,
    Action::Adversity,
];

impl World {
    /// Asks for one thing.
    pub fn act(&mut self) -> Verdict {
        let pause = self.chance.below(self.plan.habits.pause.as_millis() as u64 + 1);
        self.site.clock.advance(Duration::from_millis(pause));
        let action = self.draw_action();
        self.tally.operations += 1;
        let Some(opened) = self.opened.take() else { return Ok(()) };
        let freed = opened.replica.stats().freed_segments;
        let effort = self.disk.operations();
        let judged = match action {
            Action::Write => self.write(&opened),
            Action::Read => self.read(&opened),
            Action::Discard => self.discard(&opened, false),
            Action::Zeroes => self.discard(&opened, true),
            Action::Flush => self.durable(&opened, "flush", Session::flush),
            Action::Anchor => self.durable(&opened, "anchor", |session| session.anchor_now().map(|_| ())),
            Action::Checkpoint => self.durable(&opened, "checkpoint", Session::checkpoint),
            Action::Tick => self.answered(&opened, "tick", opened.session.tick()).map(|_| ()),
            Action::Collect => self.collect(&opened),
            Action::Resize => self.resize(&opened),
            Action::Scrub => self.scrub(&opened),
            Action::Fence => return self.fence(opened),
            Action::StaleGrant => stale_grant(&opened),
            Action::BadRequest => bad_request(&opened, self.blocks),
            Action::Adversity => self.adversity(),
        };
        self.tally.freed += opened.replica.stats().freed_segments - freed;
        judged?;
        // A scrub reads everything, and without a cache it reads much of that again and again.
        if action != Action::Scrub {
            effort::check(self.disk.operations() - effort)?;
        }
        self.judge_root(&opened)?;
        if self.over(&opened) {
            self.note(|| "the session is over".to_owned());
            opened.kill();
        } else {
            self.opened = Some(opened);
        }
        Ok(())
    }

    fn draw_action(&mut self) -> Action {
        let weights = &self.plan.habits.weights;
        let mut drawn = self.chance.below(weights.iter().sum::<u64>().max(1));
        for (action, weight) in ACTIONS.iter().zip(weights) {
            if drawn < *weight {
                return *action;
            }
            drawn -= weight;
        }
        Action::Write
    }

    /// Whether nothing more can be asked of this session.
    fn over(&self, opened: &Opened) -> bool {
        let ended = matches!(opened.session.read(0, &mut []), Err(SessionError::SessionEnded { .. }));
        ended || self.disk.is_dead()
    }

    /// The first slot of a request, and how many blocks from there are in one piece and inside of the volume.
    fn draw_run(&mut self) -> Option<(u64, u64)> {
        let habits = &self.plan.habits;
        let usable = self.plan.slots.iter().take_while(|slot| **slot < self.blocks).count();
        if usable == 0 {
            return None;
        }
        let at = if self.chance.chance(habits.sequential) {
            self.cursor % usable
        } else if self.chance.chance(habits.hot) {
            self.chance.below((usable as u64).div_ceil(10)) as usize
        } else {
            self.chance.below(usable as u64) as usize
        };
        let wanted = 1 + self.chance.below(habits.longest);
        let slots = &self.plan.slots[at..usable];
        let count = slots.iter().zip(slots[0]..).take(wanted as usize).take_while(|(slot, next)| *slot == next).count();
        self.cursor = at + count;
        Some((slots[0], count as u64))
    }

    fn write(&mut self, opened: &Opened) -> Verdict {
        let Some((first, count)) = self.draw_run() else { return Ok(()) };
        let stamp = self.stamp;
        self.stamp += count;
        let before = opened.session.stats().records;
        let written = opened.session.write(first * UNIT, &content::blocks(first, count, stamp));
        let taken = opened.session.stats().records - before;
        // When the session died of it, nobody knows how far the request came; its order is known all the same.
        let issued = if matches!(written, Err(SessionError::SessionEnded { .. })) { count } else { taken };
        for step in 0..issued {
            self.model.issue(Record::Put { block: first + step, stamp: stamp + step });
        }
        self.note(|| format!("write {first}+{count} as {stamp}: {issued} records, {}", words(&written)));
        if written.is_ok() && taken != count {
            return Err(Violation::new("write", format!("{count} blocks were written, {taken} records were taken")));
        }
        self.answered(opened, "write", written).map(|_| ())
    }

    fn discard(&mut self, opened: &Opened, zeroes: bool) -> Verdict {
        let Some((first, mut count)) = self.draw_run() else { return Ok(()) };
        if self.chance.chance(0.2) {
            count = 1 + self.chance.below(self.blocks - first);
        }
        let done = if zeroes {
            opened.session.write_zeroes(first * UNIT, count * UNIT)
        } else {
            opened.session.discard(first * UNIT, count * UNIT)
        };
        if done.is_ok() || matches!(done, Err(SessionError::SessionEnded { .. })) {
            self.model.issue(Record::Unmap { first, count });
        }
        self.note(|| format!("discard {first}+{count}: {}", words(&done)));
        self.answered(opened, "discard", done).map(|_| ())
    }

    fn read(&mut self, opened: &Opened) -> Verdict {
        let Some((first, mut count)) = self.draw_run() else { return Ok(()) };
        // Beyond the run lie blocks that were never written.
        count = (count + self.chance.below(3)).min(self.blocks - first);
        let mut bytes = vec![0; (count * UNIT) as usize];
        let done = opened.session.read(first * UNIT, &mut bytes);
        self.note(|| format!("read {first}+{count}: {}", words(&done)));
        if !self.answered(opened, "read", done)? {
            return Ok(());
        }
        for (block, bytes) in (first..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            let expected = self.model.now().get(&block).map_or(Found::Zeros, |cell| Found::Written(cell.stamp));
            let found = content::identify(block, bytes);
            if found != expected {
                return Err(Violation::new(
                    "read",
                    format!("block {block} must hold {expected:?} and holds {found:?}"),
                ));
            }
        }
        Ok(())
    }

    /// Something after which everything is durable.
    fn durable(
        &mut self,
        opened: &Opened,
        name: &'static str,
        ask: impl FnOnce(&Session) -> Result<(), SessionError>,
    ) -> Verdict {
        let done = ask(&opened.session);
        let head = opened.replica.report().head;
        self.note(|| format!("{name} at {head}: {}", words(&done)));
        if self.answered(opened, name, done)? {
            self.model.acknowledge();
            self.fold();
        }
        Ok(())
    }

    fn collect(&mut self, opened: &Opened) -> Verdict {
        let done = opened.replica.collect();
        self.note(|| format!("collect: {done:?}"));
        match done {
            Ok(_) => Ok(()),
            Err(error) => self.answered(opened, "collect", Err(SessionError::Replica(error))).map(|_| ()),
        }
    }

    fn resize(&mut self, opened: &Opened) -> Verdict {
        let blocks =
            (self.blocks + self.chance.below(self.plan.blocks_max - self.blocks + 1)).min(self.plan.blocks_max);
        let done = opened.session.resize(site::size(blocks));
        self.note(|| format!("resize to {blocks}: {}", words(&done)));
        if self.answered(opened, "resize", done)? {
            self.blocks = blocks;
        }
        Ok(())
    }

    fn scrub(&mut self, opened: &Opened) -> Verdict {
        let head = opened.session.scrub();
        self.note(|| format!("scrub: {head:?}"));
        match head {
            Ok(report) => {
                let (here, opens) = (report.replica.findings.first(), report.findings.first());
                let fine = here.is_none() && opens.is_none();
                if fine || self.rotten || self.disturbed_this_life() {
                    return Ok(());
                }
                Err(Violation::new("scrub", format!("without a fault it finds {here:?} {opens:?}")))
            }
            Err(error) => self.answered(opened, "scrub", Err(error)).map(|_| ()),
        }
    }

    /// Another session opens the volume while this one lives. From then on this one changes nothing.
    fn fence(&mut self, old: Opened) -> Verdict {
        self.tally.count("fenced sessions");
        let grant = self.site.registry.grant();
        let options = self.site.open_options(grant, self.site.registry.anchor());
        let second = Session::open(vec![std::sync::Arc::clone(&old.replica)], options);
        self.note(|| {
            format!(
                "fenced by epoch {}: {}",
                grant.epoch.0,
                second.as_ref().map_or_else(ToString::to_string, |_| "opened".to_owned())
            )
        });
        if old.replica.report().promised == Some(grant) && !self.disk.is_dead() {
            let written = old.session.write(0, &content::blocks(0, 1, self.stamp));
            self.stamp += 1;
            let flushed = old.session.flush();
            if written.is_ok() && flushed.is_ok() {
                return Err(Violation::new("fence", "an old session wrote and flushed after a newer one was granted"));
            }
        }
        match second {
            Ok(session) => {
                let Opened { process, store, replica, .. } = old;
                let opened = Opened { process, store, replica, session };
                self.judge_opened(&opened)?;
                self.opened = Some(opened);
                Ok(())
            }
            Err(error) => {
                speech::check(&error.to_string())?;
                old.kill();
                let excused = self.disturbed_this_life() || self.rotten || self.plan.climate == Climate::Full;
                if excused { Ok(()) } else { Err(Violation::new("fence", format!("nobody can open it: {error}"))) }
            }
        }
    }

    /// What the climate has in store.
    fn adversity(&mut self) -> Verdict {
        match self.plan.climate {
            Climate::Rotten => {
                let image = self.disk.image();
                let files: Vec<(String, u64)> = image
                    .files()
                    .filter(|(_, bytes)| *bytes > 0)
                    .map(|(name, bytes)| (name.to_owned(), bytes))
                    .collect();
                let (name, bytes) = &files[self.chance.below(files.len() as u64) as usize];
                let offset = self.chance.below(*bytes);
                if self.disk.rot(name, offset, 1 << self.chance.below(8)) {
                    self.rotten = true;
                    self.tally.count("rotten bytes");
                    self.note(|| format!("{name} rots at byte {offset}"));
                }
            }
            Climate::Copied => self.keep_copy(),
            _ => {}
        }
        Ok(())
    }

    /// Judges an answer: `true` if it was done, an error only if there is a reason for one.
    pub fn answered(&mut self, opened: &Opened, name: &'static str, done: Result<(), SessionError>) -> Verdict<bool> {
        let Err(error) = done else { return Ok(true) };
        if !matches!(name, "write" | "discard" | "read" | "flush" | "anchor" | "checkpoint" | "resize") {
            self.note(|| format!("{name}: {error}"));
        }
        speech::check(&error.to_string())?;
        self.excuse(&error, opened)?;
        Ok(false)
    }

    /// Whether there is a reason for an error.
    pub fn excuse(&mut self, error: &SessionError, opened: &Opened) -> Verdict {
        self.note_silent_faults();
        let excused = match error {
            SessionError::NoSpace { .. } => true,
            SessionError::Anchor { .. } => self.site.registry.refused() > 0,
            SessionError::SessionEnded { cause } => match &**cause {
                EndCause::Replica { error: ReplicaError::NoSpace { .. }, .. } => self.plan.climate == Climate::Full,
                _ => false,
            },
            _ => false,
        };
        if excused || self.rotten || self.disturbed_this_life() {
            return Ok(());
        }
        // The room of a full device belongs to others as well.
        if self.plan.climate == Climate::Full && error.to_string().contains("no space") {
            return Ok(());
        }
        let stats = opened.replica.stats();
        Err(Violation::new("calm", format!("an error without a fault: {error} ({stats:?})")))
    }

    /// A new root must be the root of what was written up to it.
    fn judge_root(&mut self, opened: &Opened) -> Verdict {
        let Some(root) = opened.replica.report().root else { return Ok(()) };
        let through = root.statement.through.0;
        if through < self.model.floor() {
            return Ok(());
        }
        if through > self.model.head() {
            return Err(Violation::new(tree::NAME, format!("a root at record {through}, which was never issued")));
        }
        tree::check(&root, &self.model.at(through))
    }

    /// Ends a life in order.
    pub fn close(&mut self) -> Verdict {
        let Some(opened) = self.opened.take() else { return Ok(()) };
        let closed = opened.session.close();
        self.note(|| format!("close: {}", words(&closed)));
        if self.answered(&opened, "close", closed)? {
            self.model.acknowledge();
            self.fold();
        }
        Ok(())
    }

    /// When nothing fails any more, the volume takes writes again, if need be after room was made.
    pub fn judge_liveness(&mut self) -> Verdict {
        let Some(opened) = self.opened.take() else { return Ok(()) };
        let mut written = self.write_last(&opened);
        for round in 0..24 {
            if !matches!(written, Err(SessionError::NoSpace { .. })) {
                break;
            }
            // Garbage alone must go by itself; after that, there is only more room if something is given up.
            if round == 8 {
                let length = self.blocks * UNIT;
                opened.session.discard(0, length).map_err(|error| Violation::new("liveness", error.to_string()))?;
                self.model.issue(Record::Unmap { first: 0, count: self.blocks });
            }
            self.site.clock.advance(Duration::from_secs(10));
            let ticked = opened.session.tick();
            self.note(|| format!("tick for room: {}", words(&ticked)));
            written = self.write_last(&opened);
        }
        let done = written.and_then(|()| opened.session.flush()).and_then(|()| opened.session.checkpoint());
        self.note(|| format!("the last write: {}", words(&done)));
        if let Err(error) = done {
            opened.kill();
            if self.rotten {
                return speech::check(&error.to_string());
            }
            return Err(Violation::new("liveness", format!("nothing fails any more, and yet: {error}")));
        }
        self.model.acknowledge();
        self.judge_opened_last(opened)
    }

    fn write_last(&mut self, opened: &Opened) -> Result<(), SessionError> {
        let block = self.plan.slots[0];
        let stamp = self.stamp;
        self.stamp += 1;
        opened.session.write(block * UNIT, &content::blocks(block, 1, stamp))?;
        self.model.issue(Record::Put { block, stamp });
        Ok(())
    }

    fn judge_opened_last(&mut self, opened: Opened) -> Verdict {
        let judged = self.judge_opened(&opened).and_then(|()| self.scrub(&opened));
        self.opened = Some(opened);
        judged
    }
}

fn words(done: &Result<(), SessionError>) -> String {
    done.as_ref().map_or_else(ToString::to_string, |()| "done".to_owned())
}

/// An older grant is refused for as long as the volume lives.
fn stale_grant(opened: &Opened) -> Verdict {
    let epoch = opened.session.grant().epoch.0;
    for old in [epoch.saturating_sub(1), 0] {
        match opened.replica.promise(&Registry::grant_of(old)) {
            Err(ReplicaError::Fenced { .. } | ReplicaError::Faulted { .. }) => {}
            answer => return Err(Violation::new("fence", format!("an old grant was answered with {answer:?}"))),
        }
    }
    Ok(())
}

/// What makes no sense is refused, and changes nothing.
fn bad_request(opened: &Opened, blocks: u64) -> Verdict {
    let block = vec![0; BLOCK_BYTES];
    let refused = [
        opened.session.write(blocks * UNIT, &block),
        opened.session.write(512, &block),
        opened.session.write(0, &block[..512]),
        opened.session.discard(0, (blocks + 1) * UNIT),
        opened.session.discard(u64::MAX - UNIT + 1, UNIT),
        opened.session.read(blocks * UNIT, &mut [0; BLOCK_BYTES]),
    ];
    for answer in refused {
        match answer {
            Ok(()) => return Err(Violation::new("bounds", "a request that makes no sense was accepted")),
            Err(error) => speech::check(&error.to_string())?,
        }
    }
    Ok(())
}

//! One seed: one volume, several lives, one climate of faults; everything follows from the seed.
//!
//! A life opens the volume, judges what it finds, uses it until something ends it, and leaves the disk to the next one.
//! What is asked lies in `workload`, how openings are judged in `recovery`, what may go wrong in `faults`.

use std::sync::Arc;

use holdfast_disk::{Crash, Fault, Faults, Image, ManualClock, SeededRandom, SimulatedDisk};
use holdfast_log::anchor::Anchor;
use parking_lot::Mutex;

use crate::checker::{Verdict, Violation, sealed, space};
use crate::faults::{Climate, Tally};
use crate::model::Model;
use crate::mutant::Mutant;
use crate::plan::Plan;
use crate::registry::Registry;
use crate::site::{KEY, Opened, Site};

/// How a seed is run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rig {
    /// A deliberate mistake.
    pub mutant: Option<Mutant>,
    /// Keep a line for everything that happens.
    pub verbose: bool,
}

/// What became of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was done and suffered.
    pub tally: Tally,
    /// The broken promise, if one was broken.
    pub violation: Option<Violation>,
    /// What happened, line by line, if that was wanted.
    pub trace: Vec<String>,
}

/// A copy of the disk, as a backup or a twin has it.
pub(crate) struct Copy {
    pub image: Image,
    pub model: Model,
    pub anchor: Option<Anchor>,
}

/// Everything of one seed.
pub(crate) struct World {
    pub plan: Plan,
    pub chance: SeededRandom,
    pub site: Site,
    pub disk: SimulatedDisk,
    pub opened: Option<Opened>,
    pub model: Model,
    pub copies: Vec<Copy>,
    /// The size now, in blocks.
    pub blocks: u64,
    /// The next stamp.
    pub stamp: u64,
    /// Where a sequential writer is.
    pub cursor: usize,
    /// How many faults the disk had injected when this life began.
    pub injected_before: usize,
    /// Something on the disk is not what was written there, and nobody was told.
    pub rotten: bool,
    /// What was done and suffered so far.
    pub tally: Tally,
    /// What happened, if somebody wants to know.
    pub trace: Vec<String>,
    /// Whether somebody does.
    pub verbose: bool,
}

/// Whether the seed goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Onward {
    /// It does.
    Yes,
    /// The volume is lost, and rightly so under this climate.
    Lost,
}

/// Runs a seed to its end.
#[must_use]
pub fn run(seed: u64, rig: Rig) -> Outcome {
    let mut world = World::new(seed, rig);
    let violation = world.live().err();
    world.tally.seeds = 1;
    world.tally.disk_operations += world.disk.operations();
    let injected = world.disk.injected();
    world.tally.injected(&injected);
    world.tally.records = world.site.ledger.lock().records() as u64;
    if let Some(opened) = world.opened.take() {
        opened.kill();
    }
    Outcome { tally: world.tally, violation, trace: world.trace }
}

impl World {
    fn new(seed: u64, rig: Rig) -> Self {
        let chance = SeededRandom::new(seed);
        let plan = Plan::draw(&chance);
        let site = Site {
            settings: plan.settings.clone(),
            registry: Arc::new(Registry::default()),
            clock: ManualClock::new(),
            random: Arc::new(SeededRandom::new(chance.next_u64())),
            ledger: Arc::new(Mutex::default()),
            mutant: rig.mutant,
        };
        let disk = SimulatedDisk::new(chance.next_u64(), Faults::none());
        let mut world = Self {
            blocks: plan.settings.blocks,
            plan,
            chance,
            site,
            disk,
            opened: None,
            model: Model::new(),
            copies: Vec::new(),
            stamp: 1,
            cursor: 0,
            injected_before: 0,
            rotten: false,
            tally: Tally::default(),
            trace: Vec::new(),
            verbose: rig.verbose,
        };
        let plan = format!("{:?}", world.plan);
        world.note(|| plan);
        world
    }

    /// Keeps a line of the trace.
    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.verbose {
            let at = self.disk.operations();
            self.trace.push(format!("{at:>6} {}", line()));
        }
    }

    fn live(&mut self) -> Verdict {
        self.site.create(self.disk.handle()).map_err(|error| Violation::new("create", error.to_string()))?;
        for life in 0..self.plan.lives {
            self.note(|| format!("life {life}"));
            let faults = self.plan.climate.faults(&self.chance, self.plan.settings.capacity_bytes);
            // An opening is disturbed now and then; it must be possible to try it again.
            let disturbed = self.chance.chance(0.3);
            if disturbed {
                self.disk.set_faults(faults.clone());
                self.maybe_cut_power(0.5, 40);
            }
            if self.open()? == Onward::Lost {
                return self.judge_disk();
            }
            if life == 0 && !disturbed {
                space::check_empty(&self.disk.image())?;
            }
            self.arm(faults);
            for step in 0..self.plan.steps {
                if self.opened.is_none() {
                    break;
                }
                self.act()?;
                if step % 8 == 0 && self.opened.is_some() {
                    self.judge_space()?;
                }
            }
            self.site.ledger.lock().verdict()?;
            self.end_life()?;
        }
        self.calm_down();
        if self.open()? == Onward::Yes {
            self.judge_liveness()?;
        }
        self.site.ledger.lock().verdict()?;
        self.judge_disk()
    }

    /// Lets the disk fail as the climate says, and perhaps lose its power within this life.
    fn arm(&mut self, faults: Faults) {
        self.disk.set_faults(faults);
        self.maybe_cut_power(0.6, self.plan.steps * 6);
        let away = self.chance.chance(self.plan.habits.registry_away);
        self.site.registry.set_away(away);
    }

    fn maybe_cut_power(&mut self, likelihood: f64, within: u64) {
        let at = self.disk.operations() + 1 + self.chance.below(within);
        if self.chance.chance(likelihood) {
            let faults = self.disk.faults().at(at, Fault::PowerCut);
            self.disk.set_faults(faults);
        }
    }

    /// Nothing fails from now on.
    fn calm_down(&mut self) {
        self.disk.set_faults(Faults::none());
        self.site.registry.set_away(false);
    }

    /// The power goes. What was un-synced comes back by chance, in part, or not at all.
    pub fn crash(&mut self) {
        if let Some(opened) = self.opened.take() {
            opened.kill();
        }
        let crash = match self.chance.below(8) {
            0 => Crash::LoseAllUnsynced,
            1 => Crash::KeepAllUnsynced,
            _ => Crash::Random(self.chance.next_u64()),
        };
        self.note(|| format!("power loss, {crash:?}"));
        self.disk = self.disk.crash(&crash);
        self.tally.crashes += 1;
        self.disk.set_faults(Faults::none());
    }

    fn end_life(&mut self) -> Verdict {
        self.site.registry.set_away(false);
        let faulted = self.disk.is_dead() || self.faulted_this_life();
        // After a failed sync what the machine still shows proves nothing: it must restart.
        let choice = if faulted { 3 } else { self.chance.below(5) };
        match choice {
            0 => {
                self.close()?;
                if self.faulted_this_life() {
                    self.crash();
                }
            }
            1 => {
                self.note(|| "the process is killed".to_owned());
                self.tally.count("killed processes");
                if let Some(opened) = self.opened.take() {
                    opened.kill();
                }
            }
            _ => self.crash(),
        }
        self.disk.set_faults(Faults::none());
        self.judge_disk()?;
        self.note_silent_faults();
        self.maybe_swap_disk();
        self.injected_before = self.disk.injected().len();
        Ok(())
    }

    /// Whether the disk failed in this life in a way that makes it unknown.
    pub fn faulted_this_life(&self) -> bool {
        self.disk.injected()[self.injected_before..]
            .iter()
            .any(|one| matches!(one.fault, Fault::WriteError | Fault::SyncError))
    }

    /// Whether the disk did anything wrong in this life.
    pub fn disturbed_this_life(&self) -> bool {
        self.disk.is_dead() || self.disk.injected().len() > self.injected_before
    }

    /// Notes whether the disk did anything wrong that it told nobody.
    pub fn note_silent_faults(&mut self) {
        let silent = |fault: &Fault| matches!(fault, Fault::MisdirectedWrite { .. } | Fault::LostWrite);
        self.rotten |= self.disk.injected()[self.injected_before..].iter().any(|one| silent(&one.fault));
    }

    /// Puts another copy of the disk in, as when a machine is restored from a backup, or its twin goes on.
    fn maybe_swap_disk(&mut self) {
        if self.plan.climate != Climate::Copied {
            return;
        }
        if self.chance.chance(0.5) {
            self.keep_copy();
        }
        if self.copies.is_empty() || self.chance.chance(0.5) {
            return;
        }
        let which = self.chance.below(self.copies.len() as u64) as usize;
        let copy = &self.copies[which];
        let disk = SimulatedDisk::from_image(self.chance.next_u64(), Faults::none(), &copy.image);
        let newer = self.site.registry.anchor().is_some_and(|anchor| anchor.seq.0 > copy.model.head());
        let must_be_refused = newer && copy.anchor != self.site.registry.anchor();
        let line = format!("copy {which} is put in, refusal due: {must_be_refused}");
        self.note(|| line);
        self.tally.count("restored copies");
        self.swap(disk, which);
    }

    fn swap(&mut self, disk: SimulatedDisk, which: usize) {
        self.tally.disk_operations += self.disk.operations();
        let injected = self.disk.injected();
        self.tally.injected(&injected);
        self.disk = disk;
        self.model = self.copies[which].model.clone();
        self.injected_before = 0;
    }

    /// Copies the disk as it is, as a snapshot below a running system would.
    pub fn keep_copy(&mut self) {
        let image = self.disk.crash_image(&Crash::Random(self.chance.next_u64()));
        let copy = Copy { image, model: self.model.clone(), anchor: self.site.registry.anchor() };
        self.copies.push(copy);
        self.note(|| "a copy of the disk is kept".to_owned());
    }

    /// Nothing readable, and not too much.
    fn judge_disk(&mut self) -> Verdict {
        sealed::check(&self.disk.image(), &KEY)
    }

    fn judge_space(&mut self) -> Verdict {
        space::check(&self.disk.image(), self.plan.settings.capacity_bytes)
    }
}

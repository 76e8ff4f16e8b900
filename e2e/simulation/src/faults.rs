//! The budget of faults: which may come together in one seed, and what must hold under them.
//!
//! A seed has one climate. Crashes, deaths of the process, fencing, and a registry that is away come in every one.

use std::collections::BTreeMap;
use std::fmt;

use holdfast_disk::{Fault, Faults, Injected, SeededRandom};

/// What may go wrong in a seed, beside power and processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Climate {
    /// Nothing else. No error is excused.
    Calm,
    /// Reads, writes and syncs fail, and say so. Nothing acknowledged is lost; what cannot be done is said.
    Failing,
    /// The device is full, by itself or because others take its room.
    Full,
    /// Durable bytes rot, writes go astray or are lost, and nobody says so. Never are wrong bytes returned; what the
    /// anchor covers is either there or refused.
    Rotten,
    /// Old copies of the disk come back. One that is older than the anchor is refused.
    Copied,
}

impl Climate {
    /// Draws one.
    #[must_use]
    pub fn draw(chance: &SeededRandom) -> Self {
        match chance.below(10) {
            0..=3 => Self::Calm,
            4..=5 => Self::Failing,
            6 => Self::Full,
            7 => Self::Rotten,
            _ => Self::Copied,
        }
    }

    /// How the disk fails in one life.
    #[must_use]
    pub fn faults(self, chance: &SeededRandom, capacity_bytes: u64) -> Faults {
        let mut faults = Faults::none();
        match self {
            Self::Calm | Self::Copied => {}
            Self::Failing => match chance.below(4) {
                0 => faults.sync_error = 0.02,
                1 => faults.write_error = 0.01,
                2 => faults.read_error = 0.03,
                _ => (faults.sync_error, faults.write_error, faults.read_error) = (0.01, 0.005, 0.005),
            },
            Self::Full => {
                if chance.chance(0.5) {
                    faults.no_space = 0.03;
                } else {
                    faults.capacity = Some(capacity_bytes / 4 + chance.below(capacity_bytes));
                }
            }
            Self::Rotten => match chance.below(3) {
                0 => faults.misdirected_write = 0.004,
                1 => (faults.lost_write, faults.lost_writes_max) = (0.004, 2),
                _ => {}
            },
        }
        faults
    }
}

/// The kind of a fault, for counting.
#[must_use]
pub const fn name(fault: &Fault) -> &'static str {
    match fault {
        Fault::ReadError => "read errors",
        Fault::WriteError => "write errors",
        Fault::SyncError => "sync errors",
        Fault::NoSpace => "no space",
        Fault::MisdirectedWrite { .. } => "misdirected writes",
        Fault::LostWrite => "lost writes",
        Fault::PowerCut => "power cuts",
    }
}

/// What a simulation did and suffered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Seeds.
    pub seeds: u64,
    /// Things that were asked of a session.
    pub operations: u64,
    /// Operations of disks.
    pub disk_operations: u64,
    /// Openings that succeeded.
    pub lives: u64,
    /// Losses of power.
    pub crashes: u64,
    /// Records that were sealed.
    pub records: u64,
    /// Segments that collection freed.
    pub freed: u64,
    /// Faults and other adversities by name.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Counts an adversity.
    pub fn count(&mut self, name: &'static str) {
        *self.faults.entry(name).or_default() += 1;
    }

    /// Counts what a disk did.
    pub fn injected(&mut self, injected: &[Injected]) {
        injected.iter().for_each(|one| self.count(name(&one.fault)));
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        self.operations += other.operations;
        self.disk_operations += other.disk_operations;
        self.lives += other.lives;
        self.crashes += other.crashes;
        self.records += other.records;
        self.freed += other.freed;
        for (name, count) in &other.faults {
            *self.faults.entry(name).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} seeds, {} lives, {} operations ({} of disks), {} crashes, {} records sealed, {} segments freed; faults:",
            self.seeds, self.lives, self.operations, self.disk_operations, self.crashes, self.records, self.freed
        )?;
        let mut separator = " ";
        for (name, count) in &self.faults {
            write!(out, "{separator}{count} {name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

//! What is due, and how the store is: a schedule that somebody else's thread drives.

use std::sync::Arc;
use std::time::Duration;

use holdfast_ports::Clock;
use holdfast_seal::StorageKey;

use crate::error::StoreError;
use crate::store::ControlStore;

/// What is done on a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthTask {
    /// A part of a quick check.
    QuickCheck,
    /// Both copies of the first page made durable.
    Checkpoint,
    /// The compaction copy.
    Compaction,
}

/// How the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthStatus {
    /// Everything that was looked at is as it must be.
    Healthy,
    /// The store works, and something needs attention: a record that breaks its rules, a task that failed.
    Degraded,
    /// The file is damaged, or the store stopped.
    Damaged,
}

/// One thing to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlHealth {
    /// How the store is.
    pub status: HealthStatus,
    /// What was done.
    pub task: HealthTask,
    /// What was found, in words for people.
    pub detail: String,
    /// When, by the clock of the schedule.
    pub at: Duration,
}

/// How often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthIntervals {
    /// Between two rounds of the quick check.
    pub quick_check: Duration,
    /// Between two parts of one round.
    pub quick_check_part: Duration,
    /// Pages and records of one part.
    pub quick_check_units: u64,
    /// Between two checkpoints.
    pub checkpoint: Duration,
    /// Between two compactions.
    pub compaction: Duration,
}

impl Default for HealthIntervals {
    fn default() -> Self {
        Self {
            quick_check: Duration::from_secs(3600),
            quick_check_part: Duration::from_secs(1),
            quick_check_units: 1024,
            checkpoint: Duration::from_secs(300),
            compaction: Duration::from_secs(7 * 24 * 3600),
        }
    }
}

/// The schedule of one store.
pub struct HealthSchedule {
    clock: Arc<dyn Clock>,
    intervals: HealthIntervals,
    next_check: Duration,
    next_checkpoint: Duration,
    next_compaction: Duration,
    /// Findings of the round that is under way.
    found: Vec<(bool, String)>,
    pages: u64,
    records: u64,
}

impl HealthSchedule {
    /// A schedule whose first tasks are due one interval from now: opening the store has just checked it.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, intervals: HealthIntervals) -> Self {
        let now = clock.now();
        Self {
            clock,
            intervals,
            next_check: now + intervals.quick_check,
            next_checkpoint: now + intervals.checkpoint,
            next_compaction: now + intervals.compaction,
            found: Vec::new(),
            pages: 0,
            records: 0,
        }
    }

    /// What is due now.
    #[must_use]
    pub fn due(&self) -> Vec<HealthTask> {
        let now = self.clock.now();
        let all = [
            (self.next_checkpoint, HealthTask::Checkpoint),
            (self.next_check, HealthTask::QuickCheck),
            (self.next_compaction, HealthTask::Compaction),
        ];
        all.into_iter().filter(|(at, _)| *at <= now).map(|(_, task)| task).collect()
    }

    /// When something is due next.
    #[must_use]
    pub fn next(&self) -> Duration {
        self.next_check.min(self.next_checkpoint).min(self.next_compaction)
    }

    /// Does what is due, and says how the store is: once a round of the check, and after every other task.
    pub fn run_due(&mut self, store: &ControlStore, key: &StorageKey) -> Vec<ControlHealth> {
        let due = self.due();
        due.into_iter().filter_map(|task| self.run(task, store, key)).collect()
    }

    fn run(&mut self, task: HealthTask, store: &ControlStore, key: &StorageKey) -> Option<ControlHealth> {
        let now = self.clock.now();
        let done = match task {
            HealthTask::QuickCheck => self.check(store, now).transpose()?,
            HealthTask::Checkpoint => {
                self.next_checkpoint = now + self.intervals.checkpoint;
                let done = store.checkpoint();
                done.map(|()| (HealthStatus::Healthy, "both copies of the first page are durable".to_owned()))
            }
            HealthTask::Compaction => {
                self.next_compaction = now + self.intervals.compaction;
                store.compact_to_copy(key).map(|done| {
                    let detail =
                        format!("{} records; {} pages became {}", done.records, done.pages_before, done.pages_after);
                    (HealthStatus::Healthy, detail)
                })
            }
        };
        let (status, detail) = done.unwrap_or_else(|error| (status_of(&error), error.to_string()));
        Some(ControlHealth { status, task, detail, at: self.clock.now() })
    }

    /// One part of a round; `None` until the round is complete.
    fn check(&mut self, store: &ControlStore, now: Duration) -> Result<Option<(HealthStatus, String)>, StoreError> {
        self.next_check = now + self.intervals.quick_check;
        let report = store.quick_check(self.intervals.quick_check_units)?;
        self.found.extend(report.findings.into_iter().map(|finding| (finding.is_damage, finding.detail)));
        self.pages += report.pages;
        self.records += report.records;
        if !report.is_complete {
            self.next_check = now + self.intervals.quick_check_part;
            return Ok(None);
        }
        let found = std::mem::take(&mut self.found);
        let (pages, records) = (std::mem::take(&mut self.pages), std::mem::take(&mut self.records));
        let status = match found.iter().any(|(is_damage, _)| *is_damage) {
            true => HealthStatus::Damaged,
            false if found.is_empty() => HealthStatus::Healthy,
            false => HealthStatus::Degraded,
        };
        let words: Vec<String> = found.into_iter().map(|(_, detail)| detail).take(10).collect();
        let found = if words.is_empty() { "nothing wrong".to_owned() } else { words.join("; ") };
        Ok(Some((status, format!("{pages} pages and {records} records: {found}"))))
    }
}

fn status_of(error: &StoreError) -> HealthStatus {
    match error {
        StoreError::Damaged { .. } | StoreError::Stopped { .. } | StoreError::Disk(_) => HealthStatus::Damaged,
        _ => HealthStatus::Degraded,
    }
}

//! The block path: a volume through FUSE and a loop device, beside what others make of the same disk by the same road.
//!
//! The peers are a raw image and a LUKS image that qemu-storage-daemon exports through FUSE, each with a loop device on
//! it, and a loop device on the bare file. All do direct I/O, and all are asked by the same fio jobs, one system after the
//! other, each after it was written once from front to back.

mod fio;
mod systems;

pub use systems::sweep;

use crate::report::Report;
use crate::row::{Floor, Row};
use crate::spread::Spread;
use crate::{Bench, Outcome};

use fio::Job;
use systems::System;

/// Rows of this measurement.
pub const ROWS: &[&str] =
    &["block.rand_write_4k", "block.rand_read_4k", "block.write_fsync_4k", "block.seq_write_1m", "block.seq_read_1m"];

/// The least that each may be of the raw image's figure, and what it should be.
const FLOORS: [(f64, f64); 5] = [(0.8, 1.5), (0.6, 0.9), (0.8, 0.9), (0.6, 0.9), (0.6, 0.9)];

const BASELINE: &str = "a raw image through qemu-storage-daemon's FUSE export and a loop device";

/// Measures.
pub fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    if let Some(reason) = systems::missing() {
        return report.skipped(ROWS, &reason);
    }
    let bytes: u64 = if bench.quick { 64 << 20 } else { 1 << 30 };
    let (runs, seconds) = if bench.quick { (1, 0.3) } else { (3, 2.0) };
    let mut figures: Vec<(&str, Vec<Spread>)> = Vec::new();
    for system in System::ALL {
        let running = system.start(bench, bytes)?;
        fio::fill(running.device())?;
        let measure = |job: &Job| -> Outcome<Spread> {
            let all: Vec<f64> = (0..runs).map(|_| job.run(running.device(), seconds)).collect::<Outcome<_>>()?;
            Ok(Spread::of(all))
        };
        figures.push((system.name(), Job::ALL.iter().map(measure).collect::<Outcome<_>>()?));
        running.end()?;
    }
    let [(_, ours), (_, raw), (_, luks), (_, bare)] = figures.try_into().map_err(|_| "four systems")?;
    for (at, name) in ROWS.iter().enumerate() {
        let (job, mine) = (&Job::ALL[at], ours[at].clone());
        let (floor, goal) = FLOORS[at];
        let note = format!(
            "{}; volume of {} MiB; LUKS by the same road: {:.0} {}, we are at {:.2} of it; a loop device on the bare file: \
             {:.0}",
            job.words,
            bytes >> 20,
            luks[at].median(),
            job.unit,
            mine.median() / luks[at].median(),
            bare[at].median(),
        );
        let row = Row::more(name, job.unit, mine).against(raw[at].median(), BASELINE);
        report.add(row.floor(Floor::RatioAtLeast(floor)).goal(goal).note(note))?;
    }
    Ok(())
}

//! Random writes in the steady state: collection runs as fast as the clients write.

use std::time::Duration;

use holdfast_disk::MemoryDisk;
use holdfast_log::place::Shape;
use holdfast_vocabulary::BLOCK_BYTES;

use crate::baselines::AES_NAME;
use crate::bed::{Settings, Volume};
use crate::content::{Content, Truth};
use crate::load::{Clients, Done, Pattern, Until};
use crate::report::Report;
use crate::row::Row;
use crate::spread::Spread;
use crate::{Bench, Outcome};

/// Rows of this measurement.
pub const ROWS: &[&str] = &["engine.rand_write_4k_u70"];

/// Live bytes ÷ physical bytes.
const USE: f64 = 0.70;

/// Measures.
pub fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    let bytes: u64 = if bench.quick { 128 << 20 } else { 1 << 30 };
    let (truth, content) = (Truth::new(bytes / BLOCK_BYTES as u64), Content::random());
    let mut volume = Volume::create(MemoryDisk::new().handle(), settings(bytes, USE))?;
    let opened = volume.open()?;
    let clients = |seed| Clients { session: &opened.session, content: &content, truth: &truth, count: 2, seed };
    clients(0).write(Pattern::Sequential, Until::Bytes(bytes))?;
    clients(1).write(Pattern::Random, Until::Bytes(bytes * if bench.quick { 1 } else { 3 }))?;
    let before = opened.session.stats();
    let time = Duration::from_millis(if bench.quick { 300 } else { 2000 });
    let runs = (2..5).map(|seed| clients(seed).write(Pattern::Random, Until::Time(time)));
    let runs: Vec<Done> = runs.collect::<Outcome<_>>()?;
    let after = opened.session.stats();
    clients(9).verify(2048)?;
    let moved = after.replica.moved_records - before.replica.moved_records;
    let (cpu, wall) =
        runs.iter().fold((0.0, 0.0), |(cpu, wall), done| (cpu + done.elapsed.cpu, wall + done.elapsed.wall));
    let requests: u64 = runs.iter().map(|done| done.requests).sum();
    let records = after.records - before.records;
    let per = |events: u64| records as f64 / events.max(1) as f64;
    let note = format!(
        "2 clients, volume of {} MiB with segments of {} MiB in a store of {} MiB (u = {USE}), after {} volumes of random \
         overwriting; {:.2} blocks moved for each that was written; {:.2} cores busy, \
         {:.0} ns of CPU a block; a base every {:.0} records took {:.0} % of the time, a segment was freed every {:.0}",
        bytes >> 20,
        settings(bytes, USE).segment_bytes_max >> 20,
        settings(bytes, USE).capacity_bytes >> 20,
        if bench.quick { 1 } else { 3 },
        moved as f64 / records.max(1) as f64,
        cpu / wall,
        cpu / requests as f64 * 1e9,
        per(after.advances - before.advances),
        (after.advance_time - before.advance_time).as_secs_f64() / wall * 100.0,
        per(after.replica.freed_segments - before.replica.freed_segments),
    );
    let rates = Spread::of(runs.iter().map(Done::requests_per_second).collect());
    report.add(Row::more(ROWS[0], "IOPS", rates).against(bench.aes_blocks()?, AES_NAME).note(note))?;
    opened.session.close()?;
    Ok(())
}

/// A volume all of which is written, in a store that this fills to `share`.
pub fn settings(bytes: u64, share: f64) -> Settings {
    let live = bytes / BLOCK_BYTES as u64 * Shape::WHOLE.stored_bytes() as u64;
    let mut settings = Settings::new(bytes, (live as f64 / share) as u64).scaled_down((64 << 30) / bytes);
    // Groups are up to 1 MiB long, so segments cannot shrink as far as the rest.
    settings.segment_bytes_max = 2 << 20;
    // The rate of the clients is not bound by memory on a node; the model for amplification is.
    settings.budget_bytes = Settings::new(bytes, bytes).budget_bytes;
    settings
}

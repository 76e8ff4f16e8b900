//! Throughput on the machine's own disk, past the page cache, beside what the disk does without an engine.

use std::sync::Arc;
use std::time::Duration;

use holdfast_disk::{Disk, LinuxDisk, LinuxMode};
use holdfast_vocabulary::BLOCK_BYTES;

use crate::bed::{Settings, Volume};
use crate::content::{Content, Truth};
use crate::load::{Clients, Done, Pattern, Until};
use crate::raw_disk::QUEUE;
use crate::report::Report;
use crate::row::Row;
use crate::spread::Spread;
use crate::throughput::fill_on;
use crate::{Bench, Outcome};

/// Rows of this measurement.
pub const ROWS: &[&str] =
    &["engine.disk.seq_write_1m", "engine.disk.rand_write_4k", "engine.disk.seq_read_1m", "engine.disk.rand_read_4k"];

const OTHERS: &str = "the same disk without an engine";

/// A directory as the engine's disk.
pub fn direct(path: &std::path::Path) -> Outcome<Arc<dyn Disk>> {
    Ok(Arc::new(LinuxDisk::open(path, LinuxMode::Direct)?))
}

/// Measures.
pub fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    let raw = bench.raw()?.clone();
    let bytes: u64 = if bench.quick { 64 << 20 } else { 1 << 30 };
    let runs = if bench.quick { 1 } else { 3 };
    let aes = bench.aes()?.median();
    let of_aes = |rate: f64| format!("{:.2} of the bare cipher", rate / aes);

    let write = |pattern, clients| -> Outcome<Vec<Done>> {
        (0..runs).map(|seed| fresh_write(bench, pattern, clients, bytes, seed)).collect()
    };
    let done = write(Pattern::Sequential, 2)?;
    let rate = Spread::of(done.iter().map(Done::bytes_per_second).collect());
    let note =
        format!("2 clients, fresh volume of {} MiB, flushed in the time; {}", bytes >> 20, of_aes(rate.median()));
    let row = Row::more(ROWS[0], "MB/s", rate.scaled(1e-6)).note(note);
    report.add(row.against(raw.sequential_write.median() * 1e-6, OTHERS))?;

    let done = write(Pattern::Random, QUEUE)?;
    let rate = Spread::of(done.iter().map(Done::requests_per_second).collect());
    let note = format!("{QUEUE} clients, flushed in the time; {}", of_aes(rate.median() * BLOCK_BYTES as f64));
    let row = Row::more(ROWS[1], "IOPS", rate).note(note);
    report.add(row.against(raw.random_write.median(), OTHERS))?;

    let folder = bench.scratch.folder("read")?;
    let filled = fill_on(direct(folder.path())?, bytes)?;
    let time = Until::Time(Duration::from_millis(if bench.quick { 150 } else { 1000 }));
    let read = |pattern, clients| -> Outcome<Vec<Done>> {
        (0..runs).map(|seed| filled.clients(clients, seed).read(pattern, time)).collect()
    };
    let rate = Spread::of(read(Pattern::Sequential, 2)?.iter().map(Done::bytes_per_second).collect());
    let row = Row::more(ROWS[2], "MB/s", rate.scaled(1e-6)).note(format!("2 clients; {}", of_aes(rate.median())));
    report.add(row.against(raw.sequential_read.median() * 1e-6, OTHERS))?;

    let rate = Spread::of(read(Pattern::Random, QUEUE)?.iter().map(Done::requests_per_second).collect());
    let note = format!("{QUEUE} clients, index cached; {}", of_aes(rate.median() * BLOCK_BYTES as f64));
    let row = Row::more(ROWS[3], "IOPS", rate).note(note);
    report.add(row.against(raw.random_read.median(), OTHERS))?;
    filled.opened.session.close()?;
    Ok(())
}

fn fresh_write(bench: &Bench, pattern: Pattern, clients: u64, bytes: u64, seed: u64) -> Outcome<Done> {
    let folder = bench.scratch.folder("write")?;
    let (content, truth) = (Content::random(), Truth::new(bytes / BLOCK_BYTES as u64));
    let mut volume = Volume::create(direct(folder.path())?, Settings::new(bytes, 4 * bytes))?;
    let opened = volume.open()?;
    let clients = Clients { session: &opened.session, content: &content, truth: &truth, count: clients, seed };
    let done = clients.write(pattern, Until::Bytes(bytes))?;
    clients.verify(256)?;
    opened.session.close()?;
    Ok(done)
}

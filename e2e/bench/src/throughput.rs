//! Throughput on a RAM disk: what the CPU allows, on a fresh volume, without collection.

use std::sync::Arc;
use std::time::Duration;

use holdfast_disk::Disk;
use holdfast_vocabulary::BLOCK_BYTES;

use crate::baselines::AES_NAME;
use crate::bed::{Opened, Settings, Volume};
use crate::content::{Content, Truth};
use crate::load::{Clients, Done, Pattern, Until};
use crate::ram::{RamDisk, WARM_BYTES};
use crate::report::Report;
use crate::row::{Floor, Row};
use crate::spread::Spread;
use crate::{Bench, Outcome};

/// Rows of this measurement.
pub const ROWS: &[&str] = &[
    "engine.seq_write_1m",
    "engine.seq_write_1m_1t",
    "engine.rand_write_4k",
    "engine.rand_write_4k_1t",
    "engine.seq_read_1m",
    "engine.seq_read_1m_1t",
    "engine.rand_read_4k",
    "engine.rand_read_4k_1t",
];

const SEQUENTIAL_FLOOR: Floor = Floor::RatioAtLeast(0.5);
const RANDOM_FLOOR: Floor = Floor::RatioAtLeast(0.35);

const VOLUME_BYTES: u64 = 1 << 30;
/// What is read from: larger than any core's own cache. Were it larger still, the figure would be that of the machine's memory.
pub const READ_BYTES: u64 = 256 << 20;
/// What one timed run writes: with headers, tables and files taken ahead it must fit the memory that the disk holds.
const RUN_BYTES: u64 = WARM_BYTES / 4 * 3;
/// Blocks that are compared byte by byte after each run.
const SAMPLES: u64 = 512;

/// A filled volume to read from.
pub struct Filled {
    /// What it holds.
    pub content: Content,
    /// Which versions.
    pub truth: Truth,
    /// It is open.
    pub opened: Opened,
    /// Where; it outlives the session, whose anchors it keeps.
    _volume: Volume,
}

/// Measures.
pub fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    let aes = bench.aes()?.median();
    let written = format!("fresh volume of 1 GiB, {} MiB a run, flushed in the time", run_bytes(bench) >> 20);
    let ram = RamDisk::new()?;
    for (at, pattern, clients) in
        [(0, Pattern::Sequential, 2), (1, Pattern::Sequential, 1), (2, Pattern::Random, 2), (3, Pattern::Random, 1)]
    {
        if !bench.wants(ROWS[at]) {
            continue;
        }
        let runs = (0..if bench.quick { 2 } else { 9 }).map(|seed| fresh_write(bench, &ram, pattern, clients, seed));
        let runs: Vec<Done> = runs.collect::<Outcome<_>>()?;
        report.add(row(ROWS[at], pattern, clients, &runs, aes, format!("{clients} clients, {written}")))?;
    }
    drop(ram);
    let filled = fill(bench)?;
    let time = Until::Time(Duration::from_millis(if bench.quick { 100 } else { 700 }));
    for (at, pattern, clients) in
        [(4, Pattern::Sequential, 2), (5, Pattern::Sequential, 1), (6, Pattern::Random, 2), (7, Pattern::Random, 1)]
    {
        if !bench.wants(ROWS[at]) {
            continue;
        }
        let read = |seed| filled.clients(clients, seed).read(pattern, time);
        let runs: Vec<Done> = (0..3).map(read).collect::<Outcome<_>>()?;
        let note = format!(
            "{clients} clients, {} MiB written once in order, index cached, every block checked",
            (filled.truth.blocks() * BLOCK_BYTES as u64) >> 20
        );
        report.add(row(ROWS[at], pattern, clients, &runs, aes, note))?;
    }
    filled.opened.session.close()?;
    Ok(())
}

fn run_bytes(bench: &Bench) -> u64 {
    if bench.quick { 32 << 20 } else { RUN_BYTES }
}

/// A row of a pattern; the floors hold for two clients.
fn row(name: &'static str, pattern: Pattern, clients: u64, runs: &[Done], aes: f64, note: String) -> Row {
    let (row, floor) = match pattern {
        Pattern::Sequential => {
            let runs = runs.iter().map(|done| done.bytes_per_second() * 1e-6).collect();
            (Row::more(name, "MB/s", Spread::of(runs)).against(aes * 1e-6, AES_NAME), SEQUENTIAL_FLOOR)
        }
        Pattern::Random | Pattern::Hot => {
            let runs = runs.iter().map(Done::requests_per_second).collect();
            (Row::more(name, "IOPS", Spread::of(runs)).against(aes / BLOCK_BYTES as f64, AES_NAME), RANDOM_FLOOR)
        }
    };
    let busy = runs.iter().map(|done| done.elapsed.cpu / done.elapsed.wall).sum::<f64>() / runs.len() as f64;
    let blocks = |done: &Done| done.bytes as f64 / BLOCK_BYTES as f64;
    let cpu = Spread::of(runs.iter().map(|done| done.elapsed.cpu / blocks(done) * 1e9).collect()).median();
    let bare = BLOCK_BYTES as f64 / aes * 1e9;
    let row = row.note(format!("{note}; {busy:.2} cores busy, {cpu:.0} ns of CPU a block (bare cipher: {bare:.0})"));
    if clients == 2 { row.floor(floor) } else { row }
}

/// One run on a fresh volume.
pub fn fresh_write(bench: &Bench, ram: &RamDisk, pattern: Pattern, clients: u64, seed: u64) -> Outcome<Done> {
    let content = Content::random();
    let truth = Truth::new(VOLUME_BYTES / BLOCK_BYTES as u64);
    let mut volume = Volume::create(ram.handle(), Settings::new(VOLUME_BYTES, 4 * VOLUME_BYTES))?;
    let opened = volume.open()?;
    let clients = Clients { session: &opened.session, content: &content, truth: &truth, count: clients, seed };
    let done = clients.write(pattern, Until::Bytes(run_bytes(bench)))?;
    clients.verify(SAMPLES)?;
    opened.session.close()?;
    drop((opened, volume));
    ram.clear()?;
    Ok(done)
}

/// A volume that was written once from front to back, with all of it in the base.
pub fn fill(bench: &Bench) -> Outcome<Filled> {
    let bytes = if bench.quick { 64 << 20 } else { READ_BYTES };
    let disk: Arc<dyn Disk> = Arc::new(holdfast_disk::MemoryDisk::new());
    fill_on(disk, bytes)
}

/// The same on a disk.
pub fn fill_on(disk: Arc<dyn Disk>, bytes: u64) -> Outcome<Filled> {
    let content = Content::random();
    let truth = Truth::new(bytes / BLOCK_BYTES as u64);
    let mut volume = Volume::create(disk, Settings::new(bytes, 4 * bytes))?;
    let filled = Filled { content, truth, opened: volume.open()?, _volume: volume };
    filled.clients(2, 1).write(Pattern::Sequential, Until::Bytes(bytes))?;
    filled.opened.session.checkpoint()?;
    Ok(filled)
}

impl Filled {
    /// Clients of it.
    pub fn clients(&self, count: u64, seed: u64) -> Clients<'_> {
        Clients { session: &self.opened.session, content: &self.content, truth: &self.truth, count, seed }
    }
}

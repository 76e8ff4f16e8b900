//! The baselines of this run: measured when first asked for, and the cipher again at the end, which shows whether the
//! machine was the same all along.

use std::cell::OnceCell;
use std::time::Duration;

use holdfast_disk::{AlignedBuffer, SeededRandom};
use holdfast_log::place::Shape;
use holdfast_vocabulary::BLOCK_BYTES;

use crate::ram::RamDisk;
use crate::raw_disk::RawRates;
use crate::report::Report;
use crate::row::Row;
use crate::spread::Spread;
use crate::{Bench, Outcome, cipher, raw_disk};

/// Rows at the start.
pub const ROWS: &[&str] = &[
    "baseline.aes_seal_4k",
    "baseline.memory_copy_4k",
    "baseline.ram_disk_write_1m",
    "baseline.ram_disk_rand_read_4k",
    "baseline.disk_seq_write_1m",
    "baseline.disk_seq_read_1m",
    "baseline.disk_rand_write_4k",
    "baseline.disk_rand_read_4k",
    "baseline.disk_write_sync_4k",
];
/// Rows at the end.
pub const ROWS_AGAIN: &[&str] = &["baseline.aes_seal_4k_again"];

/// What the engine's rows are compared with.
pub const AES_NAME: &str = "one core's bare AES-256-GCM, 4 KiB blocks";

/// Baselines as far as they were asked for.
#[derive(Default)]
pub struct Baselines {
    aes: OnceCell<Spread>,
    raw: OnceCell<RawRates>,
}

impl Bench {
    /// Bytes a second of the bare cipher on one core.
    pub fn aes(&self) -> Outcome<&Spread> {
        if self.baselines.aes.get().is_none() {
            let _ = self.baselines.aes.set(self.measure_aes()?);
        }
        Ok(self.baselines.aes.get().expect("it was set"))
    }

    fn measure_aes(&self) -> Outcome<Spread> {
        let (runs, budget) = if self.quick { (3, 20) } else { (9, 100) };
        cipher::seal_rate(runs, Duration::from_millis(budget))
    }

    /// Blocks of 4 KiB a second of the same.
    pub fn aes_blocks(&self) -> Outcome<f64> {
        Ok(self.aes()?.median() / BLOCK_BYTES as f64)
    }

    /// The bare disk.
    pub fn raw(&self) -> Outcome<&RawRates> {
        if self.baselines.raw.get().is_none() {
            let (bytes, runs, time) = if self.quick { (64 << 20, 1, 200) } else { (1 << 30, 3, 1000) };
            let folder = self.scratch.folder("raw")?;
            let rates = raw_disk::measure(&folder.path().join("raw"), bytes, runs, Duration::from_millis(time))?;
            let _ = self.baselines.raw.set(rates);
        }
        Ok(self.baselines.raw.get().expect("it was set"))
    }
}

/// Measures all of them.
pub fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    let runs = if bench.quick { 3 } else { 7 };
    report.add(
        Row::more("baseline.aes_seal_4k", "MB/s", bench.aes()?.scaled(1e-6))
            .note("aws-lc-rs on one core, one hot block of 4 KiB, 48 bytes of additional data"),
    )?;
    let copy = cipher::copy_rate(runs, Duration::from_millis(if bench.quick { 20 } else { 60 }));
    report.add(
        Row::more("baseline.memory_copy_4k", "MB/s", copy.scaled(1e-6))
            .note("one core copies 4 KiB at a time between two buffers of 64 MiB"),
    )?;
    report.add(
        Row::more("baseline.ram_disk_write_1m", "MB/s", ram_rate(runs)?.scaled(1e-6))
            .note("one core writes 1 MiB at a time to the RAM disk; what the engine writes there pays this as well"),
    )?;
    let reads = ram_reads(runs, if bench.quick { 10_000 } else { 200_000 })?;
    report.add(Row::more("baseline.ram_disk_rand_read_4k", "IOPS", reads).note(
        "one core reads what a block takes (nine sectors) anywhere in 256 MiB of the RAM disk; what the engine reads \
         there pays this as well",
    ))?;
    let raw = bench.raw()?;
    let overwritten = "O_DIRECT, a file that was written before";
    let rows = [
        Row::more(ROWS[4], "MB/s", raw.sequential_write.scaled(1e-6)).note(format!("{overwritten}, 2 threads, synced")),
        Row::more(ROWS[5], "MB/s", raw.sequential_read.scaled(1e-6)).note(format!("{overwritten}, 2 threads")),
        Row::more(ROWS[6], "IOPS", raw.random_write.clone()).note(format!("{overwritten}, 32 threads, not synced")),
        Row::more(ROWS[7], "IOPS", raw.random_read.clone()).note(format!("{overwritten}, 32 threads")),
        Row::less(ROWS[8], "us", raw.write_and_sync.scaled(1e6)).note(format!("{overwritten}, pwrite and fdatasync")),
    ];
    rows.into_iter().try_for_each(|row| report.add(row))
}

/// The cipher once more.
pub fn run_again(bench: &Bench, report: &mut Report) -> Outcome<()> {
    let before = bench.aes()?.median() * 1e-6;
    report.add(
        Row::more("baseline.aes_seal_4k_again", "MB/s", bench.measure_aes()?.scaled(1e-6))
            .against(before, "the same at the start of the run")
            .note("far from 1 means that somebody else used this machine meanwhile"),
    )
}

/// Reads a second, each of the sectors that a sealed block takes.
fn ram_reads(runs: usize, reads: u64) -> Outcome<Spread> {
    const SECTOR: u64 = 512;
    let span = (Shape::WHOLE.stored_bytes() as u64).next_multiple_of(SECTOR);
    let disk = RamDisk::new()?;
    let bytes = disk.write_file("reads")?;
    let file = holdfast_disk::Disk::open(&*disk.handle(), "reads")?;
    let (random, mut buffer) = (SeededRandom::new(6), AlignedBuffer::with_len(span as usize));
    let mut rates = Vec::new();
    for _ in 0..runs {
        let start = std::time::Instant::now();
        for _ in 0..reads {
            file.read_at(random.below((bytes - span) / SECTOR) * SECTOR, &mut buffer)?;
            std::hint::black_box(&buffer);
        }
        rates.push(reads as f64 / start.elapsed().as_secs_f64());
    }
    Ok(Spread::of(rates))
}

fn ram_rate(runs: usize) -> Outcome<Spread> {
    let disk = RamDisk::new()?;
    let mut rates = Vec::new();
    for _ in 0..runs {
        let start = std::time::Instant::now();
        let bytes = disk.write_file("rate")?;
        rates.push(bytes as f64 / start.elapsed().as_secs_f64());
        disk.clear()?;
    }
    Ok(Spread::of(rates))
}

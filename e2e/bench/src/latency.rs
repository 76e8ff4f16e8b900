//! One write and one flush at a time on the machine's disk, against a bare pwrite and fdatasync of the same size.

use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_disk::{AlignedBuffer, Disk, File};
use holdfast_vocabulary::BLOCK_BYTES;

use crate::bed::{Settings, Volume};
use crate::content::{Content, Pen, Truth};
use crate::load::{Clients, Draw, Pattern};
use crate::measured_disk::direct;
use crate::report::Report;
use crate::row::Row;
use crate::spread::Spread;
use crate::{Bench, Outcome};

/// Rows of this measurement.
pub const ROWS: &[&str] = &["engine.disk.write_flush_4k"];

const VOLUME_BYTES: u64 = 256 << 20;

/// Bytes of the bare files.
const BARE_BYTES: u64 = 32 << 20;

/// Measures: the engine and the bare disk in turn, so that both meet the same neighbours.
pub fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    let bare = bench.scratch.folder("bare")?;
    let bare = direct(bare.path())?;
    let written = prepared(&*bare, "written", true)?;
    let folder = bench.scratch.folder("latency")?;
    let (content, truth) = (Content::random(), Truth::new(VOLUME_BYTES / BLOCK_BYTES as u64));
    let mut volume = Volume::create(direct(folder.path())?, Settings::new(VOLUME_BYTES, 4 * VOLUME_BYTES))?;
    let opened = volume.open()?;
    let session = &opened.session;
    let mut draw = Draw::new(Pattern::Random, truth.blocks(), 0, 1, 3);
    let (mut pen, block_bytes) = (Pen::new(&content), AlignedBuffer::with_len(BLOCK_BYTES));
    let time = Duration::from_millis(if bench.quick { 500 } else { 5000 });
    let (start, mut ticked) = (Instant::now(), Instant::now());
    let (mut engine, mut overwriting, mut allocated) = (Vec::new(), Vec::new(), Vec::new());
    let mut fresh = prepared(&*bare, "fresh", false)?;
    let mut at = 0;
    while start.elapsed() < time || engine.len() < 20 {
        let block = draw.draw();
        let version = truth.version(block) + 1;
        let bytes = pen.write(block, 1, version);
        engine.push(timed(|| {
            session.write(block * BLOCK_BYTES as u64, bytes)?;
            Ok(session.flush()?)
        })?);
        truth.note(block, 1, version);
        if at == BARE_BYTES {
            bare.remove("fresh")?;
            fresh = prepared(&*bare, "fresh", false)?;
            at = 0;
        }
        for (file, seconds) in [(&written, &mut overwriting), (&fresh, &mut allocated)] {
            seconds.push(timed(|| Ok(file.write_at(at, &block_bytes).and_then(|()| file.sync())?))?);
        }
        at += BLOCK_BYTES as u64;
        if ticked.elapsed() > Duration::from_millis(100) {
            session.tick()?;
            ticked = Instant::now();
        }
    }
    Clients { session, content: &content, truth: &truth, count: 1, seed: 4 }.verify(512)?;
    let micros = |seconds: Vec<f64>| Spread::of(seconds).scaled(1e6);
    let (engine, overwriting, allocated) = (micros(engine), micros(overwriting), micros(allocated));
    let note = format!(
        "median of {} pairs one after the other, each between two bare ones; 99th percentile {:.0} us, bare {:.0} us; a bare \
         write to room that was allocated and never written takes {:.0} us",
        engine.count(),
        engine.percentile(0.99),
        overwriting.percentile(0.99),
        allocated.median(),
    );
    let row = Row::less(ROWS[0], "us", engine).against(overwriting.median(), "bare pwrite and fdatasync, overwriting");
    report.add(row.goal(0.9).note(note))?;
    session.close()?;
    Ok(())
}

/// A file with room for what will be written.
fn prepared(disk: &dyn Disk, name: &str, written: bool) -> Outcome<Arc<dyn File>> {
    let file = disk.create(name)?;
    file.allocate(BARE_BYTES)?;
    let zeros = AlignedBuffer::with_len(1 << 20);
    for at in (0..if written { BARE_BYTES } else { 0 }).step_by(1 << 20) {
        file.write_at(at, &zeros)?;
    }
    file.sync()?;
    disk.sync_names()?;
    Ok(file)
}

fn timed(call: impl FnOnce() -> Outcome<()>) -> Outcome<f64> {
    let start = Instant::now();
    call()?;
    Ok(start.elapsed().as_secs_f64())
}

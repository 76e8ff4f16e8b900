//! How long a volume takes from "open it" to the first block read, with the longest tail that its bound allows.

use std::time::Instant;

use holdfast_disk::SeededRandom;
use holdfast_vocabulary::BLOCK_BYTES;

use crate::bed::{Settings, Volume};
use crate::content::{Content, Pen};
use crate::load::write_when_there_is_room;
use crate::measured_disk::direct;
use crate::report::Report;
use crate::row::{Floor, Row};
use crate::spread::Spread;
use crate::{Bench, Outcome};

/// Rows of this measurement.
pub const ROWS: &[&str] = &["engine.open_longest_tail"];

/// Addresses of the volume.
const SIZE: u64 = 64 << 30;
/// Seconds that an opening may take.
const MOST: f64 = 2.0;

/// Measures.
pub fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    let folder = bench.scratch.folder("open")?;
    let content = Content::random();
    let mut settings = Settings::new(SIZE, SIZE);
    // Nobody makes a new base before the bound is reached.
    settings.tail_records_due = settings.tail_records_max;
    let (base, tail) = if bench.quick { (4096, 16384) } else { (128 << 10, settings.tail_records_max - 256) };
    let mut volume = Volume::create(direct(folder.path())?, settings.clone())?;
    let opened = volume.open()?;
    let (random, mut pen) = (SeededRandom::new(8), Pen::new(&content));
    let mut write = |count: u64| -> Outcome<u64> {
        let mut block = 0;
        for _ in 0..count {
            block = random.below(settings.blocks());
            write_when_there_is_room(&opened.session, block, pen.write(block, 1, 1))?;
        }
        Ok(block)
    };
    write(base)?;
    opened.session.checkpoint()?;
    let last = write(tail)?;
    opened.session.flush()?;
    let above = opened.session.stats().records - base;
    // As after a crash: nothing is closed in order.
    drop(opened);
    let mut seconds = Vec::new();
    for _ in 0..if bench.quick { 2 } else { 5 } {
        let mut bytes = vec![0; BLOCK_BYTES];
        let start = Instant::now();
        let opened = volume.open()?;
        opened.session.read(last * BLOCK_BYTES as u64, &mut bytes)?;
        seconds.push(start.elapsed().as_secs_f64());
        content.check(last, 1, &bytes)?;
        drop(opened);
    }
    let note = format!(
        "{above} records of 4 KiB above a base of {base}, anywhere in 64 GiB; O_DIRECT, so nothing is in the page cache; \
         promise, replay, checks, start record, then one read"
    );
    report.add(Row::less(ROWS[0], "s", Spread::of(seconds)).floor(Floor::AtMost(MOST)).note(note))?;
    Ok(())
}

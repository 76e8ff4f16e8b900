//! An index that does not fit its memory: what it takes at most, and what a cold read costs.
//!
//! Compression is on and blocks are mostly zeros, so that more blocks can be mapped than this machine has memory for
//! otherwise. Every block of the volume is written once, in random order.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use holdfast_disk::{MemoryDisk, SeededRandom};
use holdfast_log::period::Compression;
use holdfast_vocabulary::BLOCK_BYTES;

use crate::bed::{Opened, Settings, Volume};
use crate::content::{Content, Pen};
use crate::counting::CountingDisk;
use crate::load::write_when_there_is_room;
use crate::report::Report;
use crate::row::{Floor, Row};
use crate::spread::Spread;
use crate::{Bench, Outcome};

/// Rows of this measurement.
pub const ROWS: &[&str] = &["engine.index_memory_peak", "engine.budget_peak", "engine.cold_read_extra"];

const MIB: f64 = 1048576.0;
/// The cap with which cold reads are cold.
const COLD_CAP: usize = 2 << 20;

/// The most that was seen.
#[derive(Default)]
struct Peak {
    index: AtomicU64,
    budget: AtomicU64,
}

impl Peak {
    fn look(&self, opened: &Opened) {
        self.index.fetch_max(opened.session.stats().replica.index_memory_bytes, Ordering::Relaxed);
        self.budget.fetch_max(opened.budget.used() as u64, Ordering::Relaxed);
    }
}

/// Measures.
pub fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    let (bytes, cap): (u64, usize) = if bench.quick { (256 << 20, 2 << 20) } else { (12 << 30, 32 << 20) };
    let (disk, counts) = CountingDisk::over(MemoryDisk::new().handle());
    let mut settings = Settings::new(bytes, bytes);
    settings.compression = Compression::Lz4;
    settings.budget_bytes = cap;
    if bench.quick {
        (settings.tail_records_max, settings.tail_records_due) = (16 << 10, 12 << 10);
    }
    let content = Content::compressible();
    let mut volume = Volume::create(disk, settings.clone())?;
    let opened = volume.open()?;
    let peak = Peak::default();
    fill(&opened, &content, settings.blocks(), &peak)?;
    let base = opened.session.stats().replica.metadata_bytes;
    opened.session.close()?;
    drop(opened);
    let cap = cap as f64 / MIB;
    let note = format!(
        "{} Ki blocks written once in random order, {} MiB of index on the disk; the session's own pages of it count against \
         the budget too",
        settings.blocks() >> 10,
        base >> 20
    );
    let megabytes = |bytes: &AtomicU64| Spread::counted(bytes.load(Ordering::Relaxed) as f64 / MIB);
    report.add(Row::less(ROWS[0], "MiB", megabytes(&peak.index)).floor(Floor::AtMost(cap)).note(note))?;
    let note = "all that is charged to the node's budget: overlay, caches of store and session, changes";
    report.add(Row::less(ROWS[1], "MiB", megabytes(&peak.budget)).floor(Floor::AtMost(cap)).note(note))?;

    volume.settings().budget_bytes = COLD_CAP;
    let opened = volume.open()?;
    let reads: u64 = if bench.quick { 1000 } else { 20_000 };
    let random = SeededRandom::new(21);
    let mut buffer = vec![0; BLOCK_BYTES];
    let mut read = |count: u64| -> Outcome<()> {
        for _ in 0..count {
            let block = random.below(settings.blocks());
            opened.session.read(block * BLOCK_BYTES as u64, &mut buffer)?;
            content.check(block, 1, &buffer)?;
        }
        Ok(())
    };
    // The inner nodes come in with the first reads.
    read(reads / 4)?;
    let (seen, claimed) = (counts.reads(), opened.session.stats().replica.cold_reads);
    read(reads)?;
    let extra = (counts.reads() - seen) as f64 / reads as f64 - 1.0;
    let claimed = (opened.session.stats().replica.cold_reads - claimed) as f64 / reads as f64;
    let note = format!(
        "{reads} random reads with a cap of {} KiB, counted by the disk, less the one for the block itself; the store's own \
         count of cold pages is {claimed:.3} a read",
        COLD_CAP >> 10
    );
    report.add(Row::less(ROWS[2], "reads", Spread::counted(extra)).floor(Floor::AtMost(1.0)).note(note))?;
    opened.session.close()?;
    Ok(())
}

/// Writes every block once, in random order, and watches the memory.
fn fill(opened: &Opened, content: &Content, blocks: u64, peak: &Peak) -> Outcome<()> {
    let mut order: Vec<u32> = (0..u32::try_from(blocks)?).collect();
    let random = SeededRandom::new(20);
    for place in (1..order.len()).rev() {
        order.swap(place, random.below(place as u64 + 1) as usize);
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let upkeep = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                opened.session.tick()?;
                std::thread::sleep(Duration::from_millis(5));
            }
            Outcome::Ok(())
        });
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                peak.look(opened);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let mut pen = Pen::new(content);
        let written = order.iter().try_for_each(|block| {
            let block = u64::from(*block);
            write_when_there_is_room(&opened.session, block, pen.write(block, 1, 1))
        });
        stop.store(true, Ordering::Relaxed);
        upkeep.join().map_err(|_| "the upkeep thread panicked")??;
        written
    })
}

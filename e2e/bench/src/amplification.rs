//! Write amplification: device bytes of every cause for each byte that a user wrote, in the steady state.
//!
//! The volume is a scale model of one of 64 GiB: what bounds a node (the tail, the memory) is as many times smaller as
//! the volume. Segments are not, because a group of 1 MiB must fit one; so there are fewer of them than in the original,
//! which makes collection dearer here, not cheaper. Bytes are counted below the engine, by the disk.

use std::sync::Arc;

use holdfast_disk::{AlignedBuffer, Disk, MemoryDisk};
use holdfast_log::group::{GroupBody, GroupHeader};
use holdfast_log::place::Shape;
use holdfast_log::seam::ReplicaStats;
use holdfast_log::segment::{HEAD_BYTES, MovedTable, SegmentFoot, SegmentHead, SegmentKind, decode_header_copies};

use crate::bed::{Opened, Settings, Volume};
use crate::content::{Content, Truth};
use crate::counting::{CountingDisk, Counts};
use crate::load::{Clients, Pattern, Until};
use crate::report::Report;
use crate::row::{Floor, Row};
use crate::spread::Spread;
use crate::{Bench, Outcome, steady};

/// Rows of this measurement.
pub const ROWS: &[&str] = &[
    "engine.amplification_seq",
    "engine.amplification_u70",
    "engine.amplification_u80",
    "engine.metadata_share",
    "engine.amplification_80_20",
];

/// Windows that the figure is made of, once they agree.
const WINDOWS: usize = 3;
/// How far they may lie apart.
const AGREE: f64 = 0.02;

/// Measures.
pub fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    let cases = [
        (ROWS[0], Pattern::Sequential, 0.80, 1.3),
        (ROWS[1], Pattern::Random, 0.70, 2.2),
        (ROWS[2], Pattern::Random, 0.80, 3.1),
        (ROWS[4], Pattern::Hot, 0.80, 2.4),
    ];
    for (name, pattern, share, most) in cases {
        if !(bench.wants(name) || name == ROWS[2] && bench.wants(ROWS[3])) {
            continue;
        }
        let mut model = Model::new(bench, share)?;
        let (figure, note) = model.steady_state(bench, pattern)?;
        report.add(Row::less(name, "x", figure).floor(Floor::AtMost(most)).note(note))?;
        if name == ROWS[2] {
            report.add(model.metadata_share()?)?;
        }
        model.opened.session.close()?;
    }
    Ok(())
}

/// The model volume, filled.
struct Model {
    disk: Arc<dyn Disk>,
    counts: Arc<Counts>,
    settings: Settings,
    content: Content,
    truth: Truth,
    /// Dropped before the volume that it belongs to.
    opened: Opened,
    _volume: Volume,
}

impl Model {
    fn new(bench: &Bench, share: f64) -> Outcome<Self> {
        let bytes: u64 = if bench.quick { 128 << 20 } else { 2 << 30 };
        let mut settings = steady::settings(bytes, share);
        settings.budget_bytes /= ((64 << 30) / bytes) as usize;
        let (disk, counts) = CountingDisk::over(MemoryDisk::new().handle());
        let mut volume = Volume::create(Arc::clone(&disk), settings.clone())?;
        let (content, truth) = (Content::random(), Truth::new(settings.blocks()));
        let model = Self { disk, counts, content, truth, opened: volume.open()?, _volume: volume, settings };
        model.clients(0).write(Pattern::Sequential, Until::Bytes(bytes))?;
        Ok(model)
    }

    fn clients(&self, seed: u64) -> Clients<'_> {
        let session = &self.opened.session;
        Clients { session, content: &self.content, truth: &self.truth, count: 1, seed }
    }

    /// Writes until the last windows agree.
    fn steady_state(&mut self, bench: &Bench, pattern: Pattern) -> Outcome<(Spread, String)> {
        let window = self.settings.size_bytes / 2;
        let (least, most) = if bench.quick { (3, 4) } else { (5, 9) };
        let mut windows: Vec<f64> = Vec::new();
        let mut before = self.opened.session.stats().replica;
        let mut causes = String::new();
        while windows.len() < most {
            let device = self.counts.written_bytes();
            let done = self.clients(windows.len() as u64 + 1).write(pattern, Until::Bytes(window))?;
            windows.push((self.counts.written_bytes() - device) as f64 / done.bytes as f64);
            let after = self.opened.session.stats().replica;
            causes = words(&before, &after, done.bytes);
            before = after;
            self.clients(windows.len() as u64).verify(256)?;
            if windows.len() >= least && agree(&windows[windows.len() - WINDOWS..]) {
                break;
            }
        }
        let last = windows[windows.len() - WINDOWS..].to_vec();
        let agreed = if agree(&last) { "" } else { "; the last windows still differ by more than 2 %" };
        let settings = &self.settings;
        let segments = settings.size_bytes / u64::from(settings.segment_bytes_max);
        let note = format!(
            "volume of {} MiB, {segments} segments of live data, {} Ki records of tail, {} KiB of memory; windows of half a \
             volume, {} of them{agreed}; by cause in the last: {causes}",
            settings.size_bytes >> 20,
            settings.tail_records_max >> 10,
            settings.budget_bytes >> 10,
            windows.len(),
        );
        Ok((Spread::of(last), note))
    }

    /// What is neither live ciphertext nor garbage, when collection has nothing left to do.
    fn metadata_share(&self) -> Outcome<Row> {
        let session = &self.opened.session;
        let freed = || session.stats().replica.freed_segments;
        // Victims are ready when both slots cover them, so two checkpoints without any are the end of it.
        let mut idle = 0;
        while idle < 2 {
            let before = freed();
            session.checkpoint()?;
            session.tick()?;
            idle = if freed() == before { idle + 1 } else { 0 };
        }
        let (mut all, mut ciphertext, mut ahead) = (0, 0, 0);
        for name in self.disk.list()? {
            let bytes = self.disk.open(&name)?.len()?;
            match name.starts_with("seg-").then(|| ciphertext_bytes(&*self.disk, &name)).transpose()? {
                Some(None) => ahead += bytes,
                Some(Some(held)) => {
                    all += bytes;
                    ciphertext += held;
                }
                None => all += bytes,
            }
        }
        let share = (all - ciphertext) as f64 / all as f64 * 100.0;
        Ok(Row::less(ROWS[3], "%", Spread::counted(share)).floor(Floor::AtMost(2.0)).note(format!(
            "after uniform writing at u 0.80 and a checkpoint: {} MiB of files, {} MiB of them ciphertext, live or not; {} \
             MiB of index, checkpoints and headers, dead pages included; {} MiB of room taken ahead are not counted",
            all >> 20,
            ciphertext >> 20,
            session.stats().replica.metadata_bytes >> 20,
            ahead >> 20
        )))
    }
}

fn agree(windows: &[f64]) -> bool {
    let (least, most) = windows.iter().fold((f64::MAX, 0.0_f64), |(a, b), one| (a.min(*one), b.max(*one)));
    most - least <= AGREE * least
}

/// Device bytes by cause, as the store counts them, for each byte of a user.
fn words(before: &ReplicaStats, after: &ReplicaStats, user: u64) -> String {
    let causes = [
        ("log", before.written_log_bytes, after.written_log_bytes),
        ("heads and tables", before.written_table_bytes, after.written_table_bytes),
        ("moved", before.written_moved_bytes, after.written_moved_bytes),
        ("index and checkpoints", before.written_index_bytes, after.written_index_bytes),
        ("ahead", before.written_ahead_bytes, after.written_ahead_bytes),
    ];
    let words =
        causes.iter().map(|(name, before, after)| format!("{name} {:.3}", (after - before) as f64 / user as f64));
    words.collect::<Vec<_>>().join(", ")
}

/// Bytes of ciphertext in a segment's file, live or not, tags left out; `None` if it is not closed yet.
fn ciphertext_bytes(disk: &dyn Disk, name: &str) -> Outcome<Option<u64>> {
    let file = disk.open(name)?;
    let length = file.len()?;
    let sector = disk.sector_bytes().max(HEAD_BYTES);
    let (mut head, mut foot) = (AlignedBuffer::with_len(sector), AlignedBuffer::with_len(sector));
    file.read_at(0, &mut head)?;
    file.read_at(length - sector as u64, &mut foot)?;
    let (Ok(head), Ok(foot)) = (SegmentHead::decode(&head[..HEAD_BYTES]), SegmentFoot::decode(&foot[..HEAD_BYTES]))
    else {
        return Ok(None);
    };
    if head.instance != foot.instance {
        return Ok(None);
    }
    let mut table = AlignedBuffer::with_len((foot.table_bytes as usize).next_multiple_of(sector));
    file.read_at(foot.table_offset.into(), &mut table)?;
    let table = &table[..foot.table_bytes as usize];
    let bytes = |shape: Shape| u64::from(shape.ciphertext_bytes());
    Ok(Some(match head.kind {
        SegmentKind::Moved { .. } => MovedTable::decode(table)?.entries.iter().map(|entry| bytes(entry.shape)).sum(),
        SegmentKind::Log { .. } => {
            let mut sum = 0;
            for copy in decode_header_copies(table, foot.count)? {
                if let GroupBody::Data(entries) = GroupHeader::decode(&copy.header)?.0.body {
                    sum += entries.iter().map(|entry| bytes(entry.shape)).sum::<u64>();
                }
            }
            sum
        }
    }))
}

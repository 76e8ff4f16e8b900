//! What a volume costs that holds nothing.

use crate::bed::{Settings, Volume};
use crate::measured_disk::direct;
use crate::report::Report;
use crate::row::{Floor, Row};
use crate::spread::Spread;
use crate::{Bench, Outcome};

/// Rows of this measurement.
pub const ROWS: &[&str] = &["engine.empty_volume"];

/// Measures.
pub fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    let folder = bench.scratch.folder("empty")?;
    let mut volume = Volume::create(direct(folder.path())?, Settings::new(1 << 40, 1 << 40))?;
    let opened = volume.open()?;
    opened.session.flush()?;
    opened.session.tick()?;
    let bytes = folder.allocated_bytes()? as f64;
    report.add(
        Row::less(ROWS[0], "bytes", Spread::counted(bytes))
            .floor(Floor::AtMost(65536.0))
            .note("all files of an open volume of 1 TiB that was never written to, as the file system counts blocks"),
    )?;
    opened.session.close()?;
    Ok(())
}

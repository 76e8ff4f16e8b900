//! The quick check: every page that is in use is read from the disk again, and every record decoded and validated.
//!
//! A call does a bounded amount of work and goes on where the last one ended, so that it fits between other things.

use crate::error::StoreError;
use crate::fault::Fault;
use crate::record::{Record, decode, split_table_key};
use crate::store::ControlStore;
use crate::transaction::sealed::Sealed;

/// How one kind is checked.
#[derive(Clone, Copy)]
pub struct KindCheck {
    kind: &'static str,
    check: fn(&str, &[u8]) -> Result<(), StoreError>,
}

impl KindCheck {
    /// The check of `T`: decode, migrate, validate.
    #[must_use]
    pub fn of<T: Record>() -> Self {
        Self { kind: T::KIND, check: |key, envelope| decode::<T>(key, envelope).map(|_| ()) }
    }
}

/// Where the next call goes on.
#[derive(Clone, Debug, Default)]
pub(crate) enum CheckCursor {
    #[default]
    Start,
    Pages(u64),
    Records(Vec<u8>),
}

/// Something that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFinding {
    /// Whether the store itself is damaged; otherwise a single record is wrong.
    pub is_damage: bool,
    /// What and where.
    pub detail: String,
}

/// What one call did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Pages that were read.
    pub pages: u64,
    /// Records that were decoded.
    pub records: u64,
    /// The round is complete; the next call begins another.
    pub is_complete: bool,
    /// What was found, in this call.
    pub findings: Vec<CheckFinding>,
}

impl ControlStore {
    /// Checks at most `units` pages and records.
    pub fn quick_check(&self, units: u64) -> Result<CheckReport, StoreError> {
        let file = self.current();
        file.usable()?;
        let mut cursor = self.cursor.lock();
        let mut report = CheckReport::default();
        let mut page = match &*cursor {
            CheckCursor::Start => 0,
            CheckCursor::Pages(page) => *page,
            CheckCursor::Records(_) => u64::MAX,
        };
        let mut left = units;
        while left > 0 && page < file.paged.pages() {
            match file.paged.verify(page) {
                Ok(was_read) => report.pages += u64::from(was_read),
                Err(Fault::Damage(what)) => report.findings.push(CheckFinding { is_damage: true, detail: what }),
                Err(fault) => return Err(fault.into()),
            }
            (page, left) = (page + 1, left - 1);
        }
        if page < file.paged.pages() {
            *cursor = CheckCursor::Pages(page);
            return Ok(report);
        }
        let start = if let CheckCursor::Records(start) = &*cursor { start.clone() } else { Vec::new() };
        *cursor = match self.check_records(&start, left, &mut report) {
            Ok(Some(next)) => CheckCursor::Records(next),
            Ok(None) => CheckCursor::Start,
            // What cannot be read cannot be walked: the round ends with what was found.
            Err(StoreError::Damaged { what }) => {
                report.findings.push(CheckFinding { is_damage: true, detail: what });
                CheckCursor::Start
            }
            Err(error) => return Err(error),
        };
        report.is_complete = matches!(*cursor, CheckCursor::Start);
        Ok(report)
    }

    /// Where to go on, if there may be more.
    fn check_records(&self, start: &[u8], limit: u64, report: &mut CheckReport) -> Result<Option<Vec<u8>>, StoreError> {
        const BATCH: usize = 64;
        let mut start = start.to_vec();
        let mut left = usize::try_from(limit).unwrap_or(usize::MAX);
        while left > 0 {
            let batch = BATCH.min(left);
            let entries = self.read(|read| read.scan(&start, &[], batch))?;
            for (name, envelope) in &entries {
                report.records += 1;
                if let Err(error) = self.check_record(name, envelope) {
                    report.findings.push(CheckFinding { is_damage: false, detail: error });
                }
            }
            match entries.last() {
                Some((name, _)) if entries.len() == batch => start = [name.as_slice(), &[0]].concat(),
                Some(_) | None => return Ok(None),
            }
            left -= batch;
        }
        Ok(Some(start))
    }

    fn check_record(&self, name: &[u8], envelope: &[u8]) -> Result<(), String> {
        let (kind, key) = split_table_key(name).ok_or("a record has a key that is no text")?;
        let known = self.options.kinds.iter().find(|known| known.kind == kind);
        let known = known.ok_or_else(|| format!("record {kind}/{key} is of a kind that this release does not know"))?;
        (known.check)(key, envelope).map_err(|error| error.to_string())
    }
}

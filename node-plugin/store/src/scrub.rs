//! Verifying everything without a key: each record against its checksum, each group against its digest of tags and its
//! place in the chain, each index page against its hash. Nothing is written, and nothing found is hidden.

use std::sync::Arc;

use holdfast_log::hash::crc32c;
use holdfast_log::place::TAG_BYTES;
use holdfast_log::seam::{Finding, ReplicaError, ScrubReport};
use holdfast_ports::AlignedBuffer;
use holdfast_vocabulary::{BlockIndex, SegmentNumber};

use crate::collect::all_listed;
use crate::scan;
use crate::segments::Segment;
use crate::store::Store;

impl Store {
    pub(crate) fn scrub_all(&self) -> Result<ScrubReport, ReplicaError> {
        self.healthy()?;
        // Nothing moves while everything is read.
        let _upkeep = self.upkeep.lock();
        let mut report = ScrubReport::default();
        let segments: Vec<(Arc<Segment>, bool)> =
            self.segments.read().rows().map(|row| (Arc::clone(&row.segment), row.is_closed())).collect();
        let mut read_again = Vec::new();
        for (segment, closed) in &segments {
            if *closed {
                self.scrub_segment(segment, &mut report);
            } else {
                read_again.push(segment.number);
            }
        }
        self.scrub_open(&read_again, &mut report);
        let index = self.index.verify();
        report.pages = index.leaves + index.nodes;
        report.findings.extend(index.damages.into_iter().map(|error| finding(&error.into(), None)));
        Ok(report)
    }

    /// A closed segment: all records that anything still refers to.
    fn scrub_segment(&self, segment: &Arc<Segment>, report: &mut ScrubReport) {
        let content = segment.file().and_then(|file| scan::read_file(&**file, self.sector as usize));
        let records = content.and_then(|content| Ok((content, self.records_of(segment)?)));
        let (content, records) = match records {
            Ok(found) => found,
            Err(error) => return report.findings.push(finding(&error, None)),
        };
        let live = self.segments.read().get(segment.number).map(|row| row.live().clone());
        if let Some(Err(error)) = live.map(|live| all_listed(segment, &live, &records)) {
            report.findings.push(finding(&error, None));
        }
        for entry in records {
            let needed = match self.index.lookup(entry.block) {
                Ok(Some(now)) => now.version == entry.version && now.place == entry.from,
                Ok(None) => false,
                Err(error) => {
                    report.findings.push(finding(&error.into(), Some(entry.block)));
                    continue;
                }
            };
            if needed {
                report.records += 1;
                check(
                    segment,
                    &content,
                    entry.from.offset,
                    entry.shape.ciphertext_bytes(),
                    entry.crc,
                    entry.block,
                    report,
                );
            }
        }
    }

    /// The segment that is being appended to: the groups whose headers are in memory and whose writes are complete.
    fn scrub_open(&self, numbers: &[SegmentNumber], report: &mut ScrubReport) {
        let log = self.log.lock();
        let Some(open) = log.open.as_ref().filter(|open| numbers.contains(&open.segment.number)) else {
            return;
        };
        let busy: Vec<u32> = log
            .flights
            .values()
            .filter(|flight| flight.segment.number == open.segment.number)
            .map(|flight| flight.offset)
            .collect();
        let (segment, copies) = (Arc::clone(&open.segment), open.copies.clone());
        drop(log);
        for copy in copies.iter().filter(|copy| !busy.contains(&copy.offset)) {
            let Ok((header, mac)) = holdfast_log::group::GroupHeader::decode(&copy.header) else { continue };
            let chain = header.chain();
            let records = header.records();
            let header_bytes = copy.header.len() as u32;
            let group = scan::ScannedGroup { offset: copy.offset, header_bytes, header, mac, chain };
            let whole = segment.file().and_then(|file| scan::data_is_whole(&**file, self.sector, &group));
            match whole {
                Ok(true) => report.records += records,
                Ok(false) => report.findings.push(Finding {
                    file: segment.name.clone(),
                    offset: copy.offset.into(),
                    block: None,
                    problem: "a group's records do not match its header".to_owned(),
                }),
                Err(error) => report.findings.push(finding(&error, None)),
            }
        }
    }
}

fn check(
    segment: &Segment,
    content: &AlignedBuffer,
    offset: u32,
    ciphertext: u16,
    crc: u32,
    block: BlockIndex,
    report: &mut ScrubReport,
) {
    let end = offset as usize + ciphertext as usize + TAG_BYTES;
    if content.get(offset as usize..end).is_none_or(|record| crc32c(record) != crc) {
        report.findings.push(Finding {
            file: segment.name.clone(),
            offset: offset.into(),
            block: Some(block),
            problem: "the record does not match its checksum".to_owned(),
        });
    }
}

fn finding(error: &ReplicaError, block: Option<BlockIndex>) -> Finding {
    let (file, offset) = match error {
        ReplicaError::Damaged { file, offset, .. } | ReplicaError::Lost { file, offset, .. } => (file.clone(), *offset),
        ReplicaError::Disk { file, offset, .. } => (file.clone(), offset.unwrap_or_default()),
        ReplicaError::Missing { file, .. } => (file.clone(), 0),
        _ => (String::new(), 0),
    };
    Finding { file, offset, block, problem: error.to_string() }
}

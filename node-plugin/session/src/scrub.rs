//! The deep scrub: the replica compares everything with its checksums, then the session opens every mapped block.

use holdfast_log::leaf::LEAF_BLOCKS;
use holdfast_log::seam::ScrubReport;
use holdfast_vocabulary::{BLOCK_BYTES, BlockIndex};

use crate::error::SessionError;

/// A block that does not read as what was written there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockFinding {
    /// The block; where a whole page of the tree is wrong, the first that it is about.
    pub block: BlockIndex,
    /// What is wrong.
    pub problem: SessionError,
}

/// What a deep scrub saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeepScrubReport {
    /// What the replica found by itself, without a key.
    pub replica: ScrubReport,
    /// Mapped blocks that were opened, or should have been.
    pub blocks: u64,
    /// Those that are not what was written.
    pub findings: Vec<BlockFinding>,
}

impl crate::Session {
    /// Reads everything and reports what is wrong. It changes nothing, and goes on after a finding.
    pub fn scrub(&self) -> Result<DeepScrubReport, SessionError> {
        self.flush()?;
        let replica = self.replica.scrub().map_err(SessionError::Replica)?;
        let mut report = DeepScrubReport { replica, ..DeepScrubReport::default() };
        let view = self.current_view();
        let mut written: Vec<u64> = view.active.sorted().leaves_of_points();
        written.extend(view.frozen.iter().flat_map(|frozen| frozen.sorted().leaves_of_points()));
        written.sort_unstable();
        let mut from = 0;
        loop {
            self.end.check()?;
            // Asked anew each time: a new base may have come meanwhile.
            let mapped = match self.by_view(|view| self.trust(view).mapped_leaf_from(from)) {
                Ok(mapped) => mapped,
                Err(problem) => {
                    let block = BlockIndex(from * LEAF_BLOCKS as u64);
                    report.findings.push(BlockFinding { block, problem });
                    None
                }
            };
            let changed = written.get(written.partition_point(|leaf| *leaf < from)).copied();
            let Some(leaf) = mapped.into_iter().chain(changed).min() else {
                return Ok(report);
            };
            self.scrub_leaf(leaf, &mut report);
            from = leaf + 1;
        }
    }

    fn scrub_leaf(&self, leaf: u64, report: &mut DeepScrubReport) {
        let blocks = self.blocks.load(std::sync::atomic::Ordering::Acquire);
        let first = leaf * LEAF_BLOCKS as u64;
        let count = (LEAF_BLOCKS as u64).min(blocks.saturating_sub(first)) as usize;
        let mut bytes = vec![0; count * BLOCK_BYTES];
        let whole = self.scrub_step(first, &mut bytes, report);
        let Err(problem) = whole else { return };
        if matches!(problem, SessionError::Tree(_)) {
            report.findings.push(BlockFinding { block: BlockIndex(first), problem });
            return;
        }
        // One unreadable place must not hide its neighbours.
        for (position, one) in bytes.chunks_exact_mut(BLOCK_BYTES).enumerate() {
            let block = first + position as u64;
            if let Err(problem) = self.scrub_step(block, one, report) {
                report.findings.push(BlockFinding { block: BlockIndex(block), problem });
            }
        }
    }

    fn scrub_step(&self, first: u64, bytes: &mut [u8], report: &mut DeepScrubReport) -> Result<(), SessionError> {
        let mut findings = Vec::new();
        let opened = self.read_step(first, bytes, &mut |block, fault| {
            findings.push(BlockFinding {
                block,
                problem: SessionError::NotAuthentic { block, at: self.replica.place_of(block), fault },
            });
        })?;
        report.blocks += opened as u64;
        report.findings.extend(findings);
        Ok(())
    }
}

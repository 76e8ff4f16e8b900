//! Reading: first decide which version each block must have, then ask, then open and compare.
//!
//! A block's version comes from the changes since the trusted root, else from the trusted tree. What the replica claims
//! is only ever compared with it. A claim that differs may be news rather than a lie, while other threads write: then
//! the decision is made again, and only a claim that contradicts two equal decisions is an error.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_log::leaf::{LEAF_BLOCKS, LeafPage};
use holdfast_log::node::leaf_of;
use holdfast_log::place::Version;
use holdfast_vocabulary::{BLOCK_BYTES, BlockIndex};

use crate::changes::Change;
use crate::error::{BlockFault, SessionError};
use crate::keys::LastPeriod;
use crate::limits::{READ_GAP_MAX, READ_STEP_BLOCKS};
use crate::trust::View;

/// What a block must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Zeros.
    Unmapped,
    /// Zeros, by a record that the replica may not have yet; its claim proves nothing.
    UnmappedPending,
    /// A record that is still here.
    Pending(Version),
    /// A record that the replica has.
    There(Version),
}

impl Expected {
    const fn version(self) -> Option<Version> {
        match self {
            Self::Unmapped | Self::UnmappedPending => None,
            Self::Pending(version) | Self::There(version) => Some(version),
        }
    }
}

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Done,
    /// Decide again.
    Again,
    Fault(BlockFault),
}

/// The leaf that was looked up last.
#[derive(Default)]
struct LastLeaf(Option<(u64, Option<Arc<LeafPage>>)>);

impl crate::Session {
    /// Reads whole blocks. On an error the whole of `out` is zeros: nothing that failed to authenticate leaves here.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), SessionError> {
        let read = self.blocks_of(offset, out.len() as u64).and_then(|(first, _)| self.read_blocks(first, out));
        if read.is_err() {
            out.fill(0);
        }
        read
    }

    fn read_blocks(&self, first: u64, out: &mut [u8]) -> Result<(), SessionError> {
        self.counters.read_bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        let mut first = first;
        for step in out.chunks_mut(READ_STEP_BLOCKS * BLOCK_BYTES) {
            let mut fault = None;
            self.read_step(first, step, &mut |block, wrong| {
                fault.get_or_insert_with(|| SessionError::NotAuthentic {
                    block,
                    at: self.replica.place_of(block),
                    fault: wrong,
                });
            })?;
            if let Some(fault) = fault {
                return Err(fault);
            }
            first += (step.len() / BLOCK_BYTES) as u64;
        }
        Ok(())
    }

    /// Reads a few blocks and gives every faulty one to `fault`; its bytes are zeros. Gives how many are mapped.
    pub(crate) fn read_step(
        &self,
        first: u64,
        out: &mut [u8],
        fault: &mut dyn FnMut(BlockIndex, BlockFault),
    ) -> Result<usize, SessionError> {
        let count = out.len() / BLOCK_BYTES;
        let mapped = |expected: &[Expected]| expected.iter().filter(|one| one.version().is_some()).count();
        let mut expected = self.expect_all(first, count)?;
        let mut outcome = vec![Outcome::Again; count];
        loop {
            self.resolve(first, &expected, &mut outcome, out)?;
            if outcome.iter().all(|outcome| *outcome == Outcome::Done) {
                return Ok(mapped(&expected));
            }
            // Decide again where the answer did not fit. What comes out the same a second time was no race.
            let before = std::mem::replace(&mut expected, self.expect_all(first, count)?);
            let mut open = false;
            for (position, outcome) in outcome.iter_mut().enumerate() {
                match *outcome {
                    Outcome::Done => {}
                    _ if before[position] != expected[position] => {
                        *outcome = Outcome::Again;
                        open = true;
                    }
                    Outcome::Fault(wrong) => {
                        out[position * BLOCK_BYTES..][..BLOCK_BYTES].fill(0);
                        fault(BlockIndex(first + position as u64), wrong);
                        *outcome = Outcome::Done;
                    }
                    Outcome::Again => open = true,
                }
            }
            if !open {
                return Ok(mapped(&expected));
            }
        }
    }

    /// Decides on a row of blocks.
    fn expect_all(&self, first: u64, count: usize) -> Result<Vec<Expected>, SessionError> {
        self.by_view(|view| {
            let mut leaf = LastLeaf::default();
            (first..).take(count).map(|block| self.expect(view, block, &mut leaf)).collect()
        })
    }

    fn expect(&self, view: &View, block: u64, last: &mut LastLeaf) -> Result<Expected, SessionError> {
        let change = view.active.get(block).or_else(|| view.frozen.as_ref().and_then(|frozen| frozen.get(block)));
        match change {
            Some(Change::Mapped(seq)) => {
                let version = Version { epoch: self.epochs.of(seq), seq };
                // The oldest pending record is above what is completed, so this spares a lock for all that is there.
                Ok(if self.is_pending(seq) { Expected::Pending(version) } else { Expected::There(version) })
            }
            Some(Change::Unmapped(seq)) if self.is_pending(seq) => Ok(Expected::UnmappedPending),
            Some(Change::Unmapped(_)) => Ok(Expected::Unmapped),
            None => {
                let number = leaf_of(block);
                if last.0.as_ref().is_none_or(|(known, _)| *known != number) {
                    last.0 = Some((number, self.trust(view).leaf(number)?));
                }
                let leaf = last.0.as_ref().and_then(|(_, leaf)| leaf.as_ref());
                let version = leaf.and_then(|leaf| leaf.version(block as usize % LEAF_BLOCKS));
                Ok(version.map_or(Expected::Unmapped, Expected::There))
            }
        }
    }

    fn is_pending(&self, seq: holdfast_vocabulary::Seq) -> bool {
        seq > self.pending.completed_seq() && self.pending.find(seq).is_some_and(|(group, _)| !group.is_done())
    }

    /// Gets every block that is not done.
    fn resolve(
        &self,
        first: u64,
        expected: &[Expected],
        outcome: &mut [Outcome],
        out: &mut [u8],
    ) -> Result<(), SessionError> {
        let mut last = LastPeriod::default();
        for (position, one) in expected.iter().enumerate() {
            if outcome[position] == Outcome::Done {
                continue;
            }
            let bytes = &mut out[position * BLOCK_BYTES..][..BLOCK_BYTES];
            match *one {
                Expected::Unmapped | Expected::UnmappedPending => {
                    bytes.fill(0);
                    outcome[position] = Outcome::Done;
                }
                Expected::Pending(version) => {
                    let block = BlockIndex(first + position as u64);
                    outcome[position] = self.open_pending(&mut last, block, version, bytes);
                }
                Expected::There(_) => {}
            }
        }
        // The longest runs for the replica, over short gaps of unmapped blocks.
        let wanted = |position: usize| matches!(expected[position], Expected::There(_));
        let mut start = 0;
        while start < expected.len() {
            if !wanted(start) || outcome[start] == Outcome::Done {
                start += 1;
                continue;
            }
            let (mut end, mut next) = (start + 1, start + 1);
            while next < expected.len() && next - end <= READ_GAP_MAX {
                match expected[next] {
                    Expected::There(_) if outcome[next] != Outcome::Done => end = next + 1,
                    Expected::Unmapped => {}
                    _ => break,
                }
                next += 1;
            }
            let bytes = &mut out[start * BLOCK_BYTES..end * BLOCK_BYTES];
            let run = first + start as u64;
            self.fetch(&mut last, run, &expected[start..end], &mut outcome[start..end], bytes)?;
            start = end;
        }
        Ok(())
    }

    /// Opens a block from a group that is still here. If it is gone meanwhile, the replica has it.
    fn open_pending(&self, last: &mut LastPeriod, block: BlockIndex, version: Version, bytes: &mut [u8]) -> Outcome {
        let Some((group, position)) = self.pending.find(version.seq) else {
            return Outcome::Again;
        };
        let opened = group.record(position, |record| {
            let shape = record.entry.shape;
            let period = self.sender.period();
            self.periods.open(last, period, block, version, shape, record.ciphertext, record.tag, bytes)
        });
        match opened {
            None => Outcome::Again,
            Some(Ok(())) => Outcome::Done,
            Some(Err(fault)) => Outcome::Fault(fault),
        }
    }

    /// Asks the replica for a run, and opens what it hands out as it comes.
    fn fetch(
        &self,
        last: &mut LastPeriod,
        first: u64,
        expected: &[Expected],
        outcome: &mut [Outcome],
        out: &mut [u8],
    ) -> Result<(), SessionError> {
        // What is not handed out at all counts as claimed to be unmapped.
        for (expected, outcome) in expected.iter().zip(outcome.iter_mut()) {
            if let Expected::There(version) = expected {
                *outcome = Outcome::Fault(BlockFault::Version { expected: Some(*version), got: None });
            }
        }
        self.replica
            .read(BlockIndex(first), expected.len() as u32, &mut |block, sealed| {
                let position = block.0.checked_sub(first).and_then(|position| usize::try_from(position).ok());
                let Some(position) = position.filter(|position| *position < expected.len()) else {
                    return;
                };
                let wanted = expected[position].version();
                let got = sealed.as_ref().map(|sealed| sealed.version);
                if wanted != got {
                    outcome[position] = Outcome::Fault(BlockFault::Version { expected: wanted, got });
                    return;
                }
                let Some(sealed) = sealed else { return };
                let bytes = &mut out[position * BLOCK_BYTES..][..BLOCK_BYTES];
                let opened = self.periods.open(
                    last,
                    sealed.period,
                    block,
                    sealed.version,
                    sealed.shape,
                    sealed.ciphertext,
                    sealed.tag,
                    bytes,
                );
                outcome[position] = opened.map_or_else(Outcome::Fault, |()| Outcome::Done);
            })
            .map_err(SessionError::Replica)
    }
}

//! The reference: a volume is the list of the records that were written to it, and nothing else.
//!
//! Each sealed block and each discard is one record with one place in the log. After a crash the *whole* volume must be
//! what some one prefix of that list gives, and the prefix must hold every record that a flush acknowledged. A record
//! that was issued and never acknowledged may be in or out, but never without those before it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::content::Stamp;

/// One record of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// A block got new content.
    Put {
        /// Which.
        block: u64,
        /// What its content names.
        stamp: Stamp,
    },
    /// Blocks became zeros.
    Unmap {
        /// The first.
        first: u64,
        /// How many.
        count: u64,
    },
}

/// What a mapped block holds, and by which record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What its content names.
    pub stamp: Stamp,
    /// The record's place in the log.
    pub seq: u64,
    /// The epoch that wrote it.
    pub epoch: u64,
}

/// The mapped blocks after some prefix.
pub type State = BTreeMap<u64, Cell>;

/// What was read back, of the blocks that were readable: the mapped ones, and those that gave an error.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Block → what its content names; blocks of zeros are left out.
    pub content: BTreeMap<u64, Stamp>,
    /// Blocks of which nothing is known, because reading them failed.
    pub unknown: BTreeSet<u64>,
}

/// The history of one volume, folded up to a floor below which nobody looks back.
#[derive(Clone, Debug, Default)]
pub struct Model {
    floor: State,
    floor_seq: u64,
    recent: VecDeque<(Record, u64)>,
    flushed: u64,
    now: State,
    epoch: u64,
}

impl Model {
    /// An empty volume.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything as of the newest record.
    #[must_use]
    pub fn now(&self) -> &State {
        &self.now
    }

    /// The newest record.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.floor_seq + self.recent.len() as u64
    }

    /// The newest record that a flush acknowledged.
    #[must_use]
    pub fn flushed(&self) -> u64 {
        self.flushed
    }

    /// The oldest prefix that can still be asked for.
    #[must_use]
    pub fn floor(&self) -> u64 {
        self.floor_seq
    }

    /// Records are from now on those of another epoch.
    pub fn begin_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
    }

    /// A record was issued.
    pub fn issue(&mut self, record: Record) {
        self.recent.push_back((record, self.epoch));
        apply(&mut self.now, record, self.floor_seq + self.recent.len() as u64, self.epoch, |_, _, _| {});
    }

    /// Everything issued so far was acknowledged as durable.
    pub fn acknowledge(&mut self) {
        self.flushed = self.head();
    }

    /// Nothing below `seq` will be asked for any more.
    pub fn raise_floor(&mut self, seq: u64) {
        while self.floor_seq < seq {
            let Some((record, epoch)) = self.recent.pop_front() else { return };
            self.floor_seq += 1;
            apply(&mut self.floor, record, self.floor_seq, epoch, |_, _, _| {});
        }
    }

    /// What was issued above `seq` is gone, and what is left is durable.
    pub fn cut(&mut self, seq: u64) {
        self.recent.truncate(seq.saturating_sub(self.floor_seq) as usize);
        self.now = self.at(seq);
        self.flushed = self.head();
    }

    /// The state after the prefix that ends with `seq`, which must not be below the floor.
    #[must_use]
    pub fn at(&self, seq: u64) -> State {
        let mut state = self.floor.clone();
        let taken = seq.saturating_sub(self.floor_seq) as usize;
        for (place, (record, epoch)) in (self.floor_seq + 1..).zip(self.recent.iter().take(taken)) {
            apply(&mut state, *record, place, *epoch, |_, _, _| {});
        }
        state
    }

    /// Every prefix, from `least` on, whose state is exactly what was observed.
    ///
    /// One walk: the count of blocks that differ is kept up to date record by record.
    #[must_use]
    pub fn prefixes(&self, observed: &Observed, least: u64) -> Vec<u64> {
        let mut seq = least.max(self.floor_seq);
        let mut state = self.at(seq);
        let differs = |block: u64, stamp: Option<Stamp>| {
            !observed.unknown.contains(&block) && observed.content.get(&block).copied() != stamp
        };
        let mut differing = state.iter().filter(|(block, cell)| differs(**block, Some(cell.stamp))).count();
        differing +=
            observed.content.keys().filter(|block| !state.contains_key(block) && differs(**block, None)).count();
        let mut found = Vec::new();
        loop {
            if differing == 0 {
                found.push(seq);
            }
            let Some((record, epoch)) = self.recent.get((seq - self.floor_seq) as usize) else { return found };
            seq += 1;
            apply(&mut state, *record, seq, *epoch, |block, before, after| {
                differing += usize::from(differs(block, after));
                differing -= usize::from(differs(block, before));
            });
        }
    }

    /// The blocks in which what was observed is not the state after `seq`, for a message.
    #[must_use]
    pub fn differences(&self, observed: &Observed, seq: u64) -> Vec<(u64, Option<Stamp>, Option<Stamp>)> {
        let state = self.at(seq);
        let blocks: BTreeSet<u64> = state.keys().chain(observed.content.keys()).copied().collect();
        blocks
            .into_iter()
            .filter(|block| !observed.unknown.contains(block))
            .map(|block| (block, state.get(&block).map(|cell| cell.stamp), observed.content.get(&block).copied()))
            .filter(|(_, expected, found)| expected != found)
            .collect()
    }
}

/// Applies a record, and says of each block it touches what it held before and holds now.
fn apply(
    state: &mut State,
    record: Record,
    seq: u64,
    epoch: u64,
    mut changed: impl FnMut(u64, Option<Stamp>, Option<Stamp>),
) {
    match record {
        Record::Put { block, stamp } => {
            let before = state.insert(block, Cell { stamp, seq, epoch });
            changed(block, before.map(|cell| cell.stamp), Some(stamp));
        }
        Record::Unmap { first, count } => {
            let gone: Vec<u64> = state.range(first..first.saturating_add(count)).map(|(block, _)| *block).collect();
            for block in gone {
                let before = state.remove(&block);
                changed(block, before.map(|cell| cell.stamp), None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Model, Observed, Record};

    fn observed(content: &[(u64, u64)]) -> Observed {
        Observed { content: content.iter().copied().collect(), ..Observed::default() }
    }

    #[test]
    fn exactly_the_prefixes_are_found() {
        let mut model = Model::new();
        for record in [
            Record::Put { block: 1, stamp: 10 },
            Record::Put { block: 2, stamp: 11 },
            Record::Unmap { first: 0, count: 4 },
            Record::Unmap { first: 0, count: 4 },
            Record::Put { block: 1, stamp: 12 },
        ] {
            model.issue(record);
        }
        assert_eq!(model.prefixes(&observed(&[]), 0), [0, 3, 4]);
        assert_eq!(model.prefixes(&observed(&[]), 4), [4]);
        assert_eq!(model.prefixes(&observed(&[(1, 10)]), 0), [1]);
        assert_eq!(model.prefixes(&observed(&[(1, 12)]), 0), [5]);
        assert!(model.prefixes(&observed(&[(2, 11)]), 0).is_empty(), "a record without the one before it");
        assert!(model.prefixes(&observed(&[(1, 12), (2, 11)]), 0).is_empty(), "a mixture of two prefixes");
        let mut unreadable = observed(&[(2, 11)]);
        unreadable.unknown.insert(1);
        assert_eq!(model.prefixes(&unreadable, 0), [2]);
    }

    #[test]
    fn a_raised_floor_and_a_cut_keep_the_rest() {
        let mut model = Model::new();
        model.begin_epoch(3);
        (1..=6).for_each(|stamp| model.issue(Record::Put { block: stamp % 2, stamp }));
        model.acknowledge();
        model.raise_floor(2);
        assert_eq!((model.floor(), model.head(), model.flushed()), (2, 6, 6));
        assert_eq!(model.prefixes(&observed(&[(0, 4), (1, 5)]), 2), [5]);
        model.cut(4);
        assert_eq!((model.head(), model.flushed()), (4, 4));
        assert_eq!(model.now()[&1].stamp, 3);
        assert_eq!((model.now()[&0].seq, model.now()[&0].epoch), (4, 3));
    }
}

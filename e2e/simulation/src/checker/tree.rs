//! The state tree, computed from the model and `docs/format.md` §7 alone: the root that a store and its session agreed
//! on must be this one.

use std::collections::BTreeMap;

use holdfast_log::anchor::SignedRoot;
use holdfast_log::hash::{self, TreeHash};

use crate::checker::{Verdict, Violation};
use crate::model::State;

/// The name of this judge.
pub const NAME: &str = "tree";

/// Compares a signed root with the state that it is about.
pub fn check(root: &SignedRoot, state: &State) -> Verdict {
    let expected = root_of(state);
    let found = root.statement.root;
    if found == expected {
        return Ok(());
    }
    let through = root.statement.through;
    let what = format!("the root at record {through} is {found}, but what was written up to there has {expected}");
    Err(Violation::new(NAME, what))
}

/// The canonical bytes of a leaf, as they grow.
#[derive(Default)]
struct Leaf {
    seqs: Vec<u8>,
    runs: Vec<u8>,
    /// The epoch of the last run.
    epoch: Option<u64>,
}

/// The root of a state.
#[must_use]
pub fn root_of(state: &State) -> TreeHash {
    let mut leaves: BTreeMap<u64, Leaf> = BTreeMap::new();
    for (block, cell) in state {
        let leaf = leaves.entry(block / 512).or_default();
        let at = (block % 512) as usize;
        leaf.seqs.resize(4096, 0);
        leaf.seqs[at * 8..at * 8 + 8].copy_from_slice(&cell.seq.to_le_bytes());
        if leaf.epoch != Some(cell.epoch) {
            leaf.epoch = Some(cell.epoch);
            leaf.runs.extend_from_slice(&(at as u16).to_le_bytes());
            leaf.runs.extend_from_slice(&cell.epoch.to_le_bytes());
        }
    }
    let hashes = leaves.into_iter().map(|(number, leaf)| (number, hash::leaf(&[leaf.seqs, leaf.runs].concat())));
    let mut level: BTreeMap<u64, TreeHash> = hashes.collect();
    for height in 1_u8..=4 {
        let mut above: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for (number, child) in &level {
            let canonical = above.entry(number / 256).or_insert_with(|| vec![height]);
            canonical.push((number % 256) as u8);
            canonical.extend_from_slice(&child.0);
        }
        level = above.into_iter().map(|(number, canonical)| (number, hash::node(&canonical))).collect();
    }
    level.into_values().next().unwrap_or(TreeHash::EMPTY)
}

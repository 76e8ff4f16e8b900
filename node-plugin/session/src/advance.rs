//! Making a new base: the replica merges what changed into its index, the session checks every leaf of it and computes
//! the new root by itself.
//!
//! ```text
//! pause writers → everything durable → freeze → rotate the changes → writers go on
//!   → merge, leaf by leaf: old page verified, changes applied, new page compared, hashed here
//!   → nodes from leaves to root → signed root → finish → the root is switched for all reads at once
//! ```
//!
//! Reads go on all the while, by the old root, the frozen changes and the new ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use holdfast_log::anchor::{RootStatement, SignedRoot};
use holdfast_log::hash::TreeHash;
use holdfast_log::leaf::{LEAF_BLOCKS, LeafPage, state_hash_of};
use holdfast_log::node::{Child, NodePage, PageRef, ROOT_LEVEL, leaf_of};
use holdfast_log::place::Version;
use holdfast_log::seam::{MergedLeaf, ReplicaError};
use holdfast_vocabulary::{BlockIndex, Seq};

use crate::changes::{Change, Changes, SortedChanges};
use crate::error::{SessionError, TreeFault};
use crate::pending::Mark;
use crate::tail::Epochs;
use crate::trust::{Trust, View};

/// Writers wait as long as it lives.
struct Pause<'a>(&'a crate::Session);

impl<'a> Pause<'a> {
    fn new(session: &'a crate::Session) -> Self {
        session.order.lock().paused = true;
        Self(session)
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.order.lock().paused = false;
        self.0.order_free.notify_all();
    }
}

/// The tree of the next base, as this session computed it.
struct NextTree {
    root: TreeHash,
    /// Successors of pages that were in the cache.
    leaves: Vec<(u64, TreeHash, Arc<LeafPage>)>,
    nodes: Vec<(u64, TreeHash, NodePage)>,
}

impl crate::Session {
    /// Makes everything that was written so far the base. One runs at a time; others wait, and find nothing to do.
    pub fn advance(&self) -> Result<(), SessionError> {
        let _turn = self.advancing.lock();
        self.advance_in_turn()
    }

    /// What a writer does that the replica takes nothing more from.
    pub(crate) fn advance_if_needed(&self) -> Result<(), SessionError> {
        let _turn = self.advancing.lock();
        if self.replica.pressure().advance_needed {
            self.advance_in_turn()?;
        }
        self.advance_needed.store(false, Ordering::Release);
        Ok(())
    }

    fn advance_in_turn(&self) -> Result<(), SessionError> {
        self.end.check()?;
        let started = self.clock.now();
        let Some((view, frozen, through)) = self.begin_base()? else {
            return Ok(());
        };
        let finished = self.merge_base(&view, &frozen).and_then(|tree| self.finish_base(&view, through, tree));
        if let Err(error) = finished {
            self.replica.abandon();
            // Reads keep finding the frozen changes while they move: at first in both maps, then in one.
            self.current_view().active.absorb(&frozen);
            self.view.store(Arc::new(View { frozen: None, ..self.current_view() }));
            return Err(error);
        }
        let took = self.clock.now().saturating_sub(started);
        self.counters.advances.fetch_add(1, Ordering::Relaxed);
        self.counters.advance_nanoseconds.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Freezes the log's head and the changes up to it. `None` if the base is there already.
    fn begin_base(&self) -> Result<Option<(View, Arc<Changes>, Mark)>, SessionError> {
        let _pause = Pause::new(self);
        let last = self.close_open_group();
        self.make_durable(last)?;
        // A replica that is short of room may want another base although nothing was written: what the last one covered
        // can be collected only when both of its checkpoints do.
        if last == self.signed.lock().statement.through && !self.replica.pressure().advance_due {
            return Ok(None);
        }
        let through = self.admitted();
        self.replica.freeze(&self.grant, through.seq).map_err(SessionError::Replica)?;
        // Whoever noted a change in the active map did so before its group was complete, and nobody gets a place now.
        let mut view = self.current_view();
        let frozen = std::mem::replace(&mut view.active, Arc::new(Changes::new(&self.budget)));
        view.frozen = Some(Arc::clone(&frozen));
        self.view.store(Arc::new(view.clone()));
        Ok(Some((view, frozen, through)))
    }

    /// Has the replica merge, and checks all of it.
    fn merge_base(&self, view: &View, frozen: &Changes) -> Result<NextTree, SessionError> {
        let trust = self.trust(view);
        let changes = frozen.sorted();
        let mut hashes = BTreeMap::new();
        let mut leaves = Vec::new();
        loop {
            let merged = self.replica.merge(&self.grant, self.limits.merge_leaves).map_err(SessionError::Replica)?;
            if merged.is_empty() {
                break;
            }
            self.counters.merged_leaves.fetch_add(merged.len() as u64, Ordering::Relaxed);
            for leaf in merged {
                let hash = check_merged(&trust, &changes, &self.epochs, &leaf)?;
                hashes.insert(leaf.number, hash);
                if hash != TreeHash::EMPTY && trust.has_leaf(leaf.number) {
                    leaves.push((leaf.number, hash, leaf.new));
                }
            }
        }
        check_none_left_out(&trust, &changes, &self.epochs, &hashes)?;
        let (root, nodes) = next_nodes(&trust, hashes)?;
        Ok(NextTree { root, leaves, nodes })
    }

    /// Signs the root, has the replica take it over, and goes by it from now on.
    fn finish_base(&self, view: &View, through: Mark, tree: NextTree) -> Result<(), SessionError> {
        let statement = RootStatement {
            volume: self.volume,
            generation: self.grant.generation,
            epoch: self.grant.epoch,
            through: through.seq,
            chain: through.chain,
            root: tree.root,
        };
        let signed = SignedRoot { statement, mac: self.macs.root(&statement.encode()) };
        let switching = self.switching.lock();
        self.replica.finish(&self.grant, &signed).map_err(|error| match error {
            // It is still at the old base, and says so.
            ReplicaError::Diverged { .. } | ReplicaError::NoSpace { .. } => SessionError::Replica(error),
            // Whether it switched is not known, so no answer of it could be judged any more.
            error => self.replica_failed("take a new base over", error),
        })?;
        let next = View { base: view.base + 1, root: tree.root, frozen: None, ..self.current_view() };
        self.view.store(Arc::new(next.clone()));
        drop(switching);
        *self.signed.lock() = signed;
        let trust = self.trust(&next);
        tree.leaves.into_iter().for_each(|(number, hash, page)| trust.keep_leaf(number, hash, page));
        tree.nodes.into_iter().for_each(|(index, hash, page)| trust.keep_node(index, hash, page));
        self.budget.relieve();
        Ok(())
    }
}

type Versions = [Option<Version>; LEAF_BLOCKS];

/// What a leaf holds after the changes.
fn apply(old: &LeafPage, number: u64, changes: &SortedChanges, epochs: &Epochs) -> Versions {
    let mut versions = [None; LEAF_BLOCKS];
    old.versions().for_each(|(position, version)| versions[position] = Some(version));
    let mut newest = [Seq(0); LEAF_BLOCKS];
    changes.of_leaf(number, |position, change| {
        if change.seq() > newest[position] {
            newest[position] = change.seq();
            versions[position] = match change {
                Change::Mapped(seq) => Some(Version { epoch: epochs.of(seq), seq }),
                Change::Unmapped(_) => None,
            };
        }
    });
    versions
}

/// Checks one merged leaf, and gives the hash of what it must hold.
fn check_merged(
    trust: &Trust<'_>,
    changes: &SortedChanges,
    epochs: &Epochs,
    leaf: &MergedLeaf,
) -> Result<TreeHash, SessionError> {
    let number = leaf.number;
    let expected = trust.leaf_hash(number)?.unwrap_or(TreeHash::EMPTY);
    if !trust.is_cached_leaf(number, expected, &leaf.old) {
        let got = leaf.old.state_hash();
        if got != expected {
            return Err(TreeFault::Leaf { number, expected, got }.into());
        }
    }
    let versions = apply(&leaf.old, number, changes, epochs);
    let mut claimed = [None; LEAF_BLOCKS];
    leaf.new.versions().for_each(|(position, version)| claimed[position] = Some(version));
    if let Some(position) = (0..LEAF_BLOCKS).find(|position| versions[*position] != claimed[*position]) {
        let block = BlockIndex(number * LEAF_BLOCKS as u64 + position as u64);
        return Err(TreeFault::Merged { number, block }.into());
    }
    let present = versions.iter().enumerate().filter_map(|(position, version)| Some((position, (*version)?)));
    Ok(state_hash_of(present))
}

/// A leaf that was written to and not handed out would keep its old versions in the new base.
fn check_none_left_out(
    trust: &Trust<'_>,
    changes: &SortedChanges,
    epochs: &Epochs,
    merged: &BTreeMap<u64, TreeHash>,
) -> Result<(), SessionError> {
    let check = |number: u64| -> Result<(), SessionError> {
        if merged.contains_key(&number) {
            return Ok(());
        }
        // An unmap of what was not mapped changes nothing, and then there is nothing to hand out.
        let old = trust.leaf(number)?.unwrap_or_else(LeafPage::empty);
        let mut before = [None; LEAF_BLOCKS];
        old.versions().for_each(|(position, version)| before[position] = Some(version));
        if apply(&old, number, changes, epochs) == before { Ok(()) } else { Err(TreeFault::LeftOut { number }.into()) }
    };
    changes.leaves_of_points().into_iter().try_for_each(check)?;
    for (first, end, _) in &changes.ranges {
        let mut from = leaf_of(*first);
        while let Some(number) = trust.mapped_leaf_from(from)?.filter(|number| *number <= leaf_of(end - 1)) {
            check(number)?;
            from = number + 1;
        }
    }
    Ok(())
}

/// Nodes that were computed here: place in the level, hash, page.
type NextNodes = Vec<(u64, TreeHash, NodePage)>;

/// The nodes above changed leaves, level by level, and the root.
fn next_nodes(trust: &Trust<'_>, leaves: BTreeMap<u64, TreeHash>) -> Result<(TreeHash, NextNodes), SessionError> {
    // Places of pages are no part of the state, and a session never follows one.
    let page = PageRef { file: 0, offset: 0, bytes: 1 };
    let mut below = leaves;
    let mut kept = Vec::new();
    for level in 1..=ROOT_LEVEL {
        let mut above = BTreeMap::new();
        let mut changed = below.into_iter().peekable();
        while let Some(index) = changed.peek().map(|(child, _)| child >> 8) {
            let mut node = match trust.node_at(level, index)? {
                Some(node) => (*node).clone(),
                None => NodePage::empty(level),
            };
            while let Some((child, hash)) = changed.next_if(|(child, _)| child >> 8 == index) {
                node.set(child as u8, (hash != TreeHash::EMPTY).then_some(Child { page, hash }));
            }
            let hash = node.hash();
            above.insert(index, hash);
            if hash != TreeHash::EMPTY && trust.has_node(level, index) {
                kept.push((index, hash, node));
            }
        }
        below = above;
    }
    Ok((below.remove(&0).unwrap_or(trust.root), kept))
}

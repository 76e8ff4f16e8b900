//! How the next base comes to be: leaf after leaf from left to right, nodes as soon as nothing below them is left.
//!
//! Only leaves that a change touches are read and written, and only the nodes above them. Pages are appended to one
//! file. Nothing of the old base is overwritten, so that it serves until the next one is durable, and is there again
//! at once if the merge is given up.
//!
//! Old pages that nobody needs any more stay where they are until the files hold too much of them. Then a merge copies
//! the unchanged pages too, into a new file, and the old files are of no use to the base any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_log::hash::TreeHash;
use holdfast_log::leaf::{LEAF_BLOCKS, LeafPage};
use holdfast_log::node::{Child, NodePage, PageRef, ROOT_LEVEL, child_towards, leaf_of, node_above};
use holdfast_log::place::Entry;
use holdfast_log::seam::MergedLeaf;
use holdfast_ports::Disk;
use holdfast_ports::budget::Charge;
use holdfast_vocabulary::{BlockIndex, Seq};

use super::base::{Base, Pages};
use super::error::IndexError;
use super::live::LiveMaps;
use super::overlay::Overlay;
use super::root::{IndexFile, IndexRoot};
use super::writer::{PageWriter, Tail};

/// More files than this cost more than copying them together. Each opening of an index begins one.
const FILES_MAX: usize = 64;

/// Where pages go.
pub struct Target<'a> {
    pub disk: &'a dyn Disk,
    pub pages: &'a Pages,
    /// The file that was written last, if this process wrote it.
    pub tail: Option<&'a Tail>,
    pub next_file: &'a mut u32,
}

/// A node of the path to the leaf that was visited last.
struct Open {
    index: u64,
    old: Arc<NodePage>,
    old_page: Option<PageRef>,
    new: NodePage,
    changed: bool,
}

/// A base in the making.
pub struct Merge {
    base: Arc<Base>,
    frozen: Arc<Overlay>,
    through: Seq,
    /// Every block that was changed by itself, rising, and how many of them are done.
    blocks: Vec<u64>,
    blocks_done: usize,
    /// Every leaf that an unmapped range touches, and how many of these ranges are done.
    ranges: Vec<(u64, u64)>,
    ranges_done: usize,
    /// The first leaf not visited yet.
    cursor: u64,
    /// The next leaf of the base that must be visited, as of the last search.
    ahead: Option<u64>,
    rewriting: bool,
    writer: Option<PageWriter>,
    path: [Option<Open>; ROOT_LEVEL as usize],
    top: Option<(Arc<NodePage>, Option<Child>)>,
    live: BTreeMap<u32, u64>,
    old_nodes: Vec<PageRef>,
    new_nodes: Vec<PageRef>,
    /// Of the leaf that is being merged: positions, and what they hold in the next base.
    changes: Vec<(usize, Option<Entry>)>,
    failed: bool,
    done: bool,
    _charge: Charge,
}

impl Merge {
    /// Begins a base that holds `frozen` over `base`. Dead pages of up to `garbage_bytes` are not worth a rewrite.
    pub fn new(pages: &Pages, base: Arc<Base>, frozen: Arc<Overlay>, through: Seq, garbage_bytes: u64) -> Self {
        let blocks = frozen.blocks();
        let ranges = frozen.unmapped_leaves();
        let root = &base.root;
        let rewriting = root.file_bytes() > root.live_bytes * 5 / 2 + garbage_bytes || root.files.len() >= FILES_MAX;
        let memory = blocks.len() * 8 + ranges.len() * 16 + LEAF_BLOCKS * size_of::<(usize, Option<Entry>)>();
        let charge = pages.budget.charge(memory + PageWriter::memory_bytes());
        pages.budget.relieve();
        Self {
            live: root.files.iter().map(|file| (file.number, file.live_bytes)).collect(),
            base,
            frozen,
            through,
            blocks,
            blocks_done: 0,
            ranges,
            ranges_done: 0,
            cursor: 0,
            ahead: None,
            rewriting,
            writer: None,
            path: [None, None, None, None],
            top: None,
            old_nodes: Vec::new(),
            new_nodes: Vec::new(),
            changes: Vec::new(),
            failed: false,
            done: false,
            _charge: charge,
        }
    }

    /// The file that is being written.
    pub fn file(&self) -> Option<u32> {
        self.writer.as_ref().map(PageWriter::number)
    }

    /// Merges until `leaves_max` leaves have changed; none if all are done.
    pub fn step(
        &mut self,
        target: &mut Target<'_>,
        leaves_max: usize,
        live: &mut dyn LiveMaps,
    ) -> Result<Vec<MergedLeaf>, IndexError> {
        if self.failed {
            return Err(IndexError::OutOfOrder("a merge that failed can only be abandoned"));
        }
        let mut merged = Vec::new();
        // Whoever asks for none would take the empty answer for the end.
        while merged.len() < leaves_max.max(1) && !self.done {
            // Set for the time being, so that an error on any way out is remembered.
            self.failed = true;
            match self.next_leaf(target.pages)? {
                Some(number) => {
                    merged.extend(self.merge_leaf(target, number, live)?);
                    self.cursor = number + 1;
                }
                None => self.done = true,
            }
            self.failed = false;
        }
        Ok(merged)
    }

    /// The next leaf that must be visited.
    fn next_leaf(&mut self, pages: &Pages) -> Result<Option<u64>, IndexError> {
        if self.ahead.is_none_or(|ahead| ahead < self.cursor) {
            self.ahead = Some(self.search(pages)?.unwrap_or(u64::MAX));
        }
        let point = self.blocks.get(self.blocks_done).map(|&block| leaf_of(block));
        Ok(point.into_iter().chain(self.ahead).min().filter(|&leaf| leaf != u64::MAX))
    }

    /// The next leaf of the base that is copied, or that an unmapped range touches. However wide ranges are, only
    /// leaves that exist are found.
    fn search(&mut self, pages: &Pages) -> Result<Option<u64>, IndexError> {
        if self.rewriting {
            return self.base.next_leaf(pages, self.cursor);
        }
        let mut from = self.cursor;
        while let Some(&(first, last)) = self.ranges.get(self.ranges_done) {
            if last >= from {
                match self.base.next_leaf(pages, from.max(first))? {
                    None => return Ok(None),
                    Some(leaf) if leaf <= last => return Ok(Some(leaf)),
                    Some(leaf) => from = leaf,
                }
            }
            self.ranges_done += 1;
        }
        Ok(None)
    }

    fn merge_leaf(
        &mut self,
        target: &mut Target<'_>,
        number: u64,
        live: &mut dyn LiveMaps,
    ) -> Result<Option<MergedLeaf>, IndexError> {
        self.open_path(target, number)?;
        let towards = child_towards(1, number);
        let old_child = self.path[0].as_ref().and_then(|parent| parent.old.child(towards).copied());
        let old = match &old_child {
            None => LeafPage::empty(),
            // What the cache has need not be read, and what it has not would only push other pages out.
            Some(child) => match target.pages.cache.peek_leaf(number, child.page) {
                Some(page) => page,
                None => self.base.read_leaf(target.pages, child)?,
            },
        };
        self.changes(number, &old, live);
        if self.changes.is_empty() {
            if let (true, Some(child)) = (self.rewriting, old_child) {
                let page = self.write(target, old.bytes())?;
                self.replace(1, towards, Some(child.page), Some(Child { page, ..child }));
            }
            return Ok(None);
        }
        let new = Arc::new(old.with(&self.changes));
        let new_hash = new.state_hash();
        let child = if new.is_empty() {
            None
        } else {
            let page = self.write(target, new.bytes())?;
            target.pages.cache.keep_next(number, page, &new);
            target.pages.budget.relieve();
            Some(Child { page, hash: new_hash })
        };
        self.replace(1, towards, old_child.map(|child| child.page), child);
        Ok(Some(MergedLeaf { number, old, new, new_hash }))
    }

    /// Finds which entries of a leaf differ in the next base.
    fn changes(&mut self, number: u64, old: &LeafPage, live: &mut dyn LiveMaps) {
        self.changes.clear();
        let first = number * LEAF_BLOCKS as u64;
        let mine = self.blocks[self.blocks_done..].partition_point(|&block| leaf_of(block) == number);
        let points = self.blocks_done..self.blocks_done + mine;
        self.blocks_done += mine;
        let view = self.frozen.leaf(number);
        let mut visit = |block: u64| {
            let position = (block - first) as usize;
            let before = old.get(position);
            let after = view.get(block).over(before);
            if after != before {
                live.changed(BlockIndex(block), before.as_ref(), after.as_ref());
                self.changes.push((position, after));
            }
        };
        if in_range(&self.ranges, number) {
            (first..first + LEAF_BLOCKS as u64).for_each(&mut visit);
        } else {
            self.blocks[points].iter().copied().for_each(&mut visit);
        }
    }

    /// Opens the nodes above a leaf, and closes those of the leaf before that are not above this one.
    fn open_path(&mut self, target: &mut Target<'_>, leaf: u64) -> Result<(), IndexError> {
        for level in 1..=ROOT_LEVEL {
            let open = self.path[usize::from(level) - 1].as_ref();
            if open.is_some_and(|open| open.index != node_above(level, leaf)) {
                self.close(target, level)?;
            }
        }
        for level in (1..=ROOT_LEVEL).rev() {
            if self.path[usize::from(level) - 1].is_some() {
                continue;
            }
            let (old, old_page) = if level == ROOT_LEVEL {
                (Arc::clone(self.base.top()), self.base.root.root)
            } else {
                let parent = self.path[usize::from(level)].as_ref();
                let child = parent.and_then(|parent| parent.old.child(child_towards(level + 1, leaf)));
                (self.base.node(target.pages, level, leaf)?, child.map(|child| child.page))
            };
            let new = NodePage::clone(&old);
            let index = node_above(level, leaf);
            self.path[usize::from(level) - 1] = Some(Open { index, old, old_page, new, changed: false });
        }
        Ok(())
    }

    /// Writes a node, if it changed, and tells its parent. Everything below it must be closed.
    fn close(&mut self, target: &mut Target<'_>, level: u8) -> Result<(), IndexError> {
        let Some(open) = self.path[usize::from(level) - 1].take().filter(|open| open.changed) else {
            return Ok(());
        };
        let node = Arc::new(open.new);
        let child = if node.is_empty() {
            None
        } else {
            let page = self.write(target, &node.encode())?;
            if level < ROOT_LEVEL {
                target.pages.cache.keep_node(page, &node);
                target.pages.budget.relieve();
                self.new_nodes.push(page);
            }
            Some(Child { page, hash: node.hash() })
        };
        self.old_nodes.extend(open.old_page);
        if level == ROOT_LEVEL {
            self.account(open.old_page, child.map(|child| child.page));
            self.top = Some((node, child));
        } else {
            // The low byte of a node's number is its place in its parent.
            self.replace(level + 1, open.index as u8, open.old_page, child);
        }
        Ok(())
    }

    /// Gives the open node of `level` another child.
    fn replace(&mut self, level: u8, index: u8, old: Option<PageRef>, new: Option<Child>) {
        self.account(old, new.map(|child| child.page));
        if let Some(parent) = &mut self.path[usize::from(level) - 1] {
            parent.new.set(index, new);
            parent.changed = true;
        }
    }

    fn account(&mut self, old: Option<PageRef>, new: Option<PageRef>) {
        let sector = self.base.files.sector();
        let room = |page: PageRef| u64::from(page.bytes).next_multiple_of(sector);
        if let Some(old) = old
            && let Some(live) = self.live.get_mut(&old.file)
        {
            *live = live.saturating_sub(room(old));
        }
        if let Some(new) = new {
            *self.live.entry(new.file).or_default() += room(new);
        }
    }

    fn write(&mut self, target: &mut Target<'_>, page: &[u8]) -> Result<PageRef, IndexError> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(match target.tail {
                Some(tail) if !self.rewriting => PageWriter::append(target.disk, tail.clone()),
                _ => {
                    let writer = PageWriter::create(target.disk, *target.next_file)?;
                    *target.next_file += 1;
                    writer
                }
            }),
        };
        Ok(writer.put(page)?)
    }

    /// Writes the nodes that are still open and makes everything durable. Afterwards nothing but [`Self::discard`] can
    /// fail to make the answer the base.
    pub fn finish(&mut self, target: &mut Target<'_>) -> Result<(Base, Option<Tail>), IndexError> {
        if self.failed || !self.done {
            return Err(IndexError::OutOfOrder("the merge is not done"));
        }
        self.failed = true;
        for level in 1..=ROOT_LEVEL {
            self.close(target, level)?;
        }
        let written = match &mut self.writer {
            Some(writer) => Some(writer.finish(target.disk)?),
            None => None,
        };
        let (top, root) = match self.top.take() {
            Some((node, child)) => (node, child),
            None => {
                let hash = self.base.root.hash;
                (Arc::clone(self.base.top()), self.base.root.root.map(|page| Child { page, hash }))
            }
        };
        let bytes = |number: u32| match &written {
            Some(tail) if tail.number == number => tail.end,
            _ => self.base.files.bytes(number),
        };
        let live = self.live.iter().filter(|&(_, &live)| live > 0);
        let files: Vec<IndexFile> =
            live.map(|(&number, &live_bytes)| IndexFile { number, bytes: bytes(number), live_bytes }).collect();
        let root = IndexRoot {
            root: root.map(|child| child.page),
            hash: root.map_or(TreeHash::EMPTY, |child| child.hash),
            through: self.through,
            next_file: *target.next_file,
            live_bytes: files.iter().map(|file| file.live_bytes).sum(),
            files,
        };
        let files = self.base.files.next(&root, written.as_ref());
        // A file that no live page is in may be removed at any time, so nothing is appended to it.
        let tail = written.or_else(|| target.tail.cloned()).filter(|tail| files.contains(tail.number));
        target.pages.cache.drop_nodes(&self.old_nodes);
        Ok((self.base.next(root, files, top), tail))
    }

    /// Gives back what was written.
    pub fn discard(self, target: &Target<'_>) {
        target.pages.cache.drop_nodes(&self.new_nodes);
        if let Some(writer) = self.writer {
            writer.discard(target.disk);
        }
    }
}

/// Whether one of some ranges of leaves, which rise, has a leaf in it.
fn in_range(ranges: &[(u64, u64)], number: u64) -> bool {
    let first = ranges.partition_point(|&(_, last)| last < number);
    ranges.get(first).is_some_and(|&(first, _)| first <= number)
}

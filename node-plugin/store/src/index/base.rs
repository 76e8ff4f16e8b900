//! The base: an immutable index, and the ways through it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_log::leaf::LeafPage;
use holdfast_log::node::{Child, NodePage, ROOT_LEVEL, child_towards, node_above};
use holdfast_ports::Disk;
use holdfast_ports::budget::MemoryBudget;

use super::cache::PageCache;
use super::error::IndexError;
use super::pages::Files;
use super::root::IndexRoot;

/// Pages, cached or read.
pub struct Pages {
    pub cache: Arc<PageCache>,
    pub budget: MemoryBudget,
    pub leaf_reads: AtomicU64,
    pub node_reads: AtomicU64,
}

/// One base. Bases are numbered in the order in which they came to be.
pub struct Base {
    pub number: u64,
    pub root: IndexRoot,
    pub files: Files,
    top: Arc<NodePage>,
}

impl Base {
    /// Opens the base that a root describes.
    pub fn open(disk: &dyn Disk, root: &IndexRoot) -> Result<Self, IndexError> {
        let files = Files::open(disk, root)?;
        let top = match root.root {
            Some(page) => files.node(ROOT_LEVEL, &Child { page, hash: root.hash })?,
            None => NodePage::empty(ROOT_LEVEL),
        };
        Ok(Self { number: 1, root: root.clone(), files, top: Arc::new(top) })
    }

    /// The base after this one.
    pub const fn next(&self, root: IndexRoot, files: Files, top: Arc<NodePage>) -> Self {
        Self { number: self.number + 1, root, files, top }
    }

    /// The root node.
    pub const fn top(&self) -> &Arc<NodePage> {
        &self.top
    }

    /// The page of a child of `level`, cached or read.
    pub fn child_node(&self, pages: &Pages, level: u8, child: &Child) -> Result<Arc<NodePage>, IndexError> {
        if let Some(node) = pages.cache.node(child.page) {
            return Ok(node);
        }
        let node = Arc::new(self.files.node(level, child)?);
        pages.node_reads.fetch_add(1, Ordering::Relaxed);
        pages.cache.keep_node(child.page, &node);
        pages.budget.relieve();
        Ok(node)
    }

    /// The node of `level` above a leaf; without children where nothing is mapped.
    pub fn node(&self, pages: &Pages, level: u8, leaf: u64) -> Result<Arc<NodePage>, IndexError> {
        let mut node = Arc::clone(&self.top);
        for above in (level + 1..=ROOT_LEVEL).rev() {
            match node.child(child_towards(above, leaf)) {
                Some(child) => node = self.child_node(pages, above - 1, &child.clone())?,
                None => return Ok(Arc::new(NodePage::empty(level))),
            }
        }
        Ok(node)
    }

    /// What the tree knows of a leaf: its page and its hash.
    pub fn leaf_child(&self, pages: &Pages, leaf: u64) -> Result<Option<Child>, IndexError> {
        Ok(self.node(pages, 1, leaf)?.child(child_towards(1, leaf)).copied())
    }

    /// A leaf as it was read just now.
    pub fn read_leaf(&self, pages: &Pages, child: &Child) -> Result<Arc<LeafPage>, IndexError> {
        let page = self.files.leaf(child)?;
        pages.leaf_reads.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(page))
    }

    /// A leaf of the base, which is cached from then on.
    pub fn leaf(&self, pages: &Pages, number: u64) -> Result<Arc<LeafPage>, IndexError> {
        if let Some(page) = pages.cache.known_leaf(self.number, number, Arc::clone) {
            return Ok(page);
        }
        let Some(child) = self.leaf_child(pages, number)? else {
            return Ok(LeafPage::empty());
        };
        if let Some(page) = pages.cache.leaf_at(self.number, number, child.page) {
            return Ok(page);
        }
        let page = self.read_leaf(pages, &child)?;
        pages.cache.keep_leaf(self.number, number, child.page, &page);
        pages.budget.relieve();
        Ok(page)
    }

    /// The first leaf at `from` or right of it that has anything mapped.
    pub fn next_leaf(&self, pages: &Pages, from: u64) -> Result<Option<u64>, IndexError> {
        if node_above(ROOT_LEVEL, from) > 0 {
            return Ok(None);
        }
        self.next_leaf_below(pages, &Arc::clone(&self.top), 0, from)
    }

    /// The same below one node, whose leftmost leaf is `first`.
    fn next_leaf_below(
        &self,
        pages: &Pages,
        node: &NodePage,
        first: u64,
        from: u64,
    ) -> Result<Option<u64>, IndexError> {
        let level = node.level();
        let start = if from > first { child_towards(level, from) } else { 0 };
        let mut next = node.first_from(start);
        while let Some((index, child)) = next {
            let first = first + (u64::from(index) << (8 * (level - 1)));
            if level == 1 {
                return Ok(Some(first));
            }
            // A child right of the first one is empty of nothing, so this goes round twice at most.
            let below = self.child_node(pages, level - 1, child)?;
            if let Some(found) = self.next_leaf_below(pages, &below, first, from)? {
                return Ok(Some(found));
            }
            next = index.checked_add(1).and_then(|index| node.first_from(index));
        }
        Ok(None)
    }
}

//! A full walk over a base: for a scrub, and for whoever needs every entry once.

use std::sync::Arc;

use holdfast_log::leaf::LeafPage;
use holdfast_log::node::{Child, NodePage, PageRef, ROOT_LEVEL};

use super::Index;
use super::base::Base;
use super::error::IndexError;
use super::root::IndexRoot;

/// Damages beyond these are counted, not kept: a dead disk must not fill the memory.
const DAMAGES_MAX: usize = 64;

/// What a scrub of an index saw.
#[derive(Clone, Debug, Default)]
pub struct IndexReport {
    /// The base that was walked.
    pub root: IndexRoot,
    /// Leaves that are whole.
    pub leaves: u64,
    /// Nodes that are whole.
    pub nodes: u64,
    /// Blocks that are mapped, in whole leaves.
    pub mapped: u64,
    /// Pages that are not whole. What is below a node that is not whole was not seen.
    pub damaged_pages: u64,
    /// The first of them.
    pub damages: Vec<IndexError>,
}

impl IndexReport {
    /// Whether every page is what its parent says, up to the root.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.damaged_pages == 0
    }

    fn note<T>(&mut self, found: Result<T, IndexError>) -> Option<T> {
        found
            .inspect_err(|error| {
                self.damaged_pages += 1;
                if self.damages.len() < DAMAGES_MAX {
                    self.damages.push(error.clone());
                }
            })
            .ok()
    }
}

impl Index {
    /// Reads every page of the base from the disk and compares it with what its parent says, up to the root. Goes on
    /// behind what is damaged. The cache is neither asked nor filled.
    #[must_use]
    pub fn verify(&self) -> IndexReport {
        let base = self.base();
        let mut report = IndexReport { root: base.root.clone(), ..IndexReport::default() };
        if let Some(page) = base.root.root {
            let child = Child { page, hash: base.root.hash };
            let mut room = 0;
            verify_below(&base, ROOT_LEVEL, &child, &mut report, &mut room);
            if report.is_sound() && room != base.root.live_bytes {
                let name = super::pages::file_name(page.file);
                report.note::<()>(Err(IndexError::damaged(name, page.offset, "index root", "live bytes")));
            }
        }
        report
    }

    /// Shows every leaf of the base, from left to right, with its number. Leaves are not cached.
    pub fn walk_base(&self, visit: &mut dyn FnMut(u64, &LeafPage)) -> Result<(), IndexError> {
        let base = self.base();
        let top = Arc::clone(base.top());
        self.walk_below(&base, &top, 0, visit)
    }

    fn walk_below(
        &self,
        base: &Base,
        node: &NodePage,
        number: u64,
        visit: &mut dyn FnMut(u64, &LeafPage),
    ) -> Result<(), IndexError> {
        for (index, child) in node.children() {
            let number = number << 8 | u64::from(index);
            if node.level() == 1 {
                match self.pages.cache.peek_leaf(number, child.page) {
                    Some(page) => visit(number, &page),
                    None => visit(number, &base.files.leaf(child)?),
                }
            } else {
                let below = base.child_node(&self.pages, node.level() - 1, child)?;
                self.walk_below(base, &below, number, visit)?;
            }
        }
        Ok(())
    }
}

fn verify_below(base: &Base, level: u8, child: &Child, report: &mut IndexReport, room: &mut u64) {
    let padded = |page: PageRef| u64::from(page.bytes).next_multiple_of(base.files.sector());
    *room += padded(child.page);
    if level == 0 {
        if let Some(leaf) = report.note(base.files.leaf(child)) {
            report.leaves += 1;
            report.mapped += leaf.mapped() as u64;
        }
    } else if let Some(node) = report.note(base.files.node(level, child)) {
        report.nodes += 1;
        node.children().for_each(|(_, child)| verify_below(base, level - 1, child, report, room));
    }
}

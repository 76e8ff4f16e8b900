//! Index files: their names, and pages read from them, checked before anybody sees them.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_log::bytes::{FormatError, round_up};
use holdfast_log::leaf::LeafPage;
use holdfast_log::node::{Child, NodePage, PageRef};
use holdfast_ports::{AlignedBuffer, Disk, File};

use super::error::IndexError;
use super::root::IndexRoot;
use super::writer::Tail;

/// An index file's name.
pub fn file_name(number: u32) -> String {
    format!("idx-{number:08x}")
}

/// The number in an index file's name.
pub fn file_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("idx-").filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok().filter(|&number| file_name(number) == name)
}

/// The open files of a base.
#[derive(Clone)]
pub struct Files {
    sector: usize,
    open: BTreeMap<u32, (Arc<dyn File>, u64)>,
}

impl Files {
    /// Opens every file that a base has pages in.
    pub fn open(disk: &dyn Disk, root: &IndexRoot) -> Result<Self, IndexError> {
        let mut open = BTreeMap::new();
        for file in &root.files {
            open.insert(file.number, (disk.open(&file_name(file.number))?, file.bytes));
        }
        Ok(Self { sector: disk.sector_bytes(), open })
    }

    /// The files of the next base: those it names, out of these and the one that it wrote.
    pub fn next(&self, root: &IndexRoot, written: Option<&Tail>) -> Self {
        let mut open = BTreeMap::new();
        for file in &root.files {
            let handle = match written {
                Some(tail) if tail.number == file.number => Some(Arc::clone(&tail.file)),
                _ => self.open.get(&file.number).map(|(handle, _)| Arc::clone(handle)),
            };
            if let Some(handle) = handle {
                open.insert(file.number, (handle, file.bytes));
            }
        }
        Self { sector: self.sector, open }
    }

    /// What offsets and lengths are multiples of.
    pub const fn sector(&self) -> u64 {
        self.sector as u64
    }

    /// Where the last page of a file ends.
    pub fn bytes(&self, number: u32) -> u64 {
        self.open.get(&number).map_or(0, |(_, bytes)| *bytes)
    }

    /// Whether a file is one of these.
    pub fn contains(&self, number: u32) -> bool {
        self.open.contains_key(&number)
    }

    /// A page's bytes, as they are on the disk.
    pub fn read(&self, at: PageRef) -> Result<Vec<u8>, IndexError> {
        let padded = round_up(at.bytes as usize, self.sector);
        let Some((file, bytes)) = self.open.get(&at.file) else {
            return Err(IndexError::damaged(file_name(at.file), at.offset, "index page", "file"));
        };
        let inside = at.offset.checked_add(padded as u64).is_some_and(|end| end <= *bytes);
        if !inside || !at.offset.is_multiple_of(self.sector as u64) {
            return Err(IndexError::damaged(file_name(at.file), at.offset, "index page", "offset"));
        }
        let mut buffer = AlignedBuffer::with_len(padded);
        file.read_at(at.offset, &mut buffer)?;
        Ok(buffer[..at.bytes as usize].to_vec())
    }

    /// A leaf, which must be in the state that its parent says.
    pub fn leaf(&self, child: &Child) -> Result<LeafPage, IndexError> {
        let page = LeafPage::decode(self.read(child.page)?).map_err(|error| damaged(child.page, error))?;
        if page.state_hash() != child.hash {
            return Err(IndexError::damaged(file_name(child.page.file), child.page.offset, "index leaf", "state hash"));
        }
        Ok(page)
    }

    /// A node, which must be of the level and in the state that its parent says.
    pub fn node(&self, level: u8, child: &Child) -> Result<NodePage, IndexError> {
        let node = NodePage::decode(&self.read(child.page)?).map_err(|error| damaged(child.page, error))?;
        let wrong = |field| IndexError::damaged(file_name(child.page.file), child.page.offset, "index node", field);
        if node.level() != level {
            return Err(wrong("level"));
        }
        if node.hash() != child.hash {
            return Err(wrong("state hash"));
        }
        Ok(node)
    }
}

fn damaged(at: PageRef, error: FormatError) -> IndexError {
    IndexError::Damaged { file: file_name(at.file), offset: at.offset, error }
}

//! The database's storage: its pages, each in a sealed cell of one file behind the disk port.
//!
//! The database overwrites one page in place, the first, and relies on 320 bytes of it being written whole. A sealed
//! page is longer than what a disk writes whole, so the first page has two cells, and the one that is known to be
//! durable is never written: a sync writes the other one, syncs, and then makes both equal again. All other pages are
//! written only where no commit refers to them, so a torn one is never read.
//!
//! Each tag that was written or read is remembered. A cell that opens and has another tag is an older version of its
//! page, put back while the store was open.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use holdfast_ports::{AlignedBuffer, File, Random};
use holdfast_seal::{PageKey, Tag};
use parking_lot::Mutex;
use redb::StorageBackend;
use zeroize::{Zeroize, Zeroizing};

use crate::cell::{self, CELL_BYTES, PAGE_BYTES};
use crate::fault::Fault;
use crate::head::HEAD_BYTES;

const PAGE: u64 = PAGE_BYTES as u64;

/// The file, shared by the database and by whoever checks it.
pub(crate) struct PagedFile {
    file: Arc<dyn File>,
    key: PageKey,
    random: Arc<dyn Random>,
    inner: Mutex<Inner>,
    first_fault: Mutex<Option<Fault>>,
}

struct Inner {
    pages: u64,
    front: Front,
    tags: HashMap<u64, Tag>,
}

/// The first page.
struct Front {
    page: Zeroizing<Vec<u8>>,
    /// How often it was written.
    count: u64,
    /// The cell, 0 or 1, that is known to be durable and newest.
    durable: usize,
    /// It was changed since.
    is_dirty: bool,
}

fn cell_at(place: u64) -> u64 {
    HEAD_BYTES as u64 + place * CELL_BYTES as u64
}

/// The length of a file of `pages`: the first page counts twice.
fn file_bytes(pages: u64) -> u64 {
    if pages == 0 { HEAD_BYTES as u64 } else { cell_at(pages + 1) }
}

impl PagedFile {
    /// A file that holds a head and nothing else.
    pub(crate) fn new(file: Arc<dyn File>, key: PageKey, random: Arc<dyn Random>) -> Self {
        let page = Zeroizing::new(vec![0; PAGE_BYTES]);
        let front = Front { page, count: 0, durable: 1, is_dirty: false };
        let inner = Mutex::new(Inner { pages: 0, front, tags: HashMap::new() });
        Self { file, key, random, inner, first_fault: Mutex::new(None) }
    }

    /// A file that was closed, or that a crash left.
    pub(crate) fn open(file: Arc<dyn File>, key: PageKey, random: Arc<dyn Random>) -> Result<Self, Fault> {
        let length = file.len()?;
        // A crash may leave a part of a cell at the end: growth that nothing refers to yet.
        let cells = length.saturating_sub(HEAD_BYTES as u64) / CELL_BYTES as u64;
        if cells < 2 {
            return Err(Fault::Damage(format!("it was cut to {length} bytes, which is less than its first page")));
        }
        let paged = Self::new(file, key, random);
        paged.read_front()?;
        paged.inner.lock().pages = cells - 1;
        Ok(paged)
    }

    /// The first thing that went wrong since it was opened.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.first_fault.lock().clone()
    }

    /// Notes what went wrong, if it is the first.
    pub(crate) fn note(&self, fault: &Fault) {
        self.first_fault.lock().get_or_insert_with(|| fault.clone());
    }

    /// How many pages there are.
    pub(crate) fn pages(&self) -> u64 {
        self.inner.lock().pages
    }

    /// Reads a page from the disk again, past every cache. False: it was never used since the store is open.
    pub(crate) fn verify(&self, page: u64) -> Result<bool, Fault> {
        let inner = self.inner.lock();
        let mut out = Zeroizing::new(vec![0; PAGE_BYTES]);
        if page == 0 {
            // The other one is written behind it, and its write may not have been synced yet; it is what a crash tears.
            for which in [inner.front.durable, 1 - inner.front.durable] {
                self.read_cell(which as u64, 0, &mut out).map_err(|fault| Self::named(fault, 0))?;
            }
            return Ok(true);
        }
        if !inner.tags.contains_key(&page) || page >= inner.pages {
            return Ok(false);
        }
        self.read_page(&inner.tags, page, &mut out).map(|_| true)
    }

    /// Makes both cells of the first page durable.
    pub(crate) fn checkpoint(&self) -> Result<(), Fault> {
        let mut inner = self.inner.lock();
        self.sync(&mut inner)?;
        self.file.sync().map_err(Fault::from)
    }

    fn read_front(&self) -> Result<(), Fault> {
        let mut inner = self.inner.lock();
        let mut newest: Option<(u64, usize)> = None;
        for which in 0..2 {
            let mut out = Zeroizing::new(vec![0; PAGE_BYTES]);
            match self.read_cell(which as u64, 0, &mut out) {
                Ok((_, count)) if newest.is_none_or(|(other, _)| count > other) => {
                    newest = Some((count, which));
                    inner.front.page = out;
                }
                // One of the two may be torn by a crash.
                Ok(_) | Err(Fault::Damage(_)) => {}
                Err(fault) => return Err(fault),
            }
        }
        let (count, durable) =
            newest.ok_or_else(|| Fault::Damage("neither copy of its first page is authentic".to_owned()))?;
        (inner.front.count, inner.front.durable) = (count, durable);
        // So that both are whole again before anything else is written.
        inner.front.is_dirty = true;
        Ok(())
    }

    fn read_cell(&self, place: u64, page: u64, out: &mut [u8]) -> Result<(Tag, u64), Fault> {
        let mut cell = AlignedBuffer::with_len(CELL_BYTES);
        self.file.read_at(cell_at(place), &mut cell)?;
        cell::open(&self.key, page, &cell, out).map_err(|_| Fault::Damage("a page of it is not authentic".to_owned()))
    }

    fn named(fault: Fault, page: u64) -> Fault {
        match fault {
            Fault::Damage(_) => {
                let place = if page == 0 { 0 } else { page + 1 };
                Fault::Damage(format!("page {page}, at byte {}, is not what was written", cell_at(place)))
            }
            other => other,
        }
    }

    /// Reads a page that is not the first; answers its tag.
    fn read_page(&self, tags: &HashMap<u64, Tag>, page: u64, out: &mut [u8]) -> Result<Tag, Fault> {
        let (tag, _) = self.read_cell(page + 1, page, out).map_err(|fault| Self::named(fault, page))?;
        if tags.get(&page).is_some_and(|known| *known != tag) {
            out.zeroize();
            return Err(Fault::Damage(format!(
                "page {page} was put back to an older version while the store was open"
            )));
        }
        Ok(tag)
    }

    fn write_cell(&self, place: u64, page: u64, count: u64, plain: &[u8]) -> Result<Tag, Fault> {
        let mut cell = AlignedBuffer::with_len(CELL_BYTES);
        let tag = cell::seal(&self.key, &*self.random, page, count, plain, &mut cell);
        self.file.write_at(cell_at(place), &cell)?;
        Ok(tag)
    }

    fn sync(&self, inner: &mut Inner) -> Result<(), Fault> {
        let front = &mut inner.front;
        if !front.is_dirty {
            return Ok(self.file.sync()?);
        }
        let (target, count) = (1 - front.durable, front.count + 1);
        self.write_cell(target as u64, 0, count, &front.page)?;
        self.file.sync()?;
        (front.durable, front.count, front.is_dirty) = (target, count, false);
        // The copy need not be durable now: the next sync that matters writes this one first.
        self.write_cell(1 - target as u64, 0, count, &front.page)?;
        Ok(())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), Fault> {
        let mut inner = self.inner.lock();
        let mut plain = Zeroizing::new(vec![0; PAGE_BYTES]);
        for piece in pieces(offset, out.len()) {
            if piece.page >= inner.pages {
                return Err(Fault::Damage(format!("it was cut: page {} of it is missing", piece.page)));
            }
            if piece.page == 0 {
                plain.copy_from_slice(&inner.front.page);
            } else {
                let tag = self.read_page(&inner.tags, piece.page, &mut plain)?;
                inner.tags.insert(piece.page, tag);
            }
            out[piece.outside].copy_from_slice(&plain[piece.inside]);
        }
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), Fault> {
        let mut inner = self.inner.lock();
        let mut plain = Zeroizing::new(vec![0; PAGE_BYTES]);
        for piece in pieces(offset, bytes.len()) {
            if piece.page == 0 {
                inner.front.page[piece.inside].copy_from_slice(&bytes[piece.outside]);
                inner.front.is_dirty = true;
                continue;
            }
            if piece.inside.len() < PAGE_BYTES && inner.tags.contains_key(&piece.page) {
                self.read_page(&inner.tags, piece.page, &mut plain)?;
            } else {
                plain.fill(0);
            }
            plain[piece.inside].copy_from_slice(&bytes[piece.outside]);
            let tag = self.write_cell(piece.page + 1, piece.page, 0, &plain)?;
            inner.tags.insert(piece.page, tag);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), Fault> {
        let mut inner = self.inner.lock();
        let pages = len.div_ceil(PAGE);
        if pages > inner.pages {
            // Room is taken here, where a full disk changes nothing, and not in the middle of a commit.
            self.file.allocate(file_bytes(pages))?;
        } else if pages < inner.pages {
            self.file.set_len(file_bytes(pages))?;
            inner.tags.retain(|page, _| *page < pages);
        }
        inner.pages = pages;
        Ok(())
    }
}

/// A part of a page and where it is in the caller's bytes.
struct Piece {
    page: u64,
    inside: std::ops::Range<usize>,
    outside: std::ops::Range<usize>,
}

fn pieces(offset: u64, len: usize) -> impl Iterator<Item = Piece> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        // Below 4096, so it fits.
        let start = (at % PAGE) as usize;
        let count = (PAGE_BYTES - start).min(len - done);
        let piece = Piece { page: at / PAGE, inside: start..start + count, outside: done..done + count };
        done += count;
        Some(piece)
    })
}

/// What the database holds of the file.
#[derive(Debug)]
pub(crate) struct Backend(pub(crate) Arc<PagedFile>);

impl Backend {
    fn noted<T>(&self, answer: Result<T, Fault>) -> Result<T, io::Error> {
        answer.map_err(|fault| {
            self.0.note(&fault);
            fault.into()
        })
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.0.pages() * PAGE)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.noted(self.0.read(offset, out))
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.noted(self.0.set_len(len))
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        let answer = self.0.sync(&mut self.0.inner.lock());
        self.noted(answer)
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.noted(self.0.write(offset, data))
    }

    fn close(&self) -> Result<(), io::Error> {
        if self.0.fault().is_some() {
            // After a failure nothing more is written: what is durable is what the next opening judges.
            return Ok(());
        }
        self.noted(self.0.checkpoint())
    }

    /// The disk port's directory is locked as a whole, by whoever opened it.
    fn try_lock_range(&self, _: std::ops::Bound<u64>, _: std::ops::Bound<u64>) -> Result<bool, redb::BackendError> {
        Ok(true)
    }

    fn unlock_range(&self, _: std::ops::Bound<u64>, _: std::ops::Bound<u64>) -> Result<(), redb::BackendError> {
        Ok(())
    }
}

impl fmt::Debug for PagedFile {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PagedFile({} pages)", self.pages())
    }
}

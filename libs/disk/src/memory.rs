//! A disk in memory that is as fast as memory: what remains of a benchmark's time on it is the engine's own.
//!
//! It knows nothing of crashes: everything is durable while the process lives. Content lies in pages with a lock each,
//! so that threads on one file meet only when they meet on a page.
//!
//! As with any file, a `set_len` or `punch` beside writes to the same range leaves one or the other.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};

use crate::{Disk, DiskError, DiskOperation, File, check};

/// Small enough that writers seldom share one and that small files stay small, large enough that a lock is cheap for
/// it.
const PAGE_BYTES: usize = 256 * 1024;

/// Pages kept for reuse (256 MiB) unless `warm` asked for more. Fresh memory costs a page fault every 4 KiB, which
/// would be most of a benchmark.
const SPARE_PAGES_MAX: usize = 1024;

/// Run `k` of the page table holds 2^k pages, so a file may reach 4 TiB: more than any memory, and yet a table that a
/// single wild offset cannot exhaust the memory with.
const RUNS: usize = 24;

const SECTOR_BYTES: usize = 512;

/// A directory of files in memory. Clones are the same directory.
#[derive(Clone)]
pub struct MemoryDisk {
    room: Arc<Room>,
    names: Arc<Mutex<BTreeMap<String, Arc<Content>>>>,
}

impl MemoryDisk {
    /// A disk without a limit.
    #[must_use]
    pub fn new() -> Self {
        Self::sized(u64::MAX)
    }

    /// A disk of `bytes`, taken in pages of 256 KiB; beyond them it is full.
    #[must_use]
    pub fn with_capacity(bytes: u64) -> Self {
        Self::sized(bytes / PAGE_BYTES as u64)
    }

    fn sized(pages: u64) -> Self {
        let room = Room { pages, taken: AtomicU64::new(0), spare: Mutex::default() };
        Self { room: Arc::new(room), names: Arc::default() }
    }

    /// Gets memory for `bytes` from the system now, so that a measurement that follows does not wait for it.
    pub fn warm(&self, bytes: u64) {
        let wanted = usize::try_from(bytes.div_ceil(PAGE_BYTES as u64)).unwrap_or(usize::MAX);
        let mut spare = self.room.spare.lock();
        spare.wanted = spare.wanted.max(wanted);
        while spare.pages.len() < wanted {
            // Not zeros: those the system would only promise.
            spare.pages.push(vec![0xff; PAGE_BYTES].into_boxed_slice());
        }
    }

    /// This disk as the port.
    #[must_use]
    pub fn handle(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }
}

impl Default for MemoryDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        check::name(DiskOperation::Open, name)?;
        let content = self.names.lock().get(name).cloned();
        let content = content.ok_or_else(|| check::not_found(DiskOperation::Open, name))?;
        Ok(Arc::new(MemoryFile { name: name.to_owned(), content }))
    }

    fn create(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        check::name(DiskOperation::Create, name)?;
        let mut names = self.names.lock();
        if names.contains_key(name) {
            return Err(check::exists(name));
        }
        let content = Arc::new(Content {
            room: Arc::clone(&self.room),
            len: AtomicU64::new(0),
            runs: [const { OnceLock::new() }; RUNS],
        });
        names.insert(name.to_owned(), Arc::clone(&content));
        Ok(Arc::new(MemoryFile { name: name.to_owned(), content }))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        check::name(DiskOperation::Remove, name)?;
        // Bound to a name so that the content is freed after the lock is.
        let removed = self.names.lock().remove(name);
        removed.map(drop).ok_or_else(|| check::not_found(DiskOperation::Remove, name))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        check::name(DiskOperation::Rename, from)?;
        check::name(DiskOperation::Rename, to)?;
        let replaced = {
            let mut names = self.names.lock();
            let content = names.remove(from).ok_or_else(|| check::not_found(DiskOperation::Rename, from))?;
            names.insert(to.to_owned(), content)
        };
        drop(replaced);
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        Ok(self.names.lock().keys().cloned().collect())
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        Ok(())
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let free = self.room.pages.saturating_sub(self.room.taken.load(Ordering::Relaxed));
        Ok(free.saturating_mul(PAGE_BYTES as u64))
    }

    fn sector_bytes(&self) -> usize {
        SECTOR_BYTES
    }
}

/// What all files of a disk share: the limit, and memory that waits for its next use.
struct Room {
    pages: u64,
    taken: AtomicU64,
    spare: Mutex<Spare>,
}

#[derive(Default)]
struct Spare {
    pages: Vec<Box<[u8]>>,
    wanted: usize,
}

impl Room {
    /// Counts one page as taken; false if the disk is full.
    fn charge(&self) -> bool {
        let more = |taken: u64| (taken < self.pages).then_some(taken + 1);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn discharge(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Memory for a page that the caller fills; it is cleared unless the caller writes all of it.
    fn memory(&self, clear: bool) -> Box<[u8]> {
        let spare = self.spare.lock().pages.pop();
        match spare {
            Some(mut memory) => {
                if clear {
                    memory.fill(0);
                }
                memory
            }
            // A vector of zeros comes from the kernel as it is, without being written here.
            None => vec![0; PAGE_BYTES].into_boxed_slice(),
        }
    }

    fn keep(&self, memory: Box<[u8]>) {
        let mut spare = self.spare.lock();
        if spare.pages.len() < SPARE_PAGES_MAX.max(spare.wanted) {
            spare.pages.push(memory);
        }
    }
}

/// What a page holds.
#[derive(Default)]
enum Page {
    /// Nothing: reads as zeros and costs nothing.
    #[default]
    Hole,
    /// Nothing yet, but counted, so that a write here cannot run out of space.
    Reserved,
    Filled(Box<[u8]>),
}

/// One file's bytes. It outlives its name for as long as a handle is open.
struct Content {
    room: Arc<Room>,
    len: AtomicU64,
    /// Runs of doubling length that are made once and never move, so that finding a page takes no lock.
    runs: [OnceLock<Box<[RwLock<Page>]>>; RUNS],
}

/// Where page `index` lies: its run and its place in the run.
fn place(index: u64) -> (usize, usize) {
    let run = (index + 1).ilog2();
    (run as usize, (index + 1 - (1 << run)) as usize)
}

/// The parts of `offset..offset + len` by page: the page's index and the range inside it.
fn parts(offset: u64, len: u64) -> impl Iterator<Item = (u64, Range<usize>)> {
    let (page_bytes, end) = (PAGE_BYTES as u64, offset + len);
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let index = at / page_bytes;
            let stop = end.min((index + 1) * page_bytes);
            let inner = (at - index * page_bytes) as usize..(stop - index * page_bytes) as usize;
            at = stop;
            (index, inner)
        })
    })
}

impl Content {
    /// The page, if anything was ever put into its run.
    fn existing(&self, index: u64) -> Option<&RwLock<Page>> {
        let (run, within) = place(index);
        self.runs.get(run)?.get().map(|pages| &pages[within])
    }

    fn page(&self, index: u64) -> Option<&RwLock<Page>> {
        let (run, within) = place(index);
        let pages = self.runs.get(run)?.get_or_init(|| (0..1_u64 << run).map(|_| RwLock::default()).collect());
        Some(&pages[within])
    }

    /// Makes `range` read as zeros, and gives back the pages that are covered wholly.
    fn clear(&self, range: Range<u64>) {
        // Whole runs that were never made hold nothing to clear, and a range may be as long as an offset can say.
        let mut at = range.start;
        while at < range.end {
            let index = at / PAGE_BYTES as u64;
            let (run, _) = place(index);
            let run_end = ((1_u64 << (run + 1)) - 1).saturating_mul(PAGE_BYTES as u64);
            let stop = range.end.min(run_end);
            if self.runs.get(run).is_some_and(|run| run.get().is_some()) {
                for (index, inner) in parts(at, stop - at) {
                    if let Some(page) = self.existing(index) {
                        self.clear_page(&mut page.write(), inner);
                    }
                }
            }
            at = stop;
        }
    }

    fn clear_page(&self, page: &mut Page, inner: Range<usize>) {
        if inner.len() == PAGE_BYTES {
            self.empty(page);
        } else if let Page::Filled(memory) = page {
            memory[inner].fill(0);
        }
    }

    fn empty(&self, page: &mut Page) {
        match std::mem::take(page) {
            Page::Hole => return,
            Page::Reserved => {}
            Page::Filled(memory) => self.room.keep(memory),
        }
        self.room.discharge();
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let mut runs = std::mem::replace(&mut self.runs, [const { OnceLock::new() }; RUNS]);
        for page in runs.iter_mut().filter_map(OnceLock::get_mut).flatten() {
            self.empty(page.get_mut());
        }
    }
}

struct MemoryFile {
    name: String,
    content: Arc<Content>,
}

impl File for MemoryFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check::memory(DiskOperation::Read, &self.name, offset, buffer, SECTOR_BYTES)?;
        check::inside(&self.name, offset, buffer.len(), self.content.len.load(Ordering::Acquire))?;
        let mut rest = buffer;
        for (index, inner) in parts(offset, rest.len() as u64) {
            let (now, later) = rest.split_at_mut(inner.len());
            rest = later;
            match self.content.existing(index).map(|page| page.read()).as_deref() {
                Some(Page::Filled(memory)) => now.copy_from_slice(&memory[inner]),
                _ => now.fill(0),
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        check::memory(DiskOperation::Write, &self.name, offset, bytes, SECTOR_BYTES)?;
        let mut rest = bytes;
        for (index, inner) in parts(offset, bytes.len() as u64) {
            let full = || check::full(DiskOperation::Write, &self.name, Some(index * PAGE_BYTES as u64));
            let (now, later) = rest.split_at(inner.len());
            rest = later;
            let mut page = self.content.page(index).ok_or_else(full)?.write();
            if matches!(*page, Page::Hole) {
                if !self.content.room.charge() {
                    return Err(full());
                }
                *page = Page::Reserved;
            }
            if matches!(*page, Page::Reserved) {
                *page = Page::Filled(self.content.room.memory(inner.len() != PAGE_BYTES));
            }
            if let Page::Filled(memory) = &mut *page {
                memory[inner].copy_from_slice(now);
            }
        }
        if !bytes.is_empty() {
            self.content.len.fetch_max(offset + bytes.len() as u64, Ordering::AcqRel);
        }
        Ok(())
    }

    fn len(&self) -> Result<u64, DiskError> {
        Ok(self.content.len.load(Ordering::Acquire))
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        check::range(DiskOperation::SetLength, &self.name, 0, len, SECTOR_BYTES)?;
        self.content.len.store(len, Ordering::Release);
        // Also when it grows: room that was taken beyond the end is given back, as nothing else would.
        self.content.clear(len.next_multiple_of(PAGE_BYTES as u64)..u64::MAX);
        self.content.clear(len..len.next_multiple_of(PAGE_BYTES as u64));
        Ok(())
    }

    fn allocate(&self, len: u64) -> Result<(), DiskError> {
        check::range(DiskOperation::Allocate, &self.name, 0, len, SECTOR_BYTES)?;
        let reach = ((1_u64 << RUNS) - 1) * PAGE_BYTES as u64;
        if len > reach {
            return Err(check::full(DiskOperation::Allocate, &self.name, None));
        }
        let mut reserved = Vec::new();
        for (index, _) in parts(0, len) {
            let page = self.content.page(index);
            let taken = page.is_some_and(|page| {
                let mut page = page.write();
                if matches!(*page, Page::Hole) {
                    if !self.content.room.charge() {
                        return false;
                    }
                    *page = Page::Reserved;
                    reserved.push(index);
                }
                true
            });
            if !taken {
                // A refused allocation must not leave the disk full of what nobody can use.
                for page in reserved.into_iter().filter_map(|index| self.content.existing(index)) {
                    let mut page = page.write();
                    if matches!(*page, Page::Reserved) {
                        self.content.empty(&mut page);
                    }
                }
                return Err(check::full(DiskOperation::Allocate, &self.name, None));
            }
        }
        self.content.len.fetch_max(len, Ordering::AcqRel);
        Ok(())
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), DiskError> {
        check::range(DiskOperation::Punch, &self.name, offset, len, SECTOR_BYTES)?;
        self.content.clear(offset..offset + len);
        Ok(())
    }

    fn sync(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{MemoryDisk, PAGE_BYTES, RUNS, parts, place};
    use crate::{AlignedBuffer, Disk};

    #[test]
    fn pages_have_distinct_places_and_the_last_run_reaches_every_offset() {
        assert_eq!([place(0), place(1), place(2), place(3), place(6)], [(0, 0), (1, 0), (1, 1), (2, 0), (2, 3)]);
        assert!(place(i64::MAX as u64 / PAGE_BYTES as u64).0 > RUNS, "offsets that far are refused, not reached");
        let page = PAGE_BYTES as u64;
        let found: Vec<_> = parts(page - 512, page + 1024).collect();
        assert_eq!(found, [(0, PAGE_BYTES - 512..PAGE_BYTES), (1, 0..PAGE_BYTES), (2, 0..512)]);
    }

    #[test]
    fn a_limited_disk_fills_and_takes_back() {
        let page = PAGE_BYTES as u64;
        let disk = MemoryDisk::with_capacity(4 * page);
        let file = disk.create("a").unwrap();
        file.allocate(3 * page).unwrap();
        assert_eq!(disk.free_bytes().unwrap(), page);
        let other = disk.create("b").unwrap();
        assert!(other.allocate(2 * page).unwrap_err().is_no_space());
        assert_eq!(disk.free_bytes().unwrap(), page, "a refused allocation takes nothing");
        other.write_at(0, &AlignedBuffer::with_len(PAGE_BYTES)).unwrap();
        assert!(other.write_at(page, &AlignedBuffer::with_len(512)).unwrap_err().is_no_space());
        file.write_at(0, &AlignedBuffer::with_len(3 * PAGE_BYTES)).unwrap();
        file.punch(0, page).unwrap();
        assert_eq!(disk.free_bytes().unwrap(), page);
        disk.remove("a").unwrap();
        assert_eq!(disk.free_bytes().unwrap(), page, "an open handle keeps its room");
        drop(file);
        assert_eq!(disk.free_bytes().unwrap(), 3 * page);
    }

    #[test]
    fn reused_pages_show_nothing_of_their_past() {
        let disk = MemoryDisk::new();
        disk.warm(4 * PAGE_BYTES as u64);
        let file = disk.create("a").unwrap();
        let mut bytes = AlignedBuffer::with_len(2 * PAGE_BYTES);
        bytes.fill(7);
        file.write_at(0, &bytes).unwrap();
        file.set_len(512).unwrap();
        file.set_len(2 * PAGE_BYTES as u64).unwrap();
        file.write_at(PAGE_BYTES as u64, &bytes[..512]).unwrap();
        let mut back = AlignedBuffer::with_len(2 * PAGE_BYTES);
        file.read_at(0, &mut back).unwrap();
        let filled = |at: usize| at < 512 || (PAGE_BYTES..PAGE_BYTES + 512).contains(&at);
        assert!(back.iter().enumerate().all(|(at, byte)| *byte == if filled(at) { 7 } else { 0 }));
    }

    #[test]
    fn threads_write_one_file_without_meeting() {
        let disk = MemoryDisk::new();
        let file = disk.create("a").unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let file = &file;
                scope.spawn(move || {
                    let mut bytes = AlignedBuffer::with_len(4096);
                    bytes.fill(thread + 1);
                    for step in 0..256_u64 {
                        file.write_at((step * 4 + u64::from(thread)) * 4096, &bytes).unwrap();
                    }
                });
            }
        });
        let mut back = AlignedBuffer::with_len(4 << 20);
        file.read_at(0, &mut back).unwrap();
        for (block, bytes) in back.chunks(4096).enumerate() {
            assert!(bytes.iter().all(|byte| usize::from(*byte) == block % 4 + 1), "block {block}");
        }
    }
}

//! A file's bytes as the simulated disks keep them: copy-on-write, so that a copy of a file costs next to nothing.
//!
//! Crash enumeration makes an image of the disk for every crash point and every sampled subset. With pages and groups
//! of pages behind reference counts, such an image costs what differs, not what is there.

use std::ops::Range;
use std::sync::Arc;

pub(crate) const PAGE_BYTES: usize = 4096;

/// Pages that are shared and copied as one group.
const GROUP_PAGES: usize = 64;

type Page = [u8; PAGE_BYTES];

#[derive(Clone, Default)]
enum Slot {
    /// Reads as zeros and takes no room.
    #[default]
    Hole,
    /// Reads as zeros; its room is taken.
    Reserved,
    Filled(Arc<Page>),
}

type Group = [Slot; GROUP_PAGES];

/// Bytes that were written at a place. Whole pages among them are kept as pages, so that every content that they are
/// put into shares them instead of copying.
pub(crate) struct Written {
    offset: u64,
    bytes: Arc<[u8]>,
    first_page: u64,
    pages: Vec<Arc<Page>>,
}

impl Written {
    pub(crate) fn new(offset: u64, bytes: Arc<[u8]>) -> Self {
        let first_page = offset.div_ceil(PAGE_BYTES as u64);
        let skipped = (first_page * PAGE_BYTES as u64 - offset) as usize;
        let (whole, _) = bytes.get(skipped..).unwrap_or_default().as_chunks();
        let pages = whole.iter().map(|page| Arc::new(*page)).collect();
        Self { offset, bytes, first_page, pages }
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.offset..self.offset + self.bytes.len() as u64
    }
}

/// A sparse, growable run of bytes with an accounted number of pages.
#[derive(Clone, Default)]
pub(crate) struct Content {
    len: u64,
    groups: Vec<Option<Arc<Group>>>,
    pages_taken: u64,
}

/// The pages that a range touches.
fn pages(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE_BYTES as u64..range.end.div_ceil(PAGE_BYTES as u64)
}

/// The part of page `index` that lies in `range`, relative to the page and relative to the range.
fn overlap(index: u64, range: &Range<u64>) -> (Range<usize>, Range<usize>) {
    let page_start = index * PAGE_BYTES as u64;
    let start = range.start.max(page_start);
    let end = range.end.min(page_start + PAGE_BYTES as u64);
    let inside = |from: u64| (start - from) as usize..(end - from) as usize;
    (inside(page_start), inside(range.start))
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// How many pages are filled or reserved.
    pub(crate) fn pages_taken(&self) -> u64 {
        self.pages_taken
    }

    /// How many pages of the range would have to be taken for a write there.
    pub(crate) fn pages_missing(&self, range: &Range<u64>) -> u64 {
        pages(range).filter(|index| matches!(self.slot(*index), Slot::Hole)).count() as u64
    }

    /// Copies what is at `offset` into `buffer`; beyond the end there are zeros.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) {
        let range = offset..offset + buffer.len() as u64;
        for index in pages(&range) {
            let (in_page, in_range) = overlap(index, &range);
            match self.slot(index) {
                Slot::Filled(page) => buffer[in_range].copy_from_slice(&page[in_page]),
                _ => buffer[in_range].fill(0),
            }
        }
    }

    /// Puts `bytes` at `offset` and reaches at least to their end.
    pub(crate) fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.put_pages(offset, bytes, |_| None);
    }

    /// Puts the part of what was written that lies at `range`, and reaches at least to its end.
    pub(crate) fn put(&mut self, written: &Written, range: Range<u64>) {
        let from = |place: u64| (place - written.offset) as usize;
        self.put_pages(range.start, &written.bytes[from(range.start)..from(range.end)], |index| {
            written.pages.get(usize::try_from(index.checked_sub(written.first_page)?).ok()?)
        });
    }

    fn put_pages<'a>(&mut self, offset: u64, bytes: &[u8], shared: impl Fn(u64) -> Option<&'a Arc<Page>>) {
        if bytes.is_empty() {
            return;
        }
        let range = offset..offset + bytes.len() as u64;
        for index in pages(&range) {
            let (in_page, in_range) = overlap(index, &range);
            let slot = self.slot_mut(index);
            let was_hole = matches!(slot, Slot::Hole);
            match (shared(index).filter(|_| in_page.len() == PAGE_BYTES), &mut *slot) {
                (Some(page), _) => *slot = Slot::Filled(Arc::clone(page)),
                (None, Slot::Filled(page)) => Arc::make_mut(page)[in_page].copy_from_slice(&bytes[in_range]),
                (None, _) => {
                    let mut page = [0; PAGE_BYTES];
                    page[in_page].copy_from_slice(&bytes[in_range]);
                    *slot = Slot::Filled(Arc::new(page));
                }
            }
            self.pages_taken += u64::from(was_hole);
        }
        self.extend(range.end);
    }

    /// Reaches at least to `len`, with zeros.
    pub(crate) fn extend(&mut self, len: u64) {
        self.len = self.len.max(len);
    }

    /// Ends at `len`: what was beyond reads as zeros if the file grows again.
    pub(crate) fn cut(&mut self, len: u64) {
        let end = self.groups.len() as u64 * (GROUP_PAGES * PAGE_BYTES) as u64;
        if len < end {
            self.zero(len..end);
        }
        self.len = len;
    }

    /// Takes the room of `0..len` and reaches at least to there.
    pub(crate) fn reserve(&mut self, len: u64) {
        for index in pages(&(0..len)) {
            if matches!(self.slot(index), Slot::Hole) {
                *self.slot_mut(index) = Slot::Reserved;
                self.pages_taken += 1;
            }
        }
        self.extend(len);
    }

    /// Makes a range read as zeros, and gives back the pages that lie in it wholly.
    pub(crate) fn zero(&mut self, range: Range<u64>) {
        let last = self.groups.len() as u64 * GROUP_PAGES as u64;
        let touched = pages(&range);
        for index in touched.start..touched.end.min(last) {
            if matches!(self.slot(index), Slot::Hole) {
                continue;
            }
            let (in_page, _) = overlap(index, &range);
            let slot = self.slot_mut(index);
            if in_page.len() == PAGE_BYTES {
                *slot = Slot::Hole;
                self.pages_taken -= 1;
            } else if let Slot::Filled(page) = slot {
                Arc::make_mut(page)[in_page].fill(0);
            }
        }
    }

    /// Whether both hold the same bytes, however they hold them.
    pub(crate) fn same_bytes(&self, other: &Self) -> bool {
        let groups = self.groups.len().max(other.groups.len());
        self.len == other.len
            && (0..groups).all(|group| {
                let (mine, theirs) = (self.groups.get(group), other.groups.get(group));
                match (mine.and_then(Option::as_ref), theirs.and_then(Option::as_ref)) {
                    (Some(mine), Some(theirs)) if Arc::ptr_eq(mine, theirs) => true,
                    _ => (group * GROUP_PAGES..(group + 1) * GROUP_PAGES)
                        .all(|index| self.slot(index as u64).same_bytes(other.slot(index as u64))),
                }
            })
    }

    fn slot(&self, index: u64) -> &Slot {
        let (group, within) = (index as usize / GROUP_PAGES, index as usize % GROUP_PAGES);
        match self.groups.get(group) {
            Some(Some(group)) => &group[within],
            _ => &Slot::Hole,
        }
    }

    fn slot_mut(&mut self, index: u64) -> &mut Slot {
        let (group, within) = (index as usize / GROUP_PAGES, index as usize % GROUP_PAGES);
        if self.groups.len() <= group {
            self.groups.resize(group + 1, None);
        }
        let group = self.groups[group].get_or_insert_with(|| Arc::new([const { Slot::Hole }; GROUP_PAGES]));
        &mut Arc::make_mut(group)[within]
    }
}

impl Slot {
    fn same_bytes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Filled(mine), Self::Filled(theirs)) => Arc::ptr_eq(mine, theirs) || mine == theirs,
            (Self::Filled(page), _) | (_, Self::Filled(page)) => page.iter().all(|byte| *byte == 0),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Content, Written};

    fn bytes(content: &Content) -> Vec<u8> {
        let mut bytes = vec![0xff; content.len() as usize];
        content.read(0, &mut bytes);
        bytes
    }

    #[test]
    fn a_copy_does_not_see_later_writes() {
        let mut first = Content::default();
        first.write(512, &[1; 8192]);
        let second = first.clone();
        first.write(1024, &[2; 512]);
        first.cut(2048);
        assert_eq!(second.len(), 8704);
        assert!(bytes(&second)[512..].iter().all(|byte| *byte == 1));
        assert_eq!((bytes(&first)[1023], bytes(&first)[1024], bytes(&first)[1536]), (1, 2, 1));
    }

    #[test]
    fn room_is_counted_by_page_and_given_back() {
        let mut content = Content::default();
        content.reserve(5 * 4096);
        assert_eq!((content.len(), content.pages_taken(), content.pages_missing(&(0..24_576))), (20_480, 5, 1));
        content.write(4096, &[3; 4096]);
        assert_eq!(content.pages_taken(), 5);
        content.zero(4096 - 512..8192 + 512);
        assert_eq!(content.pages_taken(), 4);
        assert!(bytes(&content).iter().all(|byte| *byte == 0));
        content.cut(512);
        assert_eq!((content.len(), content.pages_taken()), (512, 1));
    }

    #[test]
    fn parts_of_what_was_written_land_as_the_whole_does() {
        let bytes: Vec<u8> = (0..13 * 512_u32).map(|at| (at / 512 + 1) as u8).collect();
        for offset in [0, 512, 4096, 4608, 7680] {
            let written = Written::new(offset, bytes.clone().into());
            let (mut expected, mut whole, mut parts) = (Content::default(), Content::default(), Content::default());
            expected.write(offset, &bytes);
            whole.put(&written, written.range());
            for sector in (0..13).rev() {
                let start = offset + sector * 512;
                parts.put(&written, start..start + 512);
            }
            assert!(whole.same_bytes(&expected) && parts.same_bytes(&expected), "{offset}");
            assert_eq!(whole.pages_taken(), expected.pages_taken());
            let before = expected.clone();
            whole.write(offset, &[0xff; 512]);
            expected.put(&written, written.range());
            assert!(expected.same_bytes(&before), "a shared page is copied before it is changed");
        }
    }

    #[test]
    fn what_was_cut_off_stays_gone() {
        let mut content = Content::default();
        content.write(0, &[9; 10_240]);
        content.cut(4608);
        content.extend(10_240);
        assert!(bytes(&content)[..4608].iter().all(|byte| *byte == 9));
        assert!(bytes(&content)[4608..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn equality_is_about_bytes_not_about_room() {
        let (mut first, mut second) = (Content::default(), Content::default());
        first.write(0, &[0; 8192]);
        second.reserve(8192);
        assert!(first.same_bytes(&second));
        second.write(4096, &[1; 512]);
        assert!(!first.same_bytes(&second));
        assert!(!first.same_bytes(&Content::default()));
    }
}

//! The crash model itself: what is on a disk now, what would be there after a power cut, and what lies between.
//!
//! It makes no faults, refuses nothing and draws no numbers but those it is handed; the disks that are built on it do.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::content::{Content, Written};
use crate::crash::{Crash, Shape, Unsynced, survivors};
use crate::{FileId, Image, Operation, SeededRandom};

pub(crate) const SECTOR_BYTES: usize = 512;

/// A punched range comes apart into at most this many pieces; by sector, a large one would drown everything else.
const PUNCH_PIECES_MAX: u64 = 16;

/// Pieces of a punched range are whole blocks of a file system.
const PUNCH_PIECE_BYTES_MIN: u64 = 4096;

/// A disk under the crash model.
#[derive(Default)]
pub(crate) struct Model {
    files: BTreeMap<FileId, FileState>,
    names: BTreeMap<Arc<str>, FileId>,
    durable_names: BTreeMap<Arc<str>, FileId>,
    /// Everything since the last sync that covered it, oldest first.
    unsynced: Vec<Change>,
    next_file: u64,
    pages_taken: u64,
}

#[derive(Default)]
struct FileState {
    now: Arc<Content>,
    durable: Arc<Content>,
    /// After a failed sync, some of `now` is neither durable nor un-synced: no later sync will write it.
    has_stale_cache: bool,
}

struct Change {
    file: FileId,
    effect: Effect,
}

enum Effect {
    Write(Written),
    Grow(u64),
    Cut(u64),
    Allocate(u64),
    Punch(Range<u64>),
    Create(Arc<str>),
    Remove(Arc<str>),
    Rename { from: Arc<str>, to: Arc<str> },
}

impl Effect {
    fn is_name(&self) -> bool {
        matches!(self, Self::Create(_) | Self::Remove(_) | Self::Rename { .. })
    }

    fn units(&self) -> usize {
        match self {
            Self::Write(written) => length(&written.range()).div_ceil(SECTOR_BYTES as u64) as usize,
            Self::Punch(range) => length(range).div_ceil(punch_piece(range)) as usize,
            _ => 1,
        }
    }

    /// The places of some consecutive units of a write or a punch.
    fn places(&self, units: &Range<usize>) -> Range<u64> {
        let (range, piece) = match self {
            Self::Write(written) => (written.range(), SECTOR_BYTES as u64),
            Self::Punch(range) => (range.clone(), punch_piece(range)),
            _ => return 0..0,
        };
        range.start + units.start as u64 * piece..range.end.min(range.start + units.end as u64 * piece)
    }

    /// Does what some consecutive units of a change to bytes do.
    fn apply_units(&self, content: &mut Content, units: Range<usize>) {
        let places = self.places(&units);
        match self {
            Self::Write(written) => content.put(written, places),
            Self::Punch(_) => content.zero(places),
            Self::Grow(len) => content.extend(*len),
            // A cut that survives without the growth before it must not grow the file itself.
            Self::Cut(len) if *len < content.len() => content.cut(*len),
            Self::Allocate(len) => content.reserve(*len),
            Self::Cut(_) | Self::Create(_) | Self::Remove(_) | Self::Rename { .. } => {}
        }
    }

    fn apply_whole(&self, content: &mut Content) {
        self.apply_units(content, 0..self.units());
    }

    fn apply_name(&self, file: FileId, names: &mut BTreeMap<Arc<str>, FileId>) {
        match self {
            Self::Create(name) => {
                names.insert(Arc::clone(name), file);
            }
            Self::Remove(name) if names.get(name) == Some(&file) => {
                names.remove(name);
            }
            Self::Rename { to, .. } => {
                // Not only `from`: if the rename before this one was lost, the file still has its older name, and a
                // file has one name.
                names.retain(|_, held| *held != file);
                names.insert(Arc::clone(to), file);
            }
            _ => {}
        }
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

fn punch_piece(range: &Range<u64>) -> u64 {
    length(range).div_ceil(PUNCH_PIECES_MAX).next_multiple_of(PUNCH_PIECE_BYTES_MIN).max(PUNCH_PIECE_BYTES_MIN)
}

/// Runs of `true` among the next `units` places.
fn runs(kept: &[bool]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + kept[at..].iter().position(|kept| *kept)?;
        let end = kept[start..].iter().position(|kept| !*kept).map_or(kept.len(), |len| start + len);
        at = end;
        Some(start..end)
    })
}

impl Model {
    /// A disk on which everything is durable.
    pub(crate) fn from_image(image: &Image) -> Self {
        let mut model = Self::default();
        for (name, content) in &image.files {
            let file = model.next_file();
            model.next_file += 1;
            model.pages_taken += content.pages_taken();
            let state = FileState { now: Arc::clone(content), durable: Arc::clone(content), has_stale_cache: false };
            model.files.insert(file, state);
            model.names.insert(Arc::clone(name), file);
        }
        model.durable_names = model.names.clone();
        model
    }

    /// The number that the next file gets.
    pub(crate) fn next_file(&self) -> FileId {
        FileId(self.next_file)
    }

    pub(crate) fn find(&self, name: &str) -> Option<FileId> {
        self.names.get(name).copied()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    /// The bytes as the running system sees them.
    pub(crate) fn content(&self, file: FileId) -> Option<&Content> {
        self.files.get(&file).map(|state| &*state.now)
    }

    pub(crate) fn pages_taken(&self) -> u64 {
        self.pages_taken
    }

    /// Does one operation. It must be one that the disk could do: names and files that it speaks of are there.
    pub(crate) fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Create { file, name } => {
                self.next_file = self.next_file.max(file.0 + 1);
                self.files.insert(*file, FileState::default());
                self.change_name(*file, Effect::Create(Arc::clone(name)));
            }
            Operation::Remove { file, name } => self.change_name(*file, Effect::Remove(Arc::clone(name))),
            Operation::Rename { file, from, to } => {
                self.change_name(*file, Effect::Rename { from: Arc::clone(from), to: Arc::clone(to) });
            }
            Operation::Write { file, offset, bytes } => {
                let end = offset + bytes.len() as u64;
                if self.content(*file).is_some_and(|content| content.len() < end) {
                    self.change(*file, Effect::Grow(end));
                }
                self.change(*file, Effect::Write(Written::new(*offset, Arc::clone(bytes))));
            }
            Operation::SetLen { file, len } => match self.content(*file).map_or(0, Content::len) {
                old if *len < old => self.change(*file, Effect::Cut(*len)),
                old if *len > old => self.change(*file, Effect::Grow(*len)),
                _ => {}
            },
            Operation::Allocate { file, len } => self.change(*file, Effect::Allocate(*len)),
            Operation::Punch { file, offset, len } => self.change(*file, Effect::Punch(*offset..offset + len)),
            Operation::Sync { file } => self.sync(*file),
            Operation::SyncNames => {
                for change in &self.unsynced {
                    change.effect.apply_name(change.file, &mut self.durable_names);
                }
                self.unsynced.retain(|change| !change.effect.is_name());
            }
        }
    }

    fn change_name(&mut self, file: FileId, effect: Effect) {
        effect.apply_name(file, &mut self.names);
        self.unsynced.push(Change { file, effect });
    }

    fn change(&mut self, file: FileId, effect: Effect) {
        let Some(state) = self.files.get_mut(&file) else { return };
        let now = Arc::make_mut(&mut state.now);
        let before = now.pages_taken();
        effect.apply_whole(now);
        self.pages_taken = self.pages_taken + now.pages_taken() - before;
        self.unsynced.push(Change { file, effect });
    }

    fn sync(&mut self, file: FileId) {
        let Some(state) = self.files.get_mut(&file) else { return };
        let mine = |change: &Change| change.file == file && !change.effect.is_name();
        if state.has_stale_cache {
            let durable = Arc::make_mut(&mut state.durable);
            self.unsynced.iter().filter(|change| mine(change)).for_each(|change| change.effect.apply_whole(durable));
        } else {
            state.durable = Arc::clone(&state.now);
        }
        self.unsynced.retain(|change| !mine(change));
    }

    /// A sync that fails, as kernels fail it: every un-synced sector is by chance on the disk; or gone, and reads show
    /// what was there before; or still in the cache, to be seen but never to be written. None of them is un-synced any
    /// more, so the next sync succeeds and proves nothing. Lengths, holes and room are the journal's and survive.
    pub(crate) fn fail_sync(&mut self, file: FileId, random: &SeededRandom) {
        let Some(state) = self.files.get_mut(&file) else { return };
        let salt = random.next_u64();
        // By place, not by write, so that two writes of one sector share its fate.
        let fate = |sector: u64| SeededRandom::new(salt ^ sector).below(3);
        let mine = |change: &Change| change.file == file && !change.effect.is_name();
        let durable = Arc::make_mut(&mut state.durable);
        let mut gone = Vec::new();
        for change in self.unsynced.iter().filter(|change| mine(change)) {
            if !matches!(change.effect, Effect::Write(_)) {
                change.effect.apply_whole(durable);
                continue;
            }
            for unit in 0..change.effect.units() {
                let place = change.effect.places(&(unit..unit + 1));
                match fate(place.start / SECTOR_BYTES as u64) {
                    0 => change.effect.apply_units(durable, unit..unit + 1),
                    1 => gone.push(place),
                    _ => state.has_stale_cache = true,
                }
            }
        }
        let now = Arc::make_mut(&mut state.now);
        let before = now.pages_taken();
        // What lies past a later cut is gone already.
        gone.retain(|place| place.end <= now.len());
        for place in gone {
            let mut sector = [0; SECTOR_BYTES];
            let sector = &mut sector[..(place.end - place.start) as usize];
            durable.read(place.start, sector);
            now.write(place.start, sector);
        }
        self.pages_taken = self.pages_taken + now.pages_taken() - before;
        self.unsynced.retain(|change| !mine(change));
    }

    /// The same for names: each un-synced change is by chance durable, or still un-synced, or seen but forgotten.
    pub(crate) fn fail_sync_names(&mut self, random: &SeededRandom) {
        let durable_names = &mut self.durable_names;
        self.unsynced.retain(|change| {
            if !change.effect.is_name() {
                return true;
            }
            let fate = random.below(3);
            if fate == 0 {
                change.effect.apply_name(change.file, durable_names);
            }
            fate == 1
        });
    }

    /// Flips bits of a durable byte; false if there is none. A sector that waits to be overwritten shows nothing of it.
    pub(crate) fn rot(&mut self, file: FileId, offset: u64, mask: u8) -> bool {
        let sector = offset - offset % SECTOR_BYTES as u64;
        let waits = self.unsynced.iter().any(|change| {
            let units = 0..change.effect.units();
            let places = change.effect.places(&units);
            change.file == file && places.start < sector + SECTOR_BYTES as u64 && sector < places.end
        });
        let Some(state) = self.files.get_mut(&file).filter(|state| offset < state.durable.len()) else { return false };
        let flip = |content: &mut Content| {
            let mut byte = [0];
            content.read(offset, &mut byte);
            content.write(offset, &[byte[0] ^ mask]);
        };
        let before = state.now.pages_taken();
        let both_same = Arc::ptr_eq(&state.now, &state.durable);
        flip(Arc::make_mut(&mut state.durable));
        if both_same {
            state.now = Arc::clone(&state.durable);
        } else if !waits && offset < state.now.len() {
            flip(Arc::make_mut(&mut state.now));
        }
        self.pages_taken = self.pages_taken + state.now.pages_taken() - before;
        true
    }

    /// Lets go of a file that nobody has open, unless a name still leads to it or might after a crash.
    pub(crate) fn forget(&mut self, file: FileId) {
        let named = self.names.values().chain(self.durable_names.values()).any(|held| *held == file);
        let may_return = self.unsynced.iter().any(|change| change.file == file && change.effect.is_name());
        if named || may_return {
            return;
        }
        if let Some(state) = self.files.remove(&file) {
            self.pages_taken -= state.now.pages_taken();
            self.unsynced.retain(|change| change.file != file);
        }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = FileId> {
        self.files.keys().copied()
    }

    /// How many units are un-synced.
    pub(crate) fn unsynced_count(&self) -> usize {
        self.unsynced.iter().map(|change| change.effect.units()).sum()
    }

    /// Every un-synced unit, in the order in which a choice speaks of them.
    pub(crate) fn unsynced(&self) -> Vec<Unsynced> {
        let mut units = Vec::new();
        for Change { file, effect } in &self.unsynced {
            let file = *file;
            for unit in 0..effect.units() {
                let place = effect.places(&(unit..unit + 1));
                units.push(match effect {
                    Effect::Write(_) => Unsynced::Sector { file, offset: place.start },
                    Effect::Punch(_) => Unsynced::Punch { file, offset: place.start, len: length(&place) },
                    Effect::Grow(len) => Unsynced::Grow { file, len: *len },
                    Effect::Cut(len) => Unsynced::Cut { file, len: *len },
                    Effect::Allocate(len) => Unsynced::Allocate { file, len: *len },
                    Effect::Create(name) => Unsynced::Create { file, name: Arc::clone(name) },
                    Effect::Remove(name) => Unsynced::Remove { file, name: Arc::clone(name) },
                    Effect::Rename { from, to } => {
                        Unsynced::Rename { file, from: Arc::clone(from), to: Arc::clone(to) }
                    }
                });
            }
        }
        units
    }

    /// Which units a crash of this kind keeps.
    pub(crate) fn survivors(&self, crash: &Crash) -> Vec<bool> {
        let shapes: Vec<_> = self
            .unsynced
            .iter()
            .map(|change| Shape { units: change.effect.units(), is_name: change.effect.is_name() })
            .collect();
        survivors(crash, &shapes)
    }

    /// The disk as the running system sees it.
    pub(crate) fn image(&self) -> Image {
        let content = |file: &FileId| self.files.get(file).map(|state| Arc::clone(&state.now)).unwrap_or_default();
        Image { files: self.names.iter().map(|(name, file)| (Arc::clone(name), content(file))).collect() }
    }

    /// The disk after a crash in which these units survived.
    pub(crate) fn image_of(&self, kept: &[bool]) -> Image {
        let mut names = self.durable_names.clone();
        let mut changed: BTreeMap<FileId, Arc<Content>> = BTreeMap::new();
        let durable = |file: &FileId| self.files.get(file).map(|state| Arc::clone(&state.durable)).unwrap_or_default();
        let mut rest = kept;
        for Change { file, effect } in &self.unsynced {
            let (mine, later) = rest.split_at(effect.units().min(rest.len()));
            rest = later;
            if effect.is_name() {
                if mine == [true] {
                    effect.apply_name(*file, &mut names);
                }
                continue;
            }
            for units in runs(mine) {
                let content = changed.entry(*file).or_insert_with(|| durable(file));
                effect.apply_units(Arc::make_mut(content), units);
            }
        }
        let content = |file: &FileId| changed.get(file).map_or_else(|| durable(file), Arc::clone);
        Image { files: names.iter().map(|(name, file)| (Arc::clone(name), content(file))).collect() }
    }

    /// The disk after a crash of this kind.
    pub(crate) fn crash_image(&self, crash: &Crash) -> Image {
        self.image_of(&self.survivors(crash))
    }
}

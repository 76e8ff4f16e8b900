//! Records what is done to a disk, and walks through every state in which a crash could have left it.
//!
//! A test runs once on a [`RecordingDisk`]. Then, for the moment after each operation, it opens what a power cut may
//! have left: nothing un-synced, everything, and some of it. The walk does each operation once more on the model and
//! shares all pages that do not differ, so a crash point costs microseconds.

use std::collections::HashSet;
use std::sync::Arc;

use crate::model::Model;
use crate::{Crash, Disk, DiskError, Faults, File, Image, Operation, SeededRandom, SimulatedDisk, Unsynced};

/// A disk without faults that keeps every change made to it, in order. Clones are the same disk.
#[derive(Clone)]
pub struct RecordingDisk {
    base: Arc<Image>,
    disk: SimulatedDisk,
}

impl RecordingDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::from_image(Image::new())
    }

    /// A disk that begins with what the image holds.
    #[must_use]
    pub fn from_image(base: Image) -> Self {
        let disk = SimulatedDisk::from_image(0, Faults::none(), &base);
        disk.start_journal();
        Self { base: Arc::new(base), disk }
    }

    /// This disk as the port.
    #[must_use]
    pub fn handle(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// How many operations were recorded so far. What a caller was promised by now must hold at every crash point from
    /// this number on.
    #[must_use]
    pub fn position(&self) -> usize {
        self.disk.with_journal(<[Operation]>::len)
    }

    /// Every operation so far. The bytes written are shared, not copied.
    #[must_use]
    pub fn history(&self) -> Vec<Operation> {
        self.disk.with_journal(<[Operation]>::to_vec)
    }

    /// The whole disk as it is now.
    #[must_use]
    pub fn image(&self) -> Image {
        self.disk.image()
    }

    /// A walk through all crash points of what was recorded so far.
    #[must_use]
    pub fn walk(&self) -> CrashWalk {
        CrashWalk::new(&self.base, self.history())
    }

    /// The states in which a crash after the first `operations` operations could have left the disk. For one point; all
    /// of them in turn are the business of [`RecordingDisk::walk`].
    #[must_use]
    pub fn states_at(&self, operations: usize, samples: usize, seed: u64) -> Vec<CrashState> {
        let mut walk = self.walk();
        walk.seek(operations);
        walk.point().states(samples, seed)
    }
}

impl Default for RecordingDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl Disk for RecordingDisk {
    fn open(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        self.disk.open(name)
    }
    fn create(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        self.disk.create(name)
    }
    fn remove(&self, name: &str) -> Result<(), DiskError> {
        self.disk.remove(name)
    }
    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }
    fn list(&self) -> Result<Vec<String>, DiskError> {
        self.disk.list()
    }
    fn sync_names(&self) -> Result<(), DiskError> {
        self.disk.sync_names()
    }
    fn free_bytes(&self) -> Result<u64, DiskError> {
        self.disk.free_bytes()
    }
    fn sector_bytes(&self) -> usize {
        self.disk.sector_bytes()
    }
}

/// Steps through a history, one crash point after the other.
///
/// ```
/// # use holdfast_disk::{Disk, RecordingDisk};
/// let disk = RecordingDisk::new();
/// disk.create("a")?;
/// disk.sync_names()?;
/// let mut walk = disk.walk();
/// while let Some(point) = walk.advance() {
///     for state in point.states(8, 1) {
///         // After the second operation the name is there, whatever else was lost.
///         assert!(point.after() < 2 || state.image.len_of("a").is_some());
///     }
/// }
/// # Ok::<(), holdfast_disk::DiskError>(())
/// ```
pub struct CrashWalk {
    model: Model,
    history: Vec<Operation>,
    /// How many operations are done.
    done: usize,
    /// The point before the first operation comes up too.
    begun: bool,
}

impl CrashWalk {
    /// A walk over any history that began with `base`; a shortened one, say, in search of the smallest that fails.
    #[must_use]
    pub fn new(base: &Image, history: Vec<Operation>) -> Self {
        Self { model: Model::from_image(base), history, done: 0, begun: false }
    }

    /// The next crash point: first the one before any operation, at last the one after all of them.
    pub fn advance(&mut self) -> Option<CrashPoint<'_>> {
        if self.begun {
            self.model.apply(self.history.get(self.done)?);
            self.done += 1;
        }
        self.begun = true;
        Some(self.point())
    }

    /// Goes on, without looking, to the point after the first `operations` operations; never back.
    pub fn seek(&mut self, operations: usize) {
        self.begun = true;
        while self.done < operations.min(self.history.len()) {
            self.model.apply(&self.history[self.done]);
            self.done += 1;
        }
    }

    /// The crash point at which the walk stands.
    #[must_use]
    pub fn point(&self) -> CrashPoint<'_> {
        let operation = self.done.checked_sub(1).and_then(|last| self.history.get(last));
        CrashPoint { model: &self.model, after: self.done, operation }
    }
}

/// The moment after some operation, at which the power goes.
#[derive(Clone, Copy)]
pub struct CrashPoint<'a> {
    model: &'a Model,
    after: usize,
    operation: Option<&'a Operation>,
}

impl<'a> CrashPoint<'a> {
    /// How many operations were done.
    #[must_use]
    pub fn after(&self) -> usize {
        self.after
    }

    /// The last of them.
    #[must_use]
    pub fn operation(&self) -> Option<&'a Operation> {
        self.operation
    }

    /// Every unit that may survive or not.
    #[must_use]
    pub fn unsynced(&self) -> Vec<Unsynced> {
        self.model.unsynced()
    }

    /// What a crash of this kind leaves.
    #[must_use]
    pub fn image(&self, crash: &Crash) -> Image {
        self.model.crash_image(crash)
    }

    /// The disk with everything un-synced lost.
    #[must_use]
    pub fn lost(&self) -> Image {
        self.image(&Crash::LoseAllUnsynced)
    }

    /// The disk with everything un-synced kept.
    #[must_use]
    pub fn kept(&self) -> Image {
        self.image(&Crash::KeepAllUnsynced)
    }

    /// All lost, all kept, and up to `samples` subsets that the seed draws: torn, reordered, partly named. Where there
    /// are no more subsets than that, every one of them comes up exactly once.
    #[must_use]
    pub fn states(&self, samples: usize, seed: u64) -> Vec<CrashState> {
        let units = self.model.unsynced_count();
        if units < 20 && (1 << units) <= samples + 2 {
            let chosen = (0..1_u32 << units).map(|subset| (0..units).map(|unit| subset >> unit & 1 == 1).collect());
            return chosen.map(|kept| self.state(Crash::Chosen(kept))).collect();
        }
        let random = SeededRandom::new(seed ^ (self.after as u64).rotate_left(32));
        let drawn = (0..samples).map(|_| Crash::Random(random.next_u64()));
        let mut seen = HashSet::new();
        [Crash::LoseAllUnsynced, Crash::KeepAllUnsynced]
            .into_iter()
            .chain(drawn)
            .filter_map(|crash| {
                let kept = self.model.survivors(&crash);
                let image = (!seen.contains(&kept)).then(|| self.model.image_of(&kept))?;
                seen.insert(kept);
                Some(CrashState { crash, image })
            })
            .collect()
    }

    fn state(&self, crash: Crash) -> CrashState {
        let image = self.image(&crash);
        CrashState { crash, image }
    }
}

/// A state in which a crash could leave the disk. A [`SimulatedDisk`] opens from its image.
#[derive(Clone, Debug)]
pub struct CrashState {
    /// What survived: enough to come back to this very state with [`CrashPoint::image`].
    pub crash: Crash,
    /// The disk.
    pub image: Image,
}

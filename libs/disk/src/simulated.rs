//! A disk that fails and crashes as real ones do, the same way for the same seed.
//!
//! It holds to the crash model of this crate to the letter and allows itself everything that the model allows. Only the
//! seed, the faults and the order of calls decide what happens: no clock, no thread, no address.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::content::PAGE_BYTES;
use crate::crash::{Crash, Unsynced};
use crate::faults::{Fault, Faults, Injected};
use crate::model::{Model, SECTOR_BYTES};
use crate::{Disk, DiskError, DiskOperation, File, FileId, Image, Operation, SeededRandom, check};

/// The longest file: far beyond any test, and near enough that one wild offset cannot exhaust the memory.
const FILE_BYTES_MAX: u64 = 1 << 42;

/// A directory of files in memory, with faults and power cuts. Clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    model: Model,
    random: SeededRandom,
    faults: Faults,
    operations: u64,
    injected: Vec<Injected>,
    lost_writes: u32,
    /// How many handles each open file has: a file without a name lives as long as one of them.
    handles: BTreeMap<FileId, usize>,
    /// Every operation that took effect, if somebody wants to know.
    journal: Option<Vec<Operation>>,
    dead: bool,
}

/// What an operation is about, for faults and for error messages.
#[derive(Clone, Copy)]
struct Call<'a> {
    operation: DiskOperation,
    file: &'a str,
    offset: Option<u64>,
}

impl Call<'_> {
    fn error(&self, kind: ErrorKind, detail: &str) -> DiskError {
        check::error(self.operation, self.file, self.offset, kind, detail)
    }

    fn injected(&self) -> DiskError {
        self.error(ErrorKind::Other, "input/output error (injected)")
    }

    fn powerless(&self) -> DiskError {
        self.error(ErrorKind::NotConnected, "the disk lost its power, and this handle is from before")
    }
}

impl SimulatedDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self::from_image(seed, faults, &Image::new())
    }

    /// A disk that holds what the image holds, all of it durable.
    #[must_use]
    pub fn from_image(seed: u64, faults: Faults, image: &Image) -> Self {
        let state = State {
            model: Model::from_image(image),
            random: SeededRandom::new(seed),
            faults,
            operations: 0,
            injected: Vec::new(),
            lost_writes: 0,
            handles: BTreeMap::new(),
            journal: None,
            dead: false,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// This disk as the port.
    #[must_use]
    pub fn handle(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// Cuts the power and gives it back: this disk and every file opened from it fail for ever, and the disk returned
    /// holds what survived. Faults, counts and the fault log go on where they were.
    #[must_use]
    pub fn crash(&self, crash: &Crash) -> Self {
        let mut old = self.state.lock();
        old.dead = true;
        let state = State {
            model: Model::from_image(&old.model.crash_image(crash)),
            random: SeededRandom::new(old.random.next_u64()),
            faults: old.faults.clone(),
            operations: old.operations,
            injected: old.injected.clone(),
            lost_writes: old.lost_writes,
            handles: BTreeMap::new(),
            journal: None,
            dead: false,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Cuts the power for good: every call fails from now on. What would be left can still be asked.
    pub fn cut_power(&self) {
        self.state.lock().dead = true;
    }

    /// Whether the power is gone, by `cut_power`, by `crash` or by a fault.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// What a crash of this kind would leave. The disk goes on.
    #[must_use]
    pub fn crash_image(&self, crash: &Crash) -> Image {
        self.state.lock().model.crash_image(crash)
    }

    /// The whole disk as the running system sees it, un-synced changes included.
    #[must_use]
    pub fn image(&self) -> Image {
        self.state.lock().model.image()
    }

    /// The whole disk as it is durable.
    #[must_use]
    pub fn durable_image(&self) -> Image {
        self.crash_image(&Crash::LoseAllUnsynced)
    }

    /// Every unit that a crash now could keep or lose, in the order in which [`Crash::Chosen`] speaks of them.
    #[must_use]
    pub fn unsynced(&self) -> Vec<Unsynced> {
        self.state.lock().model.unsynced()
    }

    /// How many calls have reached the disk so far, failed ones included.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.state.lock().operations
    }

    /// Every fault that happened so far.
    #[must_use]
    pub fn injected(&self) -> Vec<Injected> {
        self.state.lock().injected.clone()
    }

    /// Makes the next operation that the fault fits fail.
    pub fn inject(&self, fault: Fault) {
        self.state.lock().faults.script.push((0, fault));
    }

    /// Changes how the disk fails from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.state.lock().faults = faults;
    }

    /// How the disk fails at present; what is left of its script included.
    #[must_use]
    pub fn faults(&self) -> Faults {
        self.state.lock().faults.clone()
    }

    /// Lets a durable byte rot: flips the bits of `mask`. False if there is no such durable byte.
    pub fn rot(&self, name: &str, offset: u64, mask: u8) -> bool {
        let mut state = self.state.lock();
        state.model.find(name).is_some_and(|file| state.model.rot(file, offset, mask))
    }

    /// Starts to keep every operation that takes effect.
    pub(crate) fn start_journal(&self) {
        self.state.lock().journal = Some(Vec::new());
    }

    /// What was kept so far.
    pub(crate) fn with_journal<T>(&self, look: impl FnOnce(&[Operation]) -> T) -> T {
        look(self.state.lock().journal.as_deref().unwrap_or_default())
    }

    /// Runs one call, unless the power is gone, and lets the power go in the midst of it if it is time.
    fn call<T>(&self, call: Call<'_>, run: impl FnOnce(&mut State) -> Result<T, DiskError>) -> Result<T, DiskError> {
        let mut state = self.state.lock();
        if state.dead {
            return Err(call.powerless());
        }
        state.operations += 1;
        if state.strikes(call, false, &[Fault::PowerCut]).is_none() {
            return run(&mut state);
        }
        state.dead = true;
        // A sync that was under way may have got through; of anything else, the crash decides later how much did.
        let is_sync = matches!(call.operation, DiskOperation::Sync | DiskOperation::SyncNames);
        if !is_sync || state.random.chance(0.5) {
            let _ = run(&mut state);
        }
        Err(call.powerless())
    }
}

impl State {
    /// Takes the first of `kinds` that strikes this call, by script or by chance. Chance is drawn for every kind every
    /// time, so that one fault more does not change all that follows.
    fn strikes(&mut self, call: Call<'_>, needs_space: bool, kinds: &[Fault]) -> Option<Fault> {
        let mut struck = None;
        for kind in kinds {
            if !kind.fits(call.operation, needs_space) {
                continue;
            }
            let likelihood = match kind {
                Fault::ReadError => self.faults.read_error,
                Fault::WriteError => self.faults.write_error,
                Fault::SyncError => self.faults.sync_error,
                Fault::NoSpace => self.faults.no_space,
                Fault::MisdirectedWrite { .. } => self.faults.misdirected_write,
                Fault::LostWrite if self.lost_writes < self.faults.lost_writes_max => self.faults.lost_write,
                Fault::LostWrite => 0.0,
                // Only ever scripted, and asked of every call: drawing for it would be waste.
                Fault::PowerCut => {
                    struck = struck.or_else(|| self.scripted(kind));
                    continue;
                }
            };
            let by_chance = self.random.chance(likelihood);
            if struck.is_none() {
                struck = self.scripted(kind).or_else(|| by_chance.then(|| kind.clone()));
                if struck == Some(Fault::LostWrite) && by_chance {
                    self.lost_writes += 1;
                }
            }
        }
        let fault = struck?;
        let (operation, file) = (self.operations, call.file.to_owned());
        self.injected.push(Injected { operation, fault: fault.clone(), file, offset: call.offset });
        Some(fault)
    }

    /// Takes a fault of this kind from the script if it is due.
    fn scripted(&mut self, kind: &Fault) -> Option<Fault> {
        let same = |fault: &Fault| std::mem::discriminant(fault) == std::mem::discriminant(kind);
        let due = self.faults.script.iter().position(|(at, fault)| *at <= self.operations && same(fault))?;
        Some(self.faults.script.remove(due).1)
    }

    fn commit(&mut self, operation: Operation) {
        self.model.apply(&operation);
        if let Some(journal) = &mut self.journal {
            journal.push(operation);
        }
    }

    fn find(&self, call: Call<'_>, name: &str) -> Result<FileId, DiskError> {
        self.model.find(name).ok_or_else(|| check::not_found(call.operation, name))
    }

    /// The name as everything that keeps it shares it.
    fn shared_name(&self, name: &str) -> Arc<str> {
        self.model.names().find(|known| &***known == name).map_or_else(|| Arc::from(name), Arc::clone)
    }

    fn free_pages(&self) -> u64 {
        let capacity = self.faults.capacity.map_or(u64::MAX / PAGE_BYTES as u64, |bytes| bytes / PAGE_BYTES as u64);
        capacity.saturating_sub(self.model.pages_taken())
    }

    fn len(&self, file: FileId) -> u64 {
        self.model.content(file).map_or(0, |content| content.len())
    }

    fn missing(&self, file: FileId, range: std::ops::Range<u64>) -> u64 {
        self.model.content(file).map_or(0, |content| content.pages_missing(&range))
    }

    fn opened(&mut self, file: FileId) {
        *self.handles.entry(file).or_default() += 1;
    }

    /// Lets go of every file that has neither a name nor a handle. A journal needs none of this: it knows no handles.
    fn forget_orphans(&mut self) {
        let orphans: Vec<_> = self.model.files().filter(|file| !self.handles.contains_key(file)).collect();
        orphans.into_iter().for_each(|file| self.model.forget(file));
    }

    fn write(&mut self, call: Call<'_>, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let end = offset + bytes.len() as u64;
        if end > FILE_BYTES_MAX {
            return Err(call.error(ErrorKind::FileTooLarge, "a simulated file has at most 4 TiB"));
        }
        let needed = self.missing(file, offset..end);
        let kinds = [Fault::NoSpace, Fault::WriteError, Fault::MisdirectedWrite { to: None }, Fault::LostWrite];
        match self.strikes(call, needed > 0, &kinds) {
            None => {}
            Some(Fault::NoSpace) => return Err(check::full(call.operation, call.file, call.offset)),
            Some(Fault::MisdirectedWrite { to }) => {
                self.misdirect(file, offset, bytes, to);
                return Ok(());
            }
            Some(Fault::LostWrite) => {
                self.grow(file, end);
                return Ok(());
            }
            Some(_) => {
                // Each sector may have been written before the device gave up.
                for (sector, bytes) in (0_u64..).zip(bytes.chunks(SECTOR_BYTES)) {
                    let offset = offset + sector * SECTOR_BYTES as u64;
                    if self.random.chance(0.5) && self.missing(file, offset..offset + 1) <= self.free_pages() {
                        self.commit(Operation::Write { file, offset, bytes: Arc::from(bytes) });
                    }
                }
                return Err(call.injected());
            }
        }
        if needed <= self.free_pages() {
            self.commit(Operation::Write { file, offset, bytes: Arc::from(bytes) });
            return Ok(());
        }
        // As a real file system does: what fits is written before the error comes.
        let mut fits = 0;
        while self.missing(file, offset..offset + fits as u64 + SECTOR_BYTES as u64) <= self.free_pages() {
            fits += SECTOR_BYTES;
        }
        if fits > 0 {
            self.commit(Operation::Write { file, offset, bytes: Arc::from(&bytes[..fits]) });
        }
        Err(check::full(call.operation, call.file, Some(offset + fits as u64)))
    }

    fn grow(&mut self, file: FileId, len: u64) {
        if self.len(file) < len {
            self.commit(Operation::SetLen { file, len });
        }
    }

    /// Puts bytes where they do not belong. The file that they were meant for grows as if they had come.
    fn misdirect(&mut self, file: FileId, offset: u64, bytes: &[u8], to: Option<(String, u64)>) {
        let scripted = to.and_then(|(name, at)| Some((self.model.find(&name)?, at)));
        let (target, at) = scripted.unwrap_or_else(|| {
            let others: Vec<_> = self.model.files().filter(|other| *other != file).collect();
            let elsewhere = !others.is_empty() && self.random.chance(0.5);
            let target = if elsewhere { others[self.random.below(others.len() as u64) as usize] } else { file };
            let places = self.len(target).saturating_sub(bytes.len() as u64) / SECTOR_BYTES as u64 + 1;
            let at = self.random.below(places) * SECTOR_BYTES as u64;
            // The right place would be no fault; one sector on is wrong in any file.
            if (target, at) == (file, offset) { (target, at + SECTOR_BYTES as u64) } else { (target, at) }
        });
        self.grow(file, offset + bytes.len() as u64);
        let name = self.model.names().find(|name| self.model.find(name) == Some(target)).map(|name| name.to_string());
        if let Some(last) = self.injected.last_mut() {
            last.fault = Fault::MisdirectedWrite { to: Some((name.unwrap_or_default(), at)) };
        }
        if self.missing(target, at..at + bytes.len() as u64) <= self.free_pages() {
            self.commit(Operation::Write { file: target, offset: at, bytes: Arc::from(bytes) });
        }
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        check::name(DiskOperation::Open, name)?;
        let call = Call { operation: DiskOperation::Open, file: name, offset: None };
        let id = self.call(call, |state| {
            let file = state.find(call, name)?;
            state.opened(file);
            Ok(file)
        })?;
        Ok(Arc::new(SimulatedFile { name: name.to_owned(), id, disk: self.clone() }))
    }

    fn create(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        check::name(DiskOperation::Create, name)?;
        let call = Call { operation: DiskOperation::Create, file: name, offset: None };
        let id = self.call(call, |state| {
            if state.model.find(name).is_some() {
                return Err(check::exists(name));
            }
            if state.strikes(call, true, &[Fault::NoSpace]).is_some() {
                return Err(check::full(call.operation, name, None));
            }
            let file = state.model.next_file();
            state.commit(Operation::Create { file, name: Arc::from(name) });
            state.opened(file);
            Ok(file)
        })?;
        Ok(Arc::new(SimulatedFile { name: name.to_owned(), id, disk: self.clone() }))
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        check::name(DiskOperation::Remove, name)?;
        let call = Call { operation: DiskOperation::Remove, file: name, offset: None };
        self.call(call, |state| {
            let file = state.find(call, name)?;
            let name = state.shared_name(name);
            state.commit(Operation::Remove { file, name });
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        check::name(DiskOperation::Rename, from)?;
        check::name(DiskOperation::Rename, to)?;
        let call = Call { operation: DiskOperation::Rename, file: from, offset: None };
        self.call(call, |state| {
            let file = state.find(call, from)?;
            if from != to {
                let (from, to) = (state.shared_name(from), state.shared_name(to));
                state.commit(Operation::Rename { file, from, to });
            }
            Ok(())
        })
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let call = Call { operation: DiskOperation::List, file: "", offset: None };
        self.call(call, |state| Ok(state.model.names().map(|name| name.to_string()).collect()))
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        let call = Call { operation: DiskOperation::SyncNames, file: "", offset: None };
        self.call(call, |state| {
            if state.strikes(call, false, &[Fault::SyncError]).is_some() {
                let State { model, random, .. } = state;
                model.fail_sync_names(random);
                return Err(call.injected());
            }
            state.commit(Operation::SyncNames);
            state.forget_orphans();
            Ok(())
        })
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let call = Call { operation: DiskOperation::FreeBytes, file: "", offset: None };
        self.call(call, |state| Ok(state.free_pages().saturating_mul(PAGE_BYTES as u64)))
    }

    fn sector_bytes(&self) -> usize {
        SECTOR_BYTES
    }
}

struct SimulatedFile {
    name: String,
    id: FileId,
    disk: SimulatedDisk,
}

impl SimulatedFile {
    fn at(&self, operation: DiskOperation, offset: Option<u64>) -> Call<'_> {
        Call { operation, file: &self.name, offset }
    }

    fn range(&self, operation: DiskOperation, offset: u64, len: u64) -> Result<(), DiskError> {
        check::range(operation, &self.name, offset, len, SECTOR_BYTES)
    }
}

impl File for SimulatedFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        check::memory(DiskOperation::Read, &self.name, offset, buffer, SECTOR_BYTES)?;
        let call = self.at(DiskOperation::Read, Some(offset));
        self.disk.call(call, |state| {
            check::inside(&self.name, offset, buffer.len(), state.len(self.id))?;
            if state.strikes(call, false, &[Fault::ReadError]).is_some() {
                return Err(call.injected());
            }
            if let Some(content) = state.model.content(self.id) {
                content.read(offset, buffer);
            }
            Ok(())
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        check::memory(DiskOperation::Write, &self.name, offset, bytes, SECTOR_BYTES)?;
        let call = self.at(DiskOperation::Write, Some(offset));
        self.disk.call(call, |state| match bytes {
            [] => Ok(()),
            _ => state.write(call, self.id, offset, bytes),
        })
    }

    fn len(&self) -> Result<u64, DiskError> {
        self.disk.call(self.at(DiskOperation::Length, None), |state| Ok(state.len(self.id)))
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.range(DiskOperation::SetLength, 0, len)?;
        let call = self.at(DiskOperation::SetLength, Some(len));
        self.disk.call(call, |state| {
            if len > FILE_BYTES_MAX {
                return Err(call.error(ErrorKind::FileTooLarge, "a simulated file has at most 4 TiB"));
            }
            if state.len(self.id) != len {
                state.commit(Operation::SetLen { file: self.id, len });
            }
            Ok(())
        })
    }

    fn allocate(&self, len: u64) -> Result<(), DiskError> {
        self.range(DiskOperation::Allocate, 0, len)?;
        let call = self.at(DiskOperation::Allocate, None);
        self.disk.call(call, |state| {
            if len > FILE_BYTES_MAX {
                return Err(call.error(ErrorKind::FileTooLarge, "a simulated file has at most 4 TiB"));
            }
            let needed = state.missing(self.id, 0..len);
            if state.strikes(call, needed > 0, &[Fault::NoSpace]).is_some() || needed > state.free_pages() {
                return Err(check::full(call.operation, call.file, None));
            }
            if needed > 0 || len > state.len(self.id) {
                state.commit(Operation::Allocate { file: self.id, len });
            }
            Ok(())
        })
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), DiskError> {
        self.range(DiskOperation::Punch, offset, len)?;
        self.disk.call(self.at(DiskOperation::Punch, Some(offset)), |state| {
            // Beyond the end there is nothing but reserved room, which a crash says nothing about.
            let end = (offset + len).min(state.len(self.id).next_multiple_of(PAGE_BYTES as u64));
            if offset < end {
                state.commit(Operation::Punch { file: self.id, offset, len: end - offset });
            }
            Ok(())
        })
    }

    fn sync(&self) -> Result<(), DiskError> {
        let call = self.at(DiskOperation::Sync, None);
        self.disk.call(call, |state| {
            if state.strikes(call, false, &[Fault::SyncError]).is_some() {
                let State { model, random, .. } = state;
                model.fail_sync(self.id, random);
                return Err(call.injected());
            }
            state.commit(Operation::Sync { file: self.id });
            Ok(())
        })
    }
}

impl Drop for SimulatedFile {
    fn drop(&mut self) {
        let mut state = self.disk.state.lock();
        if let Some(handles) = state.handles.get_mut(&self.id) {
            *handles -= 1;
            if *handles == 0 {
                state.handles.remove(&self.id);
                state.model.forget(self.id);
            }
        }
    }
}

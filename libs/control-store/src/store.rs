//! The store: opened once by its owner, read and written in transactions, watched by whoever waits for a change.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use holdfast_ports::{Disk, Random};
use holdfast_seal::StorageKey;
use parking_lot::{Condvar, Mutex, RwLock};

use crate::check::{CheckCursor, KindCheck};
use crate::database::{OpenFile, unreadable};
use crate::error::StoreError;
use crate::owner::Owner;
use crate::record::Revision;
use crate::transaction::{ReadTransaction, WriteTransaction};

/// The file's name.
pub const CONTROL_FILE: &str = "control.db";
/// Where a new file is made before it gets its name.
pub(crate) const BESIDE_FILE: &str = "control.db.new";

const OWNER: &str = "owner";
const SCHEMA: &str = "schema";

/// One step from a schema to the next higher one.
#[derive(Clone, Copy)]
pub struct Migration {
    /// The schema that it starts from; it leads to the next.
    pub from: u32,
    /// What it changes.
    pub run: fn(&mut WriteTransaction) -> Result<(), StoreError>,
}

/// What a store is opened with.
#[derive(Clone)]
pub struct Options {
    /// Who opens it.
    pub owner: Owner,
    /// The schema that this release knows, from 1.
    pub schema: u32,
    /// The steps that lead there.
    pub migrations: Vec<Migration>,
    /// Every kind that this release stores, for the checks.
    pub kinds: Vec<KindCheck>,
    /// A revision that the store is known to have reached; an older one was put back.
    pub not_before: Option<Revision>,
    /// Memory for pages, in plain text.
    pub cache_bytes: usize,
}

impl Options {
    /// Memory for pages unless somebody says otherwise.
    pub const CACHE_BYTES: usize = 2 << 20;

    /// The first schema of an owner who stores nothing yet.
    #[must_use]
    pub fn new(owner: Owner) -> Self {
        Self { owner, schema: 1, migrations: vec![], kinds: vec![], not_before: None, cache_bytes: Self::CACHE_BYTES }
    }

    /// The same with one more kind.
    #[must_use]
    pub fn with_kind(mut self, kind: KindCheck) -> Self {
        self.kinds.push(kind);
        self
    }
}

/// An open store. Every method may be called from many threads; writers wait for each other, readers for nobody.
pub struct ControlStore {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) options: Options,
    /// Replaced by a compaction; who has it goes on with it.
    pub(crate) file: RwLock<Arc<OpenFile>>,
    /// One writer at a time, compaction included.
    pub(crate) writing: Mutex<()>,
    newest: Mutex<Revision>,
    changed: Condvar,
    pub(crate) cursor: Mutex<CheckCursor>,
}

impl ControlStore {
    /// Makes a store where there is none, and opens it.
    pub fn create(
        disk: Arc<dyn Disk>,
        random: Arc<dyn Random>,
        key: &StorageKey,
        options: Options,
    ) -> Result<Self, StoreError> {
        if disk.list()?.iter().any(|name| name == CONTROL_FILE) {
            return Err(StoreError::Exists);
        }
        remove_beside(&*disk)?;
        let file = OpenFile::create(&*disk, &random, BESIDE_FILE, key, options.cache_bytes)?;
        let made = file.begin_write(Revision(0)).and_then(|mut write| {
            write.set_meta(OWNER, &options.owner.encode())?;
            write.set_meta(SCHEMA, &options.schema.to_le_bytes())?;
            file.commit(write)
        });
        made.map_err(|error| file.explain(error))?;
        close(file)?;
        disk.rename(BESIDE_FILE, CONTROL_FILE)?;
        disk.sync_names()?;
        Self::open(disk, random, key, options)
    }

    /// Opens the store of this directory. All of it is read: whatever is damaged is found now.
    pub fn open(
        disk: Arc<dyn Disk>,
        random: Arc<dyn Random>,
        key: &StorageKey,
        options: Options,
    ) -> Result<Self, StoreError> {
        remove_beside(&*disk)?;
        let file = OpenFile::open(&*disk, &random, CONTROL_FILE, key, options.cache_bytes)?;
        let newest = admitted(&file, &options).map_err(|error| file.explain(error))?;
        Ok(Self {
            disk,
            random,
            options,
            file: RwLock::new(Arc::new(file)),
            writing: Mutex::new(()),
            newest: Mutex::new(newest),
            changed: Condvar::new(),
            cursor: Mutex::new(CheckCursor::default()),
        })
    }

    /// Whose it is.
    #[must_use]
    pub const fn owner(&self) -> &Owner {
        &self.options.owner
    }

    /// The newest commit.
    #[must_use]
    pub fn revision(&self) -> Revision {
        *self.newest.lock()
    }

    /// Waits until there is a commit beyond `seen`; the newest one then, or `None` when the time is over.
    pub fn wait_beyond(&self, seen: Revision, timeout: Duration) -> Option<Revision> {
        let mut newest = self.newest.lock();
        self.changed.wait_while_for(&mut newest, |newest| *newest <= seen, timeout);
        (*newest > seen).then_some(*newest)
    }

    /// Reads from the newest commit, whatever is committed meanwhile.
    pub fn read<T, E: From<StoreError>>(&self, work: impl FnOnce(&ReadTransaction) -> Result<T, E>) -> Result<T, E> {
        let file = self.current();
        file.usable()?;
        work(&file.begin_read().map_err(|error| file.explain(error))?)
    }

    /// Writes in one transaction. When `work` fails, nothing of it happened; when this answers `Ok`, all of it is
    /// durable. `work` that changed nothing makes no commit and answers the newest revision.
    pub fn write<T, E: From<StoreError>>(
        &self,
        work: impl FnOnce(&mut WriteTransaction) -> Result<T, E>,
    ) -> Result<(T, Revision), E> {
        let _writing = self.writing.lock();
        let file = self.current();
        file.usable()?;
        let before = self.revision();
        let mut write = file.begin_write(Revision(before.0 + 1)).map_err(|error| file.explain(error))?;
        // A transaction that is dropped is undone.
        let answer = work(&mut write)?;
        if !write.has_changed {
            return Ok((answer, before));
        }
        let revision = write.revision;
        file.usable()?;
        file.commit(write).map_err(|error| file.explain(error))?;
        *self.newest.lock() = revision;
        self.changed.notify_all();
        Ok((answer, revision))
    }

    /// Makes both copies of the first page durable, so that the loss of either is no loss.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        let _writing = self.writing.lock();
        let file = self.current();
        file.usable()?;
        file.paged.checkpoint().map_err(|fault| {
            file.paged.note(&fault);
            fault.into()
        })
    }

    /// Ends it in order. Readers that still run keep it open until they are done.
    pub fn close(self) -> Result<(), StoreError> {
        match Arc::try_unwrap(self.file.into_inner()) {
            Ok(file) => close(file),
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn current(&self) -> Arc<OpenFile> {
        Arc::clone(&self.file.read())
    }
}

/// Closes a file; everything in it is durable then.
pub(crate) fn close(file: OpenFile) -> Result<(), StoreError> {
    let OpenFile { database, paged } = file;
    let closed = database.close();
    match paged.fault() {
        Some(fault) => Err(fault.into()),
        None => Ok(closed?),
    }
}

/// What a crash left of a file that never got its name.
pub(crate) fn remove_beside(disk: &dyn Disk) -> Result<(), StoreError> {
    match disk.remove(BESIDE_FILE) {
        Err(error) if !error.is_not_found() => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether this owner may use the store as it is, or as migrations make it; the newest commit.
fn admitted(file: &OpenFile, options: &Options) -> Result<Revision, StoreError> {
    let found = Owner::decode(&file.meta(OWNER)?).ok_or_else(|| unreadable(OWNER))?;
    if found != options.owner {
        let expected = Box::new(options.owner.clone());
        return Err(StoreError::ForeignOwner { found: Box::new(found), expected });
    }
    let revision = file.begin_read()?.revision;
    if let Some(expected) = options.not_before.filter(|expected| revision < *expected) {
        return Err(StoreError::RolledBack { found: revision, expected });
    }
    let schema = file.meta(SCHEMA)?.as_slice().try_into().map_err(|_| unreadable(SCHEMA))?;
    migrated(file, options, u32::from_le_bytes(schema), revision)
}

/// Runs every missing migration in one transaction.
fn migrated(file: &OpenFile, options: &Options, found: u32, revision: Revision) -> Result<Revision, StoreError> {
    if found > options.schema {
        return Err(StoreError::NewerSchema { found, known: options.schema });
    }
    if found == options.schema {
        return Ok(revision);
    }
    let mut write = file.begin_write(Revision(revision.0 + 1))?;
    for from in found..options.schema {
        let step = options.migrations.iter().find(|step| step.from == from);
        (step.ok_or(StoreError::NoMigration { from })?.run)(&mut write)?;
    }
    write.set_meta(SCHEMA, &options.schema.to_le_bytes())?;
    file.commit(write)?;
    Ok(Revision(revision.0 + 1))
}

impl fmt::Debug for ControlStore {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ControlStore({} at revision {})", self.options.owner, self.revision())
    }
}

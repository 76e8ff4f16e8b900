//! A file and the database in it: made, opened, and its errors in our words.

use std::sync::Arc;

use holdfast_ports::{AlignedBuffer, Disk, DiskError, Random};
use holdfast_seal::StorageKey;
use redb::{Database, ReadableDatabase};

use crate::backend::{Backend, PagedFile};
use crate::cell::CELL_BYTES;
use crate::error::StoreError;
use crate::fault::Fault;
use crate::head::{HEAD_BYTES, Head};
use crate::record::Revision;
use crate::transaction::{META, RECORDS, ReadTransaction, WriteTransaction};

const REVISION: &str = "revision";

/// An open file.
pub(crate) struct OpenFile {
    pub(crate) database: Database,
    pub(crate) paged: Arc<PagedFile>,
}

impl OpenFile {
    /// Makes a file under a name that is not in use, with an empty database in it. Not yet durable.
    pub(crate) fn create(
        disk: &dyn Disk,
        random: &Arc<dyn Random>,
        name: &str,
        key: &StorageKey,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        fits(disk)?;
        let mut salt = [0; 32];
        random.fill(&mut salt);
        let key = key.page_key(&salt);
        let file = disk.create(name)?;
        let head = Head { salt, check: key.check_value() }.encode();
        file.write_at(0, &AlignedBuffer::from(&head[..]))?;
        let paged = Arc::new(PagedFile::new(file, key, Arc::clone(random)));
        let file = Self::with_database(paged, cache_bytes)?;
        // So that a reader finds both tables, whatever is written first.
        let write = file.begin_write(Revision(0))?;
        write.inner.open_table(RECORDS)?;
        write.inner.open_table(META)?;
        file.commit(write)?;
        Ok(file)
    }

    /// Opens a file and reads all of it that a commit refers to.
    pub(crate) fn open(
        disk: &dyn Disk,
        random: &Arc<dyn Random>,
        name: &str,
        key: &StorageKey,
        cache_bytes: usize,
    ) -> Result<Self, StoreError> {
        fits(disk)?;
        let file = disk.open(name).map_err(|error| match error.is_not_found() {
            true => StoreError::Missing,
            false => StoreError::from(error),
        })?;
        let length = file.len()?;
        if length < HEAD_BYTES as u64 {
            return Err(StoreError::Damaged { what: format!("it was cut to {length} bytes") });
        }
        let mut head = AlignedBuffer::with_len(HEAD_BYTES);
        file.read_at(0, &mut head)?;
        let mut bytes = [0; HEAD_BYTES];
        bytes.copy_from_slice(&head);
        let head = Head::decode(&bytes)?;
        let key = key.page_key(&head.salt);
        key.verify_check_value(&head.check).map_err(|_| StoreError::WrongKey)?;
        let paged = Arc::new(PagedFile::open(file, key, Arc::clone(random))?);
        Self::with_database(paged, cache_bytes)
    }

    fn with_database(paged: Arc<PagedFile>, cache_bytes: usize) -> Result<Self, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true);
        match builder.create_with_backend(Backend(Arc::clone(&paged))) {
            Ok(database) => Ok(Self { database, paged }),
            // What went wrong below says more than what the database makes of it.
            Err(error) => Err(paged.fault().map_or_else(|| StoreError::from(redb::Error::from(error)), Into::into)),
        }
    }

    /// Refuses once anything below has failed: the database's caches and the disk may disagree from then on.
    pub(crate) fn usable(&self) -> Result<(), StoreError> {
        match self.paged.fault() {
            None => Ok(()),
            Some(fault) => Err(StoreError::Stopped { first: fault.to_string() }),
        }
    }

    /// The first fault, if there is one now, in place of what the database made of it.
    pub(crate) fn explain(&self, error: StoreError) -> StoreError {
        match self.paged.fault() {
            Some(fault) if matches!(error, StoreError::Engine(_) | StoreError::Damaged { .. }) => fault.into(),
            _ => error,
        }
    }

    pub(crate) fn begin_read(&self) -> Result<ReadTransaction, StoreError> {
        let inner = self.database.begin_read()?;
        let revision = match inner.open_table(META)?.get(REVISION)? {
            None => Revision(0),
            Some(found) => Revision(u64::from_le_bytes(found.value().try_into().map_err(|_| unreadable(REVISION))?)),
        };
        Ok(ReadTransaction { inner, revision })
    }

    /// A write that will be `revision`.
    pub(crate) fn begin_write(&self, revision: Revision) -> Result<WriteTransaction, StoreError> {
        let mut inner = self.database.begin_write()?;
        // In one phase, recovery would read pages that a crash may have torn, and take an older commit for the newest.
        inner.set_two_phase_commit(true);
        Ok(WriteTransaction { inner, revision, has_changed: false })
    }

    /// Makes it durable.
    pub(crate) fn commit(&self, mut transaction: WriteTransaction) -> Result<(), StoreError> {
        let revision = transaction.revision.0.to_le_bytes();
        transaction.set_meta(REVISION, &revision)?;
        Ok(transaction.inner.commit()?)
    }

    /// What the store says of itself under a name.
    pub(crate) fn meta(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let read = self.database.begin_read()?;
        let found = read.open_table(META)?.get(name)?.map(|found| found.value().to_vec());
        found.ok_or_else(|| unreadable(name))
    }
}

/// What a store must say of itself and does not.
pub(crate) fn unreadable(name: &str) -> StoreError {
    StoreError::Damaged { what: format!("it does not say its {name}") }
}

/// Cells lie where sectors of 512 do.
fn fits(disk: &dyn Disk) -> Result<(), StoreError> {
    let sector = disk.sector_bytes();
    if CELL_BYTES.is_multiple_of(sector) {
        return Ok(());
    }
    Err(StoreError::Engine(format!("the disk takes units of {sector} bytes and the store needs 512: open it buffered")))
}

impl From<DiskError> for StoreError {
    fn from(error: DiskError) -> Self {
        if error.is_no_space() { Self::NoSpace(error) } else { Self::Disk(error) }
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Disk(error) => error.into(),
            Fault::Damage(what) => Self::Damaged { what },
        }
    }
}

impl From<redb::Error> for StoreError {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Corrupted(what) => Self::Damaged { what: format!("its structure does not hold ({what})") },
            redb::Error::PreviousIo => Self::Stopped { first: "the disk failed".to_owned() },
            redb::Error::Io(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<Fault>()) {
                Some(fault) => fault.clone().into(),
                None => Self::Engine(error.to_string()),
            },
            other => Self::Engine(other.to_string()),
        }
    }
}

macro_rules! engine_errors {
    ($($name:ident)+) => {$(
        impl From<redb::$name> for StoreError {
            fn from(error: redb::$name) -> Self {
                redb::Error::from(error).into()
            }
        }
    )+};
}

engine_errors! { StorageError TableError TransactionError CommitError DatabaseError }

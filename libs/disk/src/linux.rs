//! A real directory on Linux, through the page cache or past it.
//!
//! One process has a directory open at a time: an exclusive lock on its file `lock` says so, and lasts until the disk
//! and every file of it are closed. The lock is the kernel's, so it cannot outlive a killed process.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{
    AtFlags, CWD, Dir, FallocateFlags, FileType, FlockOperation, Mode, OFlags, StatxFlags, fallocate, fdatasync, flock,
    fstat, fstatvfs, fsync, ftruncate, mkdirat, open, openat, renameat, statat, statx, unlinkat,
};
use rustix::io::{Errno, pread, pwrite};

use crate::check::{self, LOCK_NAME};
use crate::{AlignedBuffer, Disk, DiskError, DiskOperation, File};

/// How a directory's files are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinuxMode {
    /// Through the page cache. Works on every file system.
    Buffered,
    /// Past the page cache (`O_DIRECT`): no second copy in memory, and no dirty page that a failing sync could lose.
    Direct,
}

/// A directory of a Linux file system.
pub struct LinuxDisk {
    directory: Arc<Directory>,
}

/// What the disk and its open files share.
struct Directory {
    handle: OwnedFd,
    /// Never read, only held: closing it would let another process in.
    _lock: OwnedFd,
    mode: LinuxMode,
    sector_bytes: usize,
    /// Set by the first failing sync. The kernel may report success the next time although the data is gone, so this
    /// disk never again reports one.
    faulted: AtomicBool,
}

impl LinuxDisk {
    /// Opens the directory, making it if it is not there (its parent must be), and locks it.
    pub fn open(path: &Path, mode: LinuxMode) -> Result<Self, DiskError> {
        let at = |errno: Errno| {
            let mut fault = failed(DiskOperation::Open, "", None, errno);
            fault.detail = format!("{}: {}", path.display(), fault.detail);
            fault
        };
        match mkdirat(CWD, path, Mode::RWXU) {
            Ok(()) => sync_parent(path).map_err(at)?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(at(errno)),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = open(path, flags, Mode::empty()).map_err(at)?;
        let lock = take_lock(&handle, path)?;
        let sector_bytes = match mode {
            LinuxMode::Buffered => SECTOR_BYTES,
            LinuxMode::Direct => direct_sector_bytes(&handle, path)?,
        };
        let directory = Directory { handle, _lock: lock, mode, sector_bytes, faulted: AtomicBool::new(false) };
        Ok(Self { directory: Arc::new(directory) })
    }

    fn open_with(&self, operation: DiskOperation, name: &str, extra: OFlags) -> Result<Arc<dyn File>, DiskError> {
        check::name(operation, name)?;
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | extra;
        if self.directory.mode == LinuxMode::Direct {
            flags |= OFlags::DIRECT;
        }
        let handle = retried(|| openat(&self.directory.handle, name, flags, Mode::RUSR | Mode::WUSR))
            .map_err(|errno| failed(operation, name, None, errno))?;
        let kind = fstat(&handle).map_err(|errno| failed(operation, name, None, errno))?.st_mode;
        if !FileType::from_raw_mode(kind).is_file() {
            return Err(check::error(operation, name, None, ErrorKind::InvalidInput, "this is not a regular file"));
        }
        Ok(Arc::new(LinuxFile { name: name.to_owned(), handle, directory: Arc::clone(&self.directory) }))
    }
}

/// What every device writes without tearing, and the unit of everything that does not go past the page cache.
const SECTOR_BYTES: usize = 512;

/// The largest sector that the port knows.
const SECTOR_BYTES_MAX: usize = 4096;

/// Room in the lock file for its holder's number, and a whole block to try direct reads on.
const LOCK_BYTES: u64 = 2 * SECTOR_BYTES_MAX as u64;

fn failed(operation: DiskOperation, file: &str, offset: Option<u64>, errno: Errno) -> DiskError {
    let system = std::io::Error::from(errno);
    check::error(operation, file, offset, system.kind(), system.to_string())
}

/// Asks again as long as a signal interrupts. Only for calls that may be repeated without harm.
fn retried<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// Makes the name of a new directory durable.
fn sync_parent(path: &Path) -> Result<(), Errno> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fsync(open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn take_lock(directory: &OwnedFd, path: &Path) -> Result<OwnedFd, DiskError> {
    let named = |errno| failed(DiskOperation::Lock, "", None, errno);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let lock = retried(|| openat(directory, LOCK_NAME, flags, Mode::RUSR | Mode::WUSR)).map_err(named)?;
    match retried(|| flock(&lock, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = [0_u8; 20];
            let read = pread(&lock, &mut text, 0).unwrap_or(0);
            let digits: String =
                text[..read].iter().take_while(|byte| byte.is_ascii_digit()).map(|byte| char::from(*byte)).collect();
            let holder = if digits.is_empty() { "another process".to_owned() } else { format!("process {digits}") };
            let detail = format!(
                "{holder} has {} open (its own number for itself); stop it or wait until it has ended, \
                 the lock goes with it",
                path.display()
            );
            return Err(check::error(DiskOperation::Lock, "", None, ErrorKind::ResourceBusy, detail));
        }
        Err(errno) => return Err(named(errno)),
    }
    // Only a help for whoever is refused: that nobody else is here is what the kernel's lock says.
    let holder = format!("{}\n", std::process::id());
    ftruncate(&lock, 0).and_then(|()| ftruncate(&lock, LOCK_BYTES)).map_err(named)?;
    pwrite(&lock, holder.as_bytes(), 0).map_err(named)?;
    Ok(lock)
}

/// The unit of direct I/O on this file system; an error with the remedy if it has none.
fn direct_sector_bytes(directory: &OwnedFd, path: &Path) -> Result<usize, DiskError> {
    let refused = |why: &str| {
        let detail = format!(
            "the file system at {} does not take direct I/O ({why}): put the store on ext4 or xfs, or open it buffered",
            path.display()
        );
        check::error(DiskOperation::Open, "", None, ErrorKind::Unsupported, detail)
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::DIRECT;
    let probe = match retried(|| openat(directory, LOCK_NAME, flags, Mode::empty())) {
        Ok(probe) => probe,
        Err(Errno::INVAL) => return Err(refused("it refuses O_DIRECT")),
        Err(errno) => return Err(failed(DiskOperation::Open, LOCK_NAME, None, errno)),
    };
    // Linux 6.1 and later say it; older ones, and some file systems on newer ones, leave it out.
    if let Ok(answer) = statx(&probe, "", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
        && answer.stx_mask & StatxFlags::DIOALIGN.bits() != 0
    {
        let needed = answer.stx_dio_offset_align.max(answer.stx_dio_mem_align) as usize;
        return match needed {
            0 => Err(refused("it says so itself")),
            1..=SECTOR_BYTES => Ok(SECTOR_BYTES),
            513..=SECTOR_BYTES_MAX => Ok(SECTOR_BYTES_MAX),
            _ => Err(refused(&format!("it wants units of {needed} bytes, and 4096 is the most we use"))),
        };
    }
    let mut memory = AlignedBuffer::with_len(SECTOR_BYTES_MAX + SECTOR_BYTES);
    // Second sector, second sector of memory: what only a disk of 512-byte units accepts.
    match retried(|| pread(&probe, &mut memory[SECTOR_BYTES..2 * SECTOR_BYTES], SECTOR_BYTES as u64)) {
        Ok(SECTOR_BYTES) => return Ok(SECTOR_BYTES),
        Ok(_) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(failed(DiskOperation::Open, LOCK_NAME, None, errno)),
    }
    match retried(|| pread(&probe, &mut memory[..SECTOR_BYTES_MAX], SECTOR_BYTES_MAX as u64)) {
        Ok(SECTOR_BYTES_MAX) => Ok(SECTOR_BYTES_MAX),
        Ok(_) | Err(Errno::INVAL) => Err(refused("it opens the file and then refuses to read it")),
        Err(errno) => Err(failed(DiskOperation::Open, LOCK_NAME, None, errno)),
    }
}

impl Directory {
    /// Runs a sync, unless one has failed before.
    fn synced(
        &self,
        operation: DiskOperation,
        file: &str,
        call: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), DiskError> {
        if self.faulted.load(Ordering::Acquire) {
            let detail = "an earlier sync failed, so nothing here can be called durable any more";
            return Err(check::error(operation, file, None, ErrorKind::Other, detail));
        }
        call().map_err(|errno| {
            self.faulted.store(true, Ordering::Release);
            failed(operation, file, None, errno)
        })
    }
}

impl Disk for LinuxDisk {
    fn open(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        self.open_with(DiskOperation::Open, name, OFlags::empty())
    }

    fn create(&self, name: &str) -> Result<Arc<dyn File>, DiskError> {
        self.open_with(DiskOperation::Create, name, OFlags::CREATE | OFlags::EXCL)
    }

    fn remove(&self, name: &str) -> Result<(), DiskError> {
        check::name(DiskOperation::Remove, name)?;
        unlinkat(&self.directory.handle, name, AtFlags::empty())
            .map_err(|errno| failed(DiskOperation::Remove, name, None, errno))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        check::name(DiskOperation::Rename, from)?;
        check::name(DiskOperation::Rename, to)?;
        renameat(&self.directory.handle, from, &self.directory.handle, to)
            .map_err(|errno| failed(DiskOperation::Rename, from, None, errno))
    }

    fn list(&self) -> Result<Vec<String>, DiskError> {
        let named = |errno| failed(DiskOperation::List, "", None, errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.directory.handle).map_err(named)? {
            let entry = entry.map_err(named)?;
            // What is not UTF-8 was not made through this port, nor was a directory such as `lost+found`.
            let Ok(name) = entry.file_name().to_str() else { continue };
            let kind = match entry.file_type() {
                FileType::Unknown => match statat(&self.directory.handle, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(found) => FileType::from_raw_mode(found.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(named(errno)),
                },
                known => known,
            };
            if kind.is_file() && name != LOCK_NAME {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        self.directory.synced(DiskOperation::SyncNames, "", || fsync(&self.directory.handle))
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        let answer =
            fstatvfs(&self.directory.handle).map_err(|errno| failed(DiskOperation::FreeBytes, "", None, errno))?;
        // What only root may still take is not ours.
        Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
    }

    fn sector_bytes(&self) -> usize {
        self.directory.sector_bytes
    }
}

struct LinuxFile {
    name: String,
    handle: OwnedFd,
    directory: Arc<Directory>,
}

impl LinuxFile {
    fn failed(&self, operation: DiskOperation, offset: Option<u64>, errno: Errno) -> DiskError {
        failed(operation, &self.name, offset, errno)
    }

    fn range(&self, operation: DiskOperation, offset: u64, len: u64) -> Result<(), DiskError> {
        check::range(operation, &self.name, offset, len, self.directory.sector_bytes)
    }

    fn reserve(&self, operation: DiskOperation, mode: FallocateFlags, offset: u64, len: u64) -> Result<(), DiskError> {
        retried(|| fallocate(&self.handle, mode, offset, len)).map_err(|errno| {
            let mut fault = self.failed(operation, Some(offset), errno);
            if errno == Errno::OPNOTSUPP {
                fault.detail = "this file system cannot do it: put the store on ext4 or xfs".to_owned();
            }
            fault
        })
    }
}

impl File for LinuxFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let (wanted, sector) = (buffer.len(), self.directory.sector_bytes);
        check::memory(DiskOperation::Read, &self.name, offset, buffer, sector)?;
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let got = retried(|| pread(&self.handle, &mut buffer[done..], at))
                .map_err(|errno| self.failed(DiskOperation::Read, Some(at), errno))?;
            done += got;
            // A part of a sector means that the file ends inside it; asking on from there would only be unaligned.
            if got == 0 || !got.is_multiple_of(sector) {
                return match self.len()? {
                    len if done < wanted => Err(check::past_end(&self.name, offset, wanted, len)),
                    _ => Ok(()),
                };
            }
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        check::memory(DiskOperation::Write, &self.name, offset, bytes, self.directory.sector_bytes)?;
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            match retried(|| pwrite(&self.handle, &bytes[done..], at)) {
                Ok(0) => {
                    let detail = "the system took none of it and does not say why";
                    return Err(check::error(DiskOperation::Write, &self.name, Some(at), ErrorKind::WriteZero, detail));
                }
                Ok(taken) => done += taken,
                Err(errno) => return Err(self.failed(DiskOperation::Write, Some(at), errno)),
            }
        }
        Ok(())
    }

    fn len(&self) -> Result<u64, DiskError> {
        let found = fstat(&self.handle).map_err(|errno| self.failed(DiskOperation::Length, None, errno))?;
        // A file's length is never negative; the type is only the system's habit.
        Ok(u64::try_from(found.st_size).unwrap_or(0))
    }

    fn set_len(&self, len: u64) -> Result<(), DiskError> {
        self.range(DiskOperation::SetLength, 0, len)?;
        retried(|| ftruncate(&self.handle, len))
            .map_err(|errno| self.failed(DiskOperation::SetLength, Some(len), errno))
    }

    fn allocate(&self, len: u64) -> Result<(), DiskError> {
        self.range(DiskOperation::Allocate, 0, len)?;
        if len == 0 {
            return Ok(());
        }
        self.reserve(DiskOperation::Allocate, FallocateFlags::empty(), 0, len)
    }

    fn punch(&self, offset: u64, len: u64) -> Result<(), DiskError> {
        self.range(DiskOperation::Punch, offset, len)?;
        if len == 0 {
            return Ok(());
        }
        self.reserve(DiskOperation::Punch, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, len)
    }

    fn sync(&self) -> Result<(), DiskError> {
        // The length is data in this respect: fdatasync writes what is needed to read the file back.
        self.directory.synced(DiskOperation::Sync, &self.name, || fdatasync(&self.handle))
    }
}

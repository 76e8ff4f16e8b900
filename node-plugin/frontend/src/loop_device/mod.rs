//! A file as a block device, by the kernel's loop driver.
//!
//! Loop devices belong to the kernel and not to the node: containers and nodes of one machine see each other's. So a
//! device is touched only if its backing file lies in the run directory that the caller names; that it is also in the
//! caller's journal is for the caller to check. Devices clear themselves when their last user is gone: whoever is to keep
//! one holds its descriptor, and a node that is killed leaves none behind.
//!
//! Opening and attaching a file waits for whoever serves it. No serving thread may call anything here.

mod ioctl;
mod sysfs;

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, makedev, mknodat, open, statat};
use rustix::io::Errno;
use thiserror::Error;

pub use sysfs::LoopEntry;

/// The logical block size: the volume's own, so that no file system asks for less.
const BLOCK_BYTES: u32 = 4096;
/// Others may take the free device before we do; that many in a row are not bad luck.
const TRIES: u32 = 64;

/// Why a loop device could not be had or changed.
#[derive(Debug, Error)]
pub enum LoopError {
    /// The driver's control is not there.
    #[error("{path} is not there; load the module loop, and give a container the machine's /dev")]
    NoControl {
        /// Where it should be.
        path: PathBuf,
    },
    /// It may not be used.
    #[error("{what}: {errno}; loop devices need CAP_SYS_ADMIN, and device rules that allow 7:* and 10:237")]
    NoPermission {
        /// What was tried.
        what: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// None is free and none can be made.
    #[error("no loop device is free: {errno}; detach unused ones (losetup -a), or allow more (kernel option max_loop)")]
    NoneFree {
        /// What the kernel said.
        errno: Errno,
    },
    /// Others were always faster.
    #[error("{TRIES} free loop devices were each taken by somebody else first; try again")]
    Contended,
    /// The file or the device is none of ours.
    #[error("{path} does not lie in {run_directory}; whatever it belongs to is left alone")]
    NotOurs {
        /// The backing file.
        path: PathBuf,
        /// Where ours are.
        run_directory: PathBuf,
    },
    /// Nothing is attached to it.
    #[error("loop{number} has no backing file")]
    Detached {
        /// The N of `/dev/loopN`.
        number: u32,
    },
    /// The file does not take direct I/O.
    #[error(
        "{path} does not take direct I/O in blocks of {BLOCK_BYTES}; a second cache below the file system's is refused"
    )]
    NotDirect {
        /// The backing file.
        path: PathBuf,
    },
    /// Another kernel call failed.
    #[error("{what}: {errno}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// What the kernel shows of loop devices could not be read.
    #[error("read {path}: {error}; /sys must be mounted")]
    Sysfs {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(Errno) -> LoopError {
    move |errno| match errno {
        Errno::PERM | Errno::ACCESS => LoopError::NoPermission { what: what.into(), errno },
        _ => LoopError::Kernel { what: what.into(), errno },
    }
}

/// How a file is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Writes are refused by the device.
    pub is_read_only: bool,
}

/// What a device says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoopStatus {
    /// The device of the file system that the backing file is in.
    pub device: u64,
    /// The backing file's number there.
    pub inode: u64,
    /// Whether it goes away with its last user.
    pub is_autoclear: bool,
    /// Whether it reads and writes past the page cache.
    pub is_direct: bool,
    /// Whether it refuses writes.
    pub is_read_only: bool,
}

/// A loop device, held open: it stays as long as this does, or somebody else has it open.
#[derive(Debug)]
pub struct LoopDevice {
    device: OwnedFd,
    number: u32,
    path: PathBuf,
}

impl LoopDevice {
    /// The N of `/dev/loopN`.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Its node.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// For the process that is to keep the device.
    #[must_use]
    pub fn into_descriptor(self) -> OwnedFd {
        self.device
    }

    /// Asks the driver.
    pub fn status(&self) -> Result<LoopStatus, LoopError> {
        let info = ioctl::status(&self.device).map_err(|errno| match errno {
            Errno::NXIO => LoopError::Detached { number: self.number },
            errno => failed(format!("ask loop{} for its status", self.number))(errno),
        })?;
        let is_set = |flag| info.flags & flag != 0;
        Ok(LoopStatus {
            device: info.device,
            inode: info.inode,
            is_autoclear: is_set(ioctl::flags::AUTOCLEAR),
            is_direct: is_set(ioctl::flags::DIRECT_IO),
            is_read_only: is_set(ioctl::flags::READ_ONLY),
        })
    }
}

impl AsFd for LoopDevice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// The loop devices of one run directory.
#[derive(Clone, Debug)]
pub struct Loops {
    run_directory: PathBuf,
    devices: PathBuf,
}

impl Loops {
    /// Those whose backing files lie below `run_directory`, with their nodes in `devices` (`/dev`, or where a container
    /// has the machine's).
    pub fn new(run_directory: &Path, devices: &Path) -> Result<Self, LoopError> {
        // The kernel shows paths without symbolic links, so ours must have none.
        let real = fs::canonicalize(run_directory);
        let run_directory = real.map_err(|error| LoopError::Sysfs { path: run_directory.to_owned(), error })?;
        Ok(Self { run_directory, devices: devices.to_owned() })
    }

    /// Whether loop devices can be had here: the driver is there, and lets us at it.
    pub fn preflight(&self) -> Result<(), LoopError> {
        self.control().map(drop)
    }

    /// Every loop device of the kernel that has a backing file, whoever it belongs to.
    pub fn all(&self) -> Result<Vec<LoopEntry>, LoopError> {
        sysfs::all()
    }

    /// Ours of them. Which of these live is for the caller's journal to say.
    pub fn ours(&self) -> Result<Vec<LoopEntry>, LoopError> {
        let mut entries = sysfs::all()?;
        entries.retain(|entry| self.is_ours(&entry.backing_file));
        Ok(entries)
    }

    fn is_ours(&self, path: &Path) -> bool {
        let is_plain = path.components().all(|part| !matches!(part, Component::ParentDir | Component::CurDir));
        is_plain && path.starts_with(&self.run_directory) && path != self.run_directory
    }

    fn not_ours(&self, path: &Path) -> LoopError {
        LoopError::NotOurs { path: path.to_owned(), run_directory: self.run_directory.clone() }
    }

    /// Makes a block device of a file: 4096-byte blocks, past the page cache, gone with its last user.
    pub fn attach(&self, file: &Path, options: AttachOptions) -> Result<LoopDevice, LoopError> {
        if !self.is_ours(file) {
            return Err(self.not_ours(file));
        }
        let access = if options.is_read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let backing = open(file, access | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty())
            .map_err(failed(format!("open {}", file.display())))?;
        let control = self.control()?;
        let mut flags = ioctl::flags::AUTOCLEAR | ioctl::flags::DIRECT_IO;
        if options.is_read_only {
            flags |= ioctl::flags::READ_ONLY;
        }
        for _ in 0..TRIES {
            let number = ioctl::get_free(&control).map_err(|errno| match errno {
                Errno::NOSPC | Errno::NODEV | Errno::NOENT | Errno::EXIST => LoopError::NoneFree { errno },
                errno => failed("ask for a free loop device")(errno),
            })?;
            let Some(device) = self.open_device(number, access)? else { continue };
            match ioctl::configure(&device.device, backing.as_fd(), BLOCK_BYTES, flags) {
                Ok(()) => return self.verified(device, file),
                // Somebody else was given the same number, or has taken it down again.
                Err(Errno::BUSY | Errno::NXIO | Errno::NODEV) => {}
                Err(errno) => return Err(failed(format!("configure loop{number}"))(errno)),
            }
        }
        Err(LoopError::Contended)
    }

    /// What was asked for is what was made; otherwise the device goes away again with its descriptor.
    fn verified(&self, device: LoopDevice, file: &Path) -> Result<LoopDevice, LoopError> {
        let entry = sysfs::one(device.number)?.ok_or(LoopError::Detached { number: device.number })?;
        // Through a symbolic link in between, the file may be somewhere else than it seemed.
        if !self.is_ours(&entry.backing_file) {
            return Err(self.not_ours(&entry.backing_file));
        }
        // An old kernel ignores the flag of LOOP_CONFIGURE, but knows the older call.
        if !device.status()?.is_direct && ioctl::set_direct_io(&device).is_err() {
            return Err(LoopError::NotDirect { path: file.to_owned() });
        }
        Ok(device)
    }

    /// Opens one of ours that is attached, to hold it or to look at it.
    pub fn open(&self, number: u32) -> Result<LoopDevice, LoopError> {
        let entry = sysfs::one(number)?.ok_or(LoopError::Detached { number })?;
        if !self.is_ours(&entry.backing_file) {
            return Err(self.not_ours(&entry.backing_file));
        }
        self.open_device(number, OFlags::RDONLY)?.ok_or(LoopError::Detached { number })
    }

    /// Detaches one of ours. While somebody has it open or mounted it stays, and goes with the last of them.
    pub fn detach(&self, number: u32) -> Result<(), LoopError> {
        let device = match self.open(number) {
            Ok(device) => device,
            Err(LoopError::Detached { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        // Between the look and now it may have become another's; once it is open, its file cannot change.
        match sysfs::one(number)? {
            Some(entry) if !self.is_ours(&entry.backing_file) => return Err(self.not_ours(&entry.backing_file)),
            Some(_) => {}
            None => return Ok(()),
        }
        match ioctl::clear(&device) {
            Ok(()) | Err(Errno::NXIO) => Ok(()),
            Err(errno) => Err(failed(format!("detach loop{number}"))(errno)),
        }
    }

    /// Has the device take its file's new size, after the volume grew.
    pub fn refresh_size(&self, device: &LoopDevice) -> Result<(), LoopError> {
        let entry = sysfs::one(device.number)?.ok_or(LoopError::Detached { number: device.number })?;
        if !self.is_ours(&entry.backing_file) {
            return Err(self.not_ours(&entry.backing_file));
        }
        // The driver believes the size that was last seen; looking at the file makes it new.
        let seen = statat(CWD, &entry.backing_file, rustix::fs::AtFlags::SYMLINK_NOFOLLOW);
        seen.map_err(failed(format!("look at {}", entry.backing_file.display())))?;
        ioctl::set_capacity(device).map_err(failed(format!("change the size of loop{}", device.number)))
    }

    fn control(&self) -> Result<OwnedFd, LoopError> {
        let path = self.devices.join("loop-control");
        open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).map_err(|errno| match errno {
            Errno::NOENT | Errno::NXIO | Errno::NODEV => LoopError::NoControl { path },
            errno => failed(format!("open {}", path.display()))(errno),
        })
    }

    /// Opens the node, making it if /dev lacks it; `None` if the device went away.
    fn open_device(&self, number: u32, access: OFlags) -> Result<Option<LoopDevice>, LoopError> {
        let path = self.devices.join(format!("loop{number}"));
        let what = || format!("open {}", path.display());
        let flags = access | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let device = match open(&path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                if !self.make_node(number, &path)? {
                    return Ok(None);
                }
                open(&path, flags, Mode::empty())
            }
            other => other,
        };
        let device = match device {
            Ok(device) => device,
            Err(Errno::NXIO | Errno::NODEV) => return Ok(None),
            Err(errno) => return Err(failed(what())(errno)),
        };
        let kind = FileType::from_raw_mode(fstat(&device).map_err(failed(what()))?.st_mode);
        if kind != FileType::BlockDevice {
            return Err(failed(what())(Errno::NOTBLK));
        }
        Ok(Some(LoopDevice { device, number, path }))
    }

    /// A container's /dev shows the nodes that were there when it began.
    fn make_node(&self, number: u32, path: &Path) -> Result<bool, LoopError> {
        let Some((major, minor)) = sysfs::device_number(number)? else { return Ok(false) };
        let mode = Mode::RUSR | Mode::WUSR;
        match mknodat(CWD, path, FileType::BlockDevice, mode, makedev(major, minor)) {
            Ok(()) => Ok(true),
            // Somebody else lacked it as well.
            Err(errno) if std::io::Error::from(errno).kind() == ErrorKind::AlreadyExists => Ok(true),
            Err(errno) => Err(failed(format!("make the node {}", path.display()))(errno)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_below_the_run_directory_is_ours() {
        let loops = Loops { run_directory: "/run/hf".into(), devices: "/dev".into() };
        assert!(loops.is_ours(Path::new("/run/hf/a/volume")));
        for other in ["/run/hf", "/run/hfx/volume", "/run/hf/../x", "run/hf/volume", "/volume", ""] {
            assert!(!loops.is_ours(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn errors_name_the_remedy() {
        let loops = Loops { run_directory: "/run/hf".into(), devices: "/nowhere".into() };
        let text = loops.preflight().unwrap_err().to_string();
        assert!(text.contains("/nowhere/loop-control") && text.contains("module loop"), "{text}");
        let text = failed("x")(Errno::PERM).to_string();
        assert!(text.contains("CAP_SYS_ADMIN"), "{text}");
    }
}

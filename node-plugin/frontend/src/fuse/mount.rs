//! Mounting, and taking down again.
//!
//! Called by whoever starts a node's volumes, never by a serving thread: nothing here looks at a path inside of the
//! mounted file system, so nothing here waits for its server.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};
use thiserror::Error;

use super::abi::{Header, Operation, READ_BUFFER_BYTES_MIN, init_answer};
use super::connection::{Answered, Connection, ConnectionError};
use super::facts::{Facts, FactsError, REQUEST_BYTES_MAX};

/// The kernel sends INIT as soon as it has mounted; this is for a machine that is very busy.
const INIT_SECONDS: i64 = 10;

/// Why there is no mount.
#[derive(Debug, Error)]
pub enum MountError {
    /// The device is not there.
    #[error("open /dev/fuse: {0}; load the module fuse, and give a container the device")]
    NoDevice(Errno),
    /// It is there and may not be opened.
    #[error("open /dev/fuse: {0}; the container's device rules must allow 10:229")]
    DeviceRefused(Errno),
    /// The kernel would not mount.
    #[error("mount FUSE at {path}: {errno}; {remedy}")]
    Refused {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
        /// What to do.
        remedy: &'static str,
    },
    /// It would not take the mount down.
    #[error("unmount {path}: {errno}")]
    Unmount {
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// The kernel did not send INIT, or not as we know it.
    #[error("the kernel's first request on {path}: {what}")]
    Init {
        /// Where.
        path: PathBuf,
        /// What was wrong.
        what: &'static str,
    },
    /// The kernel speaks another protocol.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// The descriptor could not be set up.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
}

/// Whether this machine has FUSE and lets us at it.
pub fn preflight() -> Result<(), MountError> {
    open_device().map(drop)
}

fn open_device() -> Result<OwnedFd, MountError> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    open("/dev/fuse", flags, Mode::empty()).map_err(|errno| match errno {
        Errno::PERM | Errno::ACCESS => MountError::DeviceRefused(errno),
        _ => MountError::NoDevice(errno),
    })
}

/// Mounts an empty directory as the place of a volume's file. `source` is what /proc/mounts shows first.
///
/// Afterwards whoever looks into the directory waits until a [`super::Server`] is started on the connection.
pub fn mount(path: &Path, source: &str) -> Result<Connection, MountError> {
    let device = open_device()?;
    // The kernel checks permissions itself by the modes that we give, so the file is root's alone.
    let data =
        format!("fd={},rootmode=40700,user_id=0,group_id=0,allow_other,default_permissions\0", device.as_raw_fd());
    let data = std::ffi::CStr::from_bytes_with_nul(data.as_bytes()).unwrap_or_default();
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::NOATIME;
    rustix::mount::mount(source, path, "fuse", flags, data).map_err(|errno| refused(path, errno))?;
    let connection = shake_hands(device, path);
    if connection.is_err() {
        // What the caller has to know is the first error.
        let _ = unmount(path);
    }
    connection
}

fn refused(path: &Path, errno: Errno) -> MountError {
    let remedy = match errno {
        Errno::PERM | Errno::ACCESS => "mounting needs CAP_SYS_ADMIN",
        Errno::NOENT | Errno::NOTDIR => "the directory must be there",
        Errno::NODEV => "load the module fuse",
        Errno::BUSY => "something is mounted there",
        _ => "see the kernel's log",
    };
    MountError::Refused { path: path.to_owned(), errno, remedy }
}

/// Takes INIT and answers it.
fn shake_hands(device: OwnedFd, path: &Path) -> Result<Connection, MountError> {
    let wrong = |what| MountError::Init { path: path.to_owned(), what };
    let mut polled = [PollFd::new(&device, PollFlags::IN)];
    let patience = Timespec { tv_sec: INIT_SECONDS, tv_nsec: 0 };
    let ready = rustix::io::retry_on_intr(|| poll(&mut polled, Some(&patience)));
    if ready != Ok(1) {
        return Err(wrong("it did not come"));
    }
    let mut bytes = vec![0; READ_BUFFER_BYTES_MIN + REQUEST_BYTES_MAX as usize];
    let length = rustix::io::read(&device, bytes.as_mut_slice()).map_err(|_| wrong("it could not be read"))?;
    let request = bytes.get(..length).unwrap_or_default();
    let header = Header::decode(request).map_err(|_| wrong("it is malformed"))?;
    let Ok(Operation::Init(offer)) = Operation::decode(&header, request) else {
        return Err(wrong("it is not INIT"));
    };
    let number = connection_number(&device, path).ok_or_else(|| wrong("the connection's number is nowhere"))?;
    let facts = Facts::agree(&offer, number)?;
    let connection = Connection::from_parts(device, facts)?;
    match connection.answer(header.unique, 0, init_answer(facts.answer(&offer)).bytes()) {
        Answered::Taken => Ok(connection),
        _ => Err(wrong("the kernel refused our answer")),
    }
}

/// The connection's number: the descriptor's own word for it (newer kernels), otherwise the device of the newest mount at
/// this path, which the kernel shows without asking the file system.
fn connection_number(device: &OwnedFd, path: &Path) -> Option<u64> {
    let described = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", device.as_raw_fd())).unwrap_or_default();
    if let Some(number) = described.lines().find_map(|line| line.strip_prefix("fuse_connection:")) {
        return number.trim().parse().ok();
    }
    let path = std::fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?);
    number_in_mounts(&std::fs::read("/proc/self/mountinfo").ok()?, &path)
}

fn number_in_mounts(mounts: &[u8], path: &Path) -> Option<u64> {
    let path = escaped(path.as_os_str().as_bytes());
    let of_line = |line: &[u8]| {
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let (device, place) = (words.get(2)?, words.get(4)?);
        let minor = std::str::from_utf8(device).ok()?.strip_prefix("0:")?.parse().ok()?;
        (**place == *path).then_some(minor)
    };
    mounts.split(|byte| *byte == b'\n').filter_map(of_line).next_back()
}

/// As mountinfo writes a path: four bytes would end a word or a line, or begin an escape.
fn escaped(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for byte in path {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => out.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => out.push(*byte),
        }
    }
    out
}

/// Takes the mount out of the directory tree, at once and without asking its server. Files that are open stay open, so
/// a loop device on it must be detached before. What is not mounted is unmounted already.
pub fn unmount(path: &Path) -> Result<(), MountError> {
    match rustix::mount::unmount(path, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(errno) if errno == Errno::INVAL || std::io::Error::from(errno).kind() == ErrorKind::NotFound => Ok(()),
        Err(errno) => Err(MountError::Unmount { path: path.to_owned(), errno }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_mount_at_the_path_is_ours() {
        let mounts = b"1 2 0:31 / /a rw - tmpfs x rw\n\
            3 2 0:39 / /run/hf/a\\040b rw,nosuid shared:4 - fuse x rw\n\
            4 2 0:40 / /run/hf/a\\040b rw - fuse x rw\n\
            5 2 8:1 / /run/hf/disk rw - ext4 x rw\n";
        assert_eq!(number_in_mounts(mounts, Path::new("/run/hf/a b")), Some(40));
        assert_eq!(number_in_mounts(mounts, Path::new("/run/hf/disk")), None);
        assert_eq!(number_in_mounts(mounts, Path::new("/run/hf")), None);
        assert_eq!(number_in_mounts(b"", Path::new("/")), None);
    }
}

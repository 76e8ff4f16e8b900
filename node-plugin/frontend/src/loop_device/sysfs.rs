//! What /sys says of loop devices. It asks no file system, so it never waits for a server.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use super::LoopError;

const BLOCK_DEVICES: &str = "/sys/block";

/// A loop device that has a backing file. It may be anybody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoopEntry {
    /// The N of `/dev/loopN`.
    pub number: u32,
    /// As the kernel sees it from here.
    pub backing_file: PathBuf,
    /// Whether the file was unlinked meanwhile.
    pub is_deleted: bool,
    /// Whether it goes away with its last user.
    pub is_autoclear: bool,
    /// Whether it reads and writes past the page cache.
    pub is_direct: bool,
}

/// Every loop device of the kernel that has a backing file, in order.
pub(super) fn all() -> Result<Vec<LoopEntry>, LoopError> {
    let failed = |error| LoopError::Sysfs { path: BLOCK_DEVICES.into(), error };
    let mut entries = Vec::new();
    for entry in fs::read_dir(BLOCK_DEVICES).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        if let Some(number) = name.to_str().and_then(|name| name.strip_prefix("loop")?.parse().ok()) {
            entries.extend(one(number)?);
        }
    }
    entries.sort_by_key(|entry| entry.number);
    Ok(entries)
}

/// One loop device, if it is there and has a backing file.
pub(super) fn one(number: u32) -> Result<Option<LoopEntry>, LoopError> {
    let folder = Path::new(BLOCK_DEVICES).join(format!("loop{number}/loop"));
    let Some(mut backing_file) = read(&folder.join("backing_file"))? else {
        return Ok(None);
    };
    let is_deleted = backing_file.ends_with(b" (deleted)");
    if is_deleted {
        backing_file.truncate(backing_file.len() - b" (deleted)".len());
    }
    let is_set = |name: &str| Ok::<_, LoopError>(read(&folder.join(name))?.is_some_and(|text| text == b"1"));
    let (is_autoclear, is_direct) = (is_set("autoclear")?, is_set("dio")?);
    let backing_file = PathBuf::from(std::ffi::OsString::from_vec(backing_file));
    Ok(Some(LoopEntry { number, backing_file, is_deleted, is_autoclear, is_direct }))
}

/// The number of the device in the kernel, major and minor.
pub(super) fn device_number(number: u32) -> Result<Option<(u32, u32)>, LoopError> {
    let text = read(&Path::new(BLOCK_DEVICES).join(format!("loop{number}/dev")))?;
    let text = text.and_then(|text| String::from_utf8(text).ok());
    Ok(text.and_then(|text| text.split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)))))
}

/// A file of one line; `None` if it is not there, or not any more.
fn read(path: &Path) -> Result<Option<Vec<u8>>, LoopError> {
    match fs::read(path) {
        Ok(mut bytes) => {
            if bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            Ok(Some(bytes))
        }
        // The device may be taken down while we look.
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(NO_DEVICE) => Ok(None),
        Err(error) => Err(LoopError::Sysfs { path: path.to_owned(), error }),
    }
}

/// `ENODEV`: what a file of a device says that went away.
const NO_DEVICE: i32 = rustix::io::Errno::NODEV.raw_os_error();

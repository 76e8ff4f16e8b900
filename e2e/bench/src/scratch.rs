//! A directory of our own on the disk that is measured, gone when the run is over.
//!
//! A run that was killed leaves its directory behind; the next one removes it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Outcome;

const PREFIX: &str = "holdfast-bench-";

/// The directory.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one under `parent`, after what dead runs left there is gone.
    pub fn new(parent: &Path) -> Outcome<Self> {
        fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
        for entry in fs::read_dir(parent)?.flatten() {
            let name = entry.file_name();
            let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|id| id.parse::<u32>().ok());
            if owner.is_some_and(|owner| fs::metadata(format!("/proc/{owner}")).is_err()) {
                crate::block::sweep(&entry.path());
                fs::remove_dir_all(entry.path())?;
            }
        }
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new empty directory in it.
    pub fn folder(&self, name: &str) -> Outcome<Folder> {
        let path = self.path.join(name);
        if let Err(error) = fs::remove_dir_all(&path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error.into());
        }
        fs::create_dir(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The next run removes what could not be removed now.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A directory that lives as long as this value.
pub struct Folder(PathBuf);

impl Folder {
    /// Its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Bytes of all files, as they take room on the disk.
    pub fn allocated_bytes(&self) -> Outcome<u64> {
        use std::os::unix::fs::MetadataExt;
        let mut bytes = 0;
        for entry in fs::read_dir(&self.0)? {
            bytes += entry?.metadata()?.blocks() * 512;
        }
        Ok(bytes)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

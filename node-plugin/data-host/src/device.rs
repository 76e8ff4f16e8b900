//! A volume as a block device of the kernel: one file of a FUSE mount, and a loop device on it.
//!
//! A device lies in a folder of its own in the node's run directory. What is found there belongs to a process that is gone,
//! and is taken away before anything new is made: a device is never continued by chance.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use holdfast_frontend::fuse::{self, MountError, ServeOptions, Server, StartError};
use holdfast_frontend::loop_device::{AttachOptions, LoopDevice, LoopError, Loops};
use holdfast_frontend::target::Target;

/// The name of the file in the mount.
const FILE: &str = "volume";
/// The folder that the file system of one file is mounted on.
const MOUNT: &str = "mnt";
/// How long a device that is let go of may still be in use, as by a probe of the system.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);
const RELEASE_LOOK: Duration = Duration::from_millis(20);

/// How a device is made.
#[derive(Clone, Debug)]
pub struct DeviceOptions {
    /// This device's own folder; made if it is not there.
    pub run_directory: PathBuf,
    /// Where device nodes are.
    pub devices: PathBuf,
    /// Threads that serve requests.
    pub threads: usize,
}

/// Why there is no device, or why it does not go.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The run directory.
    #[error("{path}: {error}")]
    Folder {
        /// Which path.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// FUSE.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// The threads.
    #[error("the volume's file is not served: {0}")]
    Serve(StartError),
    /// The loop device.
    #[error(transparent)]
    Loop(#[from] LoopError),
    /// Somebody has it mounted or open.
    #[error("{device} is in use; unmount it, or end who has it open (fuser -v {device} names them)")]
    InUse {
        /// The device.
        device: PathBuf,
    },
}

/// A device that serves a volume. Dropped without [`Device::detach`], it goes at once: whoever uses it gets errors.
pub struct Device {
    folder: Folder,
    path: PathBuf,
    number: u32,
    device: Option<LoopDevice>,
    server: Option<Server>,
}

/// The folder of a device, and what may be left in it.
struct Folder {
    path: PathBuf,
    loops: Loops,
}

impl Folder {
    fn prepare(options: &DeviceOptions) -> Result<Self, DeviceError> {
        let path = &options.run_directory;
        let failed = |error| DeviceError::Folder { path: path.clone(), error };
        fs::create_dir_all(path).map_err(failed)?;
        // Asked for before the folder in it: a mount of a dead process answers every question with an error.
        let path = fs::canonicalize(path).map_err(failed)?;
        let folder = Self { loops: Loops::new(&path, &options.devices)?, path };
        folder.sweep()?;
        fs::create_dir_all(folder.mount()).map_err(|error| DeviceError::Folder { path: folder.mount(), error })?;
        Ok(folder)
    }

    fn mount(&self) -> PathBuf {
        self.path.join(MOUNT)
    }

    /// Takes away what a process left that is gone.
    fn sweep(&self) -> Result<(), DeviceError> {
        for left in self.loops.ours()? {
            self.loops.detach(left.number)?;
        }
        // Nothing mounted there is the usual answer, and as good.
        let _ = fuse::unmount(&self.mount());
        Ok(())
    }
}

impl Device {
    /// Makes the device of a volume.
    pub fn attach(target: Arc<dyn Target>, options: &DeviceOptions) -> Result<Self, DeviceError> {
        let folder = Folder::prepare(options)?;
        let connection = fuse::mount(&folder.mount(), "holdfast")?;
        let serve = ServeOptions { name: FILE.to_owned(), threads: options.threads };
        let is_read_only = target.read_only();
        let server = match Server::start(connection, target, &serve) {
            Ok(server) => server,
            Err(error) => {
                let _ = fuse::unmount(&folder.mount());
                return Err(DeviceError::Serve(error));
            }
        };
        match folder.loops.attach(&folder.mount().join(FILE), AttachOptions { is_read_only }) {
            Ok(device) => {
                let (path, number) = (device.path().to_owned(), device.number());
                Ok(Self { folder, path, number, device: Some(device), server: Some(server) })
            }
            Err(error) => {
                let _ = fuse::unmount(&folder.mount());
                Err(error.into())
            }
        }
    }

    /// The block device.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the kernel see that the volume grew.
    pub fn refresh_size(&self) -> Result<(), DeviceError> {
        match &self.device {
            Some(device) => Ok(self.folder.loops.refresh_size(device)?),
            None => Ok(()),
        }
    }

    /// Takes the device away, unless somebody has it mounted or open. Every request is answered before it returns.
    pub fn detach(mut self) -> Result<(), Box<(Self, DeviceError)>> {
        // The kernel ends it with its last user, and this is one of them.
        drop(self.device.take());
        let mut looks = RELEASE_PATIENCE.as_millis() / RELEASE_LOOK.as_millis();
        while self.is_there() {
            if looks == 0 {
                self.device = self.folder.loops.open(self.number).ok();
                let in_use = DeviceError::InUse { device: self.path.clone() };
                return Err(Box::new((self, in_use)));
            }
            looks -= 1;
            std::thread::sleep(RELEASE_LOOK);
        }
        self.take_away();
        Ok(())
    }

    fn is_there(&self) -> bool {
        self.folder.loops.ours().is_ok_and(|ours| ours.iter().any(|one| one.number == self.number))
    }

    fn take_away(&mut self) {
        let Some(server) = self.server.take() else { return };
        drop(self.device.take());
        if self.is_there() {
            let _ = self.folder.loops.detach(self.number);
            // Somebody still uses it: what waits for an answer gets an error rather than none.
            let _ = server.abort();
        }
        let _ = fuse::unmount(&self.folder.mount());
        drop(server);
        let _ = fs::remove_dir(self.folder.mount());
        let _ = fs::remove_dir(&self.folder.path);
    }

    /// Takes away what a dead process left in a run directory, as [`Device::attach`] does there.
    pub fn sweep(run_directory: &Path, devices: &Path) -> Result<(), DeviceError> {
        let options =
            DeviceOptions { run_directory: run_directory.to_owned(), devices: devices.to_owned(), threads: 1 };
        Folder::prepare(&options).map(drop)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.take_away();
    }
}

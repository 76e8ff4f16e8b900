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

/// A device that serves a volume as long as this lives.
pub struct Device {
    folder: Folder,
    device: LoopDevice,
    server: Server,
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
            Ok(device) => Ok(Self { folder, device, server }),
            Err(error) => {
                let _ = fuse::unmount(&folder.mount());
                Err(error.into())
            }
        }
    }

    /// The block device.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.device.path()
    }

    /// Lets the kernel see that the volume grew.
    pub fn refresh_size(&self) -> Result<(), DeviceError> {
        Ok(self.folder.loops.refresh_size(&self.device)?)
    }

    /// Takes the device away, unless somebody has it mounted or open. Every request is answered before it returns.
    pub fn detach(self) -> Result<(), Box<(Self, DeviceError)>> {
        let Self { folder, device, server } = self;
        let (number, path) = (device.number(), device.path().to_owned());
        // The kernel ends it with its last user, and this is one of them.
        drop(device);
        let mut looks = RELEASE_PATIENCE.as_millis() / RELEASE_LOOK.as_millis();
        while folder.loops.ours().is_ok_and(|ours| ours.iter().any(|one| one.number == number)) {
            if looks == 0 {
                let in_use = DeviceError::InUse { device: path };
                return match folder.loops.open(number) {
                    Ok(device) => Err(Box::new((Self { folder, device, server }, in_use))),
                    // It went just now.
                    Err(_) => break,
                };
            }
            looks -= 1;
            std::thread::sleep(RELEASE_LOOK);
        }
        let _ = fuse::unmount(&folder.mount());
        drop(server);
        let _ = fs::remove_dir(folder.mount());
        let _ = fs::remove_dir(&folder.path);
        Ok(())
    }
}

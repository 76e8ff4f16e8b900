//! What is measured: our device, and those of others on the same disk.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_data_host::{Device, DeviceOptions, OpenVolume};
use holdfast_disk::{LinuxDisk, LinuxMode};
use holdfast_frontend::fuse;
use holdfast_frontend::loop_device::{LoopDevice, Loops};

use crate::bed::{Settings, Volume};
use crate::scratch::Folder;
use crate::{Bench, Outcome};

/// Requests that our device serves at once.
const THREADS: usize = 8;
/// What keeps a daemon from being waited for without end.
const PATIENCE: Duration = Duration::from_secs(20);

/// One way from a disk to a block device.
#[derive(Clone, Copy)]
pub enum System {
    /// A volume, sealed, through FUSE and loop.
    Ours,
    /// A raw image, not encrypted, through qemu-storage-daemon's FUSE export and loop.
    Raw,
    /// The same with LUKS: encrypted, not authenticated.
    Luks,
    /// A loop device on the bare file.
    Loop,
}

/// Why nothing of this can be measured here.
pub fn missing() -> Option<String> {
    let is_there = |name: &str| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(name).exists())
    };
    let tools = [("fio", "fio"), ("qemu-storage-daemon", "qemu-system-common"), ("qemu-img", "qemu-utils")];
    let absent = tools.iter().find(|(tool, _)| !is_there(tool));
    let absent = absent.map(|(tool, package)| format!("{tool} is not installed (Debian: {package})"));
    absent
        .or_else(|| (!rustix::process::geteuid().is_root()).then(|| "only root may mount".to_owned()))
        .or_else(|| fuse::preflight().err().map(|error| error.to_string()))
        .or_else(|| {
            let loops = Loops::new(Path::new("/tmp"), Path::new("/dev")).ok()?;
            loops.preflight().err().map(|error| error.to_string())
        })
}

/// Takes away the device that a run left in its folder which was killed.
pub fn sweep(folder: &Path) {
    let run = folder.join(System::Ours.name()).join("run");
    // What cannot be taken away is named when the folder is removed.
    if std::fs::symlink_metadata(&run).is_ok() {
        let _ = Device::sweep(&run, Path::new("/dev"));
    }
}

/// A device that is there as long as this is.
pub struct Running {
    /// Dropped in this order: the device, what serves it, where it lies.
    device: Attached,
    daemon: Option<Daemon>,
    volume: Option<(Arc<OpenVolume>, Volume)>,
    _folder: Folder,
}

enum Attached {
    Ours(Box<Device>),
    Loop(LoopDevice),
}

/// A process of a peer, ended with this.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

impl Running {
    /// The device's path.
    pub fn device(&self) -> &Path {
        match &self.device {
            Attached::Ours(device) => device.path(),
            Attached::Loop(device) => device.path(),
        }
    }

    /// Takes it away in order.
    pub fn end(self) -> Outcome<()> {
        let Self { device, daemon, volume, _folder } = self;
        match device {
            Attached::Ours(device) => device.detach().map_err(|left| left.1.to_string())?,
            Attached::Loop(device) => drop(device),
        }
        drop(daemon);
        if let Some((volume, _registry)) = volume {
            volume.close()?;
        }
        Ok(())
    }
}

impl System {
    /// In the order in which they are measured.
    pub const ALL: [Self; 4] = [Self::Ours, Self::Raw, Self::Luks, Self::Loop];

    /// A folder's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ours => "block-ours",
            Self::Raw => "block-raw",
            Self::Luks => "block-luks",
            Self::Loop => "block-loop",
        }
    }

    /// Makes the device.
    pub fn start(self, bench: &Bench, bytes: u64) -> Outcome<Running> {
        let folder = bench.scratch.folder(self.name())?;
        let path = std::fs::canonicalize(folder.path())?;
        match self {
            Self::Ours => ours(folder, &path, bytes),
            Self::Raw => {
                File::create(path.join("image"))?.set_len(bytes)?;
                let daemon = export(&path, &["driver=raw,node-name=export,file=file"])?;
                looped(folder, &path.join("export"), Some(daemon))
            }
            Self::Luks => {
                let secret = "secret,id=key,data=a-passphrase-of-a-bench";
                let image = path.join("image").display().to_string();
                let options = ["create", "-q", "-f", "luks", "--object", secret, "-o", "key-secret=key,iter-time=50"];
                let made = Command::new("qemu-img").args(options).args([&image, &bytes.to_string()]).status()?;
                if !made.success() {
                    return Err("qemu-img made no LUKS image".into());
                }
                let daemon = export(&path, &["driver=luks,node-name=export,file=file,key-secret=key", secret])?;
                looped(folder, &path.join("export"), Some(daemon))
            }
            Self::Loop => {
                File::create(path.join("image"))?.set_len(bytes)?;
                looped(folder, &path.join("image"), None)
            }
        }
    }
}

fn ours(folder: Folder, path: &Path, bytes: u64) -> Outcome<Running> {
    let store = path.join("store");
    std::fs::create_dir(&store)?;
    let disk = Arc::new(LinuxDisk::open(&store, LinuxMode::Direct)?);
    let mut volume = Volume::create(disk, Settings::new(bytes, 8 * bytes))?;
    let open = OpenVolume::open(volume.options())?;
    let options = DeviceOptions { run_directory: path.join("run"), devices: "/dev".into(), threads: THREADS };
    let target = Arc::<OpenVolume>::clone(&open);
    let device = Attached::Ours(Box::new(Device::attach(target, &options)?));
    Ok(Running { device, daemon: None, volume: Some((open, volume)), _folder: folder })
}

/// Has qemu-storage-daemon export `image` of a folder as `export` beside it. The second word is a secret, if any.
fn export(path: &Path, block: &[&str]) -> Outcome<Daemon> {
    let (image, export): (PathBuf, PathBuf) = (path.join("image"), path.join("export"));
    File::create(&export)?;
    let mut command = Command::new("qemu-storage-daemon");
    if let Some(secret) = block.get(1) {
        command.args(["--object", secret]);
    }
    let file = format!("driver=file,node-name=file,filename={},cache.direct=on,aio=native", image.display());
    let fuse = format!("type=fuse,id=fuse,node-name=export,mountpoint={},writable=on", export.display());
    let child = command
        .args(["--blockdev", &file, "--blockdev", block[0], "--export", &fuse])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()?;
    let mut daemon = Daemon(child);
    let start = Instant::now();
    // The empty file becomes one of the image's size.
    while std::fs::metadata(&export).map_or(0, |seen| seen.len()) == 0 {
        if daemon.0.try_wait()?.is_some() || start.elapsed() > PATIENCE {
            return Err("qemu-storage-daemon exports nothing".into());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(daemon)
}

fn looped(folder: Folder, file: &Path, daemon: Option<Daemon>) -> Outcome<Running> {
    let loops = Loops::new(&std::fs::canonicalize(folder.path())?, Path::new("/dev"))?;
    let device = Attached::Loop(loops.attach(file, Default::default())?);
    Ok(Running { device, daemon, volume: None, _folder: folder })
}

//! Programs with deadlines, mounts that clean up, and what a machine lacks.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use holdfast_frontend::fuse;
use holdfast_frontend::loop_device::Loops;

/// One line a test for the list at the end.
pub fn skip(test: &str, reason: &str) {
    println!("SKIPPED {test}: {reason}");
    if let Some(path) = std::env::var_os("HOLDFAST_SKIPS") {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).expect("the list of skips opens");
        file.write_all(format!("{test}: {reason}\n").as_bytes()).expect("it takes a line");
    }
}

/// What keeps a test from running here.
pub fn missing(programs: &[&str]) -> Option<String> {
    let is_there = |name: &str| {
        let folders = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&folders)
            .chain(["/usr/sbin".into(), "/sbin".into()])
            .any(|folder: PathBuf| folder.join(name).exists())
    };
    let absent = programs.iter().find(|name| !is_there(name)).map(|name| format!("{name} is not installed"));
    absent.or_else(|| fuse::preflight().err().map(|error| error.to_string())).or_else(|| {
        if !rustix::process::geteuid().is_root() {
            return Some("only root may mount".to_owned());
        }
        let loops = Loops::new(Path::new("/tmp"), Path::new("/dev")).ok()?;
        loops.preflight().err().map(|error| error.to_string())
    })
}

/// Runs a program to its end, or kills it; panics unless it succeeds.
pub fn run(words: &[&str], seconds: u64) {
    let (status, said) = attempt(words, seconds);
    assert!(status, "{words:?}: {said}");
}

fn attempt(words: &[&str], seconds: u64) -> (bool, String) {
    let said = tempfile();
    let mut child = Command::new(words[0])
        .args(&words[1..])
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
        .stdin(Stdio::null())
        .stdout(fs::File::create(&said).expect("a file is made"))
        .stderr(fs::OpenOptions::new().append(true).open(&said).expect("it opens"))
        .spawn()
        .unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let status = loop {
        match child.try_wait().expect("a child is asked") {
            Some(status) => break status.success(),
            None if Instant::now() > deadline => {
                let _ = child.kill();
                panic!("{words:?} took longer than {seconds} s");
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = fs::read_to_string(&said).unwrap_or_default();
    let _ = fs::remove_file(&said);
    (status, text)
}

fn tempfile() -> PathBuf {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    std::env::temp_dir().join(format!("holdfast-said-{}-{number}", std::process::id()))
}

/// A folder for one test. Nothing of it stays, whatever becomes of the test.
pub struct Place(PathBuf);

impl Place {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("holdfast-cuts-{name}-{}", std::process::id()));
        fs::create_dir_all(path.join("fs")).expect("a folder is made");
        Self(fs::canonicalize(path).expect("it has a plain path"))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let run = self.0.join("run");
        if let Ok(loops) = Loops::new(&run, Path::new("/dev")) {
            for entry in loops.ours().unwrap_or_default() {
                let _ = loops.detach(entry.number);
            }
        }
        let _ = fuse::unmount(&run.join("mnt"));
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A mounted file system, taken out of the tree when dropped, also when its device is gone.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn new(place: &Place, kind: &str, device: &str) -> Self {
        let path = place.path().join("fs");
        run(&["mount", "-t", kind, device, path.to_str().expect("a plain path")], 60);
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let path = self.0.to_str().expect("a plain path");
        let (is_gone, _) = attempt(&["umount", path], 30);
        if !is_gone {
            let _ = attempt(&["umount", "-l", path], 30);
        }
    }
}

/// No file below holds these bytes.
pub fn assert_nowhere_in(folder: &Path, needle: &[u8]) {
    let mut searched = 0;
    for entry in fs::read_dir(folder).expect("a folder") {
        let bytes = fs::read(entry.expect("an entry").path()).expect("a file");
        searched += bytes.len();
        assert!(!bytes.windows(needle.len()).any(|window| window == needle), "plaintext is on the disk");
    }
    assert!(searched > 1 << 20, "only {searched} bytes were searched");
}

//! Removes the directory of the story when the story is over, however it ends.
//!
//! A process of its own, in a group of its own, so that Ctrl-C does not reach it. It waits for the end of its input, which
//! the kernel brings about when the storyteller ends, and then removes what was there.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use crate::Outcome;

/// The word on the command line that makes this process a sweeper.
pub const WORD: &str = "--sweep-when-over";
/// The file that shows that a directory is ours to remove.
const MARK: &str = "this-is-a-holdfast-demo";

/// A directory that will be gone.
pub struct Swept {
    path: PathBuf,
    sweeper: Child,
}

impl Swept {
    /// Makes a directory, and the sweeper for it.
    pub fn new() -> Outcome<Self> {
        let path = env::temp_dir().join(format!("holdfast-demo-{}", std::process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        fs::write(path.join(MARK), "removed when the demo is over\n")?;
        let mut command = Command::new(env::current_exe()?);
        command.arg(WORD).arg(&path).stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0);
        Ok(Self { sweeper: command.spawn()?, path })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Swept {
    fn drop(&mut self) {
        // Its input ends; then it removes the directory and ends itself.
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}

/// What the sweeper does.
pub fn sweep(directory: &Path) -> Outcome<()> {
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest)?;
    // Only what carries the mark was made by a story.
    fs::metadata(directory.join(MARK))?;
    // A writer that is being killed may still be making files.
    let mut removed = fs::remove_dir_all(directory);
    for _ in 0..50 {
        if removed.is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        removed = fs::remove_dir_all(directory);
    }
    Ok(removed?)
}

//! Writes files that say what they are, and knows which of them are durable.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdfast_disk::{Random, SeededRandom};

/// Files that are overwritten in turn.
const FILES: u64 = 40;

pub struct Writer {
    seed: u64,
    /// The newest version of each file that was synced, and the newest that was begun.
    files: Vec<(u64, u64)>,
    version: u64,
    synced: u64,
}

impl Writer {
    pub fn new(seed: u64) -> Self {
        Self { seed, files: vec![(0, 0); FILES as usize], version: 0, synced: 0 }
    }

    /// How many files were synced.
    pub const fn acknowledged(&self) -> u64 {
        self.synced
    }

    fn content(&self, file: u64, version: u64) -> Vec<u8> {
        let dice = SeededRandom::new(self.seed << 48 | file << 32 | version);
        let mut bytes = vec![0; 64 + dice.below(200_000) as usize];
        dice.fill(&mut bytes);
        let words = format!("file {file} version {version};");
        bytes[..words.len()].copy_from_slice(words.as_bytes());
        bytes
    }

    /// Writes until `cut` was called and everything fails.
    pub fn write_while(&mut self, folder: &Path, time: Duration, cut: impl FnOnce() + Send) {
        let is_cut = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let is_cut = &is_cut;
            let power = scope.spawn(move || {
                std::thread::sleep(time);
                // Set first: whatever is acknowledged before it was so with the power on.
                cut();
                is_cut.store(true, Ordering::SeqCst);
            });
            while !is_cut.load(Ordering::SeqCst) {
                self.version += 1;
                let file = self.version * 7 % FILES;
                self.files[file as usize].1 = self.version;
                if self.replace(folder, file).is_ok() {
                    self.files[file as usize].0 = self.version;
                    self.synced += 1;
                }
            }
            power.join().unwrap();
        });
    }

    /// Beside the old one, synced, put in its place, and the folder synced.
    fn replace(&self, folder: &Path, file: u64) -> std::io::Result<()> {
        let (new, path) = (folder.join(format!("{file}.new")), folder.join(file.to_string()));
        let mut handle = File::create(&new)?;
        handle.write_all(&self.content(file, self.version))?;
        handle.sync_all()?;
        fs::rename(new, path)?;
        File::open(folder)?.sync_all()
    }

    /// Every file is a version that was written, and none older than the newest that was synced.
    pub fn check(&mut self, folder: &Path) {
        for file in 0..FILES {
            let (synced, begun) = self.files[file as usize];
            let path = folder.join(file.to_string());
            let found = match fs::read(&path) {
                Ok(found) => found,
                Err(error) => {
                    assert!(synced == 0, "{} version {synced} was synced: {error}", path.display());
                    continue;
                }
            };
            let words = String::from_utf8_lossy(&found[..found.len().min(60)]).into_owned();
            let version = words.split("version ").nth(1).and_then(|rest| rest.split(';').next()?.parse().ok());
            let version: u64 = version.unwrap_or_else(|| panic!("{}: {words:?}", path.display()));
            assert!((synced..=begun).contains(&version), "{}: {version} of {synced} to {begun}", path.display());
            assert!(found == self.content(file, version), "{} is not what was written", path.display());
            self.files[file as usize] = (version, version);
        }
    }
}

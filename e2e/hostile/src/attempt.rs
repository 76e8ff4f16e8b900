//! One try to use a volume whose files may be anything: open, read everything, scrub; and what came of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_disk::{Faults, Image, SimulatedDisk};
use holdfast_log::anchor::Anchor;
use holdfast_log::seam::{Finding, Replica};
use holdfast_session::Session;
use holdfast_store::Store;
use holdfast_vocabulary::BLOCK_BYTES;

use crate::recipe::{BLOCK, Keeper, Volume, key_bytes, open_options, store_options};

/// What came of a try.
#[derive(Debug, Default)]
pub struct Attempt {
    /// Why the volume was not opened.
    pub refused: Option<String>,
    /// Blocks that could not be read, and why.
    pub unreadable: Vec<(u64, String)>,
    /// Blocks that were handed out with other bytes than were written. There must never be one.
    pub wrong: Vec<u64>,
    /// What a scrub found: by the store, and by the session.
    pub findings: Vec<Finding>,
    /// What the session's scrub found.
    pub opened_findings: Vec<String>,
    /// The files afterwards.
    pub after: Image,
}

impl Attempt {
    /// Everything is as it was written, and nobody complained.
    #[must_use]
    pub fn is_right(&self) -> bool {
        self.refused.is_none()
            && self.unreadable.is_empty()
            && self.wrong.is_empty()
            && self.findings.is_empty()
            && self.opened_findings.is_empty()
    }

    /// Every message of it.
    pub fn messages(&self) -> impl Iterator<Item = String> {
        let unreadable = self.unreadable.iter().map(|(_, words)| words.clone());
        let findings = self.findings.iter().map(|finding| format!("{}: {}", finding.file, finding.problem));
        self.refused.iter().cloned().chain(unreadable).chain(findings).chain(self.opened_findings.iter().cloned())
    }

    /// Whether any message names this file.
    #[must_use]
    pub fn names(&self, file: &str) -> bool {
        self.messages().any(|words| words.contains(file))
    }
}

/// Tries a volume's damaged files with the right key and the anchor.
#[must_use]
pub fn attempt(volume: &Volume, image: &Image) -> Attempt {
    attempt_with(volume, image, key_bytes(), volume.anchor)
}

/// Tries files with any key and any anchor.
#[must_use]
pub fn attempt_with(volume: &Volume, image: &Image, key: [u8; 32], anchor: Option<Anchor>) -> Attempt {
    let disk = SimulatedDisk::from_image(1, Faults::none(), image);
    let mut attempt = Attempt::default();
    match open(volume, &disk, key, anchor) {
        Err(words) => attempt.refused = Some(words),
        Ok(session) => {
            read_all(volume, &session, &mut attempt);
            match session.scrub() {
                Ok(report) => {
                    attempt.findings = report.replica.findings;
                    let opened = report.findings.iter();
                    attempt.opened_findings = opened.map(|finding| finding.problem.to_string()).collect();
                }
                Err(error) => attempt.opened_findings.push(error.to_string()),
            }
        }
    }
    attempt.after = disk.image();
    attempt
}

fn open(volume: &Volume, disk: &SimulatedDisk, key: [u8; 32], anchor: Option<Anchor>) -> Result<Session, String> {
    let store = Store::open(disk.handle(), store_options(volume.recipe)).map_err(|error| error.to_string())?;
    let options = open_options(volume.recipe, volume.epoch + 1, key, &Arc::new(Keeper::of(anchor)));
    let replicas: Vec<Arc<dyn Replica>> = vec![Arc::new(store)];
    Session::open(replicas, options).map_err(|error| error.to_string())
}

/// Reads every block that is or was mapped, and its neighbours.
fn read_all(volume: &Volume, session: &Session, attempt: &mut Attempt) {
    let blocks = volume.recipe.blocks;
    if blocks <= 512 {
        let mut all = vec![0xee; (blocks * BLOCK) as usize];
        if session.read(0, &mut all).is_ok() {
            for (block, bytes) in (0..).zip(all.chunks_exact(BLOCK_BYTES)) {
                judge(volume, block, bytes, attempt);
            }
            return;
        }
    }
    let near: BTreeSet<u64> =
        volume.content.keys().flat_map(|block| block.saturating_sub(1)..=(block + 1).min(blocks - 1)).collect();
    let mut bytes = vec![0; BLOCK_BYTES];
    for block in near {
        match session.read(block * BLOCK, &mut bytes) {
            Ok(()) => judge(volume, block, &bytes, attempt),
            Err(error) => attempt.unreadable.push((block, error.to_string())),
        }
    }
}

fn judge(volume: &Volume, block: u64, bytes: &[u8], attempt: &mut Attempt) {
    let right = match volume.content.get(&block) {
        Some(expected) => expected == bytes,
        None => bytes.iter().all(|byte| *byte == 0),
    };
    if !right {
        attempt.wrong.push(block);
    }
}

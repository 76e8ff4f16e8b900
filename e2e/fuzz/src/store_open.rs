//! A store whose files were damaged: it opens and is right, or it says which file is not.
//!
//! The input is a script: each command changes one file of a small real store. As long as no checksum was repaired, a store
//! that opens must hold some state that the volume had, and bytes that are wrong must be found by a scrub. Once checksums were
//! repaired the store cannot know better (the session does), but it must still not fall over.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_disk::{Faults, Image, SimulatedDisk};
use holdfast_log::seam::{Replica, ReplicaError};
use holdfast_ports::Disk;
use holdfast_store::Store;
use holdfast_vocabulary::{BlockIndex, Seq};

use crate::repair;
use crate::sample::{BLOCKS, CAPACITY, SAMPLE};
use crate::scribe::{self, Change, Model, Scribe, wrong_blocks};

/// More changes than this only make inputs slow.
const COMMANDS_MAX: usize = 24;
/// No file grows beyond this.
const FILE_BYTES_MAX: u64 = 256 << 10;

/// Reads numbers off the input; zeros when it is used up.
pub(crate) struct Script<'a>(pub &'a [u8]);

impl Script<'_> {
    pub fn u8(&mut self) -> u8 {
        self.u64(1) as u8
    }

    pub fn u16(&mut self) -> u16 {
        self.u64(2) as u16
    }

    pub fn u64(&mut self, bytes: usize) -> u64 {
        let (taken, rest) = self.0.split_at(bytes.min(self.0.len()));
        self.0 = rest;
        taken.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

/// What was done to the files.
#[derive(Default)]
struct Damage {
    /// Checksums were made right, so that only a session could tell.
    forged: bool,
    /// A file was put in the place of another, or is an older state of itself.
    replaced: bool,
}

fn change(image: &mut Image, script: &mut Script<'_>, damage: &mut Damage) {
    let names: Vec<String> = image.files().map(|(name, _)| name.to_owned()).collect();
    let command = script.u8();
    let Some(name) = names.get(usize::from(script.u8()) % names.len().max(1)) else { return };
    let length = image.len_of(name).unwrap_or(0);
    // From the start or from the end: heads and feet are worth more tries than what is between them.
    let offset = |script: &mut Script<'_>| {
        let at = script.u64(3);
        if at & 0x80_0000 == 0 { at.min(length) } else { length.saturating_sub(at & 0x7f_ffff) }
    };
    match command % 12 {
        0 => {
            let at = offset(script);
            image.flip(name, at, script.u8().max(1));
        }
        1 => {
            let at = offset(script);
            let number = script.u64(4);
            image.overwrite(name, at.min(FILE_BYTES_MAX), &number.to_le_bytes()[..4]);
        }
        2 => {
            let at = offset(script);
            let number = script.u64(8);
            image.overwrite(name, at.min(FILE_BYTES_MAX), &number.to_le_bytes());
        }
        3 => {
            let at = offset(script);
            image.overwrite(name, at.min(FILE_BYTES_MAX), &vec![script.u8(); usize::from(script.u16())]);
        }
        4 => {
            image.set_len(name, offset(script));
        }
        5 => {
            image.set_len(name, (length + u64::from(script.u16())).min(FILE_BYTES_MAX));
        }
        6 => {
            image.remove(name);
        }
        7 | 8 => {
            let other = &names[usize::from(script.u8()) % names.len()];
            let (Some(one), Some(two)) = (image.bytes(name), image.bytes(other)) else { return };
            image.insert(other, &one);
            if command % 12 == 7 {
                image.insert(name, &two);
            }
            damage.replaced = true;
        }
        9 => {
            let kind = ["seg-", "idx-"][usize::from(script.u8() % 2)];
            let bytes = image.bytes(name).unwrap_or_default();
            image.insert(&format!("{kind}{:08x}", script.u16()), &bytes);
            damage.replaced = true;
        }
        10 => {
            let older = &SAMPLE.images[usize::from(script.u8()) % SAMPLE.images.len()];
            let Some(bytes) = older.bytes(name) else { return };
            image.insert(name, &bytes);
            damage.replaced = true;
        }
        _ => {
            let bytes = image.bytes(name).unwrap_or_default();
            let repaired = repair::file(name, &bytes);
            damage.forged |= repaired != bytes;
            image.insert(name, &repaired);
        }
    }
}

/// The target.
pub fn store_open(data: &[u8]) {
    let mut script = Script(data);
    let mut image = SAMPLE.newest().clone();
    let mut damage = Damage::default();
    for _ in 0..COMMANDS_MAX {
        if script.0.is_empty() {
            break;
        }
        change(&mut image, &mut script, &mut damage);
    }
    let simulated = SimulatedDisk::from_image(1, Faults::none(), &image);
    let disk: Arc<dyn Disk> = simulated.handle();
    let store = match Store::open(disk, scribe::options(CAPACITY)) {
        Ok(store) => Arc::new(store),
        Err(error) => {
            check_error(&error, &image);
            assert!(simulated.image() == image, "a store that did not open was changed: {error}");
            return;
        }
    };
    check_survivors(&image, &simulated.image());
    let state = SAMPLE.history.get(&store.report().head);
    if damage.forged {
        let _ = store.read(BlockIndex(0), BLOCKS, &mut |_, _| {});
        let _ = store.scrub();
        go_on(&store, &state.cloned().unwrap_or_default());
        return;
    }
    let Some(state) = state else {
        panic!("the store opened at record {}, which is the end of no group", store.report().head);
    };
    check_content(&store, state, &image, &damage);
    go_on(&store, state);
}

/// An error names what is there, or what should be.
fn check_error(error: &ReplicaError, image: &Image) {
    let words = error.to_string();
    match error {
        ReplicaError::Damaged { file, .. } | ReplicaError::Lost { file, .. } | ReplicaError::Disk { file, .. } => {
            let known = image.len_of(file).is_some() || SAMPLE.newest().len_of(file).is_some();
            assert!(known || file.starts_with("idx-") || file.starts_with("seg-"), "{words}");
            assert!(words.contains(file.as_str()), "{words}");
        }
        ReplicaError::Missing { file, .. } => assert!(image.len_of(file).is_none() && words.contains(file.as_str())),
        _ => panic!("no damage to files may look like this: {words}"),
    }
}

/// What is left after an opening is as it was; what counts for nothing may be gone.
fn check_survivors(before: &Image, after: &Image) {
    for (name, _) in after.files() {
        assert!(before.bytes(name) == after.bytes(name), "{name} was changed by an opening");
    }
}

fn check_content(store: &Store, state: &Model, image: &Image, damage: &Damage) {
    let wrong = match wrong_blocks(store, state, BLOCKS) {
        Ok(wrong) => wrong,
        Err(error) => return check_error(&error, image),
    };
    let report = store.scrub().expect("a scrub reports what it finds");
    let found: BTreeSet<u64> =
        report.findings.iter().filter_map(|finding| finding.block).map(|block| block.0).collect();
    for finding in &report.findings {
        assert!(!finding.file.is_empty() && !finding.problem.is_empty(), "{finding:?}");
    }
    let whole_file = report.findings.iter().any(|finding| finding.block.is_none());
    for block in wrong {
        let reported = found.contains(&block) || whole_file;
        assert!(reported || damage.replaced, "block {block} is wrong, and the scrub did not find it");
    }
}

/// A store that opened must also take what comes next, or say why not.
fn go_on(store: &Arc<Store>, state: &Model) {
    let epoch = store.report().epochs.last().map_or(0, |row| row.epoch.0).max(10);
    let Ok(mut scribe) = Scribe::open(Arc::clone(store), epoch.saturating_add(1), state.clone()) else { return };
    if scribe.head > Seq(u64::MAX / 2) {
        return;
    }
    for round in 0..2 {
        let _ = scribe.write(&[Change::Put(round), Change::Put(77), Change::Unmap(3, 40)]);
        let _ = scribe.advance();
        let _ = store.collect();
    }
    let _ = store.stats();
}

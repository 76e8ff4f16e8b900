//! What damaged files may lead to, and the judgement on it; shared by the tests.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use holdfast_disk::Image;
use holdfast_hostile::{Attempt, SMALL, Volume, attempt, key_bytes};

/// The volume that is damaged.
pub static VOLUME: LazyLock<Volume> = LazyLock::new(|| Volume::make(SMALL).unwrap());

/// How a message begins that knows no file to name: what is missing lay above everything that the files themselves say was
/// acknowledged, or in the newest checkpoint while the older one is whole. Only the anchor knows, and says which record.
const ROLLED_BACK: &str = "the replica was rolled back: expected";

/// Judges what came of files in which `damaged` was changed.
pub fn judge(what: &str, image: &Image, damaged: &[&str], attempt: &Attempt) -> Result<(), String> {
    let fail = |words: &str| Err(format!("{what}: {words}: {:?}", attempt.messages().collect::<Vec<_>>()));
    if !attempt.wrong.is_empty() {
        return fail(&format!("blocks {:?} were handed out with wrong bytes", attempt.wrong));
    }
    for name in damaged {
        let (before, after) = (image.bytes(name), attempt.after.bytes(name));
        let swept = after.is_none() && attempt.refused.is_none();
        // The promise is replaced, whole, by every opening that gets as far as the header.
        if before.is_some() && before != after && !swept && *name != "promise" {
            return fail(&format!("{name} was changed by the attempt"));
        }
    }
    for words in attempt.messages() {
        if gives_key_away(&words) {
            return fail("a message holds bytes of the key");
        }
    }
    let named = damaged.iter().any(|name| attempt.names(name));
    let rolled_back = attempt.refused.as_ref().is_some_and(|words| words.contains(ROLLED_BACK));
    if !attempt.is_right() && !named && !rolled_back {
        return fail(&format!("no message names {damaged:?}"));
    }
    // A block that cannot be read is one that the scrub reports, with its file.
    for (block, words) in &attempt.unreadable {
        let found = attempt.findings.iter().any(|finding| {
            finding.block.is_none_or(|found| found.0 == *block) && damaged.contains(&finding.file.as_str())
        });
        if !found && !damaged.iter().any(|name| words.contains(name)) {
            return fail(&format!("block {block} cannot be read, and nothing says which file is to blame"));
        }
    }
    Ok(())
}

/// Whether words hold a part of the key, in any way of writing bytes that could slip out.
fn gives_key_away(words: &str) -> bool {
    key_bytes().windows(4).any(|part| {
        let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = part.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
        words.to_lowercase().contains(&hex) || words.contains(&list)
    })
}

/// Changes the files, tries them, and judges.
pub fn try_damage(what: &str, damaged: &[&str], change: impl FnOnce(&mut Image)) -> Result<Attempt, String> {
    let mut image = VOLUME.image.clone();
    change(&mut image);
    let attempt = attempt(&VOLUME, &image);
    judge(what, &image, damaged, &attempt)?;
    Ok(attempt)
}

/// Runs every case on two threads, and fails with the first few that failed.
pub fn all<T: Sync>(cases: &[T], run: impl Fn(&T) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let failures = parking_lot::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // A few at a time, so that the counter costs nothing.
                while let Some(at) = Some(next.fetch_add(16, Ordering::Relaxed)).filter(|at| *at < cases.len()) {
                    for case in &cases[at..cases.len().min(at + 16)] {
                        failures.lock().extend(run(case).err());
                    }
                    if failures.lock().len() > 5 {
                        return;
                    }
                }
            });
        }
    });
    let failures = failures.into_inner();
    assert!(failures.is_empty(), "{failures:#?}");
}

//! Everything that a fuzzer ever found, and the real encodings that it started from, through every target, fuzzer or not.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, in its helpers too")]
#![allow(unsafe_code, reason = "an allocator that counts, to hold decoders to what their input is worth")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use holdfast_fuzz::seeds::seeds;
use holdfast_fuzz::{TARGETS, Target};

/// The most that the whole corpus may take.
const CORPUS_BYTES_MAX: u64 = 2 << 20;
/// The most that one input may take.
const INPUT_BYTES_MAX: u64 = 64 << 10;
/// What a target may allocate beside what its input is worth: copies of its input, and what it compares them with.
const FREE_BYTES: usize = 128 << 10;
/// How many bytes of memory one byte of input may cost in all, counting everything that was ever allocated.
const BYTES_A_BYTE: usize = 64;

struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|count| count.set(count.get().saturating_add(layout.size())));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same over there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs of a target, by file name.
fn inputs(target: &Target) -> BTreeMap<String, Vec<u8>> {
    let listed = fs::read_dir(folder().join(target.name));
    let listed = listed.unwrap_or_else(|error| panic!("the corpus of {} cannot be listed: {error}", target.name));
    listed
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn replay(target: &Target, name: &str, input: &[u8]) -> Result<(), String> {
    let before = ALLOCATED.get();
    catch_unwind(|| (target.run)(input)).map_err(|_| format!("{}/{name} panicked, see above", target.name))?;
    let allocated = ALLOCATED.get() - before;
    let allowed = FREE_BYTES + BYTES_A_BYTE * input.len();
    if target.decoder && allocated > allowed {
        return Err(format!("{}/{name}: {} bytes made it allocate {allocated}", target.name, input.len()));
    }
    Ok(())
}

fn replay_all(decoders: bool) {
    let mut failures = Vec::new();
    for target in TARGETS.iter().filter(|target| target.decoder == decoders) {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "{} has no corpus", target.name);
        failures.extend(inputs.iter().filter_map(|(name, input)| replay(target, name, input).err()));
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn every_decoder_takes_its_corpus() {
    replay_all(true);
}

#[test]
fn every_store_takes_its_corpus() {
    replay_all(false);
}

/// Damage at every byte of every seed: what a fuzzer tries first, where no fuzzer runs.
#[test]
fn every_decoder_takes_seeds_that_were_bent() {
    let mut failures = Vec::new();
    for (name, seed) in seeds() {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        if !target.decoder {
            continue;
        }
        for at in 0..seed.len().min(2048) {
            // One bug is found at many places.
            if failures.len() > 8 {
                break;
            }
            for (kind, value) in [("flipped", seed[at] ^ 1 << (at % 8)), ("zero", 0), ("all ones", 0xff)] {
                let mut bent = seed.clone();
                bent[at] = value;
                failures.extend(replay(target, &format!("{kind} at {at}"), &bent).err());
            }
            failures.extend(replay(target, &format!("cut at {at}"), &seed[..at]).err());
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn seeds_cover_every_target_and_pass_it() {
    for target in TARGETS {
        let of_target: Vec<_> = seeds().into_iter().filter(|(name, _)| *name == target.name).collect();
        assert!(!of_target.is_empty(), "{} has no seed", target.name);
        for (position, (_, seed)) in of_target.iter().enumerate() {
            replay(target, &format!("seed {position}"), seed).unwrap();
        }
    }
}

#[test]
fn the_corpus_stays_small_and_belongs_to_targets() {
    let mut total = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        assert!(TARGETS.iter().any(|target| target.name == name), "{name} is the corpus of no target");
        for input in fs::read_dir(entry.path()).unwrap() {
            let length = input.unwrap().metadata().unwrap().len();
            assert!(length <= INPUT_BYTES_MAX, "an input of {name} has {length} bytes");
            total += length;
        }
    }
    assert!(total <= CORPUS_BYTES_MAX, "the corpus has {total} bytes; minimise it");
}

#[test]
#[ignore = "it writes the seeds into the corpus; run it when a format was changed"]
fn make_corpus() {
    for target in TARGETS {
        let folder = folder().join(target.name);
        fs::create_dir_all(&folder).unwrap();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_string_lossy().starts_with("seed-") {
                fs::remove_file(path).unwrap();
            }
        }
        let mut written: Vec<Vec<u8>> = Vec::new();
        for (_, seed) in seeds().into_iter().filter(|(name, _)| *name == target.name) {
            if seed.len() as u64 <= INPUT_BYTES_MAX && !written.contains(&seed) && written.len() < 40 {
                fs::write(folder.join(format!("seed-{:02}", written.len())), &seed).unwrap();
                written.push(seed);
            }
        }
    }
}

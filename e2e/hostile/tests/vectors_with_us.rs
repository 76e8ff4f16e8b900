//! The committed test vectors and today's engine: it reads them, and it would make the same bytes again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};

use holdfast_disk::Image;
use holdfast_hostile::{VECTORS, Volume, attempt, attempt_with, key_bytes};
use holdfast_log::anchor::Anchor;
use sha2::{Digest, Sha256};

/// The most that the vectors may take.
const BYTES_MAX: u64 = 200 << 10;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/v1")
}

fn committed() -> Image {
    let mut image = Image::new();
    for entry in fs::read_dir(folder().join("store")).unwrap() {
        let entry = entry.unwrap();
        image.insert(&entry.file_name().into_string().unwrap(), &fs::read(entry.path()).unwrap());
    }
    image
}

/// The list of blocks that goes with the store.
fn list(volume: &Volume) -> String {
    let mut text =
        String::from("# block, SHA-256 of its 4096 bytes; every other block is unmapped and reads as zeros\n");
    for (block, bytes) in &volume.content {
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        text += &format!("{block} {digest}\n");
    }
    text
}

#[test]
fn the_engine_still_opens_them() {
    let volume = Volume::make(VECTORS).unwrap();
    let anchor = Anchor::from_bytes(&fs::read(folder().join("anchor")).unwrap()).unwrap();
    let attempt = attempt_with(&volume, &committed(), key_bytes(), Some(anchor));
    assert!(attempt.is_right(), "{:?}", attempt.messages().collect::<Vec<_>>());
    assert_eq!(fs::read_to_string(folder().join("blocks.txt")).unwrap(), list(&volume));
}

/// When this fails and the test above does not, the engine writes something else than it did, in a format that is still the
/// same: make the vectors again. When both fail, the format was changed, and that wants a version of its own.
#[test]
fn the_engine_makes_the_same_bytes_again() {
    let (volume, committed) = (Volume::make(VECTORS).unwrap(), committed());
    let names = |image: &Image| image.files().map(|(name, length)| (name.to_owned(), length)).collect::<Vec<_>>();
    assert_eq!(names(&volume.image), names(&committed));
    for (name, _) in committed.files() {
        assert!(volume.image.bytes(name) == committed.bytes(name), "{name} is made differently");
    }
    assert_eq!(volume.anchor.unwrap().to_bytes(), fs::read(folder().join("anchor")).unwrap());
}

#[test]
fn they_stay_small() {
    let total: u64 = committed().files().map(|(_, length)| length).sum();
    assert!(total <= BYTES_MAX, "{total} bytes");
}

#[test]
#[ignore = "it replaces the test vectors; run it only when the engine is meant to write other bytes"]
fn make_vectors() {
    let volume = Volume::make(VECTORS).unwrap();
    assert!(attempt(&volume, &volume.image).is_right());
    let store = folder().join("store");
    let _ = fs::remove_dir_all(&store);
    fs::create_dir_all(&store).unwrap();
    for (name, _) in volume.image.files() {
        fs::write(store.join(name), volume.image.bytes(name).unwrap()).unwrap();
    }
    fs::write(folder().join("anchor"), volume.anchor.unwrap().to_bytes()).unwrap();
    fs::write(folder().join("blocks.txt"), list(&volume)).unwrap();
}

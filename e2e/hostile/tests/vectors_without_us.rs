//! Reads the committed test vectors with `docs/format.md`, a cipher and hashes, and with none of the engine's code.
//!
//! This is how a volume would be rescued in twenty years. Nothing here comes from a crate of this repository: where this file
//! and the engine differ, the document decides which of them is wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, in its helpers too")]

mod format;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use format::{Files, KEY, Rescued, rescue, sha256};

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/v1")
}

fn files() -> Files {
    fs::read_dir(folder().join("store"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect()
}

/// Block → SHA-256 of its plaintext, as it was written down when the vectors were made.
fn expected() -> BTreeMap<u64, String> {
    let text = fs::read_to_string(folder().join("blocks.txt")).unwrap();
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_once(' ').unwrap())
        .map(|(block, digest)| (block.parse().unwrap(), digest.to_owned()))
        .collect()
}

#[test]
fn every_block_is_read_with_the_document_alone() {
    let Rescued { blocks, groups, moved, compressed, leaves, .. } = rescue(&files(), &KEY);
    let found: BTreeMap<u64, String> = blocks.iter().map(|(block, bytes)| (*block, sha256(bytes))).collect();
    assert_eq!(found, expected());
    // The vectors are worth something only while they have all that the format has.
    assert!(groups > 3, "{groups} groups lie above the base");
    assert!(moved > 3, "{moved} mapped records lie in moved segments");
    assert!(compressed > 3 && compressed < blocks.len(), "{compressed} of {} blocks are compressed", blocks.len());
    assert!(leaves > 3, "the base has {leaves} leaves");
}

#[test]
fn the_anchor_binds_what_is_found() {
    let rescued = rescue(&files(), &KEY);
    let anchor = fs::read(folder().join("anchor")).unwrap();
    format::check_anchor(&anchor, &rescued, &KEY);
}

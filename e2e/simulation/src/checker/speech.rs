//! Errors speak: each names the file or the block that it is about, or says what to do.

use crate::checker::{Verdict, Violation};

/// The name of this judge.
pub const NAME: &str = "speech";

/// A file of a store, or another place.
const PLACES: [&str; 12] = [
    "seg-",
    "idx-",
    "checkpoint-",
    "header",
    "promise",
    "directory",
    "block ",
    "leaf ",
    "node ",
    "group ",
    "anchor",
    "offset",
];
/// A remedy.
const REMEDIES: [&str; 10] = [
    "rebuild",
    "repair",
    "restore",
    "discard",
    "open the volume anew",
    "open it anew",
    "give the key",
    "draw a new grant",
    "add capacity",
    "was closed",
];

/// Looks at the words of an error.
pub fn check(words: &str) -> Verdict {
    let lower = words.to_lowercase();
    if PLACES.iter().chain(&REMEDIES).any(|word| lower.contains(word)) {
        return Ok(());
    }
    Err(Violation::new(NAME, format!("this error names neither a place nor a remedy: {words}")))
}

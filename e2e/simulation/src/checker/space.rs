//! Space: a store takes no more than it was given, and an empty volume next to nothing.

use holdfast_disk::Image;

use crate::checker::{Verdict, Violation};

/// The name of this judge.
pub const NAME: &str = "space";

/// What an empty volume may take.
pub const EMPTY_BYTES_MAX: u64 = 64 << 10;

/// What dead pages of an index may take before a rewrite is worth it, whatever the capacity. Next to nothing beside the
/// sixteen megabytes that a node gives the smallest store, and a lot beside what is given here.
pub const INDEX_GARBAGE_MAX: u64 = 1 << 20;

/// Every file counts with its whole length, whether holes are in it or not.
#[must_use]
pub fn used(image: &Image) -> u64 {
    image.files().map(|(_, bytes)| bytes).sum()
}

/// The files together must not be longer than `capacity`, but for an index that is not worth a rewrite.
pub fn check(image: &Image, capacity: u64) -> Verdict {
    let used = used(image);
    let index: u64 = image.files().filter(|(name, _)| name.starts_with("idx-")).map(|(_, bytes)| bytes).sum();
    if used - index.min(INDEX_GARBAGE_MAX) <= capacity {
        return Ok(());
    }
    let files: Vec<String> = image.files().map(|(name, bytes)| format!("{name} {bytes}")).collect();
    Err(Violation::new(NAME, format!("{used} bytes are taken, {capacity} were given: {}", files.join(", "))))
}

/// A volume that nothing was written to.
pub fn check_empty(image: &Image) -> Verdict {
    let used = used(image);
    if used <= EMPTY_BYTES_MAX {
        return Ok(());
    }
    Err(Violation::new(NAME, format!("an empty volume takes {used} bytes; {EMPTY_BYTES_MAX} are promised")))
}

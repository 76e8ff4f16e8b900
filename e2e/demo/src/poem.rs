//! The plaintext of the story, and the search for it in files.

use std::fs;
use std::path::Path;

use holdfast_vocabulary::BLOCK_BYTES;

use crate::Outcome;

/// What is written. Every line is long enough that it cannot occur by chance.
pub const LINES: [&str; 8] = [
    "The tide took names that we had drawn in sand,",
    "it took the path, the footprints and the pier;",
    "the anchor let them go and held the land",
    "by what lies under water, far from here.",
    "No gull can read what iron wrote in clay,",
    "no storm can move a letter of its line;",
    "who comes to look for it by night or day",
    "finds only sea, and salt, and nothing's sign.",
];

/// The poem as one block.
pub fn block() -> Vec<u8> {
    let mut bytes = LINES.join("\n").into_bytes();
    bytes.push(b'\n');
    bytes.resize(BLOCK_BYTES, 0);
    bytes
}

/// The words that are searched for: every line, and every long word of it.
fn needles() -> Vec<&'static [u8]> {
    let words = LINES.iter().flat_map(|line| line.split(|letter: char| !letter.is_alphabetic()));
    LINES.into_iter().chain(words.filter(|word| word.len() >= 5)).map(str::as_bytes).collect()
}

/// How many lines and words there are to find.
pub fn needle_count() -> usize {
    needles().len()
}

/// How many of them occur in `bytes`.
pub fn found_in(bytes: &[u8]) -> usize {
    needles().iter().filter(|needle| bytes.windows(needle.len()).any(|window| window == **needle)).count()
}

/// The same over every file of a directory: how many files, how many bytes, how many hits.
pub fn search(directory: &Path) -> Outcome<(usize, u64, usize)> {
    let (mut files, mut bytes, mut hits) = (0, 0, 0);
    for entry in fs::read_dir(directory)? {
        let content = fs::read(entry?.path())?;
        files += 1;
        bytes += content.len() as u64;
        // What was taken ahead is zeros, and there is nothing to find in those.
        for piece in content.split(|byte| *byte == 0).filter(|piece| piece.len() >= 5) {
            hits += found_in(piece);
        }
    }
    Ok((files, bytes, hits))
}

#[cfg(test)]
mod tests {
    use super::{block, found_in, needle_count};

    #[test]
    fn the_search_finds_everything_where_it_is_and_nothing_where_it_is_not() {
        assert_eq!(found_in(&block()), needle_count());
        assert!(needle_count() > 20);
        assert_eq!(found_in(&[0x5a; 4096]), 0);
    }
}

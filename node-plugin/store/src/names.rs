//! The names of a store's files, and nothing else about them.

use holdfast_vocabulary::SegmentNumber;

/// The header that the session wrote.
pub const HEADER: &str = "header";
/// The newest grant that was promised.
pub const PROMISE: &str = "promise";
/// The two checkpoint slots; each checkpoint goes to the one that the newest is not in.
pub const CHECKPOINTS: [&str; 2] = ["checkpoint-0", "checkpoint-1"];
/// Ends the name of a file that is being written and will be renamed; left over from a crash, it is removed.
pub const UNFINISHED: &str = ".new";

/// A segment's file.
pub fn segment(number: SegmentNumber) -> String {
    format!("seg-{:08x}", number.0)
}

/// The segment whose file has this name.
pub fn segment_number(name: &str) -> Option<SegmentNumber> {
    let digits = name.strip_prefix("seg-").filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok().map(SegmentNumber)
}

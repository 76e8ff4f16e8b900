//! Sealed: neither the plaintext's mark nor a piece of a key occurs anywhere on a disk, at whatever offset.

use holdfast_disk::Image;

use crate::checker::{Verdict, Violation};
use crate::content::MARK;

/// The name of this judge.
pub const NAME: &str = "sealed";

/// Looks through every byte of every file. `key` is looked for in pieces of eight bytes.
pub fn check(image: &Image, key: &[u8; 32]) -> Verdict {
    let mut needles = [u64::from_le_bytes(MARK); 5];
    for (needle, piece) in needles[1..].iter_mut().zip(key.chunks_exact(8)) {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(piece);
        *needle = u64::from_le_bytes(bytes);
    }
    for (name, _) in image.files() {
        let bytes = image.bytes(name).unwrap_or_default();
        if let Some((offset, which)) = find(&bytes, &needles) {
            let what = if which == 0 { "plaintext" } else { "a piece of the volume key" };
            return Err(Violation::new(NAME, format!("{what} lies in {name} at byte {offset}")));
        }
    }
    Ok(())
}

/// One pass with a window of eight bytes; the first bits of a needle are tested before all of them are.
fn find(bytes: &[u8], needles: &[u64; 5]) -> Option<(usize, usize)> {
    let mut starts = [false; 256];
    needles.iter().for_each(|needle| starts[(*needle & 0xff) as usize] = true);
    for (offset, window) in bytes.windows(8).enumerate() {
        if !starts[usize::from(window[0])] {
            continue;
        }
        let mut word = [0; 8];
        word.copy_from_slice(window);
        if let Some(which) = needles.iter().position(|needle| *needle == u64::from_le_bytes(word)) {
            return Some((offset, which));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::content::MARK;
    use holdfast_disk::Image;

    #[test]
    fn plaintext_and_keys_are_found_at_any_offset() {
        let mut key = [0; 32];
        key.iter_mut().zip(1..).for_each(|(byte, value)| *byte = value);
        let mut image = Image::new();
        image.insert("clean", &[7; 5000]);
        assert!(check(&image, &key).is_ok());
        for (offset, piece) in [(0, &MARK[..]), (513, &MARK), (4992, &MARK), (77, &key[8..16])] {
            let mut leaked = image.clone();
            leaked.overwrite("clean", offset, piece);
            assert!(check(&leaked, &key).is_err_and(|found| found.what.contains(&format!("byte {offset}"))));
        }
    }
}

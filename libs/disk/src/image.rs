//! A whole disk as it lies there: what is left after a crash, a copy to restore later, a twin to fork.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::content::Content;

/// Every file of a disk with its bytes, and nothing that was still under way. Cloning one is cheap.
#[derive(Clone, Default)]
pub struct Image {
    pub(crate) files: BTreeMap<Arc<str>, Arc<Content>>,
}

impl Image {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every name and the length of its file, sorted by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        self.files.iter().map(|(name, content)| (&**name, content.len()))
    }

    /// The length of a file.
    #[must_use]
    pub fn len_of(&self, name: &str) -> Option<u64> {
        self.files.get(name).map(|content| content.len())
    }

    /// All bytes of a file.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let content = self.files.get(name)?;
        let mut bytes = vec![0; usize::try_from(content.len()).ok()?];
        content.read(0, &mut bytes);
        Some(bytes)
    }

    /// Makes a file, or replaces it, with these bytes. The length need not be whole sectors.
    pub fn insert(&mut self, name: &str, bytes: &[u8]) {
        let mut content = Content::default();
        content.write(0, bytes);
        self.files.insert(Arc::from(name), Arc::new(content));
    }

    /// Overwrites a part of a file, whatever the alignment. False if there is no such file.
    pub fn overwrite(&mut self, name: &str, offset: u64, bytes: &[u8]) -> bool {
        self.change(name, |content| content.write(offset, bytes))
    }

    /// Flips the bits of `mask` in one byte. False if there is no such byte.
    pub fn flip(&mut self, name: &str, offset: u64, mask: u8) -> bool {
        self.len_of(name).is_some_and(|len| offset < len)
            && self.change(name, |content| {
                let mut byte = [0];
                content.read(offset, &mut byte);
                content.write(offset, &[byte[0] ^ mask]);
            })
    }

    /// Cuts or extends a file. False if there is no such file.
    pub fn set_len(&mut self, name: &str, len: u64) -> bool {
        self.change(name, |content| if len < content.len() { content.cut(len) } else { content.extend(len) })
    }

    /// Takes a file away. False if there was none.
    pub fn remove(&mut self, name: &str) -> bool {
        self.files.remove(name).is_some()
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Content)) -> bool {
        self.files.get_mut(name).map(|content| change(Arc::make_mut(content))).is_some()
    }
}

impl PartialEq for Image {
    /// The same names with the same bytes.
    fn eq(&self, other: &Self) -> bool {
        self.files.len() == other.files.len()
            && self.files.iter().zip(&other.files).all(|((name, mine), (their_name, theirs))| {
                name == their_name && (Arc::ptr_eq(mine, theirs) || mine.same_bytes(theirs))
            })
    }
}

impl Eq for Image {}

impl fmt::Debug for Image {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_map().entries(self.files()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::Image;

    #[test]
    fn images_are_changed_byte_by_byte_and_copies_stay() {
        let mut image = Image::new();
        image.insert("a", b"holdfast");
        let before = image.clone();
        assert!(image.flip("a", 0, 0x20) && image.overwrite("a", 4, b"FAST!") && image.set_len("a", 8));
        assert!(!image.flip("a", 8, 1) && !image.flip("b", 0, 1) && !image.remove("b"));
        assert_eq!(image.bytes("a").unwrap(), b"HoldFAST");
        assert_eq!(before.bytes("a").unwrap(), b"holdfast");
        assert_ne!(image, before);
        assert_eq!(image.files().collect::<Vec<_>>(), [("a", 8)]);
    }
}

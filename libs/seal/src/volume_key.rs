//! The volume key: what everything else of a volume is derived from, and what is never used on data itself.

use std::fmt;

use holdfast_vocabulary::KeyId;
use zeroize::Zeroize;

use crate::derive::derive;

const ID_LABEL: &[u8] = b"holdfast key id v1";

/// 32 secret bytes, wiped when dropped.
///
/// On the heap, because a move of bytes that lie inside the struct would leave a copy behind that nobody wipes.
#[derive(Clone)]
pub struct VolumeKey(Box<[u8; 32]>);

impl VolumeKey {
    /// Takes the key. The caller's own copy of the bytes is the caller's to wipe.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let key = Self(Box::new(bytes));
        bytes.zeroize();
        key
    }

    /// The key's name, derived from it one way: a row or a header can say which key it needs without giving it away.
    #[must_use]
    pub fn id(&self) -> KeyId {
        KeyId(*derive(&self.0, &[], &[ID_LABEL]))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for VolumeKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for VolumeKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("VolumeKey(..)")
    }
}

//! 32 secret bytes that stay where they are and are wiped when dropped: the inside of every key of the chain.

use zeroize::Zeroize;

/// On the heap, because a move of bytes that lie inside a struct would leave a copy behind that nobody wipes.
pub(crate) struct Secret(Box<[u8; 32]>);

impl Secret {
    /// Takes the bytes and wipes its own argument; the caller's copy is the caller's to wipe.
    pub(crate) fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let secret = Self(Box::new(bytes));
        bytes.zeroize();
        secret
    }

    /// The same for bytes that were opened and are of any length; `None` if there are not exactly 32.
    pub(crate) fn from_slice(bytes: &[u8]) -> Option<Self> {
        let mut secret = Self(Box::new([0; 32]));
        if bytes.len() != secret.0.len() {
            return None;
        }
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

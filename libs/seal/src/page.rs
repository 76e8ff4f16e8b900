//! Pages of a file that is rewritten in place, each sealed anew with every write.
//!
//! A page has no place for a counter that survives every crash, so its key is drawn instead: each write takes a fresh
//! salt, and the key that follows from it seals this one write with the nonce zero.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time;

use crate::derive::derive;
use crate::secret::Secret;
use crate::{FreshSalt, NotAuthentic, TAG_BYTES, Tag};

const ONCE_LABEL: &[u8] = b"holdfast page once v1";

/// The key of one file of pages.
pub struct PageKey {
    key: Secret,
    check_value: [u8; 32],
}

/// What must be kept beside a sealed page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageSeal {
    /// The salt that was drawn for this write.
    pub salt: [u8; 32],
    /// The tag.
    pub tag: Tag,
}

impl PageKey {
    pub(crate) fn new(key: Secret, check_value: [u8; 32]) -> Self {
        Self { key, check_value }
    }

    /// Commits to the key and is public: it is written at the head of the file, and compared before a page is opened.
    #[must_use]
    pub const fn check_value(&self) -> [u8; 32] {
        self.check_value
    }

    /// Whether `check` is this key's, in time that does not depend on where they differ.
    pub fn verify_check_value(&self, check: &[u8; 32]) -> Result<(), NotAuthentic> {
        constant_time::verify_slices_are_equal(&self.check_value, check).map_err(|_| NotAuthentic)
    }

    /// Seals a page in place. `page` is its number in the file, `count` what else is bound to it.
    #[must_use = "without its seal the page can never be opened"]
    pub fn seal(&self, salt: FreshSalt, page: u64, count: u64, bytes: &mut [u8]) -> PageSeal {
        let sealed = self
            .once(&salt.0)
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key([0; 12]), Aad::from(aad(page, count)), bytes)
            .expect("AES-GCM refuses only inputs beyond 64 GiB");
        let mut tag = Tag([0; TAG_BYTES]);
        tag.0.copy_from_slice(sealed.as_ref());
        PageSeal { salt: salt.0, tag }
    }

    /// Opens a page into `out`, which must be as long. When it fails, `out` holds zeros.
    pub fn open(
        &self,
        seal: &PageSeal,
        page: u64,
        count: u64,
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<(), NotAuthentic> {
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let opened = sealed.len() == out.len()
            && self
                .once(&seal.salt)
                .open_separate_gather(nonce, Aad::from(aad(page, count)), sealed, &seal.tag.0, out)
                .is_ok();
        if opened {
            return Ok(());
        }
        out.fill(0);
        Err(NotAuthentic)
    }

    fn once(&self, salt: &[u8; 32]) -> LessSafeKey {
        let once = derive::<32>(self.key.bytes(), salt, &[ONCE_LABEL]);
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, once.as_ref()).expect("AES-256 takes every key of 32 bytes"))
    }
}

fn aad(page: u64, count: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&page.to_le_bytes());
    bytes[8..].copy_from_slice(&count.to_le_bytes());
    bytes
}

impl fmt::Debug for PageKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PageKey(..)")
    }
}

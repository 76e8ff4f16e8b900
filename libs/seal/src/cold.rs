//! Sealing of what lies still: wrapped keys and small records.
//!
//! Each sealing draws a salt, derives from it a key that is used for nothing else, and commits to that key and to what
//! the box is for. The commitment is compared before anything is decrypted: AES-GCM alone would open one ciphertext
//! under two keys, and a key that is found by trying what opens can be chosen by whoever wrote the box.
//!
//! ```text
//!  0       version (1)
//!  1       purpose
//!  2..4    zero
//!  4..36   salt
//! 36..68   commitment = HKDF(key, salt, "holdfast cold commitment v1" ‖ context)
//! 68..n-16 ciphertext  under HKDF(key, salt, "holdfast cold key v1" ‖ context), nonce zero, additional data 0..68
//! n-16..n  tag
//! context = version ‖ purpose ‖ length of the owner (u32, little-endian) ‖ owner
//! ```

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use aws_lc_rs::constant_time;
use zeroize::{Zeroize, Zeroizing};

use crate::FreshSalt;
use crate::derive::derive;
use crate::secret::Secret;

/// Bytes that a box has beyond what is in it.
pub const COLD_OVERHEAD_BYTES: usize = HEAD_BYTES + TAG_BYTES;

const VERSION: u8 = 1;
const SALT_END: usize = 36;
const HEAD_BYTES: usize = 68;
const TAG_BYTES: usize = 16;
const KEY_LABEL: &[u8] = b"holdfast cold key v1";
const COMMITMENT_LABEL: &[u8] = b"holdfast cold commitment v1";

/// What a box is for. It is bound, so that a box of one purpose never opens as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Purpose {
    /// The root key in a provider's slot.
    RootKey = 1,
    /// The storage key under the root key.
    StorageKey = 2,
    /// A volume key under the storage key.
    VolumeKey = 3,
    /// What must be readable before the store is unlocked.
    Bootstrap = 4,
}

/// Why a box did not open. It says nothing about any key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColdError {
    /// The bytes are no box.
    #[error("these bytes are no sealed box of this release: too short, of a newer version, or for another purpose")]
    Malformed,
    /// The commitment is another key's or another owner's. Nothing was decrypted.
    #[error("this was sealed under another key, or for another owner")]
    OtherKey,
    /// The commitment fits and the rest does not.
    #[error("this was sealed under this key and was changed since")]
    NotAuthentic,
}

/// Seals `plain` into a box.
pub(crate) fn seal(key: &Secret, purpose: Purpose, owner: &[u8], salt: FreshSalt, plain: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(COLD_OVERHEAD_BYTES + plain.len());
    sealed.extend_from_slice(&[VERSION, purpose as u8, 0, 0]);
    sealed.extend_from_slice(&salt.0);
    sealed.extend_from_slice(commitment(key, &salt.0, purpose, owner).as_ref());
    sealed.extend_from_slice(plain);
    let cipher = cipher(key, &salt.0, purpose, owner);
    let (head, body) = sealed.split_at_mut(HEAD_BYTES);
    let tag = cipher
        .encrypt_inout_detached(&[0; 12].into(), head, body.into())
        .expect("AES-GCM refuses only inputs beyond 64 GiB");
    sealed.extend_from_slice(&tag);
    sealed
}

/// Opens a box; the answer is wiped when dropped.
pub(crate) fn open(
    key: &Secret,
    purpose: Purpose,
    owner: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, ColdError> {
    if sealed.len() < COLD_OVERHEAD_BYTES || sealed[..4] != [VERSION, purpose as u8, 0, 0] {
        return Err(ColdError::Malformed);
    }
    let (head, rest) = sealed.split_at(HEAD_BYTES);
    let (body, tag) = rest.split_at(rest.len() - TAG_BYTES);
    let salt = &head[4..SALT_END];
    let expected = commitment(key, salt, purpose, owner);
    constant_time::verify_slices_are_equal(expected.as_ref(), &head[SALT_END..]).map_err(|_| ColdError::OtherKey)?;
    let mut plain = Zeroizing::new(body.to_vec());
    let tag: [u8; TAG_BYTES] = tag.try_into().map_err(|_| ColdError::Malformed)?;
    let opened = cipher(key, salt, purpose, owner).decrypt_inout_detached(
        &[0; 12].into(),
        head,
        plain.as_mut_slice().into(),
        &tag.into(),
    );
    match opened {
        Ok(()) => Ok(plain),
        Err(_) => {
            plain.zeroize();
            Err(ColdError::NotAuthentic)
        }
    }
}

fn cipher(key: &Secret, salt: &[u8], purpose: Purpose, owner: &[u8]) -> Aes256Gcm {
    let once = under(key, salt, KEY_LABEL, purpose, owner);
    Aes256Gcm::new_from_slice(once.as_ref()).expect("AES-256 takes every key of 32 bytes")
}

fn commitment(key: &Secret, salt: &[u8], purpose: Purpose, owner: &[u8]) -> Zeroizing<[u8; 32]> {
    under(key, salt, COMMITMENT_LABEL, purpose, owner)
}

fn under(key: &Secret, salt: &[u8], label: &[u8], purpose: Purpose, owner: &[u8]) -> Zeroizing<[u8; 32]> {
    let length = u32::try_from(owner.len()).expect("an owner's name is short").to_le_bytes();
    derive::<32>(key.bytes(), salt, &[label, &[VERSION, purpose as u8], &length, owner])
}

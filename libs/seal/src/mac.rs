//! Authentication of what is public: headers, statements of the root, anchors.
//!
//! HMAC under keys of their own and never GMAC under a period's subkey, whose nonces belong to blocks.

use std::fmt;

use aws_lc_rs::{constant_time, hmac};
use holdfast_vocabulary::VolumeId;

use crate::derive::derive;
use crate::{NotAuthentic, VolumeKey};

const MAC_LABEL: &[u8] = b"holdfast mac v1";

/// Length of a MAC.
pub const MAC_BYTES: usize = 32;

/// What a MAC is for. Each purpose has its own key, so that bytes made for one never verify as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MacPurpose {
    /// The header of one group of records.
    GroupHeader = 1,
    /// What a replica says about the volume it is of.
    VolumeHeader = 2,
    /// A state root together with the seq that it is the root at.
    RootStatement = 3,
    /// The head that is kept outside the volume, against which a rollback shows.
    Anchor = 4,
}

/// A key for one purpose and one volume.
pub struct MacKey(hmac::Key);

impl VolumeKey {
    /// The key for one purpose of one volume.
    #[must_use]
    pub fn mac_key(&self, purpose: MacPurpose, volume: VolumeId) -> MacKey {
        let key = derive::<32>(self.bytes(), &[], &[MAC_LABEL, &[purpose as u8], &volume.0]);
        MacKey(hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()))
    }
}

impl MacKey {
    /// HMAC-SHA256 over the parts as if they were one. Where one part ends is not bound: all but one must be of fixed
    /// width, or say their length.
    #[must_use]
    pub fn tag(&self, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        parts.iter().for_each(|part| context.update(part));
        let mut mac = [0; MAC_BYTES];
        mac.copy_from_slice(context.sign().as_ref());
        mac
    }

    /// Whether `mac` is the parts' MAC, in time that does not depend on where they differ.
    pub fn verify(&self, parts: &[&[u8]], mac: &[u8; MAC_BYTES]) -> Result<(), NotAuthentic> {
        constant_time::verify_slices_are_equal(&self.tag(parts), mac).map_err(|_| NotAuthentic)
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("MacKey(..)")
    }
}

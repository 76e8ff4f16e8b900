//! A period: one salt, one subkey, at most 2^32 sealed blocks. Here is the half that opens; `sealer` is the other.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use holdfast_vocabulary::{Epoch, KeyId, Seq, VolumeId};

use crate::derive::derive;
use crate::record::{RecordAad, TAG_BYTES, Tag};
use crate::{NotAuthentic, VolumeKey};

const SUBKEY_LABEL: &[u8] = b"holdfast period v1";
const CHECK_LABEL: &[u8] = b"holdfast period check v1";

/// What a period's row says: public, stored beside every block that needs it, and enough, with the volume key, to
/// derive the subkey again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodContext {
    /// The volume that the blocks were sealed for. A clone keeps its origin's rows.
    pub origin: VolumeId,
    /// The layout of the additional data, [`AAD_VERSION`](crate::AAD_VERSION) for all that is sealed today.
    pub aad_version: u8,
    /// The epoch that opened the period.
    pub epoch: Epoch,
    /// The volume key that the subkey comes from.
    pub key_id: KeyId,
    /// Drawn at random when the period began. Different salts make different subkeys, which is why one seq may be
    /// sealed in two periods but never twice in one.
    pub salt: [u8; 32],
}

impl PeriodContext {
    /// Everything but the salt, in fixed widths; the salt goes into HKDF as its salt.
    fn encode(&self) -> [u8; 41] {
        let mut bytes = [0; 41];
        bytes[..16].copy_from_slice(&self.origin.0);
        bytes[16] = self.aad_version;
        bytes[17..25].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[25..].copy_from_slice(&self.key_id.0);
        bytes
    }
}

/// The subkey of one period. It opens from any thread, without a lock and without an allocation.
///
/// The raw subkey is not kept: the cipher holds its schedule and wipes it when dropped.
pub struct PeriodKey {
    cipher: LessSafeKey,
    check_value: [u8; 32],
}

impl VolumeKey {
    /// The key that opens what was sealed in this period.
    ///
    /// Before it opens anything, [`PeriodKey::check_value`] must be compared with the row's: AES-GCM alone does not
    /// commit to a key, so a successful open says less about *which* key it was than it seems to.
    #[must_use]
    pub fn period(&self, context: &PeriodContext) -> PeriodKey {
        let info = context.encode();
        let subkey = derive::<32>(self.bytes(), &context.salt, &[SUBKEY_LABEL, &info]);
        let check = derive::<32>(self.bytes(), &context.salt, &[CHECK_LABEL, &info]);
        let cipher = UnboundKey::new(&AES_256_GCM, subkey.as_ref()).expect("AES-256 takes every key of 32 bytes");
        PeriodKey { cipher: LessSafeKey::new(cipher), check_value: *check }
    }
}

impl PeriodKey {
    /// Commits to the subkey and to its context, and is public: it is written into the period's row.
    #[must_use]
    pub const fn check_value(&self) -> [u8; 32] {
        self.check_value
    }

    /// Opens one block into `out`, which must be as long as `ciphertext`. When it fails, `out` holds zeros: neither
    /// what was decrypted nor what it held before can be taken for an answer.
    pub fn open(
        &self,
        aad: &RecordAad,
        ciphertext: &[u8],
        tag: &[u8; TAG_BYTES],
        out: &mut [u8],
    ) -> Result<(), NotAuthentic> {
        // A length that contradicts the bytes is not what was sealed. It comes from a disk: no reason to panic.
        let opened = usize::from(aad.length) == ciphertext.len()
            && self.cipher.open_separate_gather(nonce(aad.seq), Aad::from(aad.encode()), ciphertext, tag, out).is_ok();
        if opened {
            return Ok(());
        }
        out.fill(0);
        Err(NotAuthentic)
    }

    /// Seals `plain` into `out`. Only [`SealSlot`](crate::SealSlot) calls this: it owns the seq, and is gone afterwards.
    pub(crate) fn seal(&self, aad: &RecordAad, plain: &[u8], out: &mut [u8]) -> Tag {
        let mut tag = Tag([0; TAG_BYTES]);
        self.cipher
            .seal_out_of_place_scatter(nonce(aad.seq), Aad::from(aad.encode()), plain, out, &[], &mut tag.0)
            .expect("AES-GCM refuses only lengths that differ and inputs beyond 64 GiB");
        tag
    }
}

/// 32 zero bits, then the seq.
fn nonce(seq: Seq) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&seq.0.to_le_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl fmt::Debug for PeriodKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("PeriodKey(..)")
    }
}

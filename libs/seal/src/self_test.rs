//! One known answer through the hot path, before a binary trusts this machine's cipher with anything.

use holdfast_vocabulary::{BlockIndex, Epoch, Seq, VolumeId};

use crate::record::{RecordAad, TAG_BYTES};
use crate::{FreshSalt, VolumeKey};

/// The cipher of this machine gave a wrong answer: a broken build, a broken CPU, or broken memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cipher's self test failed: this build or this CPU computes AES-256-GCM or HKDF wrongly; nothing was sealed or \
     opened; run it on other hardware, or another build here"
)]
pub struct SelfTestFailed;

/// Of the block below, computed by another implementation; `tests/known_answers.rs` computes it again.
const TAG: [u8; TAG_BYTES] =
    [0x8c, 0x6f, 0x47, 0x6b, 0x5c, 0x8d, 0x0d, 0xf9, 0xdd, 0x36, 0x76, 0x73, 0x02, 0x47, 0x4e, 0x7f];

/// Derives, seals, opens, and fails to open what was changed. Takes microseconds; every binary that holds keys calls it
/// before it takes one.
pub fn self_test() -> Result<(), SelfTestFailed> {
    let volume = VolumeId([0x11; 16]);
    // A whole block and a seq with all its bytes in use, so that the wide paths of the cipher are the ones tested.
    let first = Seq(0x0102_0304_0506_0708);
    let mut sealer =
        VolumeKey::from_bytes([0x22; 32]).begin_period(volume, Epoch(3), FreshSalt::drawn([0x44; 32]), first);
    let mut range = sealer.reserve(1).ok_or(SelfTestFailed)?;
    let slot = range.next_slot().ok_or(SelfTestFailed)?;
    let aad = RecordAad { origin: volume, block: BlockIndex(5), length: 4096, flags: 6, epoch: Epoch(3), seq: first };

    let mut bytes = [0; 4096];
    let mut tag = slot.seal(aad.block, aad.flags, &[0x77; 4096], &mut bytes);
    let mut out = [0; 4096];
    let opened = sealer.key().open(&aad, &bytes, &tag.0, &mut out);
    if tag.0 != TAG || opened.is_err() || out != [0x77; 4096] {
        return Err(SelfTestFailed);
    }
    tag.0[15] ^= 1;
    if sealer.key().open(&aad, &bytes, &tag.0, &mut out).is_ok() || out != [0; 4096] {
        return Err(SelfTestFailed);
    }
    Ok(())
}

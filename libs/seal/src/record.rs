//! What a sealed block is bound to: the additional data, 48 bytes in one fixed layout.

use holdfast_vocabulary::{BlockIndex, Epoch, Seq, VolumeId};

/// The layout below. A period's row names it, so that a later layout can live beside this one in a volume.
pub const AAD_VERSION: u8 = 1;
/// Length of the encoded additional data.
pub const AAD_BYTES: usize = 48;
/// Length of an authentication tag: GCM's full 128 bits.
pub const TAG_BYTES: usize = 16;

/// The tag of one sealed block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub [u8; TAG_BYTES]);

/// Who a sealed block is. No physical place is in it, so that a store may move the ciphertext as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordAad {
    /// The volume that it was sealed for.
    pub origin: VolumeId,
    /// Its place in that volume.
    pub block: BlockIndex,
    /// Bytes of ciphertext; 0 is legal.
    pub length: u16,
    /// What the log says about the block (compression has its place here); only bound here, never read.
    pub flags: u8,
    /// The epoch of the session that wrote it.
    pub epoch: Epoch,
    /// Its place in the total order, and the nonce.
    pub seq: Seq,
}

impl RecordAad {
    /// ```text
    ///  0     version (1)        8..24  origin
    ///  1     flags              24..32 block, little-endian
    ///  2..4  length, LE         32..40 epoch, little-endian
    ///  4..8  zero               40..48 seq,   little-endian
    /// ```
    #[must_use]
    pub fn encode(&self) -> [u8; AAD_BYTES] {
        let mut bytes = [0; AAD_BYTES];
        bytes[0] = AAD_VERSION;
        bytes[1] = self.flags;
        bytes[2..4].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..24].copy_from_slice(&self.origin.0);
        bytes[24..32].copy_from_slice(&self.block.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.seq.0.to_le_bytes());
        bytes
    }
}

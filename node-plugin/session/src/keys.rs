//! All keys of a session: which subkey opens which block, and the MACs over what is public.

use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;
use holdfast_log::anchor::{Anchor, SignedRoot};
use holdfast_log::hash::ChainHash;
use holdfast_log::header::VolumeHeader;
use holdfast_log::period::PeriodRow;
use holdfast_log::place::{Shape, TAG_BYTES, Version};
use holdfast_seal::{AAD_VERSION, MacKey, MacPurpose, NotAuthentic, PeriodContext, PeriodKey, RecordAad, VolumeKey};
use holdfast_vocabulary::{BLOCK_BYTES, BlockIndex, PeriodNumber, VolumeId};

use crate::changes::Mix;
use crate::error::BlockFault;

/// The four MACs of a volume.
pub(crate) struct Macs {
    group: MacKey,
    header: MacKey,
    root: MacKey,
    anchor: MacKey,
}

impl Macs {
    pub(crate) fn new(key: &VolumeKey, volume: VolumeId) -> Self {
        Self {
            group: key.mac_key(MacPurpose::GroupHeader, volume),
            header: key.mac_key(MacPurpose::VolumeHeader, volume),
            root: key.mac_key(MacPurpose::RootStatement, volume),
            anchor: key.mac_key(MacPurpose::Anchor, volume),
        }
    }

    /// The chain runs through the whole header, so the MAC need not.
    pub(crate) fn group(&self, chain: ChainHash) -> [u8; 32] {
        self.group.tag(&[&chain.0])
    }

    pub(crate) fn check_group(&self, chain: ChainHash, mac: &[u8; 32]) -> Result<(), NotAuthentic> {
        self.group.verify(&[&chain.0], mac)
    }

    pub(crate) fn header(&self, header: &VolumeHeader) -> [u8; 32] {
        self.header.tag(&[&header.encode()])
    }

    pub(crate) fn check_header(&self, header: &VolumeHeader, mac: &[u8; 32]) -> Result<(), NotAuthentic> {
        self.header.verify(&[&header.encode()], mac)
    }

    pub(crate) fn root(&self, statement: &[u8]) -> [u8; 32] {
        self.root.tag(&[statement])
    }

    pub(crate) fn check_root(&self, root: &SignedRoot) -> Result<(), NotAuthentic> {
        self.root.verify(&[&root.statement.encode()], &root.mac)
    }

    pub(crate) fn anchor(&self, anchor: &Anchor) -> [u8; 32] {
        self.anchor.tag(&[&anchor.encode()])
    }

    pub(crate) fn check_anchor(&self, anchor: &Anchor) -> Result<(), NotAuthentic> {
        self.anchor.verify(&[&anchor.encode()], &anchor.mac)
    }
}

struct Period {
    row: PeriodRow,
    key: OnceLock<Result<Arc<PeriodKey>, BlockFault>>,
}

/// The periods that are known. Rows are fixed once the session is open; subkeys are derived at first use.
pub(crate) struct Periods {
    key: VolumeKey,
    rows: HashMap<u32, Period, Mix>,
}

/// The subkey that was used last: neighbours mostly share one.
#[derive(Default)]
pub(crate) struct LastPeriod(Option<(PeriodNumber, Arc<PeriodKey>, VolumeId)>);

impl Periods {
    pub(crate) fn new(key: VolumeKey) -> Self {
        Self { key, rows: HashMap::default() }
    }

    /// Adds a row; false if another row has its number.
    pub(crate) fn add(&mut self, row: PeriodRow) -> bool {
        self.rows.entry(row.number.0).or_insert(Period { row, key: OnceLock::new() }).row == row
    }

    /// The highest number that any row has.
    pub(crate) fn newest(&self) -> PeriodNumber {
        PeriodNumber(self.rows.keys().copied().max().unwrap_or(0))
    }

    fn find(&self, number: PeriodNumber) -> Result<(Arc<PeriodKey>, VolumeId), BlockFault> {
        let period = self.rows.get(&number.0).ok_or(BlockFault::NoPeriod(number))?;
        let derive = || {
            let row = &period.row;
            if row.key_id != self.key.id() {
                return Err(BlockFault::OtherKey { period: number, sealed: row.key_id });
            }
            let key = self.key.period(&context_of(row));
            if row.aad_version != AAD_VERSION || key.check_value() != row.check {
                return Err(BlockFault::PeriodKey(number));
            }
            Ok(Arc::new(key))
        };
        match period.key.get_or_init(derive) {
            Ok(key) => Ok((Arc::clone(key), period.row.origin)),
            Err(fault) => Err(*fault),
        }
    }

    /// Opens a sealed block into `out`, one whole block. On failure `out` is zero.
    #[expect(clippy::too_many_arguments, reason = "all of it is what the block is bound to")]
    pub(crate) fn open(
        &self,
        last: &mut LastPeriod,
        number: PeriodNumber,
        block: BlockIndex,
        version: Version,
        shape: Shape,
        ciphertext: &[u8],
        tag: &[u8; TAG_BYTES],
        out: &mut [u8],
    ) -> Result<(), BlockFault> {
        let opened = self.open_unwiped(last, number, block, version, shape, ciphertext, tag, out);
        if opened.is_err() {
            out.fill(0);
        }
        opened
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is what the block is bound to")]
    fn open_unwiped(
        &self,
        last: &mut LastPeriod,
        number: PeriodNumber,
        block: BlockIndex,
        version: Version,
        shape: Shape,
        ciphertext: &[u8],
        tag: &[u8; TAG_BYTES],
        out: &mut [u8],
    ) -> Result<(), BlockFault> {
        if last.0.as_ref().is_none_or(|(known, _, _)| *known != number) {
            let (key, origin) = self.find(number)?;
            last.0 = Some((number, key, origin));
        }
        let Some((_, key, origin)) = &last.0 else {
            return Err(BlockFault::NoPeriod(number));
        };
        let fault = BlockFault::Seal { version, period: number };
        let length = shape.ciphertext_bytes();
        if shape.is_unmap() || ciphertext.len() != usize::from(length) {
            return Err(fault);
        }
        let aad = RecordAad {
            origin: *origin,
            block,
            length,
            flags: shape.aad_flags(),
            epoch: version.epoch,
            seq: version.seq,
        };
        if !shape.is_compressed() {
            return key.open(&aad, ciphertext, tag, out).map_err(|_| fault);
        }
        let mut packed = [0; BLOCK_BYTES];
        let packed = &mut packed[..ciphertext.len()];
        key.open(&aad, ciphertext, tag, packed).map_err(|_| fault)?;
        match lz4_flex::block::decompress_into(packed, out) {
            Ok(BLOCK_BYTES) => Ok(()),
            Ok(_) | Err(_) => Err(BlockFault::Compression),
        }
    }
}

/// What of a row the subkey is derived from.
fn context_of(row: &PeriodRow) -> PeriodContext {
    PeriodContext {
        origin: row.origin,
        aad_version: row.aad_version,
        epoch: row.epoch,
        key_id: row.key_id,
        salt: row.salt,
    }
}

//! Whoever changes one bit of anything gets nothing: not an answer, and no byte in the buffer.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed, in its helpers too.

use holdfast_seal::{FreshSalt, MacPurpose, NotAuthentic, PeriodContext, PeriodKey, RecordAad, Tag, VolumeKey};
use holdfast_vocabulary::{BlockIndex, Epoch, Seq, VolumeId};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

const KEY: [u8; 32] = [0x21; 32];

/// One sealed block and everything that it takes to open it.
#[derive(Clone)]
struct Sealed {
    key: [u8; 32],
    row: PeriodContext,
    aad: RecordAad,
    bytes: Vec<u8>,
    tag: Tag,
}

impl Sealed {
    fn new(plain: &[u8], origin: [u8; 16], block: u64, flags: u8, epoch: u64, seq: u64) -> Self {
        let volume = VolumeId(origin);
        let salt = FreshSalt::drawn([0x5a; 32]);
        let mut sealer = VolumeKey::from_bytes(KEY).begin_period(volume, Epoch(epoch), salt, Seq(seq));
        let mut bytes = vec![0; plain.len()];
        let mut range = sealer.reserve(1).unwrap();
        let tag = range.next_slot().unwrap().seal(BlockIndex(block), flags, plain, &mut bytes);
        let aad = RecordAad {
            origin: volume,
            block: BlockIndex(block),
            length: plain.len() as u16,
            flags,
            epoch: Epoch(epoch),
            seq: Seq(seq),
        };
        Self { key: KEY, row: sealer.context().clone(), aad, bytes, tag }
    }

    fn period(&self) -> PeriodKey {
        VolumeKey::from_bytes(self.key).period(&self.row)
    }

    /// Opens into a buffer that already holds something, so that what is left in it after a failure can be seen.
    fn open(&self) -> (Result<(), NotAuthentic>, Vec<u8>) {
        self.open_with(&self.period())
    }

    fn open_with(&self, key: &PeriodKey) -> (Result<(), NotAuthentic>, Vec<u8>) {
        let mut out = vec![0xee; self.bytes.len()];
        (key.open(&self.aad, &self.bytes, &self.tag.0, &mut out), out)
    }

    fn refuses(&self, key: &PeriodKey) -> bool {
        self.open_with(key) == (Err(NotAuthentic), vec![0; self.bytes.len()])
    }
}

fn flipped<const N: usize>(mut bytes: [u8; N], bit: usize) -> [u8; N] {
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

#[test]
fn every_single_bit_counts() {
    let plain: Vec<u8> = (0..80).collect();
    let good = Sealed::new(&plain, [7; 16], 1 << 39, 3, 12, 1 << 33);
    assert_eq!(good.open(), (Ok(()), plain));
    let key = good.period();

    // The block's own fields, under the right key.
    let mut changes: Vec<(String, Sealed)> = Vec::new();
    let mut change = |what: &str, bits: usize, flip: &dyn Fn(&mut Sealed, usize)| {
        for bit in 0..bits {
            let mut bad = good.clone();
            flip(&mut bad, bit);
            changes.push((format!("bit {bit} of the {what}"), bad));
        }
    };
    change("origin", 128, &|bad, bit| bad.aad.origin.0 = flipped(bad.aad.origin.0, bit));
    change("block", 64, &|bad, bit| bad.aad.block.0 ^= 1 << bit);
    change("length", 16, &|bad, bit| bad.aad.length ^= 1 << bit);
    change("flags", 8, &|bad, bit| bad.aad.flags ^= 1 << bit);
    change("epoch", 64, &|bad, bit| bad.aad.epoch.0 ^= 1 << bit);
    change("seq", 64, &|bad, bit| bad.aad.seq.0 ^= 1 << bit);
    change("ciphertext", 640, &|bad, bit| bad.bytes[bit / 8] ^= 1 << (bit % 8));
    change("tag", 128, &|bad, bit| bad.tag.0 = flipped(bad.tag.0, bit));
    assert_eq!(changes.len(), 1112);
    for (what, bad) in changes {
        assert!(bad.refuses(&key), "{what}");
    }

    // What the key is derived from.
    let mut changes: Vec<(String, Sealed)> = Vec::new();
    let mut change = |what: &str, bits: usize, flip: &dyn Fn(&mut Sealed, usize)| {
        for bit in 0..bits {
            let mut bad = good.clone();
            flip(&mut bad, bit);
            changes.push((format!("bit {bit} of the {what}"), bad));
        }
    };
    change("volume key", 256, &|bad, bit| bad.key = flipped(bad.key, bit));
    change("row's salt", 256, &|bad, bit| bad.row.salt = flipped(bad.row.salt, bit));
    change("row's origin", 128, &|bad, bit| bad.row.origin.0 = flipped(bad.row.origin.0, bit));
    change("row's version", 8, &|bad, bit| bad.row.aad_version ^= 1 << bit);
    change("row's epoch", 64, &|bad, bit| bad.row.epoch.0 ^= 1 << bit);
    change("row's key id", 128, &|bad, bit| bad.row.key_id.0 = flipped(bad.row.key_id.0, bit));
    for (what, bad) in changes {
        assert!(bad.refuses(&bad.period()), "{what}");
        assert_ne!(bad.period().check_value(), key.check_value(), "{what}");
    }
}

#[test]
fn cut_and_extended_blocks_are_refused() {
    let good = Sealed::new(&[9; 64], [7; 16], 1, 0, 1, 1);
    let key = good.period();
    for length in (0..64).chain(65..130) {
        let mut bad = good.clone();
        bad.bytes.resize(length, 0);
        assert!(bad.refuses(&key), "{length} bytes, the length as it was sealed");
        bad.aad.length = length as u16;
        assert!(bad.refuses(&key), "{length} bytes, the length changed with them");
    }
}

#[test]
fn a_buffer_of_another_length_is_refused_and_wiped() {
    let good = Sealed::new(&[9; 64], [7; 16], 1, 0, 1, 1);
    for length in [0, 63, 65, 4096] {
        let mut out = vec![0xee; length];
        assert_eq!(good.period().open(&good.aad, &good.bytes, &good.tag.0, &mut out), Err(NotAuthentic));
        assert_eq!(out, vec![0; length]);
    }
}

#[test]
fn an_empty_block_is_legal_and_bound_like_any_other() {
    let good = Sealed::new(&[], [7; 16], 1, 0, 1, 1);
    assert_eq!(good.open(), (Ok(()), vec![]));
    let mut bad = good.clone();
    bad.aad.block.0 = 2;
    assert!(bad.refuses(&good.period()));
    bad = good.clone();
    bad.tag = flipped_tag(good.tag);
    assert!(bad.refuses(&good.period()));
}

fn flipped_tag(tag: Tag) -> Tag {
    Tag(flipped(tag.0, 127))
}

#[test]
fn swapped_blocks_are_refused() {
    let key = VolumeKey::from_bytes(KEY);
    let mut sealer = key.begin_period(VolumeId([1; 16]), Epoch(1), FreshSalt::drawn([2; 32]), Seq(1));
    let mut range = sealer.reserve(2).unwrap();
    let (mut first, mut second) = ([0; 4096], [0; 4096]);
    let first_tag = range.next_slot().unwrap().seal(BlockIndex(0), 0, &[1; 4096], &mut first);
    let second_tag = range.next_slot().unwrap().seal(BlockIndex(0), 0, &[1; 4096], &mut second);
    assert_ne!(first, second, "the same content twice must not look the same");

    let aad = |seq| RecordAad {
        origin: VolumeId([1; 16]),
        block: BlockIndex(0),
        length: 4096,
        flags: 0,
        epoch: Epoch(1),
        seq: Seq(seq),
    };
    let mut out = [0; 4096];
    assert_eq!(sealer.key().open(&aad(1), &first, &first_tag.0, &mut out), Ok(()));
    assert_eq!(sealer.key().open(&aad(2), &second, &second_tag.0, &mut out), Ok(()));
    assert_eq!(sealer.key().open(&aad(2), &first, &first_tag.0, &mut out), Err(NotAuthentic));
    assert_eq!(sealer.key().open(&aad(1), &first, &second_tag.0, &mut out), Err(NotAuthentic));
}

#[test]
fn every_bit_of_a_mac_counts() {
    let key = VolumeKey::from_bytes(KEY);
    let volume = VolumeId([1; 16]);
    let mac_key = key.mac_key(MacPurpose::Anchor, volume);
    let mac = mac_key.tag(&[b"ab", b"c"]);
    assert_eq!(mac_key.verify(&[b"a", b"bc"], &mac), Ok(()), "the parts are one message");
    for bit in 0..256 {
        assert_eq!(mac_key.verify(&[b"abc"], &flipped(mac, bit)), Err(NotAuthentic));
    }
    assert_eq!(mac_key.verify(&[b"abd"], &mac), Err(NotAuthentic));
    assert_eq!(key.mac_key(MacPurpose::GroupHeader, volume).verify(&[b"abc"], &mac), Err(NotAuthentic));
    assert_eq!(key.mac_key(MacPurpose::Anchor, VolumeId([2; 16])).verify(&[b"abc"], &mac), Err(NotAuthentic));
}

#[test]
fn secrets_do_not_print() {
    let key = VolumeKey::from_bytes([0xab; 32]);
    let mut sealer = key.begin_period(VolumeId([1; 16]), Epoch(1), FreshSalt::drawn([0xcd; 32]), Seq(1));
    let mut range = sealer.reserve(3).unwrap();
    let mac_key = key.mac_key(MacPurpose::Anchor, VolumeId([1; 16]));
    let salt = FreshSalt::drawn([0xcd; 32]);
    let printed = format!("{key:?} {:?} {mac_key:?} {salt:?} {sealer:?} {range:?}", sealer.key());
    let printed = format!("{printed} {:?}", range.next_slot());
    assert_eq!(
        printed,
        "VolumeKey(..) PeriodKey(..) MacKey(..) FreshSalt(..) PeriodSealer(next 4, 4294967293 blocks left) \
         SeqRange(1..4) Some(SealSlot(1))"
    );
}

proptest! {
    #[test]
    fn what_is_sealed_opens_and_what_is_changed_does_not(
        plain in vec(any::<u8>(), 0..=4096),
        origin in any::<[u8; 16]>(),
        block in any::<u64>(),
        flags in any::<u8>(),
        epoch in any::<u64>(),
        // The last seq of all has no successor; no log comes near it.
        seq in 0..u64::MAX,
        place in any::<u64>(),
    ) {
        let good = Sealed::new(&plain, origin, block, flags, epoch, seq);
        prop_assert_eq!(good.open(), (Ok(()), plain));

        // One bit, anywhere in what a store holds of a block: its fields, its bytes, its tag.
        let mut bad = good.clone();
        let fields = 8 * (16 + 8 + 2 + 1 + 8 + 8);
        let bit = (place % (fields + 128 + 8 * bad.bytes.len() as u64)) as usize;
        match bit {
            0..128 => bad.aad.origin.0 = flipped(bad.aad.origin.0, bit),
            128..192 => bad.aad.block.0 ^= 1 << (bit - 128),
            192..256 => bad.aad.epoch.0 ^= 1 << (bit - 192),
            256..320 => bad.aad.seq.0 ^= 1 << (bit - 256),
            320..336 => bad.aad.length ^= 1 << (bit - 320),
            336..344 => bad.aad.flags ^= 1 << (bit - 336),
            344..472 => bad.tag.0 = flipped(bad.tag.0, bit - 344),
            _ => bad.bytes[(bit - 472) / 8] ^= 1 << ((bit - 472) % 8),
        }
        prop_assert!(bad.refuses(&good.period()), "bit {}", bit);
    }
}

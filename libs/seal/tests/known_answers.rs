//! Known answers: published vectors, and our own layouts computed a second time by another implementation.
//!
//! The hexadecimal answers are the format. A change of any of them makes every volume that exists unreadable.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed, in its helpers too.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hkdf::Hkdf;
use hmac::{Hmac, Mac};
use holdfast_seal::{FreshSalt, MacPurpose, PeriodContext, RecordAad, Tag, VolumeKey, cipher_name, self_test};
use holdfast_vocabulary::{BlockIndex, Epoch, KeyId, Seq, VolumeId};
use sha2::{Digest, Sha256};

const KEY: [u8; 32] = counting(0x00);
const SALT: [u8; 32] = counting(0xa0);
const ORIGIN: VolumeId = VolumeId(counting(0x40));
const EPOCH: Epoch = Epoch(0x0807_0605_0403_0201);
const SEQ: Seq = Seq(0x1817_1615_1413_1211);
const BLOCK: BlockIndex = BlockIndex(0x0000_00ab_cdef_0123);
const FLAGS: u8 = 0x5a;

const fn counting<const N: usize>(first: u8) -> [u8; N] {
    let mut bytes = [0; N];
    let mut place = 0;
    while place < N {
        bytes[place] = first.wrapping_add(place as u8);
        place += 1;
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The same derivation, written again from the definition alone, with the other implementation.
fn hkdf_again(salt: Option<&[u8]>, info: &[&[u8]], length: usize) -> Vec<u8> {
    let mut out = vec![0; length];
    Hkdf::<Sha256>::new(salt, &KEY).expand(&info.concat(), &mut out).unwrap();
    out
}

fn context() -> PeriodContext {
    let key_id = VolumeKey::from_bytes(KEY).id();
    PeriodContext { origin: ORIGIN, aad_version: 1, epoch: EPOCH, key_id, salt: SALT }
}

fn period_info(label: &[u8]) -> Vec<u8> {
    [label, &ORIGIN.0, &[1], &EPOCH.0.to_le_bytes(), &context().key_id.0].concat()
}

/// Seals one block at `SEQ` through the public door.
fn seal(plain: &[u8]) -> (Vec<u8>, Tag) {
    let mut sealer = VolumeKey::from_bytes(KEY).begin_period(ORIGIN, EPOCH, FreshSalt::drawn(SALT), SEQ);
    let mut bytes = vec![0; plain.len()];
    let mut range = sealer.reserve(1).unwrap();
    let tag = range.next_slot().unwrap().seal(BLOCK, FLAGS, plain, &mut bytes);
    (bytes, tag)
}

/// The same sealing by the other implementation, with additional data written down by hand.
fn seal_again(plain: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let subkey = hkdf_again(Some(&SALT), &[&period_info(b"holdfast period v1")], 32);
    let aad = [
        &[1, FLAGS][..],
        &(plain.len() as u16).to_le_bytes(),
        &[0; 4],
        &ORIGIN.0,
        &BLOCK.0.to_le_bytes(),
        &EPOCH.0.to_le_bytes(),
        &SEQ.0.to_le_bytes(),
    ]
    .concat();
    let nonce = [&[0; 4][..], &SEQ.0.to_le_bytes()].concat();
    gcm_again(&subkey, &nonce, &aad, plain)
}

fn gcm_again(key: &[u8], nonce: &[u8], aad: &[u8], plain: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let cipher = Aes256Gcm::new_from_slice(key).unwrap();
    let mut bytes = plain.to_vec();
    let nonce: [u8; 12] = nonce.try_into().unwrap();
    let tag = cipher.encrypt_inout_detached(&nonce.into(), aad, bytes.as_mut_slice().into()).unwrap();
    (bytes, tag.to_vec())
}

#[test]
fn the_key_id() {
    let id = VolumeKey::from_bytes(KEY).id();
    assert_eq!(hex(&id.0), hex(&hkdf_again(None, &[b"holdfast key id v1"], 32)[..16]));
    assert_eq!(hex(&id.0), "a6fd8cfd3b91624d324e99aec1a26fe4");
}

#[test]
fn the_check_value_of_a_period() {
    let check = VolumeKey::from_bytes(KEY).period(&context()).check_value();
    assert_eq!(hex(&check), hex(&hkdf_again(Some(&SALT), &[&period_info(b"holdfast period check v1")], 32)));
    assert_eq!(hex(&check), "ac06b0e1d1c72c15f6123e130f8f76e43195b61fd21b4703f077cedd1b1f3c98");
}

#[test]
fn a_period_that_begins_is_the_period_that_its_row_opens() {
    let sealer = VolumeKey::from_bytes(KEY).begin_period(ORIGIN, EPOCH, FreshSalt::drawn(SALT), SEQ);
    assert_eq!(sealer.context(), &context());
    assert_eq!(sealer.key().check_value(), VolumeKey::from_bytes(KEY).period(&context()).check_value());
}

#[test]
fn every_field_of_a_row_makes_another_check_value() {
    let key = VolumeKey::from_bytes(KEY);
    let check = |change: fn(&mut PeriodContext)| {
        let mut changed = context();
        change(&mut changed);
        key.period(&changed).check_value()
    };
    let mut all = vec![
        check(|_| ()),
        check(|row| row.origin = VolumeId([9; 16])),
        check(|row| row.aad_version = 2),
        check(|row| row.epoch = row.epoch.max(Epoch(1 << 60))),
        check(|row| row.key_id = KeyId([9; 16])),
        check(|row| row.salt[31] ^= 1),
        VolumeKey::from_bytes([1; 32]).period(&context()).check_value(),
    ];
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 7);
}

#[test]
fn the_additional_data() {
    let aad = RecordAad { origin: ORIGIN, block: BLOCK, length: 0x1234, flags: FLAGS, epoch: EPOCH, seq: SEQ };
    assert_eq!(
        hex(&aad.encode()),
        "015a341200000000404142434445464748494a4b4c4d4e4f2301efcdab00000001020304050607081112131415161718"
    );
}

#[test]
fn an_empty_block() {
    let (bytes, tag) = seal(&[]);
    assert_eq!((bytes, tag.0.to_vec()), seal_again(&[]));
    assert_eq!(hex(&tag.0), "18c38cee3b10bc7f8c2455e674459347");
}

#[test]
fn a_short_block() {
    let plain: [u8; 33] = counting(1);
    let (bytes, tag) = seal(&plain);
    assert_eq!((bytes.clone(), tag.0.to_vec()), seal_again(&plain));
    assert_eq!(hex(&bytes), "57a5769b6385c02179d2c5a83137b8761b1f9e35b9dba55f990e23477a9f50b000");
    assert_eq!(hex(&tag.0), "9285aa391e487a5cd8b10e283d20aee3");
}

#[test]
fn a_whole_block() {
    let plain: [u8; 4096] = counting(0);
    let (bytes, tag) = seal(&plain);
    assert_eq!((bytes.clone(), tag.0.to_vec()), seal_again(&plain));
    assert_eq!(hex(&Sha256::digest(&bytes)), "969bc341b74e1eaa3aa2c0957d97e36364c8b51f19ebe9c327a0f050dcb6cfaf");
    assert_eq!(hex(&tag.0), "1f860f5cc9d3bb12f68fbc68c339bcfa");
}

/// Every length at which a wide implementation changes its way: the two must agree on all of them.
#[test]
fn both_implementations_agree_on_every_length() {
    let plain: [u8; 4096] = counting(7);
    for length in (0..=600).chain([1023, 1024, 1025, 2047, 2048, 4080, 4095, 4096]) {
        let (bytes, tag) = seal(&plain[..length]);
        assert_eq!((bytes, tag.0.to_vec()), seal_again(&plain[..length]), "{length} bytes");
    }
}

#[test]
fn macs() {
    let key = VolumeKey::from_bytes(KEY);
    let cases = [
        (MacPurpose::GroupHeader, 1, "1107e2e1cb88e5b144e7f56ab50d5e3347d3e10123e35522ae15218384156421"),
        (MacPurpose::VolumeHeader, 2, "fa960f5e7f2a222dfdf09092bad89088e01b01b2254f75d36e798b421053e02f"),
        (MacPurpose::RootStatement, 3, "03779dbef33fd4f5731cc3591710e3758a69956005cbf76308200ab6742b24dc"),
        (MacPurpose::Anchor, 4, "93ad193aacf5493ef3feab5b0bfc9150ba7a31f9eeaa2521ad5fc52b5a59022d"),
    ];
    for (purpose, byte, expected) in cases {
        let mac = key.mac_key(purpose, ORIGIN).tag(&[b"one ", b"", b"message"]);
        let derived = hkdf_again(None, &[b"holdfast mac v1", &[byte], &ORIGIN.0], 32);
        let again = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(&derived).unwrap().chain_update(b"one message");
        assert_eq!(hex(&mac), hex(&again.finalize().into_bytes()), "{purpose:?}");
        assert_eq!(hex(&mac), expected, "{purpose:?}");
    }
}

/// What `self_test` compares with, computed by the other implementation: the constants there are not taken on trust.
#[test]
fn the_self_test_knows_the_right_answer() {
    assert_eq!(self_test(), Ok(()));

    let volume = [0x11; 16];
    let mut key_id = [0; 32];
    let from_key = |salt: Option<&[u8]>, info: &[u8], out: &mut [u8]| {
        Hkdf::<Sha256>::new(salt, &[0x22; 32]).expand(info, out).unwrap();
    };
    from_key(None, b"holdfast key id v1", &mut key_id);
    let info = [&b"holdfast period v1"[..], &volume, &[1], &3_u64.to_le_bytes(), &key_id[..16]].concat();
    let mut subkey = [0; 32];
    from_key(Some(&[0x44; 32]), &info, &mut subkey);
    let seq = 0x0102_0304_0506_0708_u64.to_le_bytes();
    let aad = [&[1, 6, 0, 16, 0, 0, 0, 0][..], &volume, &5_u64.to_le_bytes(), &3_u64.to_le_bytes(), &seq].concat();
    let (_, tag) = gcm_again(&subkey, &[&[0; 4][..], &seq].concat(), &aad, &[0x77; 4096]);
    assert_eq!(hex(&tag), "8c6f476b5c8d0df9dd36767302474e7f");
}

#[test]
fn the_cipher_has_a_name() {
    assert!(cipher_name().starts_with("AES-256-GCM via aws-lc-rs; cpu flags: "), "{}", cipher_name());
}

/// AES-256 test cases 13 to 16 of "The Galois/Counter Mode of Operation" (McGrew, Viega), the submission behind NIST SP
/// 800-38D: key, nonce, plaintext, additional data, ciphertext, tag.
#[test]
fn published_gcm_vectors() {
    const KEY: &str = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    const NONCE: &str = "cafebabefacedbaddecaf888";
    const PLAIN: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
    const CIPHER: &str = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
                          8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad";
    let zeros = "0".repeat(64);
    let cases = [
        (zeros.as_str(), &zeros[..24], "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
        (
            zeros.as_str(),
            &zeros[..24],
            &zeros[..32],
            "",
            "cea7403d4d606b6e074ec5d3baf39d18",
            "d0d1c8a799996bf0265b98b5d48ab919",
        ),
        (KEY, NONCE, PLAIN, "", CIPHER, "b094dac5d93471bdec1a502270e3cc6c"),
        (
            KEY,
            NONCE,
            &PLAIN[..120],
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            &CIPHER[..120],
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ];
    for (key, nonce, plain, aad, cipher, tag) in cases {
        let hot = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &unhex(key)).unwrap());
        let mut bytes = unhex(plain);
        let hot_nonce = Nonce::try_assume_unique_for_key(&unhex(nonce)).unwrap();
        let hot_tag = hot.seal_in_place_separate_tag(hot_nonce, Aad::from(unhex(aad)), &mut bytes).unwrap();
        assert_eq!((hex(&bytes), hex(hot_tag.as_ref())), (cipher.to_owned(), tag.to_owned()));

        let (bytes, again) = gcm_again(&unhex(key), &unhex(nonce), &unhex(aad), &unhex(plain));
        assert_eq!((hex(&bytes), hex(&again)), (cipher.to_owned(), tag.to_owned()));
    }
}

/// RFC 5869, test case 1.
#[test]
fn published_hkdf_vector() {
    struct Length(usize);
    impl aws_lc_rs::hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
    let (key, salt, info) = ([0x0b; 22], counting::<13>(0), counting::<10>(0xf0));

    let mut out = [0; 42];
    aws_lc_rs::hkdf::Salt::new(aws_lc_rs::hkdf::HKDF_SHA256, &salt)
        .extract(&key)
        .expand(&[&info], Length(42))
        .unwrap()
        .fill(&mut out)
        .unwrap();
    assert_eq!(hex(&out), expected);

    Hkdf::<Sha256>::new(Some(&salt), &key).expand(&info, &mut out).unwrap();
    assert_eq!(hex(&out), expected);
}

/// RFC 4231, test case 2.
#[test]
fn published_hmac_vector() {
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"Jefe");
    let mac = aws_lc_rs::hmac::sign(&key, b"what do ya want for nothing?");
    assert_eq!(hex(mac.as_ref()), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

//! What lies still: boxes, pages, passphrases. Each computed a second time by another implementation, and each changed.
//!
//! The layouts written down here are the format. A change of any of them makes every keyring and store unreadable.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed, in its helpers too.

use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use hkdf::Hkdf;
use holdfast_seal::{
    Argon2Parameters, COLD_OVERHEAD_BYTES, ColdError, FreshSalt, MachineKey, NotAuthentic, PageSeal, Passphrase,
    PassphraseError, RootKey, SlotKey, StorageKey, VolumeKey,
};
use holdfast_vocabulary::VolumeId;
use sha2::Sha256;

const ROOT: [u8; 32] = [0x11; 32];
const STORAGE: [u8; 32] = [0x22; 32];
const SALT: [u8; 32] = [0x33; 32];
const OWNER: &[u8] = b"installation";
const FLOOR: Argon2Parameters = Argon2Parameters { memory_kib: 7_168, passes: 5, lanes: 1 };

fn hkdf_again(key: &[u8], salt: &[u8], info: &[&[u8]]) -> [u8; 32] {
    let mut out = [0; 32];
    Hkdf::<Sha256>::new(Some(salt), key).expand(&info.concat(), &mut out).unwrap();
    out
}

/// A box, written again from the description alone and with the hot path's cipher.
fn box_again(key: &[u8], purpose: u8, owner: &[u8], plain: &[u8]) -> Vec<u8> {
    let context = [&[1, purpose][..], &(owner.len() as u32).to_le_bytes(), owner].concat();
    let commitment = hkdf_again(key, &SALT, &[b"holdfast cold commitment v1", &context]);
    let once = hkdf_again(key, &SALT, &[b"holdfast cold key v1", &context]);
    let head = [&[1, purpose, 0, 0][..], &SALT, &commitment].concat();
    let mut body = plain.to_vec();
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &once).unwrap());
    cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key([0; 12]), Aad::from(&head), &mut body).unwrap();
    [head, body].concat()
}

fn salt() -> FreshSalt {
    FreshSalt::drawn(SALT)
}

#[test]
fn every_link_of_the_chain_is_the_box_that_is_described() {
    let (root, storage) = (RootKey::drawn(ROOT), StorageKey::drawn(STORAGE));
    let slot = SlotKey::from_bytes([0x44; 32]);
    assert_eq!(root.wrap(&slot, OWNER, salt()), box_again(&[0x44; 32], 1, OWNER, &ROOT));
    assert_eq!(storage.wrap(&root, OWNER, salt()), box_again(&ROOT, 2, OWNER, &STORAGE));
    let volume = VolumeKey::from_bytes([0x55; 32]);
    assert_eq!(volume.wrap(&storage, VolumeId([7; 16]), salt()), box_again(&STORAGE, 3, &[7; 16], &[0x55; 32]));

    let machine = MachineKey::from_bytes([0x66; 32]);
    let device = hkdf_again(&[0x66; 32], &[], &[b"holdfast machine bootstrap v1"]);
    assert_eq!(machine.device_key().seal(OWNER, salt(), b"tls"), box_again(&device, 4, OWNER, b"tls"));
    let of_machine = hkdf_again(&[0x66; 32], &[], &[b"holdfast machine slot v1"]);
    assert_eq!(root.wrap(&machine.slot_key(), OWNER, salt()), box_again(&of_machine, 1, OWNER, &ROOT));
}

#[test]
fn the_chain_opens_from_the_top_to_the_bottom() {
    let (root, storage) = (RootKey::drawn(ROOT), StorageKey::drawn(STORAGE));
    let volume = VolumeKey::from_bytes([0x55; 32]);
    let slot = SlotKey::from_bytes([0x44; 32]);
    let again = RootKey::unwrap(&slot, OWNER, &root.wrap(&slot, OWNER, salt())).unwrap();
    again.verify_check_value(OWNER, &root.check_value(OWNER)).unwrap();
    let again = StorageKey::unwrap(&again, OWNER, &storage.wrap(&root, OWNER, salt())).unwrap();
    let wrapped = volume.wrap(&storage, VolumeId([7; 16]), salt());
    assert_eq!(VolumeKey::unwrap(&again, VolumeId([7; 16]), &wrapped).unwrap().id(), volume.id());
    assert_eq!(
        VolumeKey::unwrap(&again, VolumeId([8; 16]), &wrapped).unwrap_err(),
        ColdError::OtherKey,
        "a key of one volume is none of another"
    );
}

#[test]
fn every_change_of_a_box_is_refused_for_the_right_reason() {
    let (slot, root) = (SlotKey::from_bytes([0x44; 32]), RootKey::drawn(ROOT));
    let sealed = root.wrap(&slot, OWNER, salt());
    assert_eq!(sealed.len(), COLD_OVERHEAD_BYTES + 32);
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 0x80;
        let expected = match at {
            0..4 => ColdError::Malformed,
            4..68 => ColdError::OtherKey,
            _ => ColdError::NotAuthentic,
        };
        assert_eq!(RootKey::unwrap(&slot, OWNER, &changed).unwrap_err(), expected, "byte {at}");
    }
    for length in 0..sealed.len() {
        assert!(RootKey::unwrap(&slot, OWNER, &sealed[..length]).is_err(), "cut to {length}");
    }
    let other = SlotKey::from_bytes([0x45; 32]);
    assert_eq!(RootKey::unwrap(&other, OWNER, &sealed).unwrap_err(), ColdError::OtherKey);
    assert_eq!(RootKey::unwrap(&slot, b"another", &sealed).unwrap_err(), ColdError::OtherKey);
    let long = root.wrap(&slot, OWNER, salt());
    assert_eq!(StorageKey::unwrap(&root, OWNER, &long).unwrap_err(), ColdError::Malformed, "another purpose");
}

#[test]
fn macs_and_check_values_tell_roots_and_owners_apart() {
    let (one, other) = (RootKey::drawn(ROOT), RootKey::drawn(STORAGE));
    one.verify_mac(OWNER, b"slots", &one.mac(OWNER, b"slots")).unwrap();
    assert_eq!(one.verify_mac(OWNER, b"slotz", &one.mac(OWNER, b"slots")), Err(NotAuthentic));
    assert_eq!(other.verify_mac(OWNER, b"slots", &one.mac(OWNER, b"slots")), Err(NotAuthentic));
    assert_ne!(one.check_value(OWNER), one.check_value(b"another"));
    assert_eq!(one.check_value(OWNER), hkdf_again(&ROOT, &[], &[b"holdfast root check v1", OWNER]));
    assert_eq!(other.verify_check_value(OWNER, &one.check_value(OWNER)), Err(NotAuthentic));
}

#[test]
fn a_page_is_what_is_described_and_opens_only_where_it_was_sealed() {
    let key = StorageKey::drawn(STORAGE).page_key(&[9; 32]);
    assert_eq!(key.check_value(), hkdf_again(&STORAGE, &[9; 32], &[b"holdfast page check v1"]));
    let mut page = [0x77; 4096];
    let seal = key.seal(salt(), 5, 6, &mut page);

    let file_key = hkdf_again(&STORAGE, &[9; 32], &[b"holdfast page key v1"]);
    let cipher = Aes256Gcm::new_from_slice(&hkdf_again(&file_key, &SALT, &[b"holdfast page once v1"])).unwrap();
    let aad = [5_u64.to_le_bytes(), 6_u64.to_le_bytes()].concat();
    let mut again = [0x77; 4096];
    let tag = cipher.encrypt_inout_detached(&[0; 12].into(), &aad, again.as_mut_slice().into()).unwrap();
    assert_eq!((page, seal.tag.0.as_slice()), (again, tag.as_slice()));

    let mut out = [1; 4096];
    key.open(&seal, 5, 6, &page, &mut out).unwrap();
    assert_eq!(out, [0x77; 4096]);
    for (page_number, count, salt) in [(4, 6, SALT), (5, 7, SALT), (5, 6, [0; 32])] {
        let seal = PageSeal { salt, ..seal };
        assert_eq!(key.open(&seal, page_number, count, &page, &mut out), Err(NotAuthentic));
        assert_eq!(out, [0; 4096]);
    }
    page[4095] ^= 1;
    assert_eq!(key.open(&seal, 5, 6, &page, &mut out), Err(NotAuthentic));
    assert_eq!(key.open(&seal, 5, 6, &page[..4095], &mut out), Err(NotAuthentic));
}

#[test]
fn argon2id_is_the_published_one_and_the_slot_key_is_its_output() {
    let argon = |m, t, p| Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(m, t, p, Some(32)).unwrap());
    let mut out = [0; 32];
    // From the reference implementation's own tests (`test.c`, argon2id, version 0x13).
    argon(65_536, 2, 1).hash_password_into(b"password", b"somesalt", &mut out).unwrap();
    let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");

    argon(FLOOR.memory_kib, FLOOR.passes, FLOOR.lanes).hash_password_into(b"secret", &SALT, &mut out).unwrap();
    let key = Passphrase::from_bytes(b"secret".to_vec()).slot_key(&SALT, FLOOR).unwrap();
    let sealed = RootKey::drawn(ROOT).wrap(&key, OWNER, salt());
    assert_eq!(sealed, box_again(&out, 1, OWNER, &ROOT));
    let wrong = Passphrase::from_bytes(b"secreT".to_vec()).slot_key(&SALT, FLOOR).unwrap();
    assert_eq!(RootKey::unwrap(&wrong, OWNER, &sealed).unwrap_err(), ColdError::OtherKey);
}

#[test]
fn parameters_are_bounded_on_both_sides_before_anything_is_allocated() {
    let parameters = |memory_kib, passes, lanes| Argon2Parameters { memory_kib, passes, lanes };
    for good in [(47_104, 1, 1), (19_456, 2, 1), (12_288, 3, 1), (9_216, 4, 1), (7_168, 5, 1), (7_168, 16, 8)] {
        parameters(good.0, good.1, good.2).check().unwrap();
    }
    Argon2Parameters::DEFAULT.check().unwrap();
    let typed = Passphrase::from_bytes(b"secret".to_vec());
    for weak in [(47_103, 1, 1), (19_455, 2, 1), (7_167, 16, 1), (262_144, 0, 1), (262_144, 3, 0), (0, 0, 0)] {
        let weak = parameters(weak.0, weak.1, weak.2);
        assert_eq!(typed.slot_key(&SALT, weak).unwrap_err(), PassphraseError::TooWeak(weak));
    }
    for much in [(100 << 20, 3, 1), (u32::MAX, u32::MAX, u32::MAX), (262_144, 17, 1), (262_144, 3, 9)] {
        let much = parameters(much.0, much.1, much.2);
        assert_eq!(typed.slot_key(&SALT, much).unwrap_err(), PassphraseError::TooMuch(much));
    }
    assert_eq!(Passphrase::from_bytes(vec![]).slot_key(&SALT, FLOOR).unwrap_err(), PassphraseError::Empty);
}

#[test]
fn nothing_secret_is_shown() {
    let shown = format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?}",
        RootKey::drawn([65; 32]),
        StorageKey::drawn([65; 32]),
        SlotKey::from_bytes([65; 32]),
        MachineKey::from_bytes([65; 32]),
        MachineKey::from_bytes([65; 32]).device_key(),
        StorageKey::drawn([65; 32]).page_key(&[0; 32]),
        Passphrase::from_bytes(b"AAAA".to_vec()),
    );
    assert!(!shown.contains("65") && !shown.contains("AAAA") && !shown.contains("41"), "{shown}");
}

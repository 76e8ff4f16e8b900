//! The crypt manager over simulated disks: its states, its slots, its files under damage and at every crash point.

#![allow(clippy::unwrap_used)] // A test that cannot go on has failed, in its helpers too.

use std::sync::Arc;

use holdfast_disk::{Disk, Fault, Faults, Image, LinuxDisk, LinuxMode, RecordingDisk, SeededRandom, SimulatedDisk};
use holdfast_keys::{
    BOOTSTRAP_FILE, Bootstrap, BootstrapError, CryptManager, CryptOptions, InitialiseError, Installation, KEYRING_FILE,
    KeyFileError, KeyProvider, LockObserver, LockState, LockStateChanged, MACHINE_KEY_FILE, PassphraseProvider,
    ProviderError, SlotError, SlotId, SoftwareProvider, UnlockError,
};
use holdfast_seal::{Argon2Parameters, Passphrase};
use holdfast_vocabulary::VolumeId;
use parking_lot::Mutex;

const HERE: Installation = Installation([0xaa; 16]);
const FLOOR: Argon2Parameters = Argon2Parameters { memory_kib: 7_168, passes: 5, lanes: 1 };

#[derive(Default)]
struct Heard(Mutex<Vec<LockStateChanged>>);

impl LockObserver for Heard {
    fn changed(&self, change: &LockStateChanged) {
        self.0.lock().push(change.clone());
    }
}

fn random() -> Arc<SeededRandom> {
    Arc::new(SeededRandom::new(7))
}

fn passphrase(text: &str) -> PassphraseProvider {
    PassphraseProvider::new(Passphrase::from_bytes(text.as_bytes().to_vec()), FLOOR)
}

fn manager(disk: Arc<dyn Disk>, providers: Vec<Arc<dyn KeyProvider>>) -> Result<CryptManager, KeyFileError> {
    observed(disk, providers, Arc::new(()))
}

fn observed(
    disk: Arc<dyn Disk>,
    providers: Vec<Arc<dyn KeyProvider>>,
    observer: Arc<dyn LockObserver>,
) -> Result<CryptManager, KeyFileError> {
    CryptManager::open(CryptOptions { disk, random: random(), installation: HERE, providers, observer })
}

fn disk() -> SimulatedDisk {
    SimulatedDisk::new(1, Faults::none())
}

/// What a manager's storage key opens is the only thing that tells it from another.
fn proof(manager: &CryptManager) -> Vec<u8> {
    let storage = manager.storage().unwrap();
    storage.wrap_volume_key(VolumeId([1; 16]), &storage.draw_volume_key())
}

fn opens(manager: &CryptManager, proof: &[u8]) -> bool {
    manager.storage().unwrap().unwrap_volume_key(VolumeId([1; 16]), proof).is_ok()
}

#[test]
fn states_follow_each_other_and_are_heard_in_order() {
    let (disk, heard) = (disk(), Arc::new(Heard::default()));
    let software: Arc<dyn KeyProvider> = Arc::new(SoftwareProvider::create(&*disk.handle(), &*random()).unwrap());
    let one = observed(disk.handle(), vec![software.clone()], heard.clone()).unwrap();
    assert_eq!(one.state().state, LockState::Uninitialised);
    assert!(one.storage().unwrap_err().to_string().contains("holdfast init"));
    assert_eq!(one.unlock(&[]).unwrap_err(), UnlockError::Uninitialised);
    assert_eq!(one.initialise(&[], &[]).unwrap_err(), InitialiseError::NoProvider);
    one.initialise(&[&*software], &[]).unwrap();
    let proof = proof(&one);
    one.lock();
    one.lock();
    assert!(one.storage().unwrap_err().to_string().contains("holdfast unlock"));
    assert_eq!(one.unlock(&[]).unwrap().provider, "software");
    one.unlock(&[]).unwrap();
    assert!(opens(&one, &proof));
    let heard: Vec<_> = heard.0.lock().iter().map(|change| (change.serial, change.state)).collect();
    assert_eq!(heard, [(1, LockState::Unlocked), (2, LockState::Locked), (3, LockState::Unlocked)]);
    assert_eq!(one.initialise(&[&*software], &[]).unwrap_err(), InitialiseError::Exists);

    let again = manager(disk.handle(), vec![software]).unwrap();
    assert_eq!(again.state().state, LockState::Locked);
    again.unlock(&[]).unwrap();
    assert!(opens(&again, &proof));
}

#[test]
fn a_lost_keyring_is_never_replaced() {
    let one = manager(disk().handle(), vec![]).unwrap();
    let found = ["replica 12".to_owned(), "registry".to_owned()];
    let refused = one.initialise(&[&passphrase("a")], &found).unwrap_err();
    assert!(refused.to_string().contains("replica 12, registry"), "{refused}");
    assert_eq!(one.state().state, LockState::Uninitialised);
}

#[test]
fn a_wrong_passphrase_is_said_and_another_provider_still_works() {
    let disk = disk();
    let one = manager(disk.handle(), vec![]).unwrap();
    one.initialise(&[&passphrase("right"), &passphrase("also right")], &[]).unwrap();
    one.lock();
    assert_eq!(one.unlock(&[&passphrase("wrong")]).unwrap_err(), UnlockError::WrongPassphrase { slots: 2 });
    assert_eq!(one.unlock(&[]).unwrap_err(), UnlockError::NoProvider { slots: vec!["passphrase".to_owned()] });
    assert_eq!(one.unlock(&[&passphrase("also right")]).unwrap().slot, SlotId(2));
    let software = SoftwareProvider::create(&*disk.handle(), &*random()).unwrap();
    one.add_slot(&software).unwrap();
    one.lock();
    let by = one.unlock(&[&passphrase("wrong"), &software]).unwrap();
    assert_eq!((by.provider.as_str(), by.refused.len()), ("software", 0), "the one that asks nobody goes first");
    one.lock();
    let last = software.with_priority(200);
    let by = one.unlock(&[&passphrase("wrong"), &last]).unwrap();
    assert_eq!(
        by.refused.iter().map(|one| one.error.clone()).collect::<Vec<_>>(),
        [ProviderError::WrongPassphrase, ProviderError::WrongPassphrase]
    );
}

#[test]
fn a_slot_counts_once_it_was_seen_to_work_and_the_last_one_stays() {
    let disk = disk();
    let one = manager(disk.handle(), vec![]).unwrap();
    one.initialise(&[&passphrase("old")], &[]).unwrap();
    let proof = proof(&one);
    assert_eq!(one.drop_slot(SlotId(1)).unwrap_err(), SlotError::LastVerified(SlotId(1)));
    let new = one.add_slot(&passphrase("new")).unwrap();
    assert_eq!(one.drop_slot(SlotId(1)).unwrap_err(), SlotError::LastVerified(SlotId(1)), "not verified yet");
    let wrong = one.verify_slot(new, &passphrase("typo")).unwrap_err();
    assert!(matches!(wrong, SlotError::Provider { error: ProviderError::WrongPassphrase, .. }), "{wrong}");
    one.verify_slot(new, &passphrase("new")).unwrap();
    one.drop_slot(SlotId(1)).unwrap();
    assert_eq!(one.drop_slot(SlotId(1)).unwrap_err(), SlotError::Unknown(SlotId(1)));
    let third = one.rotate_slot(new, &passphrase("newest")).unwrap();
    assert_eq!(third, SlotId(3), "a number is never used again");
    one.lock();
    assert!(matches!(one.add_slot(&passphrase("x")).unwrap_err(), SlotError::Locked(_)));
    assert!(one.unlock(&[&passphrase("old")]).is_err() && one.unlock(&[&passphrase("new")]).is_err());
    one.unlock(&[&passphrase("newest")]).unwrap();
    assert!(opens(&one, &proof));
    let full = (0..20).find_map(|_| one.add_slot(&passphrase("more")).err()).unwrap();
    assert_eq!(full, SlotError::Full(16));
}

#[test]
fn another_installation_and_another_machine_are_named() {
    let (here, there) = (disk(), disk());
    let software = SoftwareProvider::create(&*here.handle(), &*random()).unwrap();
    let one = manager(here.handle(), vec![]).unwrap();
    one.initialise(&[&software], &[]).unwrap();
    one.lock();
    let other = SoftwareProvider::create(&*there.handle(), &SeededRandom::new(99)).unwrap();
    let refused = one.unlock(&[&other]).unwrap_err();
    assert!(refused.to_string().contains("another machine key"), "{refused}");
    let options = CryptOptions {
        disk: here.handle(),
        random: random(),
        installation: Installation([0xbb; 16]),
        providers: vec![],
        observer: Arc::new(()),
    };
    assert!(matches!(CryptManager::open(options).unwrap_err(), KeyFileError::Foreign { .. }));
}

/// On the machine's own disk nobody but the owner can read what is secret.
#[test]
fn key_files_are_readable_by_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::temp_dir().join(format!("holdfast-keys-{}", std::process::id()));
    let disk: Arc<dyn Disk> = Arc::new(LinuxDisk::open(&path, LinuxMode::Buffered).unwrap());
    let software = SoftwareProvider::create(&*disk, &*random()).unwrap();
    let one = manager(disk.clone(), vec![]).unwrap();
    one.initialise(&[&software], &[]).unwrap();
    Bootstrap::create(disk, random(), HERE, software.device_key()).unwrap();
    for name in [MACHINE_KEY_FILE, KEYRING_FILE, BOOTSTRAP_FILE] {
        let mode = std::fs::metadata(path.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    one.lock();
    one.unlock(&[&software]).unwrap();
    std::fs::remove_dir_all(&path).unwrap();
}

/// A keyring of one software slot, its machine key and a bootstrap area.
fn whole() -> (Image, Vec<u8>) {
    let disk = disk();
    let software = SoftwareProvider::create(&*disk.handle(), &*random()).unwrap();
    let one = manager(disk.handle(), vec![]).unwrap();
    one.initialise(&[&software], &[]).unwrap();
    let mut area = Bootstrap::create(disk.handle(), random(), HERE, software.device_key()).unwrap();
    area.put("tls.key", b"very private").unwrap();
    let proof = proof(&one);
    (disk.image(), proof)
}

/// Opens all three files; an error in words, or whether everything is as it was.
fn opened(image: &Image, proof: &[u8]) -> Result<bool, String> {
    let disk = SimulatedDisk::from_image(1, Faults::none(), image);
    let words = |error: &dyn std::error::Error| error.to_string();
    let software = SoftwareProvider::open(&*disk.handle()).map_err(|error| words(&error))?;
    let one = manager(disk.handle(), vec![]).map_err(|error| words(&error))?;
    one.unlock(&[&software]).map_err(|error| words(&error))?;
    let area = Bootstrap::open(disk.handle(), random(), HERE, software.device_key()).map_err(|error| words(&error))?;
    Ok(opens(&one, proof) && area.get("tls.key") == Some(b"very private"))
}

#[test]
fn every_flipped_byte_and_every_cut_is_an_error_with_a_remedy() {
    let (image, proof) = whole();
    assert_eq!(opened(&image, &proof), Ok(true));
    for (name, length) in image.files() {
        for at in 0..length {
            let mut changed = image.clone();
            changed.flip(name, at, 1 << (at % 8));
            let error = opened(&changed, &proof).expect_err("a flipped byte is noticed");
            assert!(error.contains(name) && error.contains(';'), "{name} at {at}: {error}");
        }
        for cut in [0, 1, 512, length - 512, length - 1, length + 4096] {
            let mut changed = image.clone();
            changed.set_len(name, cut);
            assert!(opened(&changed, &proof).is_err(), "{name} cut to {cut}");
        }
        let mut changed = image.clone();
        changed.remove(name);
        assert!(opened(&changed, &proof).is_err(), "{name} removed");
    }
}

/// Whoever changes the keyring and mends its checksum is found by the MAC.
#[test]
fn a_keyring_that_was_changed_on_purpose_is_forged() {
    let (image, _) = whole();
    let bytes = image.bytes(KEYRING_FILE).unwrap();
    let body = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let mut refused = 0;
    for at in 16..16 + body {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let crc = (checksum(&changed[..16 + body])).to_le_bytes();
        changed[16 + body..16 + body + 4].copy_from_slice(&crc);
        let mut other = image.clone();
        other.insert(KEYRING_FILE, &changed);
        let disk = SimulatedDisk::from_image(1, Faults::none(), &other);
        let software = SoftwareProvider::open(&*disk.handle()).unwrap();
        let unlocked = manager(disk.handle(), vec![]).map(|one| one.unlock(&[&software]).is_ok());
        assert_ne!(unlocked, Ok(true), "byte {at}");
        refused += 1;
    }
    assert_eq!(refused, body);
}

/// CRC-32C, bit by bit.
fn checksum(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// At every point of a rotation the old or the new passphrase opens the same storage key.
#[test]
fn no_crash_leaves_a_keyring_that_nobody_opens() {
    let prepared = disk();
    let software = SoftwareProvider::create(&*prepared.handle(), &*random()).unwrap();
    let one = manager(prepared.handle(), vec![]).unwrap();
    one.initialise(&[&software], &[]).unwrap();
    let proof = proof(&one);

    let machine: Arc<dyn KeyProvider> = Arc::new(software);
    let recording = RecordingDisk::from_image(prepared.image());
    let one = manager(recording.handle(), vec![machine.clone()]).unwrap();
    one.unlock(&[]).unwrap();
    one.rotate_slot(SlotId(1), &*machine).unwrap();
    let mut walk = recording.walk();
    let mut states = 0;
    while let Some(point) = walk.advance() {
        for state in point.states(12, 5) {
            let disk = SimulatedDisk::from_image(1, Faults::none(), &state.image);
            let one = manager(disk.handle(), vec![machine.clone()]).unwrap();
            one.unlock(&[]).unwrap();
            assert!(opens(&one, &proof));
            // What the crash left beside it is in nobody's way.
            let id = one.add_slot(&*machine).unwrap();
            one.verify_slot(id, &*machine).unwrap();
            states += 1;
        }
    }
    assert!(states > 30, "only {states} states");
}

#[test]
fn a_failing_disk_is_an_error_and_the_old_keyring_stays() {
    let (image, proof) = whole();
    for operation in 1..40 {
        for fault in [Fault::WriteError, Fault::SyncError, Fault::NoSpace, Fault::ReadError] {
            let disk = SimulatedDisk::from_image(operation, Faults::none().at(operation, fault.clone()), &image);
            let ran = SoftwareProvider::open(&*disk.handle()).map(|software| {
                manager(disk.handle(), vec![]).map(|one| {
                    let _ = one.unlock(&[&software]).map(|_| one.rotate_slot(SlotId(1), &software));
                })
            });
            drop(ran);
            let left = disk.crash_image(&holdfast_disk::Crash::Random(operation));
            assert_eq!(opened(&left, &proof), Ok(true), "{fault:?} at {operation}");
        }
    }
}

#[test]
fn the_bootstrap_area_needs_no_unlock_and_only_its_device_opens_it() {
    let (image, _) = whole();
    let disk = SimulatedDisk::from_image(1, Faults::none(), &image);
    let software = SoftwareProvider::open(&*disk.handle()).unwrap();
    let mut area = Bootstrap::open(disk.handle(), random(), HERE, software.device_key()).unwrap();
    assert_eq!(area.names().collect::<Vec<_>>(), ["tls.key"]);
    area.put("remote", b"off").unwrap();
    assert!(area.remove("tls.key").unwrap() && !area.remove("tls.key").unwrap());
    assert_eq!(area.put("", b"x").unwrap_err(), BootstrapError::Name(0));
    assert_eq!(area.put("x", &vec![0; 1 << 20]).unwrap_err(), BootstrapError::Full);
    let other = holdfast_seal::DeviceKey::from_bytes([3; 32]);
    let refused = Bootstrap::open(disk.handle(), random(), HERE, other).unwrap_err();
    assert!(matches!(refused, BootstrapError::Sealed(_)), "{refused}");
    area.reseal(holdfast_seal::DeviceKey::from_bytes([3; 32])).unwrap();
    let other = holdfast_seal::DeviceKey::from_bytes([3; 32]);
    let area = Bootstrap::open(disk.handle(), random(), HERE, other).unwrap();
    assert_eq!(area.get("remote"), Some(&b"off"[..]));
    disk.handle().remove(MACHINE_KEY_FILE).unwrap();
    let refused = SoftwareProvider::create(&*disk.handle(), &*random()).unwrap_err();
    assert!(matches!(refused, KeyFileError::Missing { .. }), "no new key where the old one is needed: {refused}");
}

/// The committed answer: the keyring of fixed bytes and a fixed passphrase, as docs/keys.md prints it.
#[test]
fn the_keyring_is_the_one_in_the_documentation() {
    let disk = disk();
    let one = manager(disk.handle(), vec![]).unwrap();
    one.initialise(&[&passphrase("correct horse battery staple")], &[]).unwrap();
    let file = disk.image().bytes(KEYRING_FILE).unwrap();
    let used = 16 + u32::from_le_bytes(file[12..16].try_into().unwrap()) as usize + 4;
    let lines: Vec<String> =
        file[..used].chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect()).collect();
    let page = include_str!("../../../docs/keys.md");
    let printed: Vec<&str> = page.lines().filter(|line| line.len() >= 8 && is_hex(line)).collect();
    assert_eq!(lines, printed, "\n{}", lines.join("\n"));
}

fn is_hex(line: &str) -> bool {
    line.bytes().all(|letter| letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter))
}

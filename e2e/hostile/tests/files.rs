//! Whole files that are gone, swapped, foreign, old or of another version; the wrong key; garbage beside the right files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed, in its helpers too")]

mod damage;

use std::sync::LazyLock;

use damage::{VOLUME, judge, try_damage};
use holdfast_disk::{Faults, Image, SimulatedDisk};
use holdfast_hostile::{
    Attempt, OLDER_BASE, OLDER_TAIL, SMALL, Volume, attempt, attempt_with, foreign, key_bytes, store_options,
};
use holdfast_log::hash::crc32c;
use holdfast_store::Store;
use holdfast_store::checkpoint::Checkpoint;

static FOREIGN: LazyLock<Volume> = LazyLock::new(|| Volume::make(foreign(SMALL)).unwrap());

fn names() -> Vec<String> {
    VOLUME.image.files().map(|(name, _)| name.to_owned()).collect()
}

/// The message of a volume that must not open.
fn refused(attempt: &Attempt) -> &str {
    attempt.refused.as_deref().unwrap_or_else(|| panic!("it was opened: {:?}", attempt.messages().collect::<Vec<_>>()))
}

#[test]
fn untouched_files_are_right() {
    let attempt = attempt(&VOLUME, &VOLUME.image);
    assert!(attempt.is_right(), "{:?}", attempt.messages().collect::<Vec<_>>());
    let kinds: std::collections::BTreeSet<u8> = names()
        .iter()
        .filter(|name| name.starts_with("seg-"))
        .map(|name| VOLUME.image.bytes(name).unwrap()[10])
        .collect();
    assert_eq!(kinds, [1, 2].into(), "the volume has log segments and moved ones");
    assert!(VOLUME.content.len() > 35, "{} blocks are mapped", VOLUME.content.len());
}

#[test]
fn the_same_recipe_gives_the_same_bytes() {
    assert!(Volume::make(SMALL).unwrap().image == VOLUME.image);
    assert!(FOREIGN.image != VOLUME.image);
}

#[test]
fn a_missing_file() {
    for name in names() {
        let (freed, what) = (freed_segments(), format!("{name} is gone"));
        let blamed: Vec<&str> = freed.iter().map(String::as_str).chain([name.as_str()]).collect();
        let attempt = try_damage(&what, &blamed, |image| {
            image.remove(&name);
        })
        .unwrap();
        // The promise fences; what it would have refused is refused by the log. The older slot is there to be spared.
        assert!(attempt.refused.is_some() || ["promise", &older_slot()].contains(&name.as_str()), "{name}");
    }
}

/// Segments that are not there any more. When a moved segment is gone that no checkpoint lists yet, nothing knows its name;
/// what is missed is the segment that its records were moved from.
fn freed_segments() -> Vec<String> {
    let all = (0..16).map(|number| format!("seg-{number:08x}"));
    all.filter(|name| VOLUME.image.len_of(name).is_none()).collect()
}

/// The slot that is not the newest.
fn older_slot() -> String {
    let slots = names().into_iter().filter(|name| name.starts_with("checkpoint"));
    let number = |name: &String| Checkpoint::decode(&VOLUME.image.bytes(name).unwrap()).unwrap().number;
    slots.min_by_key(number).unwrap()
}

#[test]
fn an_unknown_version_says_so() {
    // Where a structure's version lies, and how its checksum is made right again: a version is what a newer release writes,
    // with good checksums.
    let sector = |bytes: &mut [u8]| {
        let sum = crc32c(&bytes[..508]);
        bytes[508..512].copy_from_slice(&sum.to_le_bytes());
    };
    let head = |bytes: &mut [u8]| {
        let sum = crc32c(&bytes[..24]);
        bytes[24..28].copy_from_slice(&sum.to_le_bytes());
    };
    for name in names() {
        let mut bytes = VOLUME.image.bytes(&name).unwrap();
        match name.as_str() {
            "header" | "promise" => {
                bytes[8] = 2;
                sector(&mut bytes);
            }
            "checkpoint-0" | "checkpoint-1" => {
                bytes[8] = 2;
                head(&mut bytes);
            }
            _ if name.starts_with("seg-") => {
                bytes[8] = 2;
                sector(&mut bytes);
            }
            _ => {
                for page in bytes.chunks_mut(512).filter(|page| page.starts_with(b"HFlf") || page.starts_with(b"HFnd"))
                {
                    page[4] = 2;
                }
            }
        }
        let what = format!("{name} has version 2");
        let attempt = try_damage(&what, &[&name], |image| image.insert(&name, &bytes)).unwrap();
        let said = attempt.messages().any(|words| words.contains("version 2 is unknown"));
        assert!(said, "{what}: {:?}", attempt.messages().collect::<Vec<_>>());
    }
}

#[test]
fn a_foreign_store_in_place_of_ours() {
    let words = attempt(&VOLUME, &FOREIGN.image);
    assert!(refused(&words).contains("volume"), "{words:?}");
    assert!(words.wrong.is_empty() && words.unreadable.is_empty());
}

#[test]
fn one_foreign_file_among_ours() {
    for name in names() {
        let Some(bytes) = FOREIGN.image.bytes(&name) else { continue };
        let what = format!("{name} of another volume");
        let attempt = try_damage(&what, &[&name], |image| image.insert(&name, &bytes)).unwrap();
        // Grants have no volume in them, so a promise fits everywhere; it only ever fences more.
        assert!(!attempt.is_right() || name == "promise", "{what} was taken for ours");
    }
    for (name, _) in FOREIGN.image.files().filter(|(name, _)| VOLUME.image.len_of(name).is_none()) {
        let bytes = FOREIGN.image.bytes(name).unwrap();
        try_damage(&format!("{name} of another volume beside ours"), &[name], |image| image.insert(name, &bytes))
            .unwrap();
    }
}

#[test]
fn the_wrong_key() {
    for place in 0..32 {
        let mut key = key_bytes();
        key[place] ^= 1;
        let attempt = attempt_with(&VOLUME, &VOLUME.image, key, VOLUME.anchor);
        assert!(refused(&attempt).contains("key"), "{attempt:?}");
        judge("a wrong key", &VOLUME.image, &[], &Attempt { refused: None, ..attempt }).unwrap();
    }
}

#[test]
fn two_files_swapped() {
    let names = names();
    for (position, one) in names.iter().enumerate() {
        for other in &names[position + 1..] {
            let (first, second) = (VOLUME.image.bytes(one).unwrap(), VOLUME.image.bytes(other).unwrap());
            let what = format!("{one} and {other} are swapped");
            try_damage(&what, &[one, other], |image| {
                image.insert(one, &second);
                image.insert(other, &first);
            })
            .unwrap();
        }
    }
}

#[test]
fn a_file_under_another_number() {
    for name in names().iter().filter(|name| name.starts_with("seg-") || name.starts_with("idx-")) {
        let bytes = VOLUME.image.bytes(name).unwrap();
        for number in [0u32, 3, 0xe, 0xf, 0x1000, 0x7fff_ffff] {
            let copy = format!("{}{number:08x}", &name[..4]);
            if VOLUME.image.len_of(&copy).is_some() {
                continue;
            }
            let attempt =
                try_damage(&format!("{name} also as {copy}"), &[&copy], |image| image.insert(&copy, &bytes)).unwrap();
            assert!(attempt.unreadable.is_empty(), "{name} also as {copy}: {attempt:?}");
            let freed = freed_segments();
            let blamed: Vec<&str> = freed.iter().map(String::as_str).chain([name.as_str(), &copy]).collect();
            try_damage(&format!("{name} only as {copy}"), &blamed, |image| {
                image.insert(&copy, &bytes);
                image.remove(name);
            })
            .unwrap();
        }
    }
}

#[test]
fn an_old_state_of_everything_is_a_rollback() {
    for (age, older) in VOLUME.older.iter().enumerate() {
        let attempt = attempt(&VOLUME, older);
        let words = refused(&attempt);
        assert!(words.contains("rolled back"), "state {age}: {words}");
        // Without the anchor nobody could know, and what is there is a volume as it once was.
        let unanchored = attempt_with(&VOLUME, older, key_bytes(), None);
        assert!(unanchored.refused.is_none() && unanchored.findings.is_empty(), "state {age}: {unanchored:?}");
    }
}

#[test]
fn an_old_state_of_one_file() {
    for age in [OLDER_BASE, OLDER_TAIL] {
        for name in names() {
            let Some(bytes) = VOLUME.older[age].bytes(&name) else { continue };
            if VOLUME.image.bytes(&name).unwrap() == bytes {
                continue;
            }
            let what = format!("{name} as in state {age}");
            let attempt = try_damage(&what, &[&name], |image| image.insert(&name, &bytes)).unwrap();
            assert!(attempt.refused.is_some() || name == "promise" || name.starts_with("checkpoint"), "{what}");
        }
    }
}

#[test]
fn garbage_beside_the_files() {
    let strange: [(&str, &[u8]); 10] = [
        ("header.new", &[0x11; 700]),
        ("promise.new", b""),
        ("checkpoint-2", &[0x22; 512]),
        ("seg-zzzzzzzz", &[0x33; 512]),
        ("seg-000000ff", &[]),
        ("seg-000000fe", &[0x44; 5000]),
        ("idx-ffffffff", &[0x55; 5000]),
        ("idx-00000007", &[]),
        ("lost+found", &[0x66; 10]),
        ("SEG-00000005", &[0; 512]),
    ];
    for (name, bytes) in strange {
        let attempt = try_damage(&format!("a stray {name}"), &[name], |image| image.insert(name, bytes)).unwrap();
        assert!(attempt.is_right(), "a stray {name}: {:?}", attempt.messages().collect::<Vec<_>>());
    }
}

#[test]
fn a_store_is_made_only_where_nothing_is() {
    let header = VOLUME.image.bytes("header").unwrap();
    for name in names().iter().map(String::as_str).chain(["somebody's letter"]) {
        let mut image = Image::new();
        image.insert(name, &VOLUME.image.bytes(name).unwrap_or_else(|| b"dear".to_vec()));
        let disk = SimulatedDisk::from_image(1, Faults::none(), &image);
        let made = holdfast_store::create(&(disk.handle()), &header);
        // What an interrupted creation leaves is swept: an empty checkpoint, never a header.
        if name.starts_with("checkpoint") || name.starts_with("idx-") {
            continue;
        }
        let words = made.unwrap_err().to_string();
        assert!(words.contains(name) && words.contains("not empty"), "{words}");
        assert!(disk.image() == image, "a refused creation changed something");
    }
    let disk = SimulatedDisk::from_image(1, Faults::none(), &VOLUME.image);
    assert!(holdfast_store::create(&disk.handle(), &header).is_err());
    assert!(disk.image() == VOLUME.image);
}

#[test]
fn a_store_is_not_opened_where_none_is() {
    let disk = SimulatedDisk::new(1, Faults::none());
    let words = Store::open(disk.handle(), store_options(SMALL)).err().unwrap().to_string();
    assert!(words.contains("header"), "{words}");
    assert!(disk.handle().list().unwrap().is_empty());
}

//! Pages that are not what they were: every one is found, none gives an entry.

use std::sync::Arc;

use holdfast_disk::{AlignedBuffer, Disk, MemoryDisk};
use holdfast_ports::budget::MemoryBudget;
use holdfast_vocabulary::{BlockIndex, Seq};

use super::{contents, entry, merge, place};
use crate::index::{Index, IndexError, IndexRoot};

fn built() -> (Arc<dyn Disk>, MemoryBudget, IndexRoot) {
    let disk = MemoryDisk::new().handle();
    let budget = MemoryBudget::new(8 << 20);
    let index = Index::empty(Arc::clone(&disk), &budget).unwrap();
    for seq in 1..=2000 {
        index.put(BlockIndex(seq * 97 % 200_000), entry(seq, place(seq * 300)));
    }
    index.freeze(Seq(2000)).unwrap();
    let (root, _) = merge(&index, 1000);
    (disk, budget, root)
}

fn sector(disk: &dyn Disk, name: &str, offset: u64, change: impl FnOnce(&mut [u8])) {
    let file = disk.open(name).unwrap();
    let mut buffer = AlignedBuffer::with_len(disk.sector_bytes());
    file.read_at(offset, &mut buffer).unwrap();
    change(&mut buffer);
    file.write_at(offset, &buffer).unwrap();
}

#[test]
fn rot_is_named_and_never_answers() {
    let (disk, budget, root) = built();
    let whole = Index::open(Arc::clone(&disk), &root, &budget).unwrap();
    let truth = contents(&whole);
    let name = "idx-00000000";
    let step = disk.sector_bytes() as u64;
    let mut found = 0;
    for offset in (0..root.file_bytes()).step_by(step as usize) {
        // The first bytes of a sector are always of a page; what fills it up may rot unseen.
        sector(&*disk, name, offset, |bytes| bytes[3] ^= 4);
        match Index::open(Arc::clone(&disk), &root, &budget) {
            Err(error) => {
                assert!(matches!(&error, IndexError::Damaged { file, .. } if file == name), "{error}");
                found += 1;
            }
            Ok(index) => {
                let report = index.verify();
                if !report.is_sound() {
                    found += 1;
                    assert!(report.damages[0].to_string().starts_with("idx-00000000 at byte "));
                }
                for (&block, &entry) in truth.iter().step_by(11) {
                    match index.lookup(BlockIndex(block)) {
                        Ok(answer) => assert_eq!(answer, Some(entry)),
                        Err(error) => assert!(matches!(error, IndexError::Damaged { .. }), "{error}"),
                    }
                }
            }
        }
        sector(&*disk, name, offset, |bytes| bytes[3] ^= 4);
    }
    assert!(found as u64 > root.file_bytes() / step * 9 / 10, "{found}");
    assert!(whole.verify().is_sound());
}

/// Whole pages that lie where others should: only the hash in the parent tells.
#[test]
fn swapped_pages_are_found() {
    let (disk, budget, root) = built();
    let index = Index::open(Arc::clone(&disk), &root, &budget).unwrap();
    let node = index.base_node(1, 0).unwrap();
    let pages: Vec<_> = node.children().map(|(index, child)| (index, child.page)).collect();
    let rounded = |bytes: u32| u64::from(bytes).div_ceil(disk.sector_bytes() as u64);
    let fit = |one: usize, other: usize| rounded(pages[one].1.bytes) == rounded(pages[other].1.bytes);
    let other = (1..pages.len()).find(|&other| fit(0, other) && pages[0].1.bytes == pages[other].1.bytes).unwrap();
    let file = disk.open("idx-00000000").unwrap();
    let read = |offset: u64| {
        let mut buffer = AlignedBuffer::with_len((rounded(pages[0].1.bytes) * disk.sector_bytes() as u64) as usize);
        file.read_at(offset, &mut buffer).unwrap();
        buffer
    };
    let (first, second) = (read(pages[0].1.offset), read(pages[other].1.offset));
    file.write_at(pages[0].1.offset, &second).unwrap();
    file.write_at(pages[other].1.offset, &first).unwrap();
    let index = Index::open(disk, &root, &budget).unwrap();
    assert_eq!(index.verify().damaged_pages, 2);
    let error = index.base_leaf(pages[0].0.into()).unwrap_err();
    assert!(error.to_string().contains("state hash"), "{error}");
}

#[test]
fn a_full_disk_costs_the_merge_and_nothing_else() {
    let disk = MemoryDisk::with_capacity(2 << 20);
    let budget = MemoryBudget::new(64 << 20);
    let index = Index::empty(disk.handle(), &budget).unwrap();
    let mut seq = 0;
    let mut put = |count: u64, spread: u64| {
        for _ in 0..count {
            seq += 1;
            index.put(BlockIndex(seq * spread % 4_000_000), entry(seq, place(seq)));
        }
        seq
    };
    let through = put(2000, 97);
    index.freeze(Seq(through)).unwrap();
    let (root, _) = merge(&index, 100);
    let before = contents(&index);
    let through = put(40_000, 1009);
    let records = index.records();
    index.freeze(Seq(through)).unwrap();
    let error = loop {
        match index.merge_step(64, &mut |_: BlockIndex, _: Option<&_>, _: Option<&_>| ()) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, IndexError::Disk(error) if error.is_no_space()), "{error}");
    let again = index.merge_step(64, &mut |_: BlockIndex, _: Option<&_>, _: Option<&_>| ());
    assert!(matches!(again, Err(IndexError::OutOfOrder(_))));
    index.merge_abandon();
    assert_eq!((index.records(), index.base_root()), (records, root));
    assert_eq!(contents(&index), before);
    assert!(index.verify().is_sound());
    assert!((1..=through).step_by(17).all(|seq| {
        let spread = if seq <= 2000 { 97 } else { 1009 };
        let found = index.lookup(BlockIndex(seq * spread % 4_000_000)).unwrap().unwrap();
        found.version.seq.0 >= seq
    }));
}

#[test]
fn hostile_roots_are_refused() {
    let (_, _, root) = built();
    let bytes = root.encode();
    assert_eq!(IndexRoot::decode(&bytes), Ok(root));
    (0..bytes.len()).for_each(|length| assert!(IndexRoot::decode(&bytes[..length]).is_err()));
    for at in 0..bytes.len() {
        for value in [0, 1, 0x80, 0xff] {
            let mut bent = bytes.clone();
            bent[at] = value;
            // It may be a root, only of something that is not there; opening finds that.
            if let Ok(root) = IndexRoot::decode(&bent) {
                let (disk, budget, _) = built();
                if let Ok(index) = Index::open(disk, &root, &budget) {
                    let _ = index.verify();
                }
            }
        }
    }
}

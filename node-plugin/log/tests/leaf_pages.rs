//! Leaf pages: everything comes back, nothing hostile gets through, and the bytes stay few.

use holdfast_log::hash::{self, TreeHash};
use holdfast_log::leaf::{LEAF_BLOCKS, LeafPage, state_hash_of};
use holdfast_log::place::{Entry, Place, Shape, Version};
use holdfast_vocabulary::{Epoch, PeriodNumber, SegmentNumber, Seq};

/// xorshift64*: the same in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

type Entries = Vec<Option<Entry>>;

fn entry(seq: u64, epoch: u64, segment: u32, units: u32, period: u32, shape: Shape) -> Entry {
    Entry {
        version: Version { epoch: Epoch(epoch), seq: Seq(seq) },
        place: Place { segment: SegmentNumber(segment), offset: units * 16 },
        period: PeriodNumber(period),
        shape,
    }
}

fn sequential() -> Entries {
    (0..LEAF_BLOCKS as u32).map(|at| Some(entry(9000 + u64::from(at), 7, 3, 20 + 257 * at, 4, Shape::WHOLE))).collect()
}

/// Written at random: seqs of a long life, places in 5000 segments of 16 MiB.
fn scattered(random: &mut Random) -> Entries {
    let mut one = || {
        let units = random.below(1 << 20) as u32;
        entry(1 + random.below(1 << 31), 3, 1 + random.below(5000) as u32, units, 2, Shape::WHOLE)
    };
    (0..LEAF_BLOCKS).map(|_| Some(one())).collect()
}

/// Anything that the types allow.
fn wild(random: &mut Random) -> Entries {
    let density = random.below(9);
    let (epochs, periods) = (1 + random.below(600), 1 + random.below(600));
    let spread = random.below(64) as u32;
    let mut one = || {
        let shape = match random.below(3) {
            0 => Shape::compressed(1 + random.below(4095) as u16).unwrap_or(Shape::WHOLE),
            _ => Shape::WHOLE,
        };
        let seq = (random.next() >> spread).max(1);
        let epoch = random.below(epochs) * (u64::MAX / 700);
        let units = random.below(1 << 28) as u32;
        (random.below(8) < density)
            .then(|| entry(seq, epoch, random.next() as u32, units, random.below(periods) as u32, shape))
    };
    (0..LEAF_BLOCKS).map(|_| one()).collect()
}

fn assert_same(entries: &[Option<Entry>], page: &LeafPage) {
    for position in 0..LEAF_BLOCKS {
        let expected = entries.get(position).copied().flatten();
        assert_eq!(page.get(position), expected, "position {position}");
        assert_eq!(page.version(position), expected.map(|entry| entry.version));
    }
    assert_eq!(page.get(LEAF_BLOCKS), None);
    let listed: Vec<_> = entries.iter().enumerate().filter_map(|(at, entry)| Some((at, (*entry)?))).collect();
    assert_eq!(page.entries().collect::<Vec<_>>(), listed);
    assert_eq!(page.mapped(), listed.len());
}

#[test]
fn every_entry_comes_back() {
    let mut random = Random(1);
    let mut samples =
        vec![Vec::new(), vec![None; 512], sequential(), sequential()[..100].to_vec(), scattered(&mut random)];
    samples.push(vec![Some(entry(u64::MAX, u64::MAX, u32::MAX, (1 << 28) - 1, u32::MAX, Shape::WHOLE))]);
    samples.push(vec![Some(entry(1, 0, 0, 0, 0, Shape::WHOLE)), None, samples[5][0]]);
    samples.extend((0..300).map(|_| wild(&mut random)));
    samples.extend((0..100).map(|_| {
        let mut entries = wild(&mut random);
        entries.iter_mut().flatten().for_each(|entry| entry.version.epoch = Epoch(6));
        entries
    }));
    for entries in samples {
        let page = LeafPage::encode(&entries);
        assert_same(&entries, &page);
        let read = LeafPage::decode(page.bytes().to_vec()).unwrap();
        assert_same(&entries, &read);
        assert_eq!(read, page);
        assert_eq!(LeafPage::encode(&entries).bytes(), page.bytes(), "the same content gives the same bytes");
        assert_eq!(read.state_hash(), naive_hash(&entries));
    }
}

#[test]
fn changes_of_a_page_are_as_if_it_was_packed_anew() {
    let mut random = Random(6);
    for _ in 0..400 {
        let mut entries = wild(&mut random);
        let page = LeafPage::encode(&entries);
        let other = wild(&mut random);
        let overwrite = random.below(2) == 0;
        let changes: Vec<_> = (0..LEAF_BLOCKS)
            .filter(|_| random.below(20) == 0)
            .map(|at| (at, other[at]))
            .filter(|(at, entry)| !overwrite || entry.is_some() && entries[*at].is_some())
            .collect();
        changes.iter().for_each(|(at, entry)| entries[*at] = *entry);
        assert_same(&entries, &page.with(&changes));
        assert_eq!(page.with(&changes), LeafPage::encode(&entries));
    }
}

/// The canonical bytes once more, written down in the plainest way.
fn naive_hash(entries: &[Option<Entry>]) -> TreeHash {
    let mut bytes = Vec::new();
    for position in 0..LEAF_BLOCKS {
        let seq = entries.get(position).copied().flatten().map_or(0, |entry| entry.version.seq.0);
        bytes.extend_from_slice(&seq.to_le_bytes());
    }
    let mut epoch = None;
    for (position, entry) in entries.iter().enumerate() {
        let Some(entry) = entry else { continue };
        if epoch != Some(entry.version.epoch) {
            epoch = Some(entry.version.epoch);
            bytes.extend_from_slice(&(position as u16).to_le_bytes());
            bytes.extend_from_slice(&entry.version.epoch.0.to_le_bytes());
        }
    }
    if epoch.is_none() { TreeHash::EMPTY } else { hash::leaf(&bytes) }
}

#[test]
fn the_state_has_no_place_period_or_shape_in_it() {
    let mut random = Random(2);
    for _ in 0..50 {
        let entries = wild(&mut random);
        let mut moved = entries.clone();
        for entry in moved.iter_mut().flatten() {
            entry.place = Place { segment: SegmentNumber(random.next() as u32), offset: 0 };
            entry.period = PeriodNumber(random.next() as u32);
            entry.shape = Shape::WHOLE;
        }
        let (page, elsewhere) = (LeafPage::encode(&entries), LeafPage::encode(&moved));
        assert_eq!(page.state_hash(), elsewhere.state_hash());
        assert_eq!(page.state_hash(), state_hash_of(page.versions()));
        if let Some(entry) = moved.iter_mut().flatten().next() {
            entry.version.epoch.0 ^= 1;
            assert_ne!(LeafPage::encode(&moved).state_hash(), page.state_hash());
        }
    }
    assert_eq!(LeafPage::empty().state_hash(), TreeHash::EMPTY);
}

#[test]
fn pages_are_as_small_as_promised() {
    let mut random = Random(3);
    let scattered = LeafPage::encode(&scattered(&mut random)).bytes().len();
    assert!(scattered <= 9 * LEAF_BLOCKS, "{scattered} bytes for a page of random writes");
    let sequential = LeafPage::encode(&sequential()).bytes().len();
    assert!(sequential <= 150, "{sequential} bytes for a page of sequential writes");
}

fn samples() -> Vec<Vec<u8>> {
    let mut random = Random(4);
    let mut few = wild(&mut random);
    few.truncate(40);
    [sequential(), few, vec![None; 512], scattered(&mut random)]
        .iter()
        .map(|entries| LeafPage::encode(entries).bytes().to_vec())
        .collect()
}

#[test]
fn damaged_bytes_are_refused() {
    for bytes in samples() {
        (0..bytes.len()).for_each(|length| assert!(LeafPage::decode(bytes[..length].to_vec()).is_err()));
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bent = bytes.clone();
                bent[at] ^= 1 << bit;
                assert!(LeafPage::decode(bent).is_err(), "bit {bit} of byte {at}");
            }
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(LeafPage::decode(longer).is_err());
    }
}

/// With the right checksum: who made these bytes meant harm.
#[test]
fn hostile_bytes_never_panic() {
    let reseal = |bytes: &mut Vec<u8>| {
        let end = bytes.len() - 4;
        let sum = hash::crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&sum.to_le_bytes());
    };
    let mut random = Random(5);
    let mut accepted = 0;
    let mut attempt = |mut bytes: Vec<u8>| {
        reseal(&mut bytes);
        if let Ok(page) = LeafPage::decode(bytes) {
            accepted += 1;
            (0..=LEAF_BLOCKS).for_each(|at| assert_eq!(page.get(at).map(|entry| entry.version), page.version(at)));
            assert_eq!(page.entries().count(), page.mapped());
            let entries: Entries = (0..LEAF_BLOCKS).map(|position| page.get(position)).collect();
            assert_same(&entries, &LeafPage::encode(&entries));
            assert_eq!(page.state_hash(), naive_hash(&entries));
        }
    };
    for bytes in samples() {
        for at in 0..bytes.len().min(700) {
            for value in [0, 1, 0x7f, 0xff, bytes[at] ^ 0x40] {
                let mut bent = bytes.clone();
                bent[at] = value;
                attempt(bent);
            }
        }
        (16..bytes.len()).step_by(7).for_each(|length| attempt(bytes[..length].to_vec()));
        for _ in 0..2000 {
            let mut bent = bytes.clone();
            for _ in 0..1 + random.below(6) {
                let at = random.below(bytes.len() as u64) as usize;
                bent[at] = random.next() as u8;
            }
            attempt(bent);
        }
    }
    assert!(accepted > 100, "the test must also reach what follows a page that decodes");
}

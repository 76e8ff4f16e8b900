//! The index and the state tree: §7.

use std::collections::BTreeMap;

use super::Files;
use super::primitives::{Bytes, blake3, crc32c};

/// What the index says of a mapped block.
pub struct Mapped {
    pub seq: u64,
    pub epoch: u64,
    pub period: u32,
    pub segment: u32,
    pub offset: u32,
    pub shape: u16,
}

/// Reads the tree below its root page, checks every hash on the way, and gives how many leaves there are.
pub fn read_tree(files: &Files, root: (u32, u64, u32), hash: [u8; 32], mapped: &mut BTreeMap<u64, Mapped>) -> usize {
    read_below(files, 4, 0, root, hash, mapped)
}

fn read_below(
    files: &Files,
    level: u8,
    number: u64,
    (file, offset, bytes): (u32, u64, u32),
    expected: [u8; 32],
    mapped: &mut BTreeMap<u64, Mapped>,
) -> usize {
    let page = &files[&format!("idx-{file:08x}")][offset as usize..offset as usize + bytes as usize];
    assert_eq!(crc32c(&page[..page.len() - 4]).to_le_bytes(), page[page.len() - 4..]);
    if level == 0 {
        assert_eq!(read_leaf(page, number, mapped), expected, "leaf {number} has the state that its parent says");
        return 1;
    }
    let mut from = Bytes::new(page);
    assert_eq!((from.take(4), from.u8(), from.u8()), (b"HFnd".as_slice(), 1, level));
    let (count, present): (u16, [u8; 32]) = (from.u16(), from.array());
    let children: Vec<u8> = (0..=255).filter(|index| bit(&present, usize::from(*index))).collect();
    assert_eq!(children.len(), usize::from(count));
    let mut canonical = vec![level];
    let mut leaves = 0;
    for index in children {
        let child = (from.u32(), from.u64(), from.u32());
        let hash: [u8; 32] = from.array();
        canonical.push(index);
        canonical.extend_from_slice(&hash);
        leaves += read_below(files, level - 1, number << 8 | u64::from(index), child, hash, mapped);
    }
    from.take(4);
    from.end();
    assert_eq!(blake3("holdfast v1 state tree node", &[&canonical]), expected, "node {number} of level {level}");
    leaves
}

fn bit(bits: &[u8], at: usize) -> bool {
    bits[at / 8] >> (at % 8) & 1 == 1
}

/// `width` bits, `rank` numbers further on.
fn packed(bits: &[u8], width: u8, rank: usize) -> u64 {
    let start = rank * usize::from(width);
    (0..usize::from(width)).filter(|place| bit(bits, start + place)).fold(0, |number, place| number | 1 << place)
}

fn read_leaf(page: &[u8], number: u64, mapped: &mut BTreeMap<u64, Mapped>) -> [u8; 32] {
    let mut from = Bytes::new(page);
    assert_eq!((from.take(4), from.u8(), from.u8()), (b"HFlf".as_slice(), 1, 0));
    let (count, present): (u16, [u8; 64]) = (from.u16(), from.array());
    let positions: Vec<usize> = (0..512).filter(|position| bit(&present, *position)).collect();
    assert_eq!(positions.len(), usize::from(count));
    let columns: [(u64, u16, u8); 4] = [(); 4].map(|()| (from.u64(), from.u16(), from.u8()));
    let (epochs, periods) = (from.u16(), from.u16());
    let epochs: Vec<u64> = (0..epochs).map(|_| from.u64()).collect();
    let periods: Vec<u32> = (0..periods).map(|_| from.u32()).collect();
    let width_of = |size: usize| (usize::BITS - (size - 1).leading_zeros()) as u8;
    let mut column = |base: u64, slope: u16, width: u8| -> Vec<u64> {
        let bits = from.take((usize::from(width) * positions.len()).div_ceil(8));
        let number =
            |rank: usize| base.wrapping_add(u64::from(slope) * rank as u64).wrapping_add(packed(bits, width, rank));
        (0..positions.len()).map(number).collect()
    };
    let [seqs, segments, offsets, shapes] = columns.map(|(base, slope, width)| column(base, slope, width));
    let epoch_numbers = column(0, 0, width_of(epochs.len()));
    let period_numbers = column(0, 0, width_of(periods.len()));
    from.zeros(4);
    from.take(4);
    from.end();
    let (mut canonical, mut runs, mut last) = (vec![0; 8 * 512], Vec::new(), None);
    for (rank, position) in positions.into_iter().enumerate() {
        let (seq, epoch) = (seqs[rank], epochs[epoch_numbers[rank] as usize]);
        canonical[8 * position..8 * position + 8].copy_from_slice(&seq.to_le_bytes());
        if last != Some(epoch) {
            last = Some(epoch);
            runs.extend_from_slice(&(position as u16).to_le_bytes());
            runs.extend_from_slice(&epoch.to_le_bytes());
        }
        let place = Mapped {
            seq,
            epoch,
            period: periods[period_numbers[rank] as usize],
            segment: segments[rank].try_into().unwrap(),
            offset: u32::try_from(offsets[rank]).unwrap() * 16,
            shape: shapes[rank].try_into().unwrap(),
        };
        mapped.insert(number * 512 + position as u64, place);
    }
    blake3("holdfast v1 state tree leaf", &[&canonical, &runs])
}

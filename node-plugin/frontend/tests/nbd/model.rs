//! Random operations from several connections at once, against what each knows must be there.
//!
//! Each connection owns places that lie between the others' places, many of them inside of the same block: whatever the
//! others do at the same time, its own bytes must be what it wrote last.

use std::sync::atomic::Ordering;

use crate::client::*;
use crate::memory::{Memory, Numbers};
use crate::place::Place;

const CLIENTS: u64 = 4;
const SIZE: u64 = 4 << 20;

/// Sectors of 512 bytes, dealt out in turn: eight to a block, so each block belongs to every client.
#[test]
fn neighbours_in_one_block_do_not_undo_each_other() {
    let place = Place::new(Memory::new(SIZE as usize));
    place.memory.is_busy.store(true, Ordering::Relaxed);
    std::thread::scope(|scope| {
        for at in 0..CLIENTS {
            let place = &place;
            scope.spawn(move || sectors(&mut place.connect(at % 2 == 0), at));
        }
    });
}

fn sectors(client: &mut Client, at: u64) {
    let mut numbers = Numbers(at + 100);
    // Few blocks, so that they meet.
    let mut model = [0_u8; 16];
    for _ in 0..1500 {
        let sector = numbers.below(16) as usize;
        let offset = (sector as u64 * CLIENTS + at) * 512;
        match numbers.below(4) {
            0 => assert_eq!(client.read(offset, 512), [model[sector]; 512], "client {at}, sector {sector}"),
            1 => {
                assert_eq!(client.call(0, ZEROES, offset, 512, b"").error, 0);
                model[sector] = 0;
            }
            _ => {
                model[sector] = numbers.next() as u8;
                client.write(offset, &[model[sector]; 512]);
            }
        }
    }
}

/// One writes whole blocks while another changes parts of others' blocks in long unaligned runs.
#[test]
fn every_kind_of_operation_agrees_with_a_model() {
    let place = Place::new(Memory::with_power_cuts(SIZE as usize));
    place.memory.is_busy.store(true, Ordering::Relaxed);
    let share = SIZE / CLIENTS;
    std::thread::scope(|scope| {
        for at in 0..CLIENTS {
            let place = &place;
            // The borders lie inside of blocks, so that neighbours share one.
            let start = if at == 0 { 0 } else { at * share + 100 * at };
            let end = if at + 1 == CLIENTS { SIZE } else { (at + 1) * share + 100 * (at + 1) };
            scope.spawn(move || operations(place, at, start, end));
        }
    });
    let mut client = place.connect(true);
    assert!(client.read(0, SIZE as u32) == *place.memory.bytes.read());
    assert_eq!(client.call(0, FLUSH, 0, 0, b"").error, 0);
    assert!(*place.memory.durable.lock() == *place.memory.bytes.read());
}

fn operations(place: &Place, at: u64, start: u64, end: u64) {
    let mut client = place.connect(at % 2 == 1);
    let mut numbers = Numbers(at + 1);
    let mut model = vec![0_u8; (end - start) as usize];
    for step in 0..600 {
        let whole = numbers.below(2) == 0;
        let unit = if whole { 4096 } else { 1 };
        let first = (start.div_ceil(unit) + numbers.below((end - start) / unit - 1)) * unit;
        let length = (1 + numbers.below((end - first).min(150_000) / unit)) * unit;
        let length = length.min(if numbers.below(3) == 0 { 1 << 20 } else { 8192 }).min(end - first);
        let range = (first - start) as usize..(first - start + length) as usize;
        let flags = if numbers.below(16) == 0 { FUA } else { 0 };
        let zero_flags = flags | if numbers.below(2) == 0 { NO_HOLE } else { 0 };
        match numbers.below(10) {
            0..4 => {
                assert!(client.read(first, length as u32) == model[range], "client {at} step {step}: {first} {length}");
                continue;
            }
            4..8 => {
                let bytes = numbers.bytes(length as usize);
                assert_eq!(client.call(flags, WRITE, first, length as u32, &bytes).error, 0);
                model[range.clone()].copy_from_slice(&bytes);
            }
            8 => {
                assert_eq!(client.call(zero_flags, ZEROES, first, length as u32, b"").error, 0);
                model[range.clone()].fill(0);
            }
            _ => {
                assert_eq!(client.call(flags, TRIM, first, length as u32, b"").error, 0);
                let (from, to) = (first.div_ceil(4096) * 4096, (first + length) / 4096 * 4096);
                if from < to {
                    model[(from - start) as usize..(to - start) as usize].fill(0);
                }
            }
        }
        assert!(client.read(first, length as u32) == model[range], "client {at} step {step}");
    }
    assert!(client.read(start, (end - start) as u32) == model);
}

/// Many at once in flight on one connection; what overlaps is not, and each answer is checked.
#[test]
fn a_deep_pipeline_agrees_with_a_model() {
    let place = Place::new(Memory::new(SIZE as usize));
    place.memory.is_busy.store(true, Ordering::Relaxed);
    for structured in [false, true] {
        let mut client = place.connect(structured);
        let mut numbers = Numbers(5);
        for _ in 0..60 {
            // Pieces of 1000 bytes next to each other: most share blocks with their neighbours.
            let values: Vec<u8> = (0..100).map(|_| numbers.next() as u8).collect();
            for (at, value) in values.iter().enumerate() {
                client.send(0, WRITE, at as u64, 300 + at as u64 * 1000, 1000, &[*value; 1000]);
            }
            for _ in &values {
                assert_eq!(client.next_message(|_| (0, 0)).0.error, 0);
            }
            let all = client.read(300, 100_000);
            assert!(all.chunks(1000).zip(&values).all(|(bytes, value)| bytes.iter().all(|byte| byte == value)));
        }
    }
}

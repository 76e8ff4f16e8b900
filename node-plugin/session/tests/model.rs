//! The session against a map from block to bytes, through every operation in any order, with crashes between.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use holdfast_log::period::Compression;
use holdfast_log::seam::Replica;
use holdfast_session::Session;
use holdfast_vocabulary::{BLOCK_BYTES, VolumeSize};
use proptest::prelude::*;
use support::memory::Memory;
use support::{BLOCK, World, pattern};

const BLOCKS_MAX: u64 = 1600;

#[derive(Clone, Debug)]
enum Op {
    Write {
        block: u64,
        count: u64,
        number: u64,
    },
    Discard {
        block: u64,
        count: u64,
    },
    Read {
        block: u64,
        count: u64,
    },
    Flush,
    Advance,
    Anchor,
    Tick {
        seconds: u64,
    },
    Resize {
        more: u64,
    },
    Scrub,
    Close,
    /// Power off; so many of the groups that were not synced are found again.
    Crash {
        keep: usize,
    },
}

fn ops() -> impl Strategy<Value = Op> {
    // Three places, so that operations meet, in leaves that are near and far.
    let block = prop_oneof![0..40_u64, 490..540_u64, 1000..BLOCKS_MAX];
    let count = prop_oneof![4 => 1..4_u64, 1 => 1..40_u64];
    let wide = prop_oneof![2 => 1..30_u64, 1 => 1..900_u64];
    prop_oneof![
        12 => (block.clone(), count, any::<u64>())
            .prop_map(|(block, count, number)| Op::Write { block, count, number }),
        4 => (block.clone(), wide.clone()).prop_map(|(block, count)| Op::Discard { block, count }),
        6 => (block, wide).prop_map(|(block, count)| Op::Read { block, count }),
        3 => Just(Op::Flush),
        2 => Just(Op::Advance),
        1 => Just(Op::Anchor),
        1 => (0..8_u64).prop_map(|seconds| Op::Tick { seconds }),
        1 => (0..200_u64).prop_map(|more| Op::Resize { more }),
        1 => Just(Op::Scrub),
        1 => Just(Op::Close),
        2 => (0..5_usize).prop_map(|keep| Op::Crash { keep }),
    ]
}

/// One record of the log: what became of which blocks.
#[derive(Clone, Copy)]
struct Record {
    block: u64,
    count: u64,
    number: Option<u64>,
}

/// What the volume must hold, and how it came to it.
struct Model {
    records: Vec<Record>,
    blocks: Vec<Option<u64>>,
    flushed: usize,
}

impl Model {
    fn push(&mut self, record: Record) {
        self.records.push(record);
        self.apply(record);
    }

    fn apply(&mut self, record: Record) {
        for block in record.block..record.block + record.count {
            self.blocks[block as usize] = record.number;
        }
    }

    /// Back to the state after the first records.
    fn cut(&mut self, records: usize) {
        assert!(records >= self.flushed, "a flush of {} records was acknowledged, {records} are left", self.flushed);
        self.records.truncate(records);
        self.blocks.fill(None);
        for record in self.records.clone() {
            self.apply(record);
        }
    }

    fn expected(&self, block: u64) -> Vec<u8> {
        self.blocks[block as usize].map_or_else(|| vec![0; BLOCK_BYTES], pattern)
    }

    fn compare(&self, session: &Session, block: u64, count: u64) {
        let mut bytes = vec![0xee; (count * BLOCK) as usize];
        session.read(block * BLOCK, &mut bytes).unwrap();
        for (position, got) in bytes.chunks(BLOCK_BYTES).enumerate() {
            let block = block + position as u64;
            assert!(got == self.expected(block), "block {block} should be {:?}", self.blocks[block as usize]);
        }
    }
}

struct Run {
    world: World,
    replica: Arc<Memory>,
    session: Option<Session>,
    model: Model,
    size: u64,
}

impl Run {
    fn step(&mut self, op: &Op) {
        let size = self.size;
        let clip = |block: u64, count: u64| count.min(size.saturating_sub(block));
        let session = self.session.as_ref().unwrap();
        match *op {
            Op::Write { block, count, number } => {
                let count = clip(block, count);
                if block >= size {
                    return;
                }
                let numbers = || (0..count).map(|offset| number.wrapping_add(offset));
                let bytes: Vec<u8> = numbers().flat_map(pattern).collect();
                session.write(block * BLOCK, &bytes).unwrap();
                for (offset, number) in numbers().enumerate() {
                    let block = block + offset as u64;
                    self.model.push(Record { block, count: 1, number: Some(number) });
                }
            }
            Op::Discard { block, count } => {
                let count = clip(block, count);
                if block >= size || count == 0 {
                    return;
                }
                session.discard(block * BLOCK, count * BLOCK).unwrap();
                self.model.push(Record { block, count, number: None });
            }
            Op::Read { block, count } if block < size => self.model.compare(session, block, clip(block, count)),
            Op::Read { .. } => {}
            Op::Flush => {
                session.flush().unwrap();
                self.model.flushed = self.model.records.len();
            }
            Op::Advance => {
                session.checkpoint().unwrap();
                self.model.flushed = self.model.records.len();
            }
            Op::Anchor => {
                let anchor = session.anchor_now().unwrap();
                self.model.flushed = self.model.records.len();
                assert_eq!(anchor.seq.0 as usize, self.model.flushed);
            }
            Op::Tick { seconds } => {
                self.world.clock.advance(std::time::Duration::from_secs(seconds));
                session.tick().unwrap();
            }
            Op::Resize { more } => {
                self.size = (size + more).min(BLOCKS_MAX);
                session.resize(VolumeSize::from_bytes(self.size * BLOCK).unwrap()).unwrap();
            }
            Op::Scrub => {
                let report = session.scrub().unwrap();
                let mapped = self.model.blocks.iter().flatten().count() as u64;
                assert_eq!((report.blocks, report.findings), (mapped, vec![]));
                self.model.flushed = self.model.records.len();
            }
            Op::Close => {
                session.close().unwrap();
                self.model.flushed = self.model.records.len();
                self.reopen();
            }
            Op::Crash { keep } => {
                self.session = None;
                self.replica = self.replica.crash(keep);
                self.model.cut(self.replica.report().head.0 as usize);
                self.reopen();
            }
        }
    }

    fn reopen(&mut self) {
        self.session = None;
        self.session = Some(self.world.open(&self.replica).unwrap());
        self.model.flushed = self.model.records.len();
    }
}

fn run(seed: u64, group_records: usize, compression: Compression, budget: usize, ops: &[Op]) {
    let mut world = World::new(seed);
    world.limits.group_records = group_records;
    world.compression = compression;
    world.budget = Arc::new(holdfast_ports::budget::MemoryBudget::new(budget));
    let replica = Arc::new(Memory::new());
    let size = 1100;
    world.create(&replica, size);
    let session = Some(world.open(&replica).unwrap());
    let model = Model { records: Vec::new(), blocks: vec![None; BLOCKS_MAX as usize], flushed: 0 };
    let mut run = Run { world, replica, session, model, size };
    ops.iter().for_each(|op| run.step(op));
    run.model.compare(run.session.as_ref().unwrap(), 0, run.size);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 3000, ..ProptestConfig::default() })]

    #[test]
    fn the_volume_is_a_map_of_blocks_and_after_a_crash_a_prefix_of_its_history(
        seed in any::<u64>(),
        group_records in prop_oneof![1..8_usize, Just(256)],
        compression in prop_oneof![Just(Compression::None), Just(Compression::Lz4)],
        budget in prop_oneof![Just(0_usize), Just(8 << 20)],
        ops in prop::collection::vec(ops(), 1..60),
    ) {
        run(seed, group_records, compression, budget, &ops);
    }
}

#[test]
fn the_same_calls_give_the_same_log_byte_by_byte() {
    let log = || {
        let mut world = World::new(9);
        let replica = Arc::new(Memory::new());
        world.create(&replica, 1000);
        let session = world.open(&replica).unwrap();
        for step in 0..500_u64 {
            session.write(step * 37 % 1000 * BLOCK, &pattern(step)).unwrap();
            if step % 50 == 7 {
                session.discard(step % 300 * BLOCK, 100 * BLOCK).unwrap();
            }
            if step % 120 == 5 {
                session.checkpoint().unwrap();
            }
        }
        session.flush().unwrap();
        let report = replica.report();
        (report.chain, report.root)
    };
    assert_eq!(log(), log());
}

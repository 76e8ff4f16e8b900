//! The index against a map, through any sequence of operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_disk::{Disk, MemoryDisk};
use holdfast_log::place::{Entry, Place};
use holdfast_ports::budget::MemoryBudget;
use holdfast_vocabulary::{BlockIndex, Seq};
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::{prop_assert_eq, proptest};

use super::{contents, entry, merge, mix, place, version};
use crate::index::{Index, IndexError, IndexRoot};

/// Few blocks, so that operations meet: neighbours, leaf and node borders, and the last block there can be.
fn blocks() -> Vec<u64> {
    let mut blocks: Vec<u64> = (0..6).collect();
    blocks.extend([511, 512, 513, 1024, (1 << 17) - 1, 1 << 17, 1 << 25, (1 << 33) + 5, (1 << 40) - 1]);
    blocks
}

#[derive(Clone, Debug)]
enum Step {
    /// Writes a block; `late` lets an older seq come after newer ones.
    Put {
        block: usize,
        late: u64,
    },
    /// Unmaps from one block to another.
    Unmap {
        first: usize,
        last: usize,
        late: u64,
    },
    /// Moves a block; a wrong place or version must change nothing.
    Relocate {
        block: usize,
        wrong_version: bool,
        wrong_place: bool,
    },
    /// Says the last relocation again, as a replay does.
    RelocateAgain,
    /// Puts a version again that is there, at the place where it was first.
    PutAgain {
        block: usize,
    },
    Freeze,
    MergeSome {
        leaves: usize,
    },
    MergeFinish,
    Abandon,
    /// Crash: what is above the base is replayed.
    Reopen,
    /// Sweeps unused files, with the last roots that a checkpoint could name.
    Sweep,
    /// Everything cached goes.
    Squeeze,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let block = 0..blocks().len();
    let late = prop_oneof![5 => Just(0u64), 1 => 1..12u64];
    let put = (block.clone(), late.clone()).prop_map(|(block, late)| Step::Put { block, late });
    let unmap = (block.clone(), block.clone(), late);
    let relocate = (block.clone(), proptest::bool::weighted(0.1), proptest::bool::weighted(0.1));
    let step = prop_oneof![
        10 => put,
        3 => unmap.prop_map(|(one, other, late)| Step::Unmap { first: one.min(other), last: one.max(other), late }),
        8 => relocate.prop_map(|(block, wrong_version, wrong_place)| {
            Step::Relocate { block, wrong_version, wrong_place }
        }),
        1 => Just(Step::RelocateAgain),
        1 => block.prop_map(|block| Step::PutAgain { block }),
        3 => Just(Step::Freeze),
        4 => (1..4usize).prop_map(|leaves| Step::MergeSome { leaves }),
        3 => Just(Step::MergeFinish),
        1 => Just(Step::Abandon),
        1 => Just(Step::Reopen),
        1 => Just(Step::Sweep),
        1 => Just(Step::Squeeze),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What the log says, in the plainest way: each block's newest change.
#[derive(Clone, Default)]
struct Model {
    blocks: BTreeMap<u64, (u64, Option<Entry>)>,
}

impl Model {
    fn set(&mut self, block: u64, seq: u64, entry: Option<Entry>) {
        let slot = self.blocks.entry(block).or_insert((0, None));
        if seq > slot.0 {
            *slot = (seq, entry);
        }
    }

    fn entry(&self, block: u64) -> Option<Entry> {
        self.blocks.get(&block).and_then(|slot| slot.1)
    }

    fn mapped(&self) -> BTreeMap<u64, Entry> {
        self.blocks.iter().filter_map(|(&block, slot)| Some((block, slot.1?))).collect()
    }
}

/// One call that changed the index, to be made again after a crash.
#[derive(Clone, Copy)]
enum Call {
    Put(u64, Entry),
    Unmap(u64, u64, u64),
    Relocate(u64, u64, Place, Place),
}

struct World {
    disk: Arc<dyn Disk>,
    budget: MemoryBudget,
    index: Index,
    model: Model,
    /// As of the freeze that is under way.
    frozen: Option<Model>,
    base: Model,
    root: IndexRoot,
    older_root: IndexRoot,
    /// All calls since the base was frozen, and since the freeze that is under way.
    calls: Vec<Call>,
    calls_at_freeze: usize,
    used: Vec<u64>,
    seq: u64,
    floor: u64,
    places: u64,
}

impl World {
    fn new() -> Self {
        let disk = MemoryDisk::new().handle();
        let budget = MemoryBudget::new(1 << 20);
        let index = Index::empty(Arc::clone(&disk), &budget).unwrap();
        Self {
            disk,
            budget,
            index,
            model: Model::default(),
            frozen: None,
            base: Model::default(),
            root: IndexRoot::default(),
            older_root: IndexRoot::default(),
            calls: Vec::new(),
            calls_at_freeze: 0,
            used: Vec::new(),
            seq: 0,
            floor: 0,
            places: 0,
        }
    }

    /// The next seq, or one that was left out before and that no base covers.
    fn seq(&mut self, late: u64) -> u64 {
        let wanted = self.seq.saturating_sub(late);
        let free = (self.floor + 1..=wanted).rev().find(|seq| !self.used.contains(seq));
        let seq = match free {
            Some(seq) if late > 0 => seq,
            // Every third seq is left out at first.
            _ => self.seq + 1 + u64::from(mix(self.seq).is_multiple_of(3)),
        };
        self.seq = self.seq.max(seq);
        self.used.push(seq);
        seq
    }

    fn fresh_place(&mut self) -> Place {
        self.places += 257;
        place(self.places)
    }

    fn call(&self, call: Call) {
        match call {
            Call::Put(block, entry) => self.index.put(BlockIndex(block), entry),
            Call::Unmap(first, count, seq) => self.index.unmap(BlockIndex(first), count, version(seq)),
            Call::Relocate(block, seq, from, to) => self.index.relocate(BlockIndex(block), version(seq), from, to),
        }
    }

    fn make(&mut self, call: Call) {
        self.call(call);
        self.calls.push(call);
        match call {
            Call::Put(block, entry) => self.model.set(block, entry.version.seq.0, Some(entry)),
            Call::Unmap(first, count, seq) => {
                for block in blocks().into_iter().filter(|block| (first..first + count).contains(block)) {
                    self.model.set(block, seq, None);
                }
            }
            Call::Relocate(block, seq, from, to) => {
                if let Some((known, Some(entry))) = self.model.blocks.get_mut(&block)
                    && *known == seq
                    && entry.place == from
                {
                    entry.place = to;
                }
            }
        }
    }

    fn step(&mut self, step: &Step) {
        let all = blocks();
        match *step {
            Step::Put { block, late } => {
                let seq = self.seq(late);
                let place = self.fresh_place();
                self.make(Call::Put(all[block], entry(seq, place)));
            }
            Step::Unmap { first, last, late } => {
                let seq = self.seq(late);
                self.make(Call::Unmap(all[first], all[last] - all[first] + 1, seq));
            }
            Step::Relocate { block, wrong_version, wrong_place } => {
                let known = self.model.entry(all[block]);
                let seq = known.map_or(1, |entry| entry.version.seq.0) + u64::from(wrong_version);
                let from = known.filter(|_| !wrong_place).map_or(place(3), |entry| entry.place);
                let to = self.fresh_place();
                self.make(Call::Relocate(all[block], seq, from, to));
            }
            Step::RelocateAgain => {
                if let Some(&call) = self.calls.iter().rev().find(|call| matches!(call, Call::Relocate(..))) {
                    self.make(call);
                }
            }
            Step::PutAgain { block } => {
                if let Some(entry) = self.model.entry(all[block])
                    && let Some(&call) = self.calls.iter().find(
                        |call| matches!(call, Call::Put(at, put) if *at == all[block] && put.version == entry.version),
                    )
                {
                    self.make(call);
                }
            }
            Step::Freeze => {
                let frozen = self.index.freeze(Seq(self.seq));
                assert_eq!(frozen.is_ok(), self.frozen.is_none());
                if frozen.is_ok() {
                    self.frozen = Some(self.model.clone());
                    self.calls_at_freeze = self.calls.len();
                    self.floor = self.seq;
                }
            }
            Step::MergeSome { leaves } => {
                let merged =
                    self.index.merge_step(leaves, &mut |_: BlockIndex, _: Option<&Entry>, _: Option<&Entry>| ());
                assert_eq!(matches!(merged, Err(IndexError::OutOfOrder(_))), self.frozen.is_none());
            }
            Step::MergeFinish => self.finish(),
            Step::Abandon => {
                self.index.merge_abandon();
                if self.frozen.take().is_some() {
                    self.floor = self.base_through();
                }
            }
            Step::Reopen => self.reopen(),
            Step::Sweep => drop(self.index.remove_files_not_in(&[&self.root, &self.older_root]).unwrap()),
            Step::Squeeze => {
                let all = self.budget.charge(1 << 30);
                self.budget.relieve();
                assert_eq!((self.index.stats().cached_leaves, self.index.stats().cached_nodes), (0, 0));
                drop(all);
            }
        }
    }

    fn base_through(&self) -> u64 {
        self.root.through.0
    }

    fn finish(&mut self) {
        let Some(frozen) = self.frozen.take() else {
            assert!(matches!(self.index.merge_finish(), Err(IndexError::OutOfOrder(_))));
            return;
        };
        let (root, _) = merge(&self.index, 2);
        assert_eq!(IndexRoot::decode(&root.encode()), Ok(root.clone()));
        self.older_root = std::mem::replace(&mut self.root, root);
        self.base = frozen;
        self.calls.drain(..self.calls_at_freeze);
    }

    fn reopen(&mut self) {
        let root = IndexRoot::decode(&self.root.encode()).unwrap();
        self.index = Index::open(Arc::clone(&self.disk), &root, &self.budget).unwrap();
        self.frozen = None;
        self.floor = self.base_through();
        self.calls.iter().for_each(|&call| self.call(call));
    }

    fn check(&self) {
        for block in blocks() {
            assert_eq!(self.index.lookup(BlockIndex(block)).unwrap(), self.model.entry(block), "block {block}");
        }
        let mut range = Vec::new();
        self.index.lookup_range(BlockIndex(0), 1030, &mut range).unwrap();
        let expected: Vec<_> = (0..1030).map(|block| self.model.entry(block)).collect();
        assert_eq!(range, expected);
    }

    fn check_base(&self) {
        assert_eq!(contents(&self.index), self.base.mapped());
        let report = self.index.verify();
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(report.mapped as usize, self.base.mapped().len());
        assert_eq!(report.root, self.root);
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 400, ..Default::default() })]

    #[test]
    fn the_index_is_a_map(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.check_base();
        if world.frozen.is_some() {
            world.finish();
        }
        world.step(&Step::Freeze);
        let before = contents(&world.index);
        let (root, told) = merge(&world.index, 3);
        // Who starts from the old base and does what it was told has the new one.
        let mut followed = before;
        for (block, old, new) in told {
            prop_assert_eq!(followed.get(&block).copied(), old);
            match new {
                Some(new) => drop(followed.insert(block, new)),
                None => drop(followed.remove(&block)),
            }
        }
        prop_assert_eq!(&followed, &contents(&world.index));
        prop_assert_eq!(followed, world.model.mapped());
        prop_assert_eq!(world.index.records(), 0);

        // The state says what the versions are, and not how they came to be.
        let other = Index::empty(MemoryDisk::new().handle(), &world.budget).unwrap();
        for (block, entry) in world.model.mapped() {
            world.places += 1;
            other.put(BlockIndex(block), Entry { place: place(world.places), ..entry });
        }
        other.freeze(Seq(world.seq)).unwrap();
        let (straight, _) = merge(&other, 100);
        prop_assert_eq!(straight.hash, root.hash);
        prop_assert_eq!(straight.root.is_some(), root.root.is_some());

        drop((other, world.index));
        prop_assert_eq!(world.budget.used(), 0, "what was charged was given back");
    }
}

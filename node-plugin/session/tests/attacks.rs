//! An evil replica: every lie about a block, a page or the log is a precise error, and never wrong bytes.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use holdfast_log::anchor::SignedRoot;
use holdfast_log::group::GroupBody;
use holdfast_log::hash::ChainHash;
use holdfast_log::place::Shape;
use holdfast_log::seam::{Replica, Report, SealedHeader};
use holdfast_session::{BlockFault, LogProblem, OpenError, Session, SessionError, TreeFault};
use holdfast_vocabulary::{BLOCK_BYTES, BlockIndex, Epoch, PeriodNumber, Seq, VolumeId};
use support::evil::Evil;
use support::memory::{Memory, leaf_page};
use support::{BLOCK, World, pattern, read, write};

/// A volume with blocks 0..40 and 600..640, some of them in a base, some above it.
struct Scene {
    world: World,
    replica: Arc<Evil>,
}

impl Scene {
    fn new(in_base: bool) -> Self {
        let mut world = World::new(3);
        let replica = Evil::new(Memory::new());
        world.create(&replica.inner, 2000);
        let session = world.open(&replica).unwrap();
        for block in (0..40).chain(600..640) {
            write(&session, block, 10_000 + block);
        }
        session.flush().unwrap();
        if in_base {
            session.checkpoint().unwrap();
        }
        for block in 0..40 {
            write(&session, block, 20_000 + block);
        }
        session.flush().unwrap();
        if in_base {
            session.checkpoint().unwrap();
        }
        session.anchor_now().unwrap();
        drop(session);
        Self { world, replica }
    }

    fn open(&mut self) -> Session {
        self.world.open(&self.replica).unwrap()
    }

    fn refused(&mut self) -> OpenError {
        self.world.open(&self.replica).map(|_| "it was opened").unwrap_err()
    }
}

/// Reads a block that must fail, and gives the fault. Nothing of it may be left in the caller's memory.
fn fault(session: &Session, block: u64) -> BlockFault {
    let mut bytes = vec![0xaa; BLOCK_BYTES];
    let error = session.read(block * BLOCK, &mut bytes).unwrap_err();
    assert!(bytes.iter().all(|byte| *byte == 0), "unauthenticated bytes were left behind");
    let SessionError::NotAuthentic { block: named, fault, .. } = error else { panic!("{error}") };
    assert_eq!(named, BlockIndex(block));
    fault
}

#[test]
fn an_old_version_with_its_true_tag_is_refused_whether_its_successor_is_in_the_base_or_above() {
    for in_base in [false, true] {
        let mut world = World::new(3);
        let replica = Evil::new(Memory::new());
        world.create(&replica.inner, 100);
        let session = world.open(&replica).unwrap();
        write(&session, 7, 1);
        session.flush().unwrap();
        let old = replica.inner.stored(7);
        write(&session, 7, 2);
        session.flush().unwrap();
        if in_base {
            session.checkpoint().unwrap();
        }
        let version = old.as_ref().unwrap().version;
        replica.lie_read(move |(block, now)| (block, if block == 7 { old.clone() } else { now }));
        let found = fault(&session, 7);
        let BlockFault::Version { expected: Some(expected), got: Some(got) } = found else { panic!("{found}") };
        assert_eq!((expected.seq, got), (Seq(2), version));
        // The same lie with the new version's numbers on it fails to open.
        let truth = replica.inner.stored(7).unwrap();
        let mut dressed = replica.inner.stored(7).unwrap();
        dressed.ciphertext = vec![0; BLOCK_BYTES];
        dressed.version = truth.version;
        replica.lie_read(move |(block, _)| (block, Some(dressed.clone())));
        assert!(matches!(fault(&session, 7), BlockFault::Seal { .. }));
        replica.honest();
        assert_eq!(read(&session, 7), pattern(2));
    }
}

#[test]
fn swapped_moved_missing_and_invented_blocks_are_refused() {
    for in_base in [false, true] {
        let mut scene = Scene::new(in_base);
        let session = scene.open();
        let inner = |block| scene.replica.inner.stored(block).unwrap();
        let (three, four) = (inner(3), inner(4));
        // Another block's record, with and without the right version on it.
        let moved = four.clone();
        scene.replica.lie_read(move |(block, _)| (block, Some(moved.clone())));
        assert!(matches!(fault(&session, 3), BlockFault::Version { .. }));
        let mut moved = four.clone();
        moved.version = three.version;
        scene.replica.lie_read(move |(block, _)| (block, Some(moved.clone())));
        assert!(matches!(fault(&session, 3), BlockFault::Seal { .. }));
        // Two blocks swapped in one answer: the first is named, and a long read gives nothing of either.
        let swap = [four, three.clone()];
        scene.replica.lie_read(move |(block, now)| match block {
            3 => (3, Some(swap[0].clone())),
            4 => (4, Some(swap[1].clone())),
            _ => (block, now),
        });
        let mut bytes = vec![1; 10 * BLOCK_BYTES];
        let error = session.read(0, &mut bytes).unwrap_err();
        assert!(matches!(error, SessionError::NotAuthentic { block: BlockIndex(3), .. }), "{error}");
        assert!(bytes.iter().all(|byte| *byte == 0));
        // False zeros, said and unsaid.
        scene.replica.lie_read(|(block, _)| (block, None));
        let lost = BlockFault::Version { expected: Some(three.version), got: None };
        assert_eq!(fault(&session, 3), lost);
        scene.replica.lie_read(|(_, now)| (u64::MAX, now));
        assert_eq!(fault(&session, 3), lost);
        // Something where nothing is: seen when a run passes over it, and never handed out.
        write(&session, 50, 1);
        write(&session, 52, 2);
        session.flush().unwrap();
        let invented = inner(50);
        let got = Some(invented.version);
        scene.replica.lie_read(move |(block, now)| (block, if block == 51 { Some(invented.clone()) } else { now }));
        let error = session.read(50 * BLOCK, &mut vec![0; 3 * BLOCK_BYTES]).unwrap_err();
        let fault = BlockFault::Version { expected: None, got };
        assert_eq!(error, SessionError::NotAuthentic { block: BlockIndex(51), at: None, fault });
        assert_eq!(read(&session, 51), vec![0; BLOCK_BYTES]);
        // Answers for blocks that nobody asked for change nothing.
        let stray = inner(3);
        scene.replica.lie_read(move |(block, now)| if block == 9 { (3, Some(stray.clone())) } else { (block, now) });
        assert_eq!(read(&session, 8), pattern(20_008));
        assert!(session.read(9 * BLOCK, &mut vec![0; BLOCK_BYTES]).is_err());
    }
}

#[test]
fn a_flipped_bit_in_any_field_of_a_block_is_refused() {
    for in_base in [false, true] {
        let mut scene = Scene::new(in_base);
        let session = scene.open();
        let truth = scene.replica.inner.stored(5).unwrap();
        let mut lies = Vec::new();
        for bit in [0, 7, 9_000, 32_767] {
            let mut lie = truth.clone();
            lie.ciphertext[bit / 8] ^= 1 << (bit % 8);
            lies.push(lie);
        }
        for bit in 0..128 {
            let mut lie = truth.clone();
            lie.tag[bit / 8] ^= 1 << (bit % 8);
            lies.push(lie);
        }
        for bit in 0..64 {
            let (mut seq, mut epoch) = (truth.clone(), truth.clone());
            seq.version.seq = Seq(seq.version.seq.0 ^ 1 << bit);
            epoch.version.epoch = Epoch(epoch.version.epoch.0 ^ 1 << bit);
            lies.extend([seq, epoch]);
        }
        for bit in 0..32 {
            let mut lie = truth.clone();
            lie.period = PeriodNumber(lie.period.0 ^ 1 << bit);
            lies.push(lie);
        }
        for packed in 0..=u16::MAX {
            if let Some(shape) = Shape::from_packed(packed).filter(|shape| *shape != truth.shape)
                && (packed % 97 == 0 || shape.is_unmap())
            {
                let mut lie = truth.clone();
                lie.shape = shape;
                lie.ciphertext.truncate(shape.ciphertext_bytes().into());
                lies.push(lie.clone());
                lie.ciphertext = truth.ciphertext.clone();
                lies.push(lie);
            }
        }
        for lie in lies {
            scene.replica.lie_read(move |(block, _)| (block, Some(lie.clone())));
            fault(&session, 5);
        }
        scene.replica.honest();
        assert_eq!(read(&session, 5), pattern(20_005));
    }
}

#[test]
fn stale_and_changed_pages_of_the_tree_are_refused() {
    let mut scene = Scene::new(true);
    // Leaf 0 as it was before the second base: every version in it was true once.
    let mut blocks = scene.replica.inner.state.lock().base.blocks.clone();
    for (block, stored) in blocks.range_mut(0..40) {
        stored.version.seq = Seq(block + 1);
    }
    let session = scene.open();
    let stale = leaf_page(&blocks, 0);
    let page = stale.clone();
    *scene.replica.leaf.lock() =
        Some(Box::new(move |(number, now)| (number, if number == 0 { page.clone() } else { now })));
    let error = session.read(0, &mut vec![0; BLOCK_BYTES]).unwrap_err();
    assert!(matches!(error, SessionError::Tree(TreeFault::Leaf { number: 0, .. })), "{error}");
    assert_eq!(read(&session, 600), pattern(10_600), "other leaves are not touched by it");
    scene.replica.honest();
    assert_eq!(read(&session, 3), pattern(20_003));

    for lying_level in 1..=4_u8 {
        let session = scene.open();
        *scene.replica.node.lock() = Some(Box::new(move |(level, index, now)| {
            let mut page = (*now).clone();
            if level == lying_level {
                let mut child = *page.child(0).unwrap();
                child.hash.0[31] ^= 1;
                page.set(0, Some(child));
            }
            (level, index, Arc::new(page))
        }));
        let error = session.read(0, &mut vec![0; BLOCK_BYTES]).unwrap_err();
        let SessionError::Tree(TreeFault::Node { level, index: 0, .. }) = error else { panic!("{error}") };
        assert_eq!(level, lying_level);
        *scene.replica.node.lock() = Some(Box::new(move |(level, index, now)| {
            let mut page = (*now).clone();
            if level == lying_level {
                page.set(0, None);
            }
            (level, index, Arc::new(page))
        }));
        assert!(matches!(session.read(0, &mut vec![0; BLOCK_BYTES]), Err(SessionError::Tree(_))), "false zeros");
        scene.replica.honest();
        assert_eq!(read(&session, 3), pattern(20_003));
    }
}

#[test]
fn a_base_that_does_not_follow_from_what_was_written_is_not_signed() {
    let mut scene = Scene::new(true);
    let session = scene.open();
    write(&session, 3, 1);
    write(&session, 600, 2);
    session.discard(610 * BLOCK, 30 * BLOCK).unwrap();
    session.flush().unwrap();
    let root = scene.replica.inner.report().root;
    // A leaf left out; an old version kept; a discard forgotten; a forged old page.
    *scene.replica.merge.lock() = Some(Box::new(|mut leaves| {
        leaves.pop();
        leaves
    }));
    assert_eq!(session.advance(), Err(TreeFault::LeftOut { number: 1 }.into()));
    *scene.replica.merge.lock() = Some(Box::new(|mut leaves| {
        leaves[0].new = leaves[0].old.clone();
        leaves
    }));
    assert_eq!(session.advance(), Err(TreeFault::Merged { number: 0, block: BlockIndex(3) }.into()));
    let resurrected = {
        let mut blocks = scene.replica.inner.state.lock().base.blocks.clone();
        blocks.insert(600, scene.replica.inner.stored(600).unwrap());
        leaf_page(&blocks, 1)
    };
    *scene.replica.merge.lock() = Some(Box::new(move |mut leaves| {
        leaves[1].new = resurrected.clone();
        leaves
    }));
    assert_eq!(session.advance(), Err(TreeFault::Merged { number: 1, block: BlockIndex(610) }.into()));
    *scene.replica.merge.lock() = Some(Box::new(|mut leaves| {
        leaves[1].old = leaves[0].old.clone();
        leaves
    }));
    assert!(matches!(session.advance(), Err(SessionError::Tree(TreeFault::Leaf { number: 1, .. }))));
    assert_eq!(scene.replica.inner.report().root, root);
    scene.replica.honest();
    assert_eq!(read(&session, 3), pattern(1));
    assert_eq!(read(&session, 615), vec![0; BLOCK_BYTES]);
    session.advance().unwrap();
    assert_eq!(read(&session, 3), pattern(1));
    assert_eq!(read(&session, 615), vec![0; BLOCK_BYTES]);
    assert_eq!(session.scrub().unwrap().findings, vec![]);
}

type Bend<T> = Box<dyn FnMut(T) -> T + Send>;

fn bend_tail(scene: &Scene, hook: impl FnMut(&mut Vec<SealedHeader>) + Send + 'static) {
    let mut hook = hook;
    let bent: Bend<Vec<SealedHeader>> = Box::new(move |mut groups| {
        hook(&mut groups);
        groups
    });
    *scene.replica.tail.lock() = Some(bent);
}

fn bend_report(scene: &Scene, hook: impl FnMut(&mut Report) + Send + 'static) {
    let mut hook = hook;
    let bent: Bend<Report> = Box::new(move |mut report| {
        hook(&mut report);
        report
    });
    *scene.replica.report.lock() = Some(bent);
}

#[test]
fn a_tail_that_is_cut_reordered_repeated_or_changed_is_refused() {
    let mut scene = Scene::new(false);
    let problem = |error: OpenError| match error {
        OpenError::Log { problem, .. } => problem,
        error => panic!("{error}"),
    };
    // Cut at the end: the anchor knows better, also when the report was bent to agree.
    bend_tail(&scene, |groups| drop(groups.pop()));
    let error = scene.refused();
    assert!(matches!(error, OpenError::RolledBack { ref expected, .. } if expected.seq == Seq(120)), "{error}");
    let anchor = scene.world.keeper.anchor.lock().take();
    let error = scene.refused();
    assert!(matches!(error, OpenError::End { claimed, found } if claimed.seq == Seq(120) && found.seq == Seq(80)));
    *scene.world.keeper.anchor.lock() = anchor;
    // Cut at the start, in the middle, swapped, repeated.
    bend_tail(&scene, |groups| drop(groups.remove(0)));
    assert!(matches!(problem(scene.refused()), LogProblem::Chain { .. }));
    bend_tail(&scene, |groups| drop(groups.remove(1)));
    assert!(matches!(problem(scene.refused()), LogProblem::Chain { .. }));
    bend_tail(&scene, |groups| groups.swap(1, 2));
    assert!(matches!(problem(scene.refused()), LogProblem::Chain { .. }));
    bend_tail(&scene, |groups| groups.push(groups[2].clone()));
    assert!(matches!(problem(scene.refused()), LogProblem::Chain { .. }));
    // Each field of a header. The chain could be repaired behind it, the MAC only by who has the key.
    let changes: Vec<fn(&mut SealedHeader)> = vec![
        |group| group.mac[0] ^= 1,
        |group| group.header.epoch = Epoch(group.header.epoch.0 + 1),
        |group| group.header.generation.0 += 1,
        |group| group.header.first_seq = Seq(group.header.first_seq.0 + 1),
        |group| group.header.committed = Seq(group.header.committed.0 + 1),
        |group| group.header.period = PeriodNumber(9),
        |group| group.header.tags.0[5] ^= 1,
        |group| group.header.data_bytes += 16,
        |group| {
            if let GroupBody::Data(entries) = &mut group.header.body {
                entries[0].block = BlockIndex(1999);
            }
        },
        |group| {
            if let GroupBody::Data(entries) = &mut group.header.body {
                entries.pop();
            }
        },
    ];
    for change in changes {
        bend_tail(&scene, move |groups| change(&mut groups[1]));
        assert_eq!(problem(scene.refused()), LogProblem::Mac);
        bend_tail(&scene, move |groups| {
            change(groups.last_mut().unwrap());
        });
        assert_eq!(problem(scene.refused()), LogProblem::Mac);
    }
    bend_tail(&scene, |groups| groups[1].header.volume = VolumeId([9; 16]));
    assert_eq!(problem(scene.refused()), LogProblem::Volume(VolumeId([9; 16])));
    bend_tail(&scene, |groups| groups[1].header.previous = ChainHash([1; 32]));
    assert!(matches!(problem(scene.refused()), LogProblem::Chain { .. }));
    scene.replica.honest();
    assert_eq!(read(&scene.open(), 3), pattern(20_003));
}

#[test]
fn a_forged_header_root_or_period_row_is_refused() {
    let mut scene = Scene::new(true);
    bend_report(&scene, |report| report.header[40] ^= 1);
    assert!(matches!(scene.refused(), OpenError::Header(_)), "the checksum");
    bend_report(&scene, |report| {
        // A larger size, and a checksum that fits it: what is missing is the MAC.
        report.header[32] ^= 8;
        let crc = holdfast_log::hash::crc32c(&report.header[..508]);
        report.header[508..].copy_from_slice(&crc.to_le_bytes());
    });
    assert_eq!(scene.refused(), OpenError::HeaderForged);
    bend_report(&scene, |report| report.root.as_mut().unwrap().statement.root.0[0] ^= 1);
    assert!(matches!(scene.refused(), OpenError::RootForged { through: Seq(120) }));
    bend_report(&scene, |report| report.root = None);
    assert!(matches!(scene.refused(), OpenError::RolledBack { .. }));
    bend_report(&scene, |report| report.head = Seq(121));
    assert!(matches!(scene.refused(), OpenError::End { .. }));
    bend_report(&scene, |report| {
        let mut twin = report.periods[0];
        twin.salt[0] ^= 1;
        report.periods.push(twin);
    });
    assert_eq!(scene.refused(), OpenError::PeriodTwice(PeriodNumber(1)));
    // A row that was changed or withheld opens the volume, and no block that needs it.
    bend_report(&scene, |report| report.periods[0].salt[0] ^= 1);
    assert_eq!(fault(&scene.open(), 3), BlockFault::PeriodKey(PeriodNumber(1)));
    bend_report(&scene, |report| report.periods[0].key_id.0[0] ^= 1);
    assert!(matches!(fault(&scene.open(), 3), BlockFault::OtherKey { period: PeriodNumber(1), .. }));
    bend_report(&scene, |report| {
        report.periods.remove(0);
    });
    assert_eq!(fault(&scene.open(), 3), BlockFault::NoPeriod(PeriodNumber(1)));
    scene.replica.honest();
    assert_eq!(read(&scene.open(), 3), pattern(20_003));
}

#[test]
fn a_disk_that_was_rolled_back_is_refused_by_the_anchor() {
    // Above one and the same base; then back behind a base.
    for checkpoint in [false, true] {
        let mut world = World::new(3);
        let replica = Arc::new(Memory::new());
        world.create(&replica, 100);
        let session = world.open(&replica).unwrap();
        write(&session, 1, 1);
        session.checkpoint().unwrap();
        let image = replica.copy();
        write(&session, 1, 2);
        session.flush().unwrap();
        if checkpoint {
            session.checkpoint().unwrap();
        }
        session.close().unwrap();
        let error = world.open(&image).map(|_| ()).unwrap_err();
        let OpenError::RolledBack { expected, found } = error else { panic!("{error}") };
        assert!(expected.seq == Seq(2) && found.seq == Seq(1), "{expected} {found}");
        assert!(error_names_both(&OpenError::RolledBack { expected, found }));
        // Restored and written to again, it has as many records, and is another history.
        world.keeper.anchor.lock().take();
        let anchor = {
            let session = world.open(&replica).unwrap();
            session.anchor_now().unwrap()
        };
        world.keeper.anchor.lock().take();
        let forked = world.open(&image).unwrap();
        write(&forked, 1, 3);
        forked.flush().unwrap();
        drop(forked);
        *world.keeper.anchor.lock() = Some(anchor);
        let error = world.open(&image).map(|_| ()).unwrap_err();
        assert!(matches!(error, OpenError::RolledBack { .. }), "{error}");
        assert_eq!(read(&world.open(&replica).unwrap(), 1), pattern(2));
    }
}

fn error_names_both(error: &OpenError) -> bool {
    let text = error.to_string();
    text.contains("record 2") && text.contains("record 1")
}

#[test]
fn an_old_signed_root_or_a_forged_anchor_is_refused() {
    let mut world = World::new(3);
    let replica = Evil::new(Memory::new());
    world.create(&replica.inner, 100);
    let session = world.open(&replica).unwrap();
    write(&session, 1, 1);
    session.checkpoint().unwrap();
    let old: SignedRoot = replica.inner.report().root.unwrap();
    write(&session, 1, 2);
    session.checkpoint().unwrap();
    session.close().unwrap();
    let mut scene = Scene { world, replica };
    bend_report(&scene, move |report| report.root = Some(old));
    let error = scene.refused();
    assert!(
        matches!(error, OpenError::RolledBack { expected, found } if expected.seq == Seq(2) && found.seq == Seq(1))
    );
    scene.replica.honest();
    let anchor = scene.world.keeper.anchor.lock().unwrap();
    for forge in 0..4 {
        let mut forged = anchor;
        match forge {
            0 => forged.mac[0] ^= 1,
            1 => forged.seq = Seq(1),
            2 => forged.root.statement.root.0[0] ^= 1,
            _ => forged.chain.0[0] ^= 1,
        }
        *scene.world.keeper.anchor.lock() = Some(forged);
        assert_eq!(scene.refused(), OpenError::AnchorForged);
    }
    *scene.world.keeper.anchor.lock() = Some(anchor);
    assert_eq!(read(&scene.open(), 1), pattern(2));
}

#[test]
fn a_deep_scrub_names_every_bad_block_and_goes_on() {
    for in_base in [false, true] {
        let mut scene = Scene::new(in_base);
        let session = scene.open();
        scene.replica.lie_read(|(block, now)| {
            let mut now = now;
            if let Some(stored) = now.as_mut().filter(|_| [4, 9, 633].contains(&block)) {
                stored.ciphertext[0] ^= 1;
            }
            (block, now)
        });
        let report = session.scrub().unwrap();
        let blocks: Vec<u64> = report.findings.iter().map(|finding| finding.block.0).collect();
        assert_eq!((blocks, report.blocks), (vec![4, 9, 633], 80));
    }
}

//! What chain and state tree cost: hashing, as a share of all that the process computes while it writes.
//!
//! The run counts how often each hash is computed (groups, merged leaves, bases); each kind is timed by itself; the sum is set
//! against the process's CPU time for the run, new bases included. Times by themselves are of warm code and data, so
//! the share is a lower bound, as close as counting comes without a profiler; `perf` on the same run is the check.

use std::hint::black_box;
use std::time::Duration;

use holdfast_log::hash::{ChainHash, TreeHash, chain, tags};
use holdfast_log::leaf::{LEAF_BLOCKS, state_hash_of};
use holdfast_log::node::{Child, NodePage, PageRef};
use holdfast_log::place::Version;
use holdfast_seal::{MacPurpose, VolumeKey};
use holdfast_vocabulary::{BLOCK_BYTES, Epoch, Seq, VolumeId};

use crate::bed::{Settings, Volume};
use crate::content::{Content, Truth};
use crate::load::{Clients, Pattern, Until};
use crate::ram::{RamDisk, WARM_BYTES};
use crate::report::Report;
use crate::row::{Floor, Row};
use crate::spread::Spread;
use crate::timing::{Elapsed, Stopwatch, seconds_per_call};
use crate::{Bench, Outcome};

/// Rows of this measurement.
pub const ROWS: &[&str] = &["engine.hash_share_rand_write", "engine.hash_share_seq_write"];

/// Share of the CPU, in per cent, above which the design must be looked at again.
const MOST: f64 = 10.0;
/// How often the state of a merged leaf is hashed: the old one as the store reads it and as the session checks it, the
/// new one by both.
const HASHES_A_LEAF: f64 = 4.0;
const CHILDREN: u64 = 256;

/// Seconds of each hash.
struct Costs {
    chain: f64,
    tags: f64,
    mac: f64,
    leaf: f64,
    node: f64,
}

impl Costs {
    fn measure(budget: Duration) -> Self {
        let header = vec![7; 128 + 16 * 256];
        let tag = [[9_u8; 16]; 256];
        let mac = VolumeKey::from_bytes([1; 32]).mac_key(MacPurpose::GroupHeader, VolumeId([2; 16]));
        let version = |seq: usize| Version { epoch: Epoch(1), seq: Seq(seq as u64 * 31 + 5) };
        let mut node = NodePage::empty(1);
        let page = PageRef { file: 1, offset: 0, bytes: 4096 };
        (0..=255).for_each(|index| node.set(index, Some(Child { page, hash: TreeHash([index; 32]) })));
        Self {
            chain: seconds_per_call(budget, || _ = black_box(chain(ChainHash::default(), black_box(&header)))),
            tags: seconds_per_call(budget, || _ = black_box(tags(black_box(&tag).iter().map(|tag| &tag[..])))),
            mac: seconds_per_call(budget, || _ = black_box(mac.tag(&[black_box(&[3; 32])]))),
            leaf: seconds_per_call(budget, || {
                _ = black_box(state_hash_of((0..LEAF_BLOCKS).map(|position| (position, version(position)))));
            }),
            node: seconds_per_call(budget, || _ = black_box(black_box(&node).hash())),
        }
    }
}

/// How often.
struct Counted {
    groups: u64,
    leaves: u64,
    bases: u64,
    records: u64,
    elapsed: Elapsed,
    advance_seconds: f64,
}

/// Measures.
pub fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    let costs = Costs::measure(Duration::from_millis(if bench.quick { 10 } else { 100 }));
    for (name, pattern) in [(ROWS[0], Pattern::Random), (ROWS[1], Pattern::Sequential)] {
        let runs: Vec<Counted> =
            (0..if bench.quick { 1 } else { 3 }).map(|seed| count(bench, pattern, seed)).collect::<Outcome<_>>()?;
        let shares: Vec<(f64, f64)> = runs.iter().map(|run| shares(&costs, run)).collect();
        let total = Spread::of(shares.iter().map(|(log, tree)| (log + tree) * 100.0).collect());
        let run = &runs[0];
        let note = format!(
            "log chain {:.1} %, state tree {:.1} % of the CPU; {:.1} records a leaf and base; chain {:.2}, tags {:.2}, MAC \
             {:.2}, leaf {:.2}, node {:.2} us each; making bases took {:.0} % of the run's time",
            shares[0].0 * 100.0,
            shares[0].1 * 100.0,
            run.records as f64 / run.leaves.max(1) as f64,
            costs.chain * 1e6,
            costs.tags * 1e6,
            costs.mac * 1e6,
            costs.leaf * 1e6,
            costs.node * 1e6,
            run.advance_seconds / run.elapsed.wall * 100.0,
        );
        report.add(Row::less(name, "%", total).floor(Floor::AtMost(MOST)).note(note))?;
    }
    Ok(())
}

/// The shares of log chain and state tree.
fn shares(costs: &Costs, run: &Counted) -> (f64, f64) {
    let log = run.groups as f64 * (costs.chain + costs.tags + costs.mac);
    // Each node above changed leaves is hashed by store and session; there are few beside the leaves.
    let nodes = run.leaves.div_ceil(CHILDREN) + 3 * run.bases;
    let tree = run.leaves as f64 * HASHES_A_LEAF * costs.leaf + 2.0 * nodes as f64 * costs.node;
    (log / run.elapsed.cpu, tree / run.elapsed.cpu)
}

/// Overwrites a part of a filled volume: a model of one of 64 GiB, so that a base meets as many records a leaf.
fn count(bench: &Bench, pattern: Pattern, seed: u64) -> Outcome<Counted> {
    let bytes: u64 = if bench.quick { 128 << 20 } else { 1 << 30 };
    let settings = Settings::new(bytes, 4 * bytes).scaled_down((64 << 30) / bytes);
    let (content, truth) = (Content::random(), Truth::new(bytes / BLOCK_BYTES as u64));
    let ram = RamDisk::new()?;
    let mut volume = Volume::create(ram.handle(), settings)?;
    let opened = volume.open()?;
    let clients = Clients { session: &opened.session, content: &content, truth: &truth, count: 2, seed };
    clients.write(Pattern::Sequential, Until::Bytes(bytes))?;
    opened.session.checkpoint()?;
    // Memory for what comes now, touched beforehand again.
    ram.write_file("warm")?;
    holdfast_disk::Disk::remove(&*ram.handle(), "warm")?;
    let before = opened.session.stats();
    let watch = Stopwatch::start();
    clients.write(pattern, Until::Bytes(if bench.quick { 32 << 20 } else { WARM_BYTES / 4 * 3 }))?;
    opened.session.checkpoint()?;
    let elapsed = watch.elapsed();
    let after = opened.session.stats();
    clients.verify(512)?;
    opened.session.close()?;
    Ok(Counted {
        groups: after.groups - before.groups,
        leaves: after.merged_leaves - before.merged_leaves,
        bases: after.advances - before.advances,
        records: after.records - before.records,
        elapsed,
        advance_seconds: (after.advance_time - before.advance_time).as_secs_f64(),
    })
}

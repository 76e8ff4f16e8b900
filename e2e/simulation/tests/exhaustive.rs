//! Every history of up to four letters, every crash point in it. In shards, because the harness runs tests side by side.

use holdfast_simulation::exhaustive::{Plan, Variety, run};

fn shard(variety: Variety, shard: usize, shards: usize) {
    let plan = Plan { variety, length: 4, samples: 8, shard: (shard, shards), mutant: None };
    match run(&plan) {
        Ok(tally) => println!("{variety:?} {shard}: {tally}"),
        Err(failure) => panic!("{failure}"),
    }
}

#[test]
fn every_short_history_on_a_tight_volume_first_part() {
    shard(Variety::Tight, 0, 4);
}

#[test]
fn every_short_history_on_a_tight_volume_second_part() {
    shard(Variety::Tight, 1, 4);
}

#[test]
fn every_short_history_on_a_tight_volume_third_part() {
    shard(Variety::Tight, 2, 4);
}

#[test]
fn every_short_history_on_a_tight_volume_last_part() {
    shard(Variety::Tight, 3, 4);
}

#[test]
fn every_short_history_on_a_roomy_volume() {
    shard(Variety::Roomy, 0, 1);
}

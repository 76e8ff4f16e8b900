//! Judges that cannot condemn are worth nothing: each deliberate mistake is found, within so many seeds.

use holdfast_simulation::exhaustive::{self, Plan, Variety};
use holdfast_simulation::mutant::Mutant;
use holdfast_simulation::world::{self, Rig};

/// The judge that finds a mistake first, and after how many seeds.
fn found(mutant: Mutant, within: u64) -> &'static str {
    for seed in 0..within {
        if let Some(violation) = world::run(seed, Rig { mutant: Some(mutant), verbose: false }).violation {
            println!("{mutant:?}: seed {seed}, {violation}");
            return violation.checker;
        }
    }
    panic!("{mutant:?} was not found in {within} seeds");
}

#[test]
fn a_sync_that_does_nothing_is_found() {
    found(Mutant::SyncDoesNothing, 20);
}

#[test]
fn names_that_are_forgotten_are_found() {
    found(Mutant::NamesAreForgotten, 20);
}

#[test]
fn a_checkpoint_that_is_never_written_is_found() {
    found(Mutant::OldCheckpoint, 40);
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    found(Mutant::EarlyAcknowledgement, 20);
}

#[test]
fn old_versions_of_blocks_are_found() {
    // By a read or by a scrub, whichever the seed does first.
    assert!(["calm", "scrub"].contains(&found(Mutant::OldVersions, 10)));
}

#[test]
fn blocks_said_to_be_unmapped_are_found() {
    assert_eq!(found(Mutant::FalseUnmapped, 10), "calm");
}

#[test]
fn discards_that_are_forgotten_are_found() {
    found(Mutant::DiscardsForgotten, 40);
}

#[test]
fn a_missing_fence_is_found() {
    // Two writers are caught as such, or by what they make of the tree.
    assert!(["fence", "calm"].contains(&found(Mutant::NoFence, 60)));
}

#[test]
fn salts_that_repeat_are_found() {
    assert_eq!(found(Mutant::SaltRepeats, 10), "nonce");
}

#[test]
fn a_store_that_takes_more_than_its_share_is_found() {
    assert_eq!(found(Mutant::Hoarder, 60), "space");
}

#[test]
fn short_histories_alone_find_what_a_crash_brings_out() {
    for mutant in
        [Mutant::SyncDoesNothing, Mutant::NamesAreForgotten, Mutant::OldCheckpoint, Mutant::EarlyAcknowledgement]
    {
        let plan = Plan { variety: Variety::Tight, length: 2, samples: 4, shard: (0, 1), mutant: Some(mutant) };
        let failure = exhaustive::run(&plan).expect_err("a mistake that every judge missed");
        println!("{mutant:?}: {failure}");
    }
}

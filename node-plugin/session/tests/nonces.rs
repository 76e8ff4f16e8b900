//! No salt and seq seal two contents, whatever happens to sessions and disks. The replica keeps every sealed block that
//! was ever handed to it, also those that it refused, and compares.

#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use holdfast_disk::SeededRandom;
use holdfast_log::seam::Replica;
use holdfast_session::{OpenError, Session};
use support::memory::{Faults, Memory};
use support::{BLOCK, World, pattern};

/// Disks that share nothing but the registry of nonces; each with the session that is open on it, if one is.
struct Machine {
    replica: Arc<Memory>,
    session: Option<Session>,
}

fn script(seed: u64) -> usize {
    let dice = SeededRandom::new(seed);
    let mut world = World::new(seed ^ 0xabcd);
    world.limits.group_records = 1 + dice.below(6) as usize;
    let replica = Arc::new(Memory::new());
    world.create(&replica, 64);
    let mut machines = vec![Machine { replica, session: None }];
    for step in 0..120 {
        let place = dice.below(machines.len() as u64) as usize;
        let room_for_more = machines.len() < 4;
        let machine = &mut machines[place];
        let block = dice.below(64) * BLOCK;
        match (dice.below(12), &machine.session) {
            // Written bytes differ each time: a seq that came twice would show.
            (0..=4, Some(session)) => drop(session.write(block, &pattern(seed << 32 | step))),
            (5, Some(session)) => drop(session.flush()),
            (6, Some(session)) => drop(session.discard(block, BLOCK)),
            (7, _) => {
                let fault = || dice.chance(0.3);
                machine.replica.fault(Faults { admit: fault(), complete: fault(), sync: fault(), finish: fault() });
            }
            (8, _) => {
                let keep = dice.below(4) as usize;
                *machine = Machine { replica: machine.replica.crash(keep), session: None };
            }
            // A copy of the disk, as it lies there: the original goes on, and so does the copy.
            (9, _) if room_for_more => {
                let replica = machine.replica.crash(dice.below(4) as usize);
                machines.push(Machine { replica, session: None });
            }
            (10, Some(session)) => drop(session.checkpoint()),
            (_, session) => {
                if session.is_none() || dice.chance(0.5) {
                    machine.replica.fault(Faults::default());
                    world.keeper.anchor.lock().take();
                    match world.open(&machine.replica) {
                        Ok(session) => machine.session = Some(session),
                        // It failed earlier, and works again once it was switched off and on.
                        Err(OpenError::Replica(_)) => machine.session = None,
                        Err(error) => panic!("{error}"),
                    }
                }
            }
        }
    }
    let sealed = machines[0].replica.sealed.lock().len();
    let salts: std::collections::HashSet<_> =
        machines.iter().flat_map(|machine| machine.replica.report().periods).map(|row| (row.epoch, row.salt)).collect();
    let epochs: std::collections::HashSet<_> = salts.iter().map(|(epoch, _)| *epoch).collect();
    assert_eq!(salts.len(), epochs.len(), "an epoch has one salt, wherever its disk was copied to");
    sealed
}

#[test]
fn no_salt_and_seq_seal_two_contents_through_crashes_failures_copies_and_forks() {
    let sealed: usize = (0..300).map(script).sum();
    assert!(sealed > 5_000, "only {sealed} blocks were sealed; the scripts prove little");
}

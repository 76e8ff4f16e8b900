//! What a power cut may leave: which of the changes that nobody synced are there afterwards.
//!
//! Un-synced changes come apart into units that survive or vanish each for itself: a sector of a write, a change of
//! length, a piece of a punched range, a change of a name. Any subset of them is a state that the crash model allows;
//! kept units take effect in the order in which they were made.

use std::sync::Arc;

use crate::{FileId, SeededRandom};

/// Which un-synced units survive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Crash {
    /// None: exactly what was synced.
    LoseAllUnsynced,
    /// All: as if everything had been synced in time.
    KeepAllUnsynced,
    /// Some, as this seed decides: sectors, blocks or operations in any order, or everything up to a torn operation.
    Random(u64),
    /// Those whose place holds `true`, in the order of `unsynced()`. Places that are missing are lost.
    Chosen(Vec<bool>),
}

/// One unit that may survive a crash or not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say all there is to say")]
pub enum Unsynced {
    Sector { file: FileId, offset: u64 },
    Grow { file: FileId, len: u64 },
    Cut { file: FileId, len: u64 },
    Allocate { file: FileId, len: u64 },
    Punch { file: FileId, offset: u64, len: u64 },
    Create { file: FileId, name: Arc<str> },
    Remove { file: FileId, name: Arc<str> },
    Rename { file: FileId, from: Arc<str>, to: Arc<str> },
}

/// What the choice needs to know of one un-synced change.
pub(crate) struct Shape {
    pub(crate) units: usize,
    pub(crate) is_name: bool,
}

/// Decides for every unit of every change, in order, whether it survives.
pub(crate) fn survivors(crash: &Crash, shapes: &[Shape]) -> Vec<bool> {
    let total = shapes.iter().map(|shape| shape.units).sum();
    match crash {
        Crash::LoseAllUnsynced => vec![false; total],
        Crash::KeepAllUnsynced => vec![true; total],
        Crash::Chosen(chosen) => {
            let mut kept = chosen.clone();
            kept.resize(total, false);
            kept
        }
        Crash::Random(seed) => random_survivors(&SeededRandom::new(*seed), shapes, total),
    }
}

/// Sectors to a block of 4096 bytes.
const BLOCK_UNITS: usize = 8;

/// Independent coins alone would hardly ever lose just one sector, or keep just one operation; yet those are the
/// crashes that find mistakes. So the seed first decides what kind of crash it is.
fn random_survivors(random: &SeededRandom, shapes: &[Shape], total: usize) -> Vec<bool> {
    let likelihood = [0.1, 0.5, 0.9][random.below(3) as usize];
    let kind = random.below(4);
    let changes = shapes.len() as u64;
    let cut = random.below(changes + 1);
    // A journal keeps names in order; not every file system has one.
    let names_in_order = random.chance(0.5);
    let names_cut = random.below(changes + 1);
    let mut kept = Vec::with_capacity(total);
    for (at, shape) in (0_u64..).zip(shapes) {
        let whole = random.chance(likelihood);
        let mut block = false;
        for unit in 0..shape.units {
            let single = random.chance(likelihood);
            if unit % BLOCK_UNITS == 0 {
                block = single;
            }
            kept.push(match kind {
                // Everything in order up to one operation, which is torn.
                0 => at < cut || (at == cut && single),
                _ if shape.is_name && names_in_order => at < names_cut,
                // Operations are whole, but in any order.
                1 => whole,
                // Blocks are whole, as a page cache writes them.
                2 => block,
                // Every sector for itself.
                _ => single,
            });
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::{Crash, Shape, survivors};

    fn shapes() -> Vec<Shape> {
        [1, 4, 1, 3].map(|units| Shape { units, is_name: units == 1 }).into()
    }

    #[test]
    fn every_subset_of_a_few_units_comes_up() {
        let seen: std::collections::BTreeSet<_> =
            (0..200_000).map(|seed| survivors(&Crash::Random(seed), &shapes())).collect();
        assert_eq!(seen.len(), 1 << 9);
    }

    #[test]
    fn chosen_places_that_are_missing_are_lost() {
        let kept = survivors(&Crash::Chosen(vec![true, false, true]), &shapes());
        assert_eq!(kept, [true, false, true, false, false, false, false, false, false]);
    }
}

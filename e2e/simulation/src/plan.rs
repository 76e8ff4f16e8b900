//! What a seed decides before anything happens: the shape of the volume, the bounds, the habits of whoever uses it.
//!
//! Bounds are drawn small on purpose: a branch that a node meets once a year is met here in every other seed.

use std::time::Duration;

use holdfast_disk::SeededRandom;
use holdfast_log::period::Compression;
use holdfast_session::Limits;

use crate::checker::space;
use crate::faults::Climate;
use crate::site::Settings;

/// How the volume is used.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Likelihoods in the order of the actions.
    pub weights: Vec<u64>,
    /// The share of requests that goes to the hot tenth of the blocks.
    pub hot: f64,
    /// The share of writes that go on where the last one ended.
    pub sequential: f64,
    /// The longest request in blocks.
    pub longest: u64,
    /// The most time that passes between two requests.
    pub pause: Duration,
    /// How often the registry goes away.
    pub registry_away: f64,
}

/// See the page's head.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What may go wrong.
    pub climate: Climate,
    /// The volume.
    pub settings: Settings,
    /// The blocks that are used, rising.
    pub slots: Vec<u64>,
    /// The size that the volume may grow to.
    pub blocks_max: u64,
    /// The habits.
    pub habits: Habits,
    /// How many openings.
    pub lives: u64,
    /// Requests in each of them.
    pub steps: u64,
}

fn pick<T: Copy>(chance: &SeededRandom, from: &[T]) -> T {
    from[chance.below(from.len() as u64) as usize]
}

/// Blocks in one piece, or in pieces at the seams of leaves and nodes.
fn draw_slots(chance: &SeededRandom) -> Vec<u64> {
    let count = pick(chance, &[8, 24, 64, 160]);
    if chance.chance(0.5) {
        return (0..count).collect();
    }
    // 512 blocks a leaf, 256 leaves a node of level 1, 256 of these a node of level 2.
    let seams = [0, 512, 512 * 256, 512 * 256 * 3, 512 * 256 * 256];
    let share = count / seams.len() as u64 + 1;
    let mut slots: Vec<u64> =
        seams.iter().flat_map(|seam| (0..share).map(move |step| (seam + step).saturating_sub(share / 2))).collect();
    slots.sort_unstable();
    slots.dedup();
    slots
}

impl Plan {
    /// What `chance` decides.
    #[must_use]
    pub fn draw(chance: &SeededRandom) -> Self {
        let climate = Climate::draw(chance);
        let slots = draw_slots(chance);
        let segment = pick(chance, &[16_u64 << 10, 32 << 10, 64 << 10, 256 << 10, 1 << 20]);
        // A group must fit into a segment of its own.
        let records_max = ((segment - 6144) / 4144).min(64);
        let group_records = pick(chance, &[1, 2, 4, records_max / 2, records_max]).clamp(1, records_max);
        let live = slots.len() as u64 * 4112;
        let roominess = pick(chance, &[130, 180, 400]);
        let capacity_bytes = 4 * segment + live * roominess / 100 + segment * (4 + chance.below(6)) + (96 << 10);
        let capacity_bytes = capacity_bytes + pick(chance, &[0, 0, space::INDEX_GARBAGE_MAX / 4]);
        let tail = pick(chance, &[8, 40, 200, 4000]);
        let blocks = slots.last().map_or(1, |last| last + 1);
        let grows = chance.chance(0.3);
        let milliseconds = |chance: &SeededRandom, most| Duration::from_millis(chance.below(most));
        let limits = Limits {
            group_records: group_records as usize,
            pending_bytes_max: pick(chance, &[1, 16 << 10, 1 << 20]),
            open_group_age: milliseconds(chance, 400),
            unsynced_age: milliseconds(chance, 2000),
            unsynced_bytes: pick(chance, &[8 << 10, 1 << 20]),
            anchor_age: milliseconds(chance, 8000),
            merge_leaves: pick(chance, &[1, 2, 256]),
            collect_steps: pick(chance, &[1, 4]),
            credit_piece_max: pick(chance, &[0, 16 << 10, 256 << 10]),
            close_advance_records: pick(chance, &[1, 20, 4096]),
        };
        let settings = Settings {
            blocks: if grows { slots[slots.len() / 2] + 1 } else { blocks },
            compression: pick(chance, &[Compression::None, Compression::Lz4]),
            capacity_bytes,
            segment_bytes_max: segment as u32,
            tail_records: (tail, (tail * 3 / 4).max(1)),
            garbage_permille_max: pick(chance, &[50, 300, 700]),
            budget_bytes: pick(chance, &[4 << 10, 64 << 10, 8 << 20]),
            limits,
        };
        let habits = Habits {
            weights: draw_weights(chance),
            hot: pick(chance, &[0.0, 0.5, 0.9]),
            sequential: pick(chance, &[0.0, 0.3, 0.9]),
            longest: pick(chance, &[1, 4, 16]),
            pause: Duration::from_millis(pick(chance, &[1, 300, 3000])),
            registry_away: pick(chance, &[0.0, 0.0, 0.1]),
        };
        Self {
            climate,
            settings,
            slots,
            blocks_max: blocks,
            habits,
            lives: 2 + chance.below(5),
            steps: pick(chance, &[15, 60, 150]),
        }
    }
}

/// One likelihood for each action; each action is left out by some seeds, and loved by some.
fn draw_weights(chance: &SeededRandom) -> Vec<u64> {
    const USUAL: [u64; 15] = [60, 20, 8, 3, 14, 20, 3, 6, 2, 2, 1, 1, 1, 2, 2];
    USUAL
        .iter()
        .map(|usual| match chance.below(8) {
            0 => 0,
            1 => usual * 4,
            _ => *usual,
        })
        .collect()
}

//! What a store may take, and when it does its upkeep. Every number has its reason here.

use std::sync::Arc;

use holdfast_log::segment::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use holdfast_ports::Random;
use holdfast_ports::budget::MemoryBudget;

/// The settings of one volume's store.
#[derive(Clone)]
pub struct StoreOptions {
    /// The most bytes that all its files may take.
    pub capacity_bytes: u64,
    /// Segments grow by doubling from 1 MiB to this, so that an empty volume costs next to nothing and a large one has
    /// few files.
    pub segment_bytes_max: u32,
    /// The hard bound on records above the base: what recovery has to replay, and what the overlay has to hold.
    pub tail_records_max: u64,
    /// A new base is due from here on; the distance to the bound is what may be written while it is being made.
    pub tail_records_due: u64,
    /// Collection starts when this share of the closed segments' bytes is garbage, in thousandths, even with room left.
    pub garbage_permille_max: u32,
    /// Segment numbers, instance ids: never keys.
    pub random: Arc<dyn Random>,
    /// The node's budget for indexes and caches.
    pub budget: MemoryBudget,
}

impl StoreOptions {
    /// The defaults for a store of `capacity_bytes`.
    pub fn new(capacity_bytes: u64, random: Arc<dyn Random>, budget: MemoryBudget) -> Self {
        Self {
            capacity_bytes,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            tail_records_max: 512 << 10,
            tail_records_due: 384 << 10,
            garbage_permille_max: 300,
            random,
            budget,
        }
    }

    /// Room that data never gets: enough to move a victim of each temperature, and to write a base.
    pub(crate) fn reserve_bytes(&self) -> u64 {
        4 * u64::from(self.segment_bytes_max)
    }

    /// Dead pages of the index that may wait for a rewrite.
    pub(crate) const fn index_garbage_bytes(&self) -> u64 {
        self.capacity_bytes / 64
    }

    /// The smallest segment that takes data.
    pub(crate) fn segment_bytes_min(&self) -> u32 {
        SEGMENT_BYTES_MIN.min(self.segment_bytes_max)
    }
}

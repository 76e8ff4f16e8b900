//! Every bound of a session, in one place, each with its reason.

use std::time::Duration;

use holdfast_log::group::GROUP_ENTRIES_MAX;

/// Bounds that a test may scale down. [`Limits::default`] is what a node uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records of one group; at most what the format allows. A full group of whole blocks is 1 MiB of data, where the
    /// cost of its header (4 KiB) and of its append is lost in the cost of its bytes.
    pub group_records: usize,
    /// Sealed bytes that may wait for the replica. A writer that meets this bound helps sending or waits: 32 groups
    /// keep a disk busy, and a slow replica must not turn into memory.
    pub pending_bytes_max: u64,
    /// An open group is closed by `tick` when it is older than this, so that a lone write does not stay here for ever.
    pub open_group_age: Duration,
    /// Completed writes are synced by `tick` after this time, or after `unsynced_bytes`: what is not committed is an
    /// overlay that a crash may undo, and it is kept small whoever asked for a flush.
    pub unsynced_age: Duration,
    /// See `unsynced_age`.
    pub unsynced_bytes: u64,
    /// How old an anchor may become while there is writing. It bounds what a roll-back can hide.
    pub anchor_age: Duration,
    /// Leaves that one step of an advance asks for. 256 pages of at most 10 KiB are in memory twice meanwhile.
    pub merge_leaves: usize,
    /// Segments that one `tick` collects at most, so that it returns in bounded time.
    pub collect_steps: usize,
    /// Credit is taken from a replica in pieces that double up to this; with it, a call that takes a lock over there
    /// is made once in a thousand writes, and what is held unused stays small against any disk.
    pub credit_piece_max: u64,
    /// A close writes a new base when at least so many records lie above the old one: below, the next opening replays
    /// them faster than this closing could write pages.
    pub close_advance_records: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            group_records: GROUP_ENTRIES_MAX,
            pending_bytes_max: 32 << 20,
            open_group_age: Duration::from_millis(200),
            unsynced_age: Duration::from_secs(1),
            unsynced_bytes: 64 << 20,
            anchor_age: Duration::from_secs(5),
            merge_leaves: 256,
            collect_steps: 4,
            credit_piece_max: 4 << 20,
            close_advance_records: 4096,
        }
    }
}

impl Limits {
    /// Puts every bound back into what the format and the code can do.
    #[must_use]
    pub(crate) fn sane(mut self) -> Self {
        self.group_records = self.group_records.clamp(1, GROUP_ENTRIES_MAX);
        self.pending_bytes_max = self.pending_bytes_max.max(1);
        self.merge_leaves = self.merge_leaves.max(1);
        self
    }
}

/// The first piece of credit. A volume that is hardly written to should not make a store take room for megabytes.
pub(crate) const CREDIT_PIECE_MIN: u64 = 256 << 10;
/// Credit that a group costs beside its records: header and records each rounded up to a sector, and the copy of the
/// header. `credit.rs` tests it against `group_room`.
pub(crate) const CREDIT_GROUP: u64 = 2 * 4096 + 512;
/// Credit that a record costs beside its bytes: its entry in the header, twice.
pub(crate) const CREDIT_RECORD: u64 = 32;
/// An unmap of up to so many blocks is kept as points: cheaper to find than a range, as long as there are few.
pub(crate) const UNMAP_POINTS_MAX: u64 = 16;
/// A gap of unmapped blocks up to this long is read over rather than cutting a run in two: the replica answers it from
/// its index alone, and its claim is checked on the way.
pub(crate) const READ_GAP_MAX: usize = 16;
/// Blocks that one step of a read decides on. Bounds the plan's memory; long enough that runs stay whole.
pub(crate) const READ_STEP_BLOCKS: usize = 512;
/// Group buffers kept for the next group. Taking a megabyte from the allocator costs a page fault for each 4 KiB.
pub(crate) const SPARE_BUFFERS_MAX: usize = 8;

//! What a merge tells about records: which of them the next base maps no more, and which it maps first.

use holdfast_log::place::Entry;
use holdfast_vocabulary::BlockIndex;

/// Hears, while a merge goes on, of each block whose entry differs between the old base and the next.
///
/// The next base is not the base before [`super::Index::merge_finish`] succeeded. Until then, who listens must be able
/// to forget all that it heard since the freeze: [`super::Index::merge_abandon`] takes the next base back.
pub trait LiveMaps {
    /// A block's entry changes: its version, or merely its place. At least one of the two is `Some`.
    fn changed(&mut self, block: BlockIndex, old: Option<&Entry>, new: Option<&Entry>);
}

/// Any function will do.
impl<F: FnMut(BlockIndex, Option<&Entry>, Option<&Entry>)> LiveMaps for F {
    fn changed(&mut self, block: BlockIndex, old: Option<&Entry>, new: Option<&Entry>) {
        self(block, old, new);
    }
}

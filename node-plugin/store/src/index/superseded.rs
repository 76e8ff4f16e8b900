//! Whether collection may leave a record behind that the base still maps.

use holdfast_log::node::leaf_of;
use holdfast_log::place::Version;
use holdfast_vocabulary::{BlockIndex, Seq};

use super::Index;
use super::overlay::Seen;

impl Index {
    /// Whether a committed change replaced `version` of a block since the base. Says no when in doubt: then a dead record
    /// is moved once more, which costs room for a while and nothing else.
    #[must_use]
    pub fn superseded(&self, block: BlockIndex, version: Version, committed: Seq) -> bool {
        let number = leaf_of(block.0);
        let state = self.state.read();
        // All of the frozen generation is committed, also its unmaps, of which the seq is not known here.
        if let Some(Seen::Final(entry)) = state.frozen.as_ref().map(|frozen| frozen.leaf(number).get(block.0)) {
            return entry.is_none_or(|entry| entry.version != version);
        }
        match state.active.leaf(number).get(block.0) {
            Seen::Final(Some(entry)) => entry.version != version && entry.version.seq <= committed,
            Seen::Final(None) | Seen::Below(_) => false,
        }
    }
}

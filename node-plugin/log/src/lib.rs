//! The sealed log: its formats, and the seam between session and store.
//!
//! Everything here is a value or a pure function over bytes. `docs/format.md` is the specification; where code and
//! page differ, one of them has a bug. The room knows no key (a MAC is 32 bytes to it), no disk and no clock.
//!
//! - [`group`]: one group commit, and the chain that ties each to the one before;
//! - [`segment`]: the files that groups lie in;
//! - [`period`]: the rows that say under which subkey a block was sealed;
//! - [`leaf`], [`node`]: the pages of the index, which are also the state tree;
//! - [`header`], [`anchor`]: what a replica says of itself, and what a registry remembers of a volume;
//! - [`seam`]: what a session may ask of a store.

pub mod anchor;
pub mod bytes;
pub mod group;
pub mod hash;
pub mod header;
pub mod leaf;
pub mod node;
pub mod period;
pub mod place;
pub mod seam;
pub mod segment;

//! A replica: keeps the sealed log, and never holds a key.
//!
//! The room decides everything about one volume's files: where groups go, what the newest version of each block is, when
//! a new base is written, which segment is collected, and what a crash left behind. It does all of it on ciphertext;
//! it does not even depend on the room that has the ciphers.
//!
//! Reading order: [`Store`] (the parts and who locks what), `append` (groups in), `read` (blocks out), `recover` (what a
//! crash left), `advance` (a new base), `collect` (garbage out), `scrub`.

mod advance;
mod append;
pub mod checkpoint;
mod collect;
mod create;
mod failure;
pub mod index;
mod live_map;
mod names;
mod options;
mod promise;
mod read;
mod recover;
mod replay;
mod replica;
mod scan;
mod scrub;
mod segments;
mod space;
mod store;
mod window;

pub use create::create;
pub use options::StoreOptions;
pub use store::Store;

/// Decoders that read what may have been written by an enemy: for fuzzing, and for tools that read a dead store's files.
pub mod decode {
    pub use crate::promise::decode as promise;
}

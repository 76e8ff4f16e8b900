//! Fuzz targets: one for each decoder, and two for the engine as a whole.
//!
//! A target takes any bytes. It must never panic on them for another reason than that the engine is wrong, and it asserts more
//! than "no panic" wherever there is more to say: what was read is written with the same bytes, a count is never more than
//! there are bytes for it, a damaged store is right or says which file is not.
//!
//! Each target is a libFuzzer binary of the same name (feature `libfuzzer`; `make fuzz TARGET=name`). What was ever found
//! lies in `corpus/<target>` and is replayed by an ordinary test.

mod data_records;
mod log_formats;
mod operations;
mod page_formats;
mod repair;
mod sample;
mod scribe;
pub mod seeds;
mod session_operations;
mod store_open;

pub use data_records::data_records;
pub use log_formats::{
    anchor, checksum, group_frame, group_header, header_copies, moved_table, period_row, segment_foot, segment_head,
    shape_and_place, signed_root, volume_header,
};
pub use operations::operations;
pub use page_formats::{checkpoint, index_root, leaf_page, node_page, promise};
pub use session_operations::session_operations;
pub use store_open::store_open;

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name: that of its binary and of its folder in the corpus.
    pub name: &'static str,
    /// What it does with an input.
    pub run: fn(&[u8]),
    /// A decoder: it may allocate a small multiple of its input and no more. The others build a whole store.
    pub decoder: bool,
}

macro_rules! targets {
    ($($name:ident: $decoder:literal),+ $(,)?) => {
        &[$(Target { name: stringify!($name), run: $name, decoder: $decoder }),+]
    };
}

/// Every target.
pub const TARGETS: &[Target] = targets![
    anchor: true,
    checkpoint: true,
    checksum: true,
    data_records: false,
    group_frame: true,
    group_header: true,
    header_copies: true,
    index_root: true,
    leaf_page: true,
    moved_table: true,
    node_page: true,
    operations: false,
    period_row: true,
    promise: true,
    segment_foot: true,
    segment_head: true,
    session_operations: false,
    shape_and_place: true,
    signed_root: true,
    store_open: false,
    volume_header: true,
];

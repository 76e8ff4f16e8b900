//! A small real volume, made to be ill-treated: how it is made, opened, read and judged.
//!
//! Everything follows from a recipe: the same recipe gives the same bytes. What the tests do to those bytes, and what may come
//! of it, is in `tests/`; here is what all of them share.

mod attempt;
mod recipe;

pub use attempt::{Attempt, attempt, attempt_with};
pub use recipe::{
    BLOCK, Keeper, MakeError, OLDER_BASE, OLDER_TAIL, Recipe, SMALL, VECTORS, Volume, foreign, key_bytes, open_options,
    pattern, store_options,
};

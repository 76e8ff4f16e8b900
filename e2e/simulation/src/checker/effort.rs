//! Effort: no single request keeps the disk busy for ever, whatever it has to make room for.

use crate::checker::{Verdict, Violation};

/// The name of this judge.
pub const NAME: &str = "effort";

/// More than any request on a simulated volume needs: every block moved and merged several times over.
pub const OPERATIONS_MAX: u64 = 4000;

/// How many disk operations one request took.
pub fn check(operations: u64) -> Verdict {
    if operations <= OPERATIONS_MAX {
        return Ok(());
    }
    Err(Violation::new(NAME, format!("one request took {operations} disk operations; {OPERATIONS_MAX} are allowed")))
}

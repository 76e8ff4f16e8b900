//! The one answer to everything that does not verify.

/// These bytes are not what was sealed here.
///
/// It says neither which part was wrong nor what the right value would have been: whoever could tell a wrong tag from a
/// wrong address would learn something about the key or help someone who forges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not authentic: the bytes, their place or their key are not those that were sealed")]
pub struct NotAuthentic;

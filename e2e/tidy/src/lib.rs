//! Tests that hold the architecture.
//!
//! Taste that lives only in reviews is lost with the reviewer. Here it is a function from a tree of files to findings;
//! `tests/repository.rs` runs each over this repository, and beside each rule a test shows it a bad example that it must
//! refuse, so that no rule is a test that cannot fail.
//!
//! Read `tree` and `tokens` first; then each rule stands alone:
//!
//! - [`modules`]: no source file that no `mod` reaches; which code is test code
//! - [`arrows`]: the table in `ARCHITECTURE.md` against the manifests
//! - [`doors`]: clocks, files, network, ciphers and state paths only where the table of doors says so
//! - [`shape`]: `//!` on every file, limits on files and functions
//! - [`words`]: words, names and calls that we do not use, each with its replacement
//! - [`pages`]: links that lead somewhere, every crate on the map, dated decisions, a Makefile that explains itself
//! - [`generated`]: what is generated equals what its source gives
//! - [`licences`]: `deny.toml` against every package that we build with
//!
//! What must never be here: knowledge of what the other crates do. Tidy reads text and manifests, and links none of them.

pub mod arrows;
pub mod doors;
pub mod generated;
pub mod licences;
pub mod markdown;
pub mod modules;
pub mod pages;
pub mod shape;
pub mod tokens;
pub mod tree;
pub mod words;

use std::fmt;

/// One thing that is wrong, where, and what to do about it.
#[derive(Clone, Debug, Eq, PartialEq, Ord, PartialOrd)]
pub struct Finding {
    /// A path, with the line if there is one.
    pub place: String,
    /// What is wrong, as a sentence without its full stop.
    pub problem: String,
    /// What to do about it; every finding names a remedy.
    pub remedy: String,
}

impl Finding {
    /// A finding about a whole file or manifest.
    pub fn new(place: impl Into<String>, problem: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { place: place.into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// A finding about one line.
    pub fn at(path: &str, line: usize, problem: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding::new(format!("{path}:{line}"), problem, remedy)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n    remedy: {}", self.place, self.problem, self.remedy)
    }
}

/// All findings as one text, so that a run shows everything that is wrong and not only the first of it.
pub fn report(findings: &[Finding]) -> String {
    let lines: Vec<String> = findings.iter().map(Finding::to_string).collect();
    format!("{} finding(s)\n\n{}\n", findings.len(), lines.join("\n"))
}

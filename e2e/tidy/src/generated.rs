//! What is generated is committed, and equals what its source gives.
//!
//! A file that carries the mark of generated files in one of its first lines must be in the list that the caller passes, and the list holds
//! the function that makes its text. So drift is seen in the change that causes it, and no file can claim to be generated
//! without a generator.

use crate::Finding;
use crate::tree::Tree;

/// How many lines at the top are read for the mark.
const MARK_LINES: usize = 5;
/// Split, so that this file does not carry the mark itself.
const MARK: &str = concat!("@", "generated");

/// A generated file.
pub struct Generated {
    /// Its path from the root.
    pub path: &'static str,
    /// Makes its text.
    pub make: fn(&Tree) -> String,
    /// The command that writes it anew.
    pub command: &'static str,
}

/// Files that differ from what their source gives, and marked files that nobody generates.
pub fn check(tree: &Tree, list: &[Generated]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for one in list {
        if tree.text(one.path) != Some((one.make)(tree).as_str()) {
            findings.push(Finding::new(
                one.path,
                "differs from what its source gives",
                format!("run `{}`", one.command),
            ));
        }
    }
    for (path, _) in tree.entries().filter(|(path, _)| !path.ends_with(".md") && *path != "Cargo.lock") {
        let marked = tree.text(path).is_some_and(|text| text.lines().take(MARK_LINES).any(|line| line.contains(MARK)));
        if marked && !list.iter().any(|one| one.path == path) {
            let remedy = "list it with its generator in e2e/tidy/tests/repository.rs, or remove the mark";
            findings.push(Finding::new(path, "says that it is generated, and no generator is known", remedy));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Vec<Generated> {
        let make = |tree: &Tree| format!("# {MARK}\n{}", tree.text("source").unwrap_or_default());
        vec![Generated { path: "made", make, command: "make made" }]
    }

    #[test]
    fn drift_a_missing_file_and_an_unknown_one_are_refused() {
        let fresh = format!("# {MARK}\nnew");
        assert!(check(&Tree::of(&[("source", "new"), ("made", &fresh)]), &list()).is_empty());
        assert_eq!(check(&Tree::of(&[("source", "newer"), ("made", &fresh)]), &list()).len(), 1);
        assert_eq!(check(&Tree::of(&[("source", "new")]), &list()).len(), 1);
        assert_eq!(check(&Tree::of(&[("made", &fresh)]), &[]).len(), 1);
    }
}

//! Pages that stay true: links lead somewhere, every crate is on the map, decisions are dated, and `make help` hides nothing.

use crate::Finding;
use crate::markdown;
use crate::modules::normal;
use crate::tree::{Tree, join};

/// The page that holds the code map.
const MAP: &str = "ARCHITECTURE.md";
/// The first header cell of the code map.
const MAP_HEADER: &str = "folder";
/// Where decisions lie.
const DECISIONS: &str = "docs/decisions/";

/// Links to files of ours that do not exist.
pub fn check_links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.texts(".md") {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (line, link) in markdown::links(text) {
            let target = link.split('#').next().unwrap_or_default();
            let is_elsewhere = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            if !is_elsewhere && !tree.exists(&normal(&join(folder, target))) {
                findings.push(Finding::at(
                    path,
                    line,
                    format!("{link} does not exist"),
                    "correct the link or remove it",
                ));
            }
        }
    }
    findings
}

/// Crates that the code map does not show, and folders on the map that do not exist.
pub fn check_map(tree: &Tree) -> Vec<Finding> {
    let Some(rows) = markdown::table(tree.text(MAP).unwrap_or_default(), MAP_HEADER) else {
        let remedy = format!("restore the table whose first column is `{MAP_HEADER}`");
        return vec![Finding::new(MAP, "the code map is gone", remedy)];
    };
    let mut findings = Vec::new();
    for row in &rows {
        if !tree.exists(&row.cells[0]) {
            let problem = format!("the map shows {}, which does not exist", row.cells[0]);
            findings.push(Finding::at(MAP, row.line, problem, "remove or correct the row"));
        }
    }
    for one in tree.crates().unwrap_or_default() {
        if !rows.iter().any(|row| row.cells[0].trim_end_matches('/') == one.folder) {
            let problem = format!("{} is not on the code map", one.name);
            findings.push(Finding::new(
                one.manifest_path(),
                problem,
                format!("add a line for {} to {MAP}", one.folder),
            ));
        }
    }
    findings
}

/// Decisions whose name does not begin with their date: they are ordered by it, and never edited later.
pub fn check_decisions(tree: &Tree) -> Vec<Finding> {
    let is_dated = |name: &str| {
        let shape: String =
            name.chars().take(11).map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
        shape == "0000-00-00-" && name.ends_with(".md")
    };
    let undated = tree.entries().filter(|(path, _)| path.strip_prefix(DECISIONS).is_some_and(|name| !is_dated(name)));
    undated
        .map(|(path, _)| Finding::new(path, "a decision is named for its date", "rename it to YYYY-MM-DD-words.md"))
        .collect()
}

/// Targets of the Makefile that `make help` would not list, and listed ones that are files by accident.
pub fn check_makefile(tree: &Tree) -> Vec<Finding> {
    let text = tree.text("Makefile").unwrap_or_default();
    let phony: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix(".PHONY:")).flat_map(str::split_whitespace).collect();
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some((target, rest)) = line.split_once(':') else { continue };
        let is_target = !target.is_empty() && target.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-');
        if !is_target || rest.starts_with('=') || rest.starts_with(":=") {
            continue;
        }
        if !rest.contains("## ") {
            let remedy = "add `## one line` behind it";
            findings.push(Finding::at("Makefile", at + 1, format!("`make help` does not list `{target}`"), remedy));
        }
        if !phony.contains(&target) {
            findings.push(Finding::at("Makefile", at + 1, format!("`{target}` is not phony"), "add it to .PHONY"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_link_is_refused() {
        let text = "[a](b.md) [c](../README.md#x) [d](https://example.org) [e](#here) [f](gone.md)";
        let tree = Tree::of(&[("docs/a.md", text), ("docs/b.md", ""), ("README.md", "[docs](docs/)")]);
        let found = check_links(&tree);
        assert!(found.len() == 1 && found[0].problem.contains("gone.md"), "{found:?}");
    }

    #[test]
    fn a_crate_off_the_map_and_a_place_that_is_not_there_are_refused() {
        let map = "| folder | is |\n|---|---|\n| `gone/` | x |\n";
        let found = check_map(&Tree::of(&[(MAP, map), ("a/Cargo.toml", "[package]\nname = \"a\"")]));
        assert!(found.iter().any(|one| one.problem.contains("a is not on the code map")), "{found:?}");
        assert!(found.iter().any(|one| one.problem.contains("gone/")), "{found:?}");
        assert!(check_map(&Tree::of(&[])).iter().any(|one| one.problem.contains("is gone")));
    }

    #[test]
    fn an_undated_decision_is_refused() {
        let tree = Tree::of(&[("docs/decisions/one-door.md", ""), ("docs/decisions/2026-11-21-one-door.md", "")]);
        assert_eq!(check_decisions(&tree).len(), 1);
    }

    #[test]
    fn a_target_without_help_is_refused() {
        let good = ".PHONY: build\nbuild: setup ## Build\n\tcargo build\nX := 1\nexport Y ?= a:b\n";
        assert!(check_makefile(&Tree::of(&[("Makefile", good)])).is_empty());
        assert_eq!(check_makefile(&Tree::of(&[("Makefile", "build: setup\n\tcargo build\n")])).len(), 2);
    }
}

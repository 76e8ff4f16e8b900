//! Which crate may use which: the table in `ARCHITECTURE.md` is the rule, the manifests are held to it.
//!
//! The table says what a room may name in its manifest; its column `never` is stronger and is judged by the whole graph:
//! not even through a package of a package.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::Finding;
use crate::markdown::{self, items};
use crate::tree::{Crate, Tree};

/// The page that holds the table.
pub const PAGE: &str = "ARCHITECTURE.md";
/// The first header cell of the table.
pub const HEADER: &str = "crate (folder)";

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Rule {
    line: usize,
    name: String,
    folder: String,
    ours: Vec<String>,
    packages: Vec<String>,
    tests: Vec<String>,
    never: Vec<String>,
}

/// Reads the table; a row that cannot be read is a finding.
pub fn rules(page: &str) -> (Vec<Rule>, Vec<Finding>) {
    let mut rules = Vec::new();
    let mut findings = Vec::new();
    let Some(rows) = markdown::table(page, HEADER) else {
        let remedy = format!("restore the table whose first column is `{HEADER}`");
        return (rules, vec![Finding::new(PAGE, "the table of arrows is gone", remedy)]);
    };
    for row in rows {
        let named = row.cells[0].trim_end_matches(')').split_once(" (");
        match (named, row.cells.as_slice()) {
            (Some((name, folder)), [_, ours, packages, tests, never]) => rules.push(Rule {
                line: row.line,
                name: name.to_owned(),
                folder: folder.to_owned(),
                ours: items(ours).iter().map(|one| format!("holdfast-{one}")).collect(),
                packages: items(packages),
                tests: items(tests),
                never: items(never),
            }),
            _ => findings.push(Finding::at(
                PAGE,
                row.line,
                "this row cannot be read",
                "write `name (folder)` and four lists",
            )),
        }
    }
    (rules, findings)
}

/// What the manifests say, against the table.
pub fn check_manifests(tree: &Tree) -> Vec<Finding> {
    let (rules, mut findings) = rules(tree.text(PAGE).unwrap_or_default());
    let crates = match tree.crates() {
        Ok(crates) => crates,
        Err(error) => return vec![Finding::new(error, "this manifest cannot be read", "mend it")],
    };
    for rule in &rules {
        if !crates.iter().any(|one| one.name == rule.name && one.folder == rule.folder) {
            let problem = format!("the table names {} in {}, which does not exist", rule.name, rule.folder);
            findings.push(Finding::at(PAGE, rule.line, problem, "remove or correct the row"));
        }
    }
    for one in &crates {
        match rules.iter().find(|rule| rule.name == one.name) {
            Some(rule) => check_crate(one, rule, &mut findings),
            None => findings.push(Finding::new(
                one.manifest_path(),
                format!("the table of arrows has no row for {}", one.name),
                format!("add a row to {PAGE} that says what it may use"),
            )),
        }
        if one.manifest.get("lints").and_then(|lints| lints.get("workspace")?.as_bool()) != Some(true) {
            let remedy = "add `[lints]` with `workspace = true`";
            findings.push(Finding::new(one.manifest_path(), "this crate does not follow the shared lints", remedy));
        }
    }
    findings
}

fn check_crate(one: &Crate, rule: &Rule, findings: &mut Vec<Finding>) {
    for (section, package) in dependencies(&one.manifest) {
        let of_ours = package.starts_with("holdfast-");
        let shipped = if of_ours { &rule.ours } else { &rule.packages };
        let short = package.trim_start_matches("holdfast-");
        let in_tests = section == "dev-dependencies" && rule.tests.iter().any(|test| test == short || test == &package);
        if shipped.contains(&package) || in_tests {
            continue;
        }
        let remedy = match (of_ours, section.as_str()) {
            (true, _) => format!("turn the arrow around with a port, or change the table in {PAGE} and say why"),
            (false, "dev-dependencies") => format!("do without, or add it to the row's tests in {PAGE}"),
            (false, _) => {
                format!("do without, or add it to the row's packages in {PAGE} and say why in docs/decisions")
            }
        };
        let problem = format!("{} may not use {package} ({section})", one.name);
        findings.push(Finding::new(one.manifest_path(), problem, remedy));
    }
}

/// Every dependency with its section, renamed ones by their real name, platform sections included.
fn dependencies(manifest: &toml::Table) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (section, value) in manifest {
        match (section.as_str(), value) {
            ("dependencies" | "dev-dependencies" | "build-dependencies", toml::Value::Table(table)) => {
                for (name, detail) in table {
                    let real = detail.get("package").and_then(toml::Value::as_str).unwrap_or(name);
                    found.push((section.clone(), real.to_owned()));
                }
            }
            ("target", toml::Value::Table(platforms)) => {
                for platform in platforms.values().filter_map(toml::Value::as_table) {
                    found.extend(dependencies(platform));
                }
            }
            _ => {}
        }
    }
    found
}

/// The column `never`, against everything that a crate is really built from. `metadata` is what `cargo metadata` prints.
pub fn check_graph(page: &str, metadata: &Value) -> Vec<Finding> {
    let graph = shipped_graph(metadata);
    let mut findings = Vec::new();
    for rule in rules(page).0 {
        for forbidden in &rule.never {
            if let Some(way) = way(&graph, &rule.name, forbidden) {
                let problem = format!("{} must never use {forbidden}, but does: {}", rule.name, way.join(" → "));
                let remedy =
                    "take that package out of the way that is named, or move the code to a room that may use it";
                findings.push(Finding::at(PAGE, rule.line, problem, remedy));
            }
        }
    }
    findings
}

/// Package name → names that its shipped code is built from; what only tests use is left out.
fn shipped_graph(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let names: BTreeMap<String, String> =
        list(&metadata["packages"]).iter().map(|package| (text(&package["id"]), text(&package["name"]))).collect();
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in list(&metadata["resolve"]["nodes"]) {
        let from = names.get(&text(&node["id"])).cloned().unwrap_or_default();
        for edge in list(&node["deps"]) {
            let shipped = list(&edge["dep_kinds"]).iter().any(|kind| kind["kind"].as_str() != Some("dev"));
            if let Some(to) = names.get(&text(&edge["pkg"])).filter(|_| shipped) {
                graph.entry(from.clone()).or_default().insert(to.clone());
            }
        }
    }
    graph
}

fn way(graph: &BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) -> Option<Vec<String>> {
    let mut seen = BTreeSet::from([from.to_owned()]);
    let mut open = vec![vec![from.to_owned()]];
    while let Some(path) = open.pop() {
        for next in graph.get(path.last()?).into_iter().flatten() {
            let mut longer = path.clone();
            longer.push(next.clone());
            if next == to {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                open.push(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "| crate (folder) | ours | packages | tests | never |\n|---|---|---|---|---|\n\
        | `holdfast-store` (store) | log | thiserror | seal, proptest | aws-lc-rs |\n";

    fn problems(page: &str, manifest: &str) -> Vec<String> {
        let manifest = format!("[package]\nname = \"holdfast-store\"\n[lints]\nworkspace = true\n{manifest}");
        let tree = Tree::of(&[(PAGE, page), ("store/Cargo.toml", &manifest)]);
        check_manifests(&tree).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn a_forbidden_arrow_is_refused() {
        for (manifest, said) in [
            ("[dependencies]\nholdfast-session.workspace = true", "may not use holdfast-session (dependencies)"),
            ("[dependencies]\nholdfast-seal.workspace = true", "may not use holdfast-seal (dependencies)"),
            ("[dependencies]\nx = { package = \"aes-gcm\", version = \"1\" }", "may not use aes-gcm (dependencies)"),
            ("[target.'cfg(unix)'.dependencies]\ntokio = \"1\"", "may not use tokio (dependencies)"),
            ("[build-dependencies]\ncc = \"1\"", "may not use cc (build-dependencies)"),
            (
                "[dev-dependencies]\nholdfast-session.workspace = true",
                "may not use holdfast-session (dev-dependencies)",
            ),
        ] {
            let found = problems(TABLE, manifest);
            assert!(found.len() == 1 && found[0].contains(said), "{manifest}: {found:?}");
        }
    }

    #[test]
    fn what_the_table_allows_is_allowed() {
        let manifest = "[dependencies]\nholdfast-log.workspace = true\nthiserror = \"2\"\n\
            [dev-dependencies]\nholdfast-seal.workspace = true\nproptest = \"1\"";
        assert!(problems(TABLE, manifest).is_empty());
    }

    #[test]
    fn a_crate_without_a_row_a_row_without_a_crate_and_a_lost_table_are_refused() {
        let other = TABLE.replace("holdfast-store", "holdfast-other");
        let found = problems(&other, "");
        assert!(found.iter().any(|one| one.contains("which does not exist")), "{found:?}");
        assert!(found.iter().any(|one| one.contains("has no row for holdfast-store")), "{found:?}");
        assert!(problems("nothing", "").iter().any(|one| one.contains("the table of arrows is gone")));
        assert!(problems(&TABLE.replace("(store)", ""), "").iter().any(|one| one.contains("cannot be read")));
    }

    #[test]
    fn a_crate_without_the_shared_lints_is_refused() {
        let tree = Tree::of(&[(PAGE, TABLE), ("store/Cargo.toml", "[package]\nname = \"holdfast-store\"")]);
        assert!(check_manifests(&tree).iter().any(|finding| finding.problem.contains("shared lints")));
    }

    #[test]
    fn never_holds_through_other_packages() {
        let metadata = |kind: &str| {
            let text = format!(
                r#"{{"packages": [{{"id": "1", "name": "holdfast-store"}}, {{"id": "2", "name": "holdfast-log"}},
                    {{"id": "3", "name": "aws-lc-rs"}}],
                "resolve": {{"nodes": [
                    {{"id": "1", "deps": [{{"pkg": "2", "dep_kinds": [{{"kind": null}}]}}]}},
                    {{"id": "2", "deps": [{{"pkg": "3", "dep_kinds": [{{"kind": {kind}}}]}}]}},
                    {{"id": "3", "deps": []}}]}}}}"#
            );
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let found = check_graph(TABLE, &metadata("null"));
        assert!(
            found.len() == 1 && found[0].problem.contains("holdfast-store → holdfast-log → aws-lc-rs"),
            "{found:?}"
        );
        assert!(check_graph(TABLE, &metadata("\"dev\"")).is_empty(), "what only tests use is not shipped");
    }
}

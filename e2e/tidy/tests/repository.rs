//! Every rule, run over this repository. A failure lists all findings, each with its remedy.

use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast_tidy::generated::Generated;
use holdfast_tidy::tree::Tree;
use holdfast_tidy::{Finding, arrows, doors, generated, licences, modules, pages, report, shape, words};

/// Every generated file, with what makes it.
const GENERATED: [Generated; 0] = [];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn tree() -> Tree {
    Tree::read(&root()).expect("the repository can be read")
}

fn metadata() -> serde_json::Value {
    let rules =
        licences::rules(tree().text(licences::RULES).expect("deny.toml exists")).expect("deny.toml can be read");
    let mut command = Command::new(env!("CARGO"));
    command.args(["metadata", "--format-version", "1", "--locked", "--all-features"]).current_dir(root());
    for platform in &rules.platforms {
        command.args(["--filter-platform", platform]);
    }
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

#[track_caller]
fn none(findings: Vec<Finding>) {
    assert!(findings.is_empty(), "{}", report(&findings));
}

#[test]
fn every_source_is_reached_by_a_mod_line() {
    let (sources, findings) = modules::sources(&tree());
    none(findings);
    assert!(sources.len() > 20, "the walk found only {} sources: it is looking in the wrong place", sources.len());
}

#[test]
fn every_arrow_is_in_the_table() {
    none(arrows::check_manifests(&tree()));
}

#[test]
fn never_means_not_even_through_others() {
    none(arrows::check_graph(tree().text(arrows::PAGE).unwrap_or_default(), &metadata()));
}

#[test]
fn the_outside_is_reached_through_doors_only() {
    let tree = tree();
    none(doors::check(tree.text(doors::PAGE).unwrap_or_default(), &modules::sources(&tree).0));
}

#[test]
fn every_file_says_what_it_is_and_keeps_its_limits() {
    none(shape::check_files(&tree()));
}

#[test]
fn functions_only_get_shorter() {
    let tree = tree();
    none(shape::check_functions(&modules::sources(&tree).0, tree.text(shape::RATCHET).unwrap_or_default()));
}

#[test]
fn words_and_names_are_ours() {
    none(words::check_texts(&tree()));
}

#[test]
fn shipped_code_has_no_holes() {
    none(words::check_code(&modules::sources(&tree()).0));
}

#[test]
fn links_lead_somewhere() {
    none(pages::check_links(&tree()));
}

#[test]
fn every_crate_is_on_the_map() {
    none(pages::check_map(&tree()));
}

#[test]
fn decisions_are_dated() {
    none(pages::check_decisions(&tree()));
}

#[test]
fn make_help_lists_every_target() {
    none(pages::check_makefile(&tree()));
}

#[test]
fn generated_files_equal_their_source() {
    none(generated::check(&tree(), &GENERATED));
}

#[test]
fn every_licence_fits() {
    let rules =
        licences::rules(tree().text(licences::RULES).expect("deny.toml exists")).expect("deny.toml can be read");
    none(licences::check(&rules, &metadata()));
}

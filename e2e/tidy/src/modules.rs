//! Which source files a crate really compiles: every `mod` line followed from every root.
//!
//! A file that no `mod` reaches is not compiled; it rots while it still looks like code or, worse, like a test.

use std::collections::BTreeMap;

use proc_macro2::{TokenStream, TokenTree};

use crate::Finding;
use crate::tokens::{self, Piece};
use crate::tree::{Crate, Tree, join, owner};

/// A source file that is compiled.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its path from the root.
    pub path: String,
    /// The package that compiles it.
    pub package: String,
    /// Whether it exists in tests only.
    pub is_test: bool,
    /// All of it.
    pub tokens: TokenStream,
}

impl Source {
    /// What is shipped of it: nothing of a test file.
    pub fn shipped(&self) -> Vec<Piece> {
        if self.is_test { Vec::new() } else { tokens::shipped(&self.tokens) }
    }
}

/// Every source that is compiled, and a finding for each that is not.
pub fn sources(tree: &Tree) -> (Vec<Source>, Vec<Finding>) {
    let crates = match tree.crates() {
        Ok(crates) => crates,
        Err(error) => return (Vec::new(), vec![Finding::new(error, "this manifest cannot be read", "mend it")]),
    };
    let mut reached = BTreeMap::new();
    let mut findings = Vec::new();
    for one in &crates {
        for (root, is_test) in roots(tree, &crates, one) {
            follow(tree, one, &root, is_test, true, &mut reached, &mut findings);
        }
    }
    for (path, _) in tree.texts(".rs") {
        if !reached.contains_key(path) {
            let remedy = "add the `mod` line that belongs to it, or delete the file";
            findings.push(Finding::new(path, "no `mod` line reaches this file, so it is never compiled", remedy));
        }
    }
    (reached.into_values().collect(), findings)
}

/// Roots that cargo finds by itself, and those that the manifest names; each with whether it is test code.
fn roots(tree: &Tree, crates: &[Crate], one: &Crate) -> Vec<(String, bool)> {
    let mut roots = Vec::new();
    for (path, _) in tree.texts(".rs") {
        if owner(crates, path).map(|owner| &owner.name) != Some(&one.name) {
            continue;
        }
        let inside = path[one.folder.len()..].trim_start_matches('/');
        let parts: Vec<&str> = inside.split('/').collect();
        match parts.as_slice() {
            ["build.rs"] | ["src", "lib.rs" | "main.rs"] | ["src", "bin", _] | ["src", "bin", _, "main.rs"] => {
                roots.push((path.to_owned(), false));
            }
            ["tests" | "benches" | "examples", _] | ["tests" | "benches" | "examples", _, "main.rs"] => {
                roots.push((path.to_owned(), true));
            }
            _ => {}
        }
    }
    for (section, is_test) in [("lib", false), ("bin", false), ("test", true), ("bench", true), ("example", true)] {
        let Some(value) = one.manifest.get(section) else { continue };
        let targets = value.as_array().cloned().unwrap_or(vec![value.clone()]);
        for path in targets.iter().filter_map(|target| target.get("path")?.as_str()) {
            roots.push((join(&one.folder, path), is_test));
        }
    }
    roots
}

fn follow(
    tree: &Tree,
    one: &Crate,
    path: &str,
    is_test: bool,
    is_root: bool,
    reached: &mut BTreeMap<String, Source>,
    findings: &mut Vec<Finding>,
) {
    // What is compiled for both is shipped, so a second visit may only turn test code into shipped code.
    if reached.get(path).is_some_and(|known| !known.is_test || is_test) {
        return;
    }
    let Some(text) = tree.text(path) else { return };
    let tokens = match tokens::parse(text) {
        Ok(tokens) => tokens,
        Err(error) => {
            findings.push(Finding::new(path, format!("this file is no Rust: {error}"), "make it compile"));
            TokenStream::new()
        }
    };
    let source = Source { path: path.to_owned(), package: one.name.clone(), is_test, tokens: tokens.clone() };
    reached.insert(path.to_owned(), source);
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let children =
        if is_root || name == "mod.rs" { folder.to_owned() } else { path.trim_end_matches(".rs").to_owned() };
    let mut declared = Vec::new();
    declarations(tokens.into_iter().collect(), folder, &children, is_test, &mut declared);
    for (candidates, child_is_test) in declared {
        if let Some(child) = candidates.iter().find(|path| tree.text(path).is_some()) {
            follow(tree, one, child, child_is_test, false, reached, findings);
        }
    }
}

/// `mod name;`, `mod name { … }`, `#[path = "…"] mod name;` and `include!("…")`, as candidate paths.
fn declarations(
    trees: Vec<TokenTree>,
    folder: &str,
    children: &str,
    is_test: bool,
    found: &mut Vec<(Vec<String>, bool)>,
) {
    let mut at = 0;
    let mut attributes: Vec<String> = Vec::new();
    while at < trees.len() {
        if let Some((attribute, after)) = tokens::attribute_at(&trees, at) {
            attributes.push(attribute);
            at = after;
            continue;
        }
        let test_here = is_test || attributes.iter().any(|attribute| tokens::marks_test_code(attribute));
        match (&trees[at], trees.get(at + 1), trees.get(at + 2)) {
            (TokenTree::Ident(word), Some(TokenTree::Ident(name)), after) if word == "mod" => {
                let path = attributes.iter().find_map(|one| one.strip_prefix("path=\"")?.strip_suffix('"'));
                if let Some(TokenTree::Group(group)) = after {
                    let inner = join(children, &name.to_string());
                    declarations(group.stream().into_iter().collect(), &inner, &inner, test_here, found);
                    at += 1;
                } else {
                    let own = [join(children, &format!("{name}.rs")), join(children, &format!("{name}/mod.rs"))];
                    found.push((path.map_or(own.to_vec(), |path| vec![normal(&join(folder, path))]), test_here));
                }
                at += 1;
                attributes.clear();
            }
            (TokenTree::Ident(word), Some(TokenTree::Punct(_)), Some(TokenTree::Group(group))) if word == "include" => {
                let path = group.stream().to_string().trim_matches('"').to_owned();
                found.push((vec![normal(&join(folder, &path))], test_here));
                at += 2;
                attributes.clear();
            }
            (TokenTree::Ident(word), ..) if word == "pub" => {}
            // The restriction of `pub(crate)` stands between an attribute and its `mod`.
            (TokenTree::Group(_), Some(TokenTree::Ident(word)), _) if word == "mod" => {}
            _ => attributes.clear(),
        }
        at += 1;
    }
}

/// A path without `.` and `..`.
pub fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: (&str, &str) = ("a/Cargo.toml", "[package]\nname = \"a\"");

    fn unreached(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<(&str, &str)> = std::iter::once(MANIFEST).chain(files.iter().copied()).collect();
        sources(&Tree::of(&files)).1.into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn a_file_without_a_mod_line_is_refused() {
        assert_eq!(unreached(&[("a/src/lib.rs", "mod b;"), ("a/src/b.rs", ""), ("a/src/c.rs", "")]), ["a/src/c.rs"]);
        assert_eq!(unreached(&[("a/src/lib.rs", "// mod b;"), ("a/src/b.rs", "")]), ["a/src/b.rs"]);
        assert_eq!(
            unreached(&[("a/tests/t/inner.rs", "")]),
            ["a/tests/t/inner.rs"],
            "a dead test is the worst of them"
        );
        assert_eq!(unreached(&[("stray/x.rs", "")]), ["stray/x.rs"]);
    }

    #[test]
    fn every_way_to_reach_a_file_is_known() {
        let reached: [&[(&str, &str)]; 6] = [
            &[("a/src/lib.rs", "pub mod b;"), ("a/src/b.rs", "mod c;"), ("a/src/b/c.rs", "")],
            &[("a/src/main.rs", "mod b;"), ("a/src/b/mod.rs", "mod c;"), ("a/src/b/c.rs", "")],
            &[("a/src/lib.rs", "mod b { mod c; }"), ("a/src/b/c.rs", "")],
            &[("a/tests/t.rs", "mod world;"), ("a/tests/world.rs", "")],
            &[("a/src/lib.rs", "#[path = \"../x/y.rs\"]\npub(crate) mod b;"), ("a/x/y.rs", "")],
            &[("a/src/bin/tool.rs", "include!(\"part.rs\");"), ("a/src/bin/part.rs", "")],
        ];
        for files in reached {
            assert!(unreached(files).is_empty(), "{files:?}: {:?}", unreached(files));
        }
    }

    #[test]
    fn test_modules_are_known_as_such() {
        let tree = Tree::of(&[
            MANIFEST,
            ("a/src/lib.rs", "mod b;\n#[cfg(test)]\nmod world;\n#[cfg(test)]\npub(crate) mod more;"),
            ("a/src/b.rs", ""),
            ("a/src/world.rs", "mod deep;"),
            ("a/src/world/deep.rs", ""),
            ("a/src/more.rs", ""),
            ("a/tests/t.rs", ""),
        ]);
        let tests: Vec<String> = sources(&tree).0.into_iter().filter(|one| one.is_test).map(|one| one.path).collect();
        assert_eq!(tests, ["a/src/more.rs", "a/src/world.rs", "a/src/world/deep.rs", "a/tests/t.rs"]);
    }
}

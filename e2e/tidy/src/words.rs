//! Words, names and calls that we do not use, each with what to use instead.

use crate::Finding;
use crate::modules::Source;
use crate::tokens;
use crate::tree::Tree;

/// Words in any text of ours, comments included. Split, so that this file does not hold them itself.
const WORDS: [(&str, &str); 3] = [
    (concat!("FIX", "ME"), "mend it now, or write an issue"),
    (concat!("TO", "DO"), "do it now, or write an issue; `todo!` in code is refused as well"),
    (concat!("X", "XX"), "say what is wrong in a sentence, or mend it"),
];

/// Macros that leave a hole in shipped code.
const MACROS: [(&str, &str); 3] = [
    ("todo!", "write it; what is not written is not merged"),
    ("unimplemented!", "write it, or make the state that leads here impossible"),
    ("dbg!", "remove it; a test may assert what it would have shown"),
];

/// Names of files that say nothing about what is inside.
const FILE_NAMES: [&str; 8] = ["utils", "util", "helpers", "helper", "misc", "common", "stuff", "types"];

/// Texts that are held to the words.
const TEXT_SUFFIXES: [&str; 6] = [".rs", ".sh", ".toml", ".yaml", ".proto", "Makefile"];

/// Words in every text, and the names of source files.
pub fn check_texts(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in TEXT_SUFFIXES.iter().flat_map(|suffix| tree.texts(suffix)) {
        for (at, line) in text.lines().enumerate() {
            for (word, remedy) in WORDS {
                if line.split(|letter: char| !letter.is_alphanumeric()).any(|part| part == word) {
                    findings.push(Finding::at(path, at + 1, format!("`{word}` is a promise to nobody"), remedy));
                }
            }
        }
    }
    for (path, _) in tree.texts(".rs") {
        let mut names = path.trim_end_matches(".rs").rsplit('/');
        let own = names.next().unwrap_or_default();
        let name = if own == "mod" { names.next().unwrap_or_default() } else { own };
        if FILE_NAMES.contains(&name) {
            let remedy = "name it for the one idea that it holds, or move its parts to where they belong";
            findings.push(Finding::new(path, format!("`{name}` says nothing about what is inside"), remedy));
        }
    }
    findings
}

/// Calls and attributes in code.
pub fn check_code(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let pieces = source.shipped();
        for line in tokens::method_calls(&pieces, "unwrap") {
            let remedy = "return an error, or `expect` with the reason why it cannot fail";
            findings.push(Finding::at(&source.path, line, "`unwrap()` outside tests", remedy));
        }
        for path in tokens::paths(&pieces) {
            let last = path.text.rsplit("::").next().unwrap_or_default();
            for (name, remedy) in MACROS {
                if last == name {
                    findings.push(Finding::at(&source.path, path.line, format!("`{name}` in shipped code"), remedy));
                }
            }
        }
        // In a test file the reason is plain: it is a test.
        if !source.is_test {
            silenced(source.tokens.clone().into_iter().collect(), &source.path, &mut findings);
        }
    }
    findings
}

/// `#[allow(…)]` and `#[expect(…)]` that do not say why.
fn silenced(trees: Vec<proc_macro2::TokenTree>, path: &str, findings: &mut Vec<Finding>) {
    for at in 0..trees.len() {
        if let Some((attribute, _)) = tokens::attribute_at(&trees, at) {
            let silences = attribute.starts_with("allow(") || attribute.starts_with("expect(");
            // The reason for `unsafe` stands where it counts: clippy asks for a SAFETY comment on every block.
            let says_why = attribute.contains("reason=\"") || attribute == "allow(unsafe_code)";
            if silences && !says_why {
                let remedy = "write `#[expect(lint, reason = \"…\")]`, or follow the lint";
                let line = trees[at].span().start().line;
                findings.push(Finding::at(path, line, format!("`#[{attribute}]` does not say why"), remedy));
            }
        }
        if let proc_macro2::TokenTree::Group(group) = &trees[at] {
            silenced(group.stream().into_iter().collect(), path, findings);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules;

    fn problems(text: &str) -> Vec<String> {
        let tree = Tree::of(&[("a/Cargo.toml", "[package]\nname = \"a\""), ("a/src/lib.rs", text)]);
        check_code(&modules::sources(&tree).0).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn promises_to_nobody_are_refused_wherever_they_stand() {
        for (word, _) in WORDS {
            for path in ["a/src/lib.rs", "tools/x.sh", "Makefile", "deny.toml"] {
                assert_eq!(
                    check_texts(&Tree::of(&[(path, &format!("x // {word}: later"))])).len(),
                    1,
                    "{word} in {path}"
                );
            }
            assert!(check_texts(&Tree::of(&[("a.rs", &format!("let {word}S = 1;"))])).is_empty(), "a part of a word");
        }
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        for path in ["a/src/utils.rs", "a/src/helpers/mod.rs", "a/tests/common/mod.rs", "a/src/misc.rs"] {
            assert_eq!(check_texts(&Tree::of(&[(path, "")])).len(), 1, "{path}");
        }
        assert!(check_texts(&Tree::of(&[("a/src/useful.rs", "")])).is_empty());
    }

    #[test]
    fn holes_in_shipped_code_are_refused() {
        for text in [
            "fn f() { x.unwrap(); }",
            "fn f() { assert!(x.unwrap()); }",
            "fn f() { todo!() }",
            "fn f() { std::unimplemented!(\"x\") }",
            "fn f() { dbg!(x); }",
            "#[allow(dead_code)] fn f() {}",
            "#![allow(unused)]",
            "mod m { #[expect(clippy::x)] fn f() {} }",
        ] {
            assert_eq!(problems(text).len(), 1, "{text}: {:?}", problems(text));
        }
        for text in [
            "#[cfg(test)] mod tests { #[test] fn f() { x.unwrap(); } }",
            "fn f() { x.expect(\"checked above\").unwrap_or(1); }",
            "#[expect(dead_code, reason = \"the next change uses it\")] fn f() {}",
            "#[allow(unsafe_code)] fn f() {}",
        ] {
            assert!(problems(text).is_empty(), "{text}: {:?}", problems(text));
        }
    }
}

//! The shape of files: each opens by saying what it is, none grows beyond what a reader holds in mind.
//!
//! Function length is a ratchet: a function over the limit is listed with its length in `e2e/tidy/long_functions.txt`, may
//! only shrink, and leaves the list when it is short enough. So old ones block nobody, and no new one comes.

use std::collections::BTreeMap;

use crate::Finding;
use crate::modules::Source;
use crate::tokens;
use crate::tree::Tree;

/// The longest that a source file may be, tests included.
pub const FILE_LINES_MAX: usize = 900;
/// The longest that a shipped function may be.
pub const FUNCTION_LINES_MAX: usize = 80;
/// The largest file that the repository holds; what is larger is made, or fetched.
pub const FILE_BYTES_MAX: usize = 512 * 1024;
/// The ratchet: `path function lines`, one a line.
pub const RATCHET: &str = "e2e/tidy/long_functions.txt";

/// `//!` first, and the limits on a file.
pub fn check_files(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, entry) in tree.entries() {
        if entry.byte_count > FILE_BYTES_MAX {
            let problem = format!("{} bytes; the limit is {FILE_BYTES_MAX}", entry.byte_count);
            findings.push(Finding::new(path, problem, "make it from a source, fetch it, or keep a smaller example"));
        }
    }
    for (path, text) in tree.texts(".rs") {
        if !text.starts_with("//!") {
            let remedy = "open with `//!`: what this file is for, what holds in it, what must never be in it";
            findings.push(Finding::at(path, 1, "this file does not say what it is", remedy));
        }
        let line_count = text.lines().count();
        if line_count > FILE_LINES_MAX {
            let remedy = "split it by ideas; move each part's tests and its essay with it";
            findings.push(Finding::new(path, format!("{line_count} lines; the limit is {FILE_LINES_MAX}"), remedy));
        }
    }
    findings
}

/// The limit on functions, with the ratchet.
pub fn check_functions(sources: &[Source], ratchet: &str) -> Vec<Finding> {
    let mut listed: BTreeMap<(String, String), usize> = BTreeMap::new();
    for line in ratchet.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        let parts: Vec<&str> = line.split_whitespace().collect();
        if let [path, name, count] = parts.as_slice() {
            listed.insert(((*path).to_owned(), (*name).to_owned()), count.parse().unwrap_or(0));
        }
    }
    let mut findings = Vec::new();
    for source in sources {
        for function in tokens::functions(&source.shipped()) {
            if function.line_count <= FUNCTION_LINES_MAX {
                continue;
            }
            let allowed = listed.remove(&(source.path.clone(), function.name.clone())).unwrap_or(FUNCTION_LINES_MAX);
            let (problem, remedy) = match function.line_count.cmp(&allowed) {
                std::cmp::Ordering::Equal => continue,
                std::cmp::Ordering::Greater => (
                    format!("`{}` has {} lines; {allowed} are allowed", function.name, function.line_count),
                    "keep the branches here and move what each computes into functions of their own".to_owned(),
                ),
                std::cmp::Ordering::Less => (
                    format!("`{}` shrank from {allowed} to {} lines", function.name, function.line_count),
                    format!("lower its number in {RATCHET}, so that it cannot grow again"),
                ),
            };
            findings.push(Finding::at(&source.path, function.line, problem, remedy));
        }
    }
    for ((path, name), _) in listed {
        let problem = format!("`{name}` in {path} is listed as long, and is not");
        findings.push(Finding::new(RATCHET, problem, "remove the line"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules;

    fn long(line_count: usize) -> String {
        format!("//! x\nfn f() {{\n{}}}\n", "    g();\n".repeat(line_count - 2))
    }

    fn problems(text: &str, ratchet: &str) -> Vec<String> {
        let tree = Tree::of(&[("a/Cargo.toml", "[package]\nname = \"a\""), ("a/src/lib.rs", text)]);
        check_functions(&modules::sources(&tree).0, ratchet).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_is_refused() {
        for text in ["", "use x;\n//! late", "/// not the file's\nfn f() {}", "#![allow(x)]\n//! second"] {
            assert_eq!(check_files(&Tree::of(&[("a.rs", text)])).len(), 1, "{text}");
        }
        assert!(check_files(&Tree::of(&[("a.rs", "//! says\n")])).is_empty());
    }

    #[test]
    fn a_long_file_and_a_large_one_are_refused() {
        let lines = format!("//! x\n{}", "\n".repeat(FILE_LINES_MAX));
        assert_eq!(check_files(&Tree::of(&[("a.rs", &lines)])).len(), 1);
        assert_eq!(check_files(&Tree::of(&[("a.bin", &"x".repeat(FILE_BYTES_MAX + 1))])).len(), 1);
    }

    #[test]
    fn a_long_function_is_refused_and_a_listed_one_only_shrinks() {
        assert!(problems(&long(FUNCTION_LINES_MAX), "").is_empty());
        assert_eq!(problems(&long(FUNCTION_LINES_MAX + 1), "").len(), 1);
        assert!(problems(&long(100), "# why\na/src/lib.rs f 100\n").is_empty());
        assert!(problems(&long(101), "a/src/lib.rs f 100")[0].contains("100 are allowed"));
        assert!(problems(&long(90), "a/src/lib.rs f 100")[0].contains("shrank"));
        assert!(problems(&long(10), "a/src/lib.rs f 100")[0].contains("is listed as long, and is not"));
    }

    #[test]
    fn tests_may_be_long() {
        let text = long(200).replace("fn f", "#[test]\nfn f");
        assert!(problems(&text, "").is_empty());
    }
}

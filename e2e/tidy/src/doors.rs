//! Clocks, randomness, files, network, ciphers, unsafe code and state paths: only through the doors that `ARCHITECTURE.md` lists.
//!
//! A room decides and stores; whatever the machine does comes to it through a port. That is what lets the whole engine run
//! in the simulator from one seed, and it is lost with the first `Instant::now()` that nobody saw. So nothing is allowed
//! but what the table of doors names, file by file.

use crate::Finding;
use crate::markdown::{self, items};
use crate::modules::Source;
use crate::tokens::{self, Kind};

/// The page that holds the table.
pub const PAGE: &str = "ARCHITECTURE.md";
/// The first header cell of the table.
pub const HEADER: &str = "door";

/// The kind of a literal that names where state lies on a machine.
const STATE_PATHS: &str = "state paths";
/// Split, so that this file does not name them itself.
const STATE_FOLDERS: [&str; 2] = [concat!("/var/lib/", "holdfast"), concat!("/run/", "holdfast")];

/// The kind of code that the compiler cannot check.
const UNSAFE: &str = "unsafe";

/// What lies outside: a name for the table, the paths that lead there, and what to use instead.
const OUTSIDE: [(&str, &[&str], &str); 8] = [
    (
        "clock",
        &[
            "std::time::Instant",
            "std::time::SystemTime",
            "std::time::UNIX_EPOCH",
            "std::thread::sleep",
            "rustix::time",
            "chrono",
        ],
        "take the time as an argument or through the clock port",
    ),
    (
        "randomness",
        &[
            "getrandom",
            "rand",
            "rand_core",
            "fastrand",
            "rustix::rand",
            "aws_lc_rs::rand",
            "std::hash::RandomState",
            "std::collections::hash_map::RandomState",
        ],
        "take random bytes as an argument or through the randomness port",
    ),
    (
        "files",
        &[
            "std::fs",
            "std::os::unix::fs",
            "std::os::linux::fs",
            "std::os::fd",
            "std::os::unix::io",
            "rustix::fs",
            "libc",
            "tokio::fs",
        ],
        "use the disk port (`holdfast_disk::Disk`)",
    ),
    (
        "network",
        &["std::net", "std::os::unix::net", "rustix::net", "tokio::net", "socket2"],
        "leave sending to a shell; return what is to be sent",
    ),
    (
        "threads",
        &["std::thread::spawn", "std::thread::Builder", "std::thread::scope", "rayon", "tokio"],
        "let the caller own the threads: a room that starts its own cannot be replayed from a seed",
    ),
    (
        "processes",
        &["std::process", "std::env", "rustix::process"],
        "take what you need as an argument; only a binary's shell asks the process",
    ),
    (
        "printing",
        &[
            "std::io::stdout",
            "std::io::stderr",
            "std::io::stdin",
            "println!",
            "print!",
            "eprintln!",
            "eprint!",
            "tracing",
        ],
        "return a value that says it; shells print and trace",
    ),
    (
        "ciphers",
        &[
            "aes_gcm",
            "aes",
            "aead",
            "aws_lc_rs",
            "aws_lc_sys",
            "argon2",
            "chacha20poly1305",
            "ghash",
            "hkdf",
            "hmac",
            "openssl",
            "pbkdf2",
            "sha2",
            "blake3::keyed_hash",
            "blake3::derive_key",
            "blake3::Hasher::new_keyed",
            "blake3::Hasher::new_derive_key",
        ],
        "call holdfast-seal: every cipher, key derivation and MAC is there, so that there is one nonce rule to review",
    ),
];

/// A row of the table: which files may go through to what.
#[derive(Clone, Debug)]
struct Door {
    line: usize,
    pattern: String,
    kinds: Vec<String>,
}

/// Every call to the outside that no door allows, and every door that leads nowhere.
pub fn check(page: &str, sources: &[Source]) -> Vec<Finding> {
    let Some(rows) = markdown::table(page, HEADER) else {
        return vec![Finding::new(
            PAGE,
            "the table of doors is gone",
            format!("restore the table whose first column is `{HEADER}`"),
        )];
    };
    let doors: Vec<Door> = rows
        .into_iter()
        .map(|row| Door {
            line: row.line,
            pattern: row.cells[0].clone(),
            kinds: items(row.cells.get(1).map_or("", String::as_str)),
        })
        .collect();
    let mut findings = check_doors(&doors, sources);
    for source in sources {
        let open = |kind: &str| {
            doors
                .iter()
                .any(|door| matches(&door.pattern, &source.path) && door.kinds.iter().any(|known| known == kind))
        };
        let pieces = source.shipped();
        for path in tokens::paths(&pieces) {
            for (kind, prefixes, instead) in OUTSIDE {
                if !open(kind) && prefixes.iter().any(|prefix| leads_to(&path.text, prefix)) {
                    let problem = format!("`{}` is {kind}, and no door leads there from here", path.text);
                    findings.push(Finding::at(&source.path, path.line, problem, instead));
                }
            }
        }
        for piece in pieces.iter().filter(|piece| piece.kind == Kind::Word(UNSAFE.to_owned()) && !open(UNSAFE)) {
            let remedy = "use a safe call; where there is none, keep it in a small file with a door of its own";
            findings.push(Finding::at(&source.path, piece.line, "unsafe code, and no door allows it here", remedy));
        }
        for piece in tokens::everything(&source.tokens) {
            let Kind::Literal(text) = &piece.kind else { continue };
            if !open(STATE_PATHS) && STATE_FOLDERS.iter().any(|folder| text.contains(folder)) {
                let problem = format!("{text} names where state lies");
                let remedy = "ask the one module that knows the paths (its door is `state paths`)";
                findings.push(Finding::at(&source.path, piece.line, problem, remedy));
            }
        }
    }
    findings
}

fn check_doors(doors: &[Door], sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for door in doors {
        if !sources.iter().any(|source| matches(&door.pattern, &source.path)) {
            let problem = format!("the door {} belongs to no source file", door.pattern);
            findings.push(Finding::at(PAGE, door.line, problem, "remove or correct the row"));
        }
        for kind in &door.kinds {
            if ![STATE_PATHS, UNSAFE].contains(&kind.as_str()) && !OUTSIDE.iter().any(|(known, ..)| known == kind) {
                let known: Vec<&str> = OUTSIDE.iter().map(|(known, ..)| *known).chain([UNSAFE, STATE_PATHS]).collect();
                let remedy = format!("use one of: {}", known.join(", "));
                findings.push(Finding::at(PAGE, door.line, format!("`{kind}` is no kind of outside"), remedy));
            }
        }
    }
    findings
}

/// `a/b/` means everything below, `*` any text within a name, anything else the file itself.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('*') {
        _ if pattern.ends_with('/') => path.starts_with(pattern),
        Some((before, after)) => path
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|middle| !middle.contains('/') && path.len() >= before.len() + after.len()),
        None => pattern == path,
    }
}

/// Whether a path is at or below `prefix`, or imports everything from above it.
fn leads_to(path: &str, prefix: &str) -> bool {
    let at_or_below = path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let everything_above = path
        .strip_suffix("*")
        .is_some_and(|above| prefix.starts_with(above) && above.trim_end_matches("::").contains("::"));
    // A bare word may be a variable; a crate is named with something behind it, or imported.
    let is_bare_word = prefix == path && !prefix.contains("::") && !prefix.ends_with('!');
    (at_or_below && !is_bare_word) || everything_above
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::modules;
    use crate::tree::Tree;

    fn problems(doors: &str, path: &str, text: &str) -> Vec<String> {
        let page = format!("| door | to | why |\n|---|---|---|\n{doors}");
        let tree = Tree::of(&[
            ("a/Cargo.toml", "[package]\nname = \"a\""),
            ("a/src/lib.rs", "mod linux_disk; mod b;"),
            (path, text),
        ]);
        check(&page, &modules::sources(&tree).0).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn every_kind_of_outside_is_refused_in_a_pure_room() {
        for (text, kind) in [
            ("fn f() { std::time::Instant::now(); }", "clock"),
            ("use std::time::{Duration, SystemTime};", "clock"),
            ("use std::thread; fn f() { thread::sleep(d); }", "clock"),
            ("use std::time::*;", "clock"),
            ("fn f() { getrandom::fill(&mut b); }", "randomness"),
            ("use rand::Rng;", "randomness"),
            ("use std::fs::File;", "files"),
            ("use rustix::fs::{OFlags, openat};", "files"),
            ("fn f(s: std::net::TcpStream) {}", "network"),
            ("fn f() { std::thread::spawn(g); }", "threads"),
            ("fn f() { std::env::var(\"X\"); }", "processes"),
            ("fn f() { println!(\"x\"); }", "printing"),
            ("use aws_lc_rs::aead;", "ciphers"),
            ("fn f() { sha2::Sha256::digest(b); }", "ciphers"),
            ("use blake3::Hasher; fn f() { Hasher::new_keyed(k); }", "ciphers"),
        ] {
            let found = problems("", "a/src/b.rs", text);
            assert!(found.iter().any(|one| one.contains(&format!("is {kind},"))), "{text}: {found:?}");
        }
    }

    #[test]
    fn what_is_pure_is_left_alone() {
        for text in [
            "use std::time::Duration; fn f(log: u8, time: u8) -> u8 { log + time }",
            "fn f() { blake3::Hasher::new(); }",
            "struct Env; fn f(x: my::std::fs::X) {}",
            "use holdfast_log::group; fn f() { self::fs::x(); }",
            "#[cfg(test)] mod tests { use std::fs; #[test] fn f() { println!(\"x\"); } }",
            "use super::*;",
        ] {
            assert!(problems("", "a/src/b.rs", text).is_empty(), "{text}: {:?}", problems("", "a/src/b.rs", text));
        }
    }

    #[test]
    fn a_door_opens_one_kind_for_its_files_only() {
        let doors = "| `a/src/linux*.rs` | files | the real disk |\n";
        assert!(problems(doors, "a/src/linux_disk.rs", "use std::fs;").is_empty());
        assert_eq!(
            problems(doors, "a/src/linux_disk.rs", "use std::net;").len(),
            1,
            "a door to files is none to the network"
        );
        let found = problems(doors, "a/src/b.rs", "use std::fs;");
        assert!(found.iter().any(|one| one.contains("is files")), "{found:?}");
    }

    #[test]
    fn unsafe_code_needs_a_door_too() {
        let text = "fn f() { unsafe { g() } }";
        assert!(problems("", "a/src/b.rs", text).iter().any(|one| one.contains("unsafe code")));
        assert!(problems("| `a/src/b.rs` | unsafe | x |\n", "a/src/b.rs", text).is_empty());
    }

    #[test]
    fn a_door_that_leads_nowhere_and_a_lost_table_are_refused() {
        let found = problems("| `a/src/gone.rs` | files | x |\n| `a/src/b.rs` | magic | x |\n", "a/src/b.rs", "");
        assert!(found.iter().any(|one| one.contains("belongs to no source file")), "{found:?}");
        assert!(found.iter().any(|one| one.contains("no kind of outside")), "{found:?}");
        assert!(check("", &[]).iter().any(|finding| finding.problem.contains("is gone")));
    }

    #[test]
    fn a_literal_state_path_is_refused_even_in_a_test() {
        for folder in STATE_FOLDERS {
            for text in [format!("const X: &str = \"{folder}/x\";"), format!("#[test] fn f() {{ g(r\"{folder}\"); }}")]
            {
                let found = problems("", "a/src/b.rs", &text);
                assert!(found.iter().any(|one| one.contains("names where state lies")), "{text}: {found:?}");
                assert!(problems("| `a/src/b.rs` | state paths | x |\n", "a/src/b.rs", &text).is_empty());
            }
        }
    }
}

//! Rust source as a flat list of pieces, with or without its test code, and the paths that it names.
//!
//! A token stream is enough for every rule here and sees into macros, where a syntax tree does not. Comments are no tokens;
//! documentation and other attributes are left out, so that prose never breaks a rule about code.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Keywords that begin an item which a brace group or a semicolon ends.
const ITEM_WORDS: [&str; 12] =
    ["fn", "impl", "mod", "struct", "enum", "trait", "union", "async", "unsafe", "extern", "macro_rules", "pub"];
/// Keywords that begin an item or statement which only a semicolon ends, whatever braces it holds.
const SEMICOLON_WORDS: [&str; 5] = ["use", "const", "static", "type", "let"];

/// One token with the line that it stands on.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The line, from 1.
    pub line: usize,
    /// What it is.
    pub kind: Kind,
}

/// What a token is, as far as the rules care.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A name or a keyword.
    Word(String),
    /// One character of punctuation.
    Mark(char),
    /// The start of a group.
    Open(char),
    /// The end of a group.
    Close,
    /// A literal as it is written, quotes included.
    Literal(String),
}

impl Piece {
    fn is_mark(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }

    fn word(&self) -> Option<&str> {
        if let Kind::Word(word) = &self.kind { Some(word) } else { None }
    }
}

/// Parses a file; the error is the lexer's.
pub fn parse(text: &str) -> Result<TokenStream, String> {
    let text = text.strip_prefix("#!/").map_or(text.to_owned(), |rest| format!("//{rest}"));
    text.parse::<TokenStream>().map_err(|error| error.to_string())
}

/// Every piece, test code included.
pub fn everything(tokens: &TokenStream) -> Vec<Piece> {
    let mut pieces = Vec::new();
    flatten(tokens.clone().into_iter().collect(), true, &mut pieces);
    pieces
}

/// The pieces of what is shipped: without `#[cfg(test)]` and `#[test]` items.
pub fn shipped(tokens: &TokenStream) -> Vec<Piece> {
    let mut pieces = Vec::new();
    flatten(tokens.clone().into_iter().collect(), false, &mut pieces);
    pieces
}

fn flatten(trees: Vec<TokenTree>, with_tests: bool, pieces: &mut Vec<Piece>) {
    let mut at = 0;
    while at < trees.len() {
        if let Some((attribute, after)) = attribute_at(&trees, at) {
            at = if !with_tests && marks_test_code(&attribute) { item_end(&trees, after) } else { after };
            continue;
        }
        let line = trees[at].span().start().line;
        match &trees[at] {
            TokenTree::Ident(ident) => pieces.push(Piece { line, kind: Kind::Word(ident.to_string()) }),
            TokenTree::Punct(punct) => pieces.push(Piece { line, kind: Kind::Mark(punct.as_char()) }),
            TokenTree::Literal(literal) => pieces.push(Piece { line, kind: Kind::Literal(literal.to_string()) }),
            TokenTree::Group(group) => {
                pieces.push(Piece { line, kind: Kind::Open(opening(group.delimiter())) });
                flatten(group.stream().into_iter().collect(), with_tests, pieces);
                pieces.push(Piece { line: group.span_close().end().line, kind: Kind::Close });
            }
        }
        at += 1;
    }
}

fn opening(delimiter: Delimiter) -> char {
    match delimiter {
        Delimiter::Parenthesis => '(',
        Delimiter::Brace => '{',
        Delimiter::Bracket => '[',
        Delimiter::None => ' ',
    }
}

/// The attribute that starts at `at`, without spaces, and the place after it.
pub fn attribute_at(trees: &[TokenTree], at: usize) -> Option<(String, usize)> {
    let is_mark =
        |at: usize, mark: char| matches!(trees.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == mark);
    if !is_mark(at, '#') {
        return None;
    }
    let group_at = if is_mark(at + 1, '!') { at + 2 } else { at + 1 };
    match trees.get(group_at) {
        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Bracket => {
            let text: String = group.stream().to_string().chars().filter(|letter| !letter.is_whitespace()).collect();
            Some((text, group_at + 1))
        }
        _ => None,
    }
}

/// Whether an attribute says that what follows exists in tests only.
pub fn marks_test_code(attribute: &str) -> bool {
    attribute == "test" || attribute == "cfg(test)" || attribute.starts_with("cfg(all(test,")
}

fn item_end(trees: &[TokenTree], mut at: usize) -> usize {
    while let Some((_, after)) = attribute_at(trees, at) {
        at = after;
    }
    let mut word_at = at;
    while matches!(trees.get(word_at), Some(TokenTree::Ident(word)) if word == "pub") {
        word_at += 1;
        if matches!(trees.get(word_at), Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Parenthesis) {
            word_at += 1;
        }
    }
    let first = trees.get(word_at).map(ToString::to_string).unwrap_or_default();
    let second = trees.get(word_at + 1).map(ToString::to_string).unwrap_or_default();
    let brace_ends = !SEMICOLON_WORDS.contains(&first.as_str()) || (first == "const" && second == "fn");
    let comma_ends = brace_ends && first != "const" && !ITEM_WORDS.contains(&first.as_str());
    while let Some(tree) = trees.get(at) {
        at += 1;
        match tree {
            TokenTree::Punct(punct) if punct.as_char() == ';' => break,
            TokenTree::Punct(punct) if punct.as_char() == ',' && comma_ends => break,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && brace_ends => break,
            _ => {}
        }
    }
    at
}

/// A path as the code means it, `use` lines resolved, with the line where it stands. A macro's last part ends with `!`, an
/// import of everything with `*`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NamedPath {
    /// The line, from 1.
    pub line: usize,
    /// The parts, joined by `::`.
    pub text: String,
}

/// Every path that the pieces name: what `use` lines bring in, and what the code says, expanded by what was brought in.
pub fn paths(pieces: &[Piece]) -> Vec<NamedPath> {
    let mut found = Vec::new();
    let mut aliases = BTreeMap::new();
    let mut rest = Vec::new();
    let mut at = 0;
    while at < pieces.len() {
        let starts_statement = at == 0 || !pieces[at - 1].is_mark('.');
        if pieces[at].word() == Some("use") && starts_statement {
            let end = use_tree(pieces, at + 1, &[], &mut found, &mut aliases);
            at = end.max(at + 1);
        } else if let Some((path, end)) = path_at(pieces, at) {
            rest.push((path, pieces[at].line));
            at = end;
        } else {
            at += 1;
        }
    }
    for (mut path, line) in rest {
        if let Some(full) = aliases.get(path[0].as_str()) {
            path.splice(0..1, full.iter().cloned());
        }
        found.push(NamedPath { line, text: path.join("::") });
    }
    for path in &mut found {
        if let Some(rest) = path.text.strip_prefix("core::").or(path.text.strip_prefix("alloc::")) {
            path.text = format!("std::{rest}");
        }
    }
    found
}

fn double_colon(pieces: &[Piece], at: usize) -> bool {
    pieces.len() > at + 1 && pieces[at].is_mark(':') && pieces[at + 1].is_mark(':')
}

fn path_at(pieces: &[Piece], at: usize) -> Option<(Vec<String>, usize)> {
    let first = pieces[at].word()?;
    if at > 0 && pieces[at - 1].is_mark('.') {
        return None;
    }
    let mut path = vec![first.to_owned()];
    let mut end = at + 1;
    while double_colon(pieces, end) {
        let Some(next) = pieces.get(end + 2).and_then(Piece::word) else { break };
        path.push(next.to_owned());
        end += 3;
    }
    let is_macro = pieces.get(end).is_some_and(|piece| piece.is_mark('!'))
        && matches!(pieces.get(end + 1).map(|piece| &piece.kind), Some(Kind::Open(_)));
    if is_macro && let Some(last) = path.last_mut() {
        last.push('!');
    }
    Some((path, end))
}

fn use_tree(
    pieces: &[Piece],
    mut at: usize,
    prefix: &[String],
    found: &mut Vec<NamedPath>,
    aliases: &mut BTreeMap<String, Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some(piece) = pieces.get(at) {
        match &piece.kind {
            Kind::Mark(':') => at += 1,
            Kind::Mark('*') => {
                found.push(NamedPath { line: piece.line, text: format!("{}::*", path.join("::")) });
                return at + 1;
            }
            Kind::Open('{') => {
                at += 1;
                while pieces.get(at).is_some_and(|piece| piece.kind != Kind::Close) {
                    at = use_tree(pieces, at, &path, found, aliases);
                    if pieces.get(at).is_some_and(|piece| piece.is_mark(',')) {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Kind::Word(word) => {
                // `a::{self}` brings in `a` itself.
                if word != "self" || path.is_empty() {
                    path.push(word.clone());
                }
                at += 1;
                if double_colon(pieces, at) {
                    continue;
                }
                let mut name = path.last().cloned().unwrap_or_default();
                if pieces.get(at).and_then(Piece::word) == Some("as") {
                    name = pieces.get(at + 1).and_then(Piece::word).unwrap_or("_").to_owned();
                    at += 2;
                }
                found.push(NamedPath { line: piece.line, text: path.join("::") });
                aliases.insert(name, path);
                return at;
            }
            _ => return at + 1,
        }
    }
    at
}

/// Calls of a method without arguments or with them: the lines where `.name(` stands.
pub fn method_calls(pieces: &[Piece], name: &str) -> Vec<usize> {
    let called = |window: &&[Piece]| {
        window[0].is_mark('.') && window[1].word() == Some(name) && window[2].kind == Kind::Open('(')
    };
    pieces.windows(3).filter(called).map(|window| window[1].line).collect()
}

/// A function: its name, the line where it starts and the lines that it takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Function {
    /// Its name alone.
    pub name: String,
    /// The line of its `fn`.
    pub line: usize,
    /// From `fn` to the closing brace.
    pub line_count: usize,
}

/// Every function with a body, those inside others too.
pub fn functions(pieces: &[Piece]) -> Vec<Function> {
    let mut found = Vec::new();
    for at in 0..pieces.len().saturating_sub(1) {
        let (Some("fn"), Some(name)) = (pieces[at].word(), pieces[at + 1].word()) else { continue };
        if let Some(end_line) = body_end(pieces, at + 2) {
            let line = pieces[at].line;
            found.push(Function { name: name.to_owned(), line, line_count: end_line + 1 - line });
        }
    }
    found
}

fn body_end(pieces: &[Piece], start: usize) -> Option<usize> {
    let mut depth = 0;
    let mut in_body = false;
    for piece in &pieces[start..] {
        match piece.kind {
            Kind::Mark(';') if depth == 0 => return None,
            Kind::Open(opening) => {
                in_body |= opening == '{' && depth == 0;
                depth += 1;
            }
            Kind::Close => {
                depth -= 1;
                if depth < 0 {
                    return None;
                }
                if depth == 0 && in_body {
                    return Some(piece.line);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<String> {
        paths(&shipped(&parse(text).unwrap())).into_iter().map(|path| path.text).collect()
    }

    #[test]
    fn imports_are_resolved_however_they_are_written() {
        for text in [
            "use std::time::Instant;",
            "use std::{fmt, time::{Duration, Instant}};",
            "use std::time; fn f() { time::Instant::now(); }",
            "use std::time::{self as t}; fn f() { t::Instant::now(); }",
            "use std as s; fn f() { s::time::Instant::now(); }",
            "fn f() -> core::time::Instant {}",
            "fn f() { log!(\"{}\", ::std::time::Instant::now()) }",
        ] {
            assert!(named(text).iter().any(|path| path.starts_with("std::time::Instant")), "{text}: {:?}", named(text));
        }
        assert!(named("use std::time::*;").contains(&"std::time::*".to_owned()));
    }

    #[test]
    fn test_code_and_prose_are_left_out() {
        for text in [
            "#[cfg(test)] mod tests { use std::fs; }",
            "#[test] fn f() { std::fs::read(\"x\"); }",
            "#[cfg(test)] use std::fs::{read, write};",
            "#[cfg(test)] pub(crate) fn f<A, B>() { std::fs::read(\"x\") }",
            "#[cfg(all(test, unix))] #[inline] const fn f() { std::fs::read(\"x\") }",
            "struct S { #[cfg(test)] file: std::fs::File, other: u8 }",
            "//! std::fs\n/// std::fs::read\nfn f() {} // std::fs",
        ] {
            assert!(!named(text).iter().any(|path| path.starts_with("std::fs")), "{text}: {:?}", named(text));
        }
        for text in [
            "#[cfg(test)] use std::io::{self}; use std::fs;",
            "#[cfg(test)] const X: [u8; 1] = [0]; fn f() { std::fs::read(\"x\"); }",
            "#[cfg(not(test))] use std::fs;",
            "struct S { #[cfg(test)] other: u8, file: std::fs::File }",
        ] {
            assert!(named(text).iter().any(|path| path.starts_with("std::fs")), "{text}: {:?}", named(text));
        }
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let text = "trait T { fn declared(&self) -> [u8; 4]; }\nfn two(a: [u8; 2]) {\n}\nimpl X { fn one() {} }";
        let found: Vec<(String, usize)> =
            functions(&shipped(&parse(text).unwrap())).into_iter().map(|one| (one.name, one.line_count)).collect();
        assert_eq!(found, [("two".to_owned(), 2), ("one".to_owned(), 1)]);
    }

    #[test]
    fn method_calls_are_found_in_macros_too() {
        let pieces = shipped(&parse("fn f() { assert!(x\n.unwrap() > 1); y.unwrap_or(2); }").unwrap());
        assert_eq!(method_calls(&pieces, "unwrap"), [2]);
    }
}

//! The licences of everything that we build with, against `deny.toml`.
//!
//! `deny.toml` is the one source: `cargo deny` reads it where it is installed, and this rule reads it everywhere else, so
//! that nobody has to build a tool first to learn that a licence does not fit.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::Finding;

/// The page of rules.
pub const RULES: &str = "deny.toml";

/// What `deny.toml` says, as far as it is judged here.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    allow: BTreeSet<String>,
    exceptions: Vec<(String, BTreeSet<String>)>,
    /// The platforms that we ship for; packages of others are never built.
    pub platforms: Vec<String>,
}

/// Reads `deny.toml`.
pub fn rules(text: &str) -> Result<Rules, String> {
    let table: toml::Table = text.parse().map_err(|error| format!("{RULES}: {error}"))?;
    let strings = |value: Option<&toml::Value>| -> BTreeSet<String> {
        let list = value.and_then(toml::Value::as_array).cloned().unwrap_or_default();
        list.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect()
    };
    let licences = table.get("licenses").ok_or(format!("{RULES}: no [licenses]"))?;
    let exceptions = licences.get("exceptions").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let exception = |one: &toml::Value| Some((one.get("crate")?.as_str()?.to_owned(), strings(one.get("allow"))));
    Ok(Rules {
        allow: strings(licences.get("allow")),
        exceptions: exceptions.iter().filter_map(exception).collect(),
        platforms: strings(table.get("graph").and_then(|graph| graph.get("targets"))).into_iter().collect(),
    })
}

/// Every package of `cargo metadata` whose licence or origin does not fit.
pub fn check(rules: &Rules, metadata: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let place = format!("Cargo.lock: {name} {}", package["version"].as_str().unwrap_or_default());
        let mut allow = rules.allow.clone();
        for (_, more) in rules.exceptions.iter().filter(|(exception, _)| exception == name) {
            allow.extend(more.iter().cloned());
        }
        let licence = package["license"].as_str().unwrap_or_default();
        if !allows(&allow, licence) {
            let problem = format!("its licence `{licence}` is not allowed");
            let remedy = format!("do without it, or, if the licence fits Apache-2.0, add it to {RULES}");
            findings.push(Finding::new(&place, problem, remedy));
        }
        let origin = package["source"].as_str();
        if origin.is_some_and(|origin| !origin.starts_with("registry+https://github.com/rust-lang/crates.io-index")) {
            let remedy = "use a version that crates.io has published";
            findings.push(Finding::new(&place, format!("it comes from {}", origin.unwrap_or_default()), remedy));
        }
    }
    findings
}

/// Whether a licence expression can be satisfied by what is allowed. An expression that cannot be read is not.
pub fn allows(allow: &BTreeSet<String>, expression: &str) -> bool {
    // Old manifests write `A/B` for `A OR B`.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut reader = Reader { allow, words: &words };
    let allowed = reader.either();
    allowed == Some(true) && reader.words.is_empty()
}

/// Reads `a OR b`, where AND binds tighter and WITH tighter still.
struct Reader<'a> {
    allow: &'a BTreeSet<String>,
    words: &'a [&'a str],
}

impl Reader<'_> {
    fn take(&mut self, word: &str) -> bool {
        let found = self.words.first() == Some(&word);
        if found {
            self.words = &self.words[1..];
        }
        found
    }

    fn either(&mut self) -> Option<bool> {
        let mut allowed = self.both()?;
        while self.take("OR") {
            allowed |= self.both()?;
        }
        Some(allowed)
    }

    fn both(&mut self) -> Option<bool> {
        let mut allowed = self.one()?;
        while self.take("AND") {
            allowed &= self.one()?;
        }
        Some(allowed)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let inner = self.either()?;
            return self.take(")").then_some(inner);
        }
        let (name, rest) = self.words.split_first()?;
        self.words = rest;
        if self.take("WITH") {
            let (exception, rest) = self.words.split_first()?;
            self.words = rest;
            return Some(self.allow.contains(&format!("{name} WITH {exception}")));
        }
        Some(self.allow.contains(*name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: &str = "[graph]\ntargets = [\"x86_64-unknown-linux-gnu\"]\n[licenses]\nallow = [\"MIT\", \"Apache-2.0\"]\n\
        exceptions = [{ crate = \"odd\", allow = [\"OpenSSL\"] }]\n";

    fn problems(name: &str, licence: &str, source: &str) -> Vec<String> {
        let package = serde_json::json!({ "name": name, "version": "1", "license": licence, "source": source });
        let metadata = serde_json::json!({ "packages": [package] });
        check(&rules(DENY).unwrap(), &metadata).into_iter().map(|finding| finding.problem).collect()
    }

    const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

    #[test]
    fn a_licence_that_does_not_fit_is_refused() {
        for licence in
            ["GPL-3.0", "MIT AND GPL-3.0", "GPL-3.0 WITH Bison-exception-2.2", "", "(MIT", "MIT MIT", "OpenSSL"]
        {
            assert_eq!(problems("x", licence, CRATES_IO).len(), 1, "{licence}");
        }
        for licence in
            ["MIT", "MIT OR GPL-3.0", "GPL-3.0/MIT", "(GPL-3.0 OR MIT) AND Apache-2.0", "GPL-3.0 OR (MIT AND MIT)"]
        {
            assert!(problems("x", licence, CRATES_IO).is_empty(), "{licence}");
        }
        assert!(problems("odd", "MIT AND OpenSSL", CRATES_IO).is_empty(), "an exception is for one crate");
    }

    #[test]
    fn a_package_from_elsewhere_is_refused() {
        assert_eq!(problems("x", "MIT", "git+https://example.org/x").len(), 1);
    }

    #[test]
    fn rules_without_licences_are_refused() {
        assert!(rules("[bans]").is_err());
        assert_eq!(rules(DENY).unwrap().platforms, ["x86_64-unknown-linux-gnu"]);
    }
}

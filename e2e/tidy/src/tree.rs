//! The repository as a value: path → text, and the crates found in it.
//!
//! Rules take a [`Tree`] and never the disk, so that a bad example fits into a string in a test.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Folders that are not part of the repository, though they lie in it.
const SKIPPED_FOLDERS: [&str; 2] = ["target", ".git"];

/// A file: its length, and its text if it is text.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The length in bytes.
    pub byte_count: usize,
    /// The content, unless it is not UTF-8.
    pub text: Option<String>,
}

/// Every file of the repository by its path from the root, with `/` between the parts.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: BTreeMap<String, Entry>,
}

/// A crate of the workspace.
#[derive(Clone, Debug)]
pub struct Crate {
    /// The package name.
    pub name: String,
    /// The folder of its manifest, from the root.
    pub folder: String,
    /// The parsed manifest.
    pub manifest: toml::Table,
}

impl Crate {
    /// The path of its manifest.
    pub fn manifest_path(&self) -> String {
        join(&self.folder, "Cargo.toml")
    }
}

impl Tree {
    /// Reads everything below `root`.
    pub fn read(root: &Path) -> io::Result<Tree> {
        let mut tree = Tree::default();
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    /// A tree made by hand, for examples.
    pub fn of(files: &[(&str, &str)]) -> Tree {
        let entry = |text: &str| Entry { byte_count: text.len(), text: Some(text.to_owned()) };
        Tree { entries: files.iter().map(|(path, text)| ((*path).to_owned(), entry(text))).collect() }
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = join(prefix, &name);
            let kind = entry.file_type()?;
            if kind.is_dir() && !SKIPPED_FOLDERS.contains(&name.as_str()) {
                self.read_folder(&entry.path(), &path)?;
            } else if kind.is_file() {
                // A file may vanish between the listing and the reading, as editors' swap files do.
                let Ok(bytes) = std::fs::read(entry.path()) else { continue };
                self.entries.insert(path, Entry { byte_count: bytes.len(), text: String::from_utf8(bytes).ok() });
            }
        }
        Ok(())
    }

    /// Every file, in the order of its path.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// Every text file whose path ends with `suffix`.
    pub fn texts<'a>(&'a self, suffix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.entries()
            .filter_map(move |(path, entry)| Some((path, entry.text.as_deref().filter(|_| path.ends_with(suffix))?)))
    }

    /// The text of one file.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.entries.get(path)?.text.as_deref()
    }

    /// Whether a file or a folder of that path exists.
    pub fn exists(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        path.is_empty()
            || self.entries.contains_key(path)
            || self.entries.keys().any(|known| known.starts_with(&folder))
    }

    /// Every crate, or the manifest that could not be read.
    pub fn crates(&self) -> Result<Vec<Crate>, String> {
        let mut crates = Vec::new();
        for (path, text) in self.texts("Cargo.toml") {
            let manifest: toml::Table = text.parse().map_err(|error| format!("{path}: {error}"))?;
            let Some(package) = manifest.get("package") else { continue };
            let name = package.get("name").and_then(toml::Value::as_str).ok_or(format!("{path}: no package.name"))?;
            let folder = path.trim_end_matches("Cargo.toml").trim_end_matches('/').to_owned();
            crates.push(Crate { name: name.to_owned(), folder, manifest });
        }
        Ok(crates)
    }
}

/// The crate that a path belongs to: the one with the deepest folder above it, since crates nest.
pub fn owner<'a>(crates: &'a [Crate], path: &str) -> Option<&'a Crate> {
    let inside = |folder: &str| folder.is_empty() || path.starts_with(&format!("{folder}/"));
    crates.iter().filter(|one| inside(&one.folder)).max_by_key(|one| one.folder.len())
}

/// `folder/name`, or `name` at the root.
pub fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_crate_owns_its_files() {
        let tree = Tree::of(&[
            ("node/Cargo.toml", "[package]\nname = \"outer\""),
            ("node/log/Cargo.toml", "[package]\nname = \"inner\""),
            ("Cargo.toml", "[workspace]"),
        ]);
        let crates = tree.crates().unwrap();
        assert_eq!(crates.len(), 2, "a workspace without a package is no crate");
        assert_eq!(owner(&crates, "node/log/src/lib.rs").unwrap().name, "inner");
        assert_eq!(owner(&crates, "node/src/lib.rs").unwrap().name, "outer");
        assert!(owner(&crates, "elsewhere/lib.rs").is_none());
    }
}

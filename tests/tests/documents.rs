//! Documents name symbols, never lines; a symbol that a document names exists.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every name that the code defines.
fn defined() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let mut words = text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|w| !w.is_empty());
        while let Some(word) = words.next() {
            if matches!(word, "fn" | "struct" | "enum" | "trait" | "mod" | "const" | "static" | "type") {
                names.extend(words.next().map(ToOwned::to_owned));
            }
        }
    }
    names
}

#[test]
fn the_symbols_of_the_architecture_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let names = defined();
    let fenced = text.split("```").step_by(2).collect::<String>();
    let mut missing = Vec::new();
    for code in fenced.split('`').skip(1).step_by(2) {
        let symbol = code.rsplit("::").next().unwrap();
        let is_symbol = symbol.chars().next().is_some_and(char::is_alphabetic)
            && symbol.chars().all(|c| c.is_alphanumeric() || c == '_')
            && (code.contains("::") || symbol.contains('_') || symbol.starts_with(char::is_uppercase));
        let known_elsewhere = ["SO_REUSEPORT", "current_thread"].contains(&symbol);
        if is_symbol && !known_elsewhere && !names.contains(symbol) {
            missing.push(code);
        }
    }
    assert!(missing.is_empty(), "ARCHITECTURE.md names symbols that do not exist: {missing:?}");
}

//! The documents that are generated from the tables are current, and the tables complete.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use heddle_resource::{fields, finding, finding::FINDINGS};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn is_current(name: &str, wanted: &str) {
    let path = root().join("docs").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "docs/{name} is not current: UPDATE_DOCS=1 cargo test -p heddle-resource");
}

#[test]
fn the_table_of_fields_is_current() {
    is_current("resources.md", &fields::markdown());
}

#[test]
fn the_table_of_findings_is_current() {
    is_current("findings.md", &finding::markdown());
}

fn sources(dir: &Path, text: &mut String) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|e| e == "rs") {
            text.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn every_code_in_the_sources_is_in_the_table_once() {
    let mut text = String::new();
    sources(&root().join("crates"), &mut text);
    let used: BTreeSet<&str> =
        text.match_indices("\"HDL").filter_map(|(at, _)| text.get(at + 1..at + 8)).collect();
    let told: BTreeSet<&str> = FINDINGS.iter().map(|finding| finding.code).collect();
    assert_eq!(told.len(), FINDINGS.len(), "a code stands there twice");
    let missing: Vec<_> = used
        .iter()
        .filter(|c| c[3..].bytes().all(|b| b.is_ascii_digit()))
        .filter(|c| !told.contains(*c))
        .collect();
    assert!(missing.is_empty(), "not in the table: {missing:?}");
}

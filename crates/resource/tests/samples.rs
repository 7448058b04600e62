//! Resources that others wrote are admitted, or are named as none of ours.

use std::path::{Path, PathBuf};

use heddle_resource::{Admission, AdmitOptions, admit, parse_documents};

/// Data written by others, where this machine has it.
fn shared_data() -> Option<PathBuf> {
    let given = std::env::var_os("HEDDLE_SHARED_DATA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    given.or(Some(beside)).filter(|p| p.is_dir())
}

fn yaml_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "yaml") {
            found.push(path);
        }
    }
}

#[test]
fn every_istio_sample_is_admitted() {
    let Some(data) = shared_data() else {
        println!("LEFT OUT: no sample data on this machine (set HEDDLE_SHARED_DATA)");
        return;
    };
    let mut files = Vec::new();
    yaml_files(&data.join("istio-samples"), &mut files);
    let (mut admitted, mut refused) = (0, Vec::new());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for document in parse_documents(&text, &file.display().to_string()) {
            match document.map(|d| admit(&d, &AdmitOptions::default())) {
                Ok(Admission::Admitted { .. }) => admitted += 1,
                Ok(Admission::NotOurs(_)) => {}
                Ok(Admission::Refused(why)) => refused.extend(why.iter().map(ToString::to_string)),
                Err(why) => refused.push(why.to_string()),
            }
        }
    }
    assert!(refused.is_empty(), "refused:\n{}", refused.join("\n"));
    assert!(admitted > 100, "only {admitted} admitted");
}

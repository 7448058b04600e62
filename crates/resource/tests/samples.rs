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

/// What the conformance suite fills in before it applies a manifest.
const PLACEHOLDERS: [(&str, &str); 3] = [
    ("PLACEHOLDER_UNUSABLE_ADDRS", "192.0.2.1"),
    ("PLACEHOLDER_USABLE_ADDRS", "127.0.0.1"),
    ("{GATEWAY_CONTROLLER_NAME}", "heddle.dev/gateway-controller"),
];

/// What becomes of every document under a directory: how many are admitted, and why others are refused.
fn judge(dir: &Path) -> (usize, Vec<String>) {
    let mut files = Vec::new();
    yaml_files(dir, &mut files);
    let (mut admitted, mut refused) = (0, Vec::new());
    for file in files {
        let mut text = std::fs::read_to_string(&file).unwrap();
        for (placeholder, value) in PLACEHOLDERS {
            text = text.replace(placeholder, value);
        }
        for document in parse_documents(&text, &file.display().to_string()) {
            match document.map(|d| admit(&d, &AdmitOptions::default())) {
                Ok(Admission::Admitted { .. }) => admitted += 1,
                Ok(Admission::NotOurs(_)) => {}
                // Kinds that protect and are not built: refused, and said so.
                Ok(Admission::Refused(why)) if why[0].code == "HDL0014" => {}
                Ok(Admission::Refused(why)) => refused.extend(why.iter().map(ToString::to_string)),
                Err(why) => refused.push(why.to_string()),
            }
        }
    }
    (admitted, refused)
}

#[test]
fn every_istio_sample_is_admitted() {
    let Some(data) = shared_data() else {
        println!("LEFT OUT: no sample data on this machine (set HEDDLE_SHARED_DATA)");
        return;
    };
    let (admitted, refused) = judge(&data.join("istio-samples"));
    assert!(refused.is_empty(), "refused:\n{}", refused.join("\n"));
    assert!(admitted > 90, "only {admitted} admitted");
}

#[test]
fn every_manifest_of_the_gateway_api_conformance_suite_is_admitted() {
    let Some(data) = shared_data() else {
        println!("LEFT OUT: no sample data on this machine (set HEDDLE_SHARED_DATA)");
        return;
    };
    let (admitted, refused) = judge(&data.join("gateway-api/manifests"));
    assert!(refused.is_empty(), "refused:\n{}", refused.join("\n"));
    assert!(admitted > 300, "only {admitted} admitted");
}

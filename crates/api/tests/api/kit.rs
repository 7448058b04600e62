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
        Self::with(stores, |_| ())
    }

    /// With its limits changed.
    pub(crate) fn with(
        stores: Vec<Arc<dyn Store>>,
        change: impl FnOnce(&mut ApiConfig) + Send + 'static,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (told, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                told.send(listener.local_addr().unwrap()).unwrap();
                let mut config = ApiConfig::new(listener, stores, Arc::new(NoMesh));
                change(&mut config);
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

/// An answer as it came.
pub(crate) struct Reply {
    pub(crate) code: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Every value of a header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Vec<String> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(n, _)| n.to_lowercase() == name).map(|(_, v)| v.to_owned()).collect()
    }
}

impl Served {
    /// One request, written by hand; `headers` are lines. HTTP/1.0, so that the answer has no chunks.
    pub(crate) fn ask(&self, request: &str, headers: &[&str], body: &str) -> Reply {
        use std::io::{Read as _, Write as _};
        let address = self.url.trim_start_matches("http://");
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let mut text = format!("{request} HTTP/1.0\r\n");
        if !headers.iter().any(|h| h.to_lowercase().starts_with("host:")) {
            text.push_str(&format!("Host: {address}\r\n"));
        }
        for header in headers {
            text.push_str(&format!("{header}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
        // A server that refuses a long body need not read it.
        stream.write_all(body.as_bytes()).ok();
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).ok();
        let end = reply.windows(4).position(|w| w == b"\r\n\r\n").expect("an answer");
        let head = String::from_utf8_lossy(&reply[..end]).into_owned();
        let code = head.split(' ').nth(1).and_then(|c| c.parse().ok()).expect("a status");
        Reply { code, head, body: reply[end + 4..].to_vec() }
    }

    /// Asks until the answer is yes, for at most 30 seconds.
    pub(crate) fn until(&self, answer: impl Fn(&Self) -> bool) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !answer(self) {
            assert!(std::time::Instant::now() < deadline, "it did not come to pass");
            std::thread::yield_now();
        }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.ask(&format!("GET {path}"), &[], "")
    }

    pub(crate) fn send(&self, request: &str, body: &serde_json::Value) -> Reply {
        self.ask(request, &["Content-Type: application/json"], &body.to_string())
    }
}

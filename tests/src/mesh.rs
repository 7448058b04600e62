//! A mesh of the built binary: a control plane, and proxies that join it.

use std::{
    collections::BTreeMap,
    io::Read,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// The `heddle` binary beside the test that runs, built with it by `cargo build`.
///
/// # Panics
/// When it has not been built.
pub fn binary() -> PathBuf {
    if let Some(given) = std::env::var_os("HEDDLE_BIN") {
        return PathBuf::from(given);
    }
    let test = std::env::current_exe().unwrap_or_default();
    let built = test.ancestors().map(|dir| dir.join("heddle")).find(|p| p.is_file());
    built.unwrap_or_else(|| panic!("no heddle binary near {}: run `cargo build` first", test.display()))
}

/// One role of the binary as a process. Dropping it kills the process.
pub struct Role {
    pub name: String,
    pub dir: PathBuf,
    pub ports: serde_json::Value,
    pub child: Child,
}

impl Role {
    /// Starts `heddle ARGS --data-dir DIR` and waits for its ports.
    ///
    /// # Panics
    /// When it ends or is not up within 30 s; with the end of its log.
    pub fn start(name: &str, dir: &Path, args: &[&str]) -> Self {
        Self::start_with(name, dir, args, &[])
    }

    /// As [`Role::start`], with at most so many open files.
    ///
    /// # Panics
    /// As [`Role::start`].
    pub fn start_with_files(name: &str, dir: &Path, files: u32, args: &[&str]) -> Self {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {files}; exec \"$0\" \"$@\"")).arg(binary());
        std::fs::create_dir_all(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let _ = std::fs::remove_file(dir.join("ports.json"));
        let mut role = Self::spawn_by(shell, name, dir, args, &[]);
        role.wait_for_ports(|_| true);
        role
    }

    /// As [`Role::start`], run by another command: `WRAPPER... ARGS`, the binary being the wrapper's last word.
    ///
    /// # Panics
    /// As [`Role::start`].
    pub fn start_by(name: &str, dir: &Path, wrapper: &[&str], args: &[&str]) -> Self {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]);
        std::fs::create_dir_all(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let _ = std::fs::remove_file(dir.join("ports.json"));
        let mut role = Self::spawn_by(command, name, dir, args, &[]);
        role.wait_for_ports(|_| true);
        role
    }

    /// [`Role::start`] with more in the environment.
    ///
    /// # Panics
    /// As [`Role::start`].
    pub fn start_with(name: &str, dir: &Path, args: &[&str], environment: &[(&str, &Path)]) -> Self {
        std::fs::create_dir_all(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let _ = std::fs::remove_file(dir.join("ports.json"));
        let mut role = Self::spawn(name, dir, args, environment);
        role.wait_for_ports(|_| true);
        role
    }

    /// Starts `heddle ARGS --data-dir DIR`, with the directory of this role, and waits until the new process has written
    /// its ports: a successor does so once it has taken over.
    ///
    /// # Panics
    /// As [`Role::start`].
    pub fn successor(&self, args: &[&str]) -> Self {
        let mut role = Self::spawn(&self.name, &self.dir, args, &[]);
        let pid = role.child.id();
        role.wait_for_ports(|ports| ports["pid"] == pid);
        role
    }

    fn spawn(name: &str, dir: &Path, args: &[&str], environment: &[(&str, &Path)]) -> Self {
        Self::spawn_by(Command::new(binary()), name, dir, args, environment)
    }

    fn spawn_by(
        mut command: Command,
        name: &str,
        dir: &Path,
        args: &[&str],
        environment: &[(&str, &Path)],
    ) -> Self {
        let open = || std::fs::OpenOptions::new().create(true).append(true).open(dir.join("log"));
        let (out, err) = (open().unwrap_or_else(|e| panic!("{e}")), open().unwrap_or_else(|e| panic!("{e}")));
        let child = command
            .args(args)
            .arg("--data-dir")
            .arg(dir)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        Self { name: name.into(), dir: dir.into(), ports: serde_json::Value::Null, child }
    }

    fn wait_for_ports(&mut self, meant: impl Fn(&serde_json::Value) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok(text) = std::fs::read(self.dir.join("ports.json"))
                && let Ok(ports) = serde_json::from_slice(&text)
                && meant(&ports)
            {
                self.ports = ports;
                return;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("{} ended ({status}):\n{}", self.name, self.log());
            }
            assert!(Instant::now() < deadline, "{} is not up after 30 s:\n{}", self.name, self.log());
            std::thread::yield_now();
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// What the role has logged.
    pub fn log(&self) -> String {
        let mut text = String::new();
        let _ = std::fs::File::open(self.dir.join("log")).and_then(|mut f| f.read_to_string(&mut text));
        text
    }

    /// An address from ports.json: `api`, `xds`, `admin`, `dns`.
    pub fn address(&self, port: &str) -> SocketAddr {
        let text = self.ports[port].as_str();
        text.and_then(|a| a.parse().ok())
            .unwrap_or_else(|| panic!("{} has no {port}: {}", self.name, self.ports))
    }

    /// The first outbound address.
    pub fn outbound(&self) -> SocketAddr {
        let text = self.ports["outbound"][0].as_str();
        text.and_then(|a| a.parse().ok())
            .unwrap_or_else(|| panic!("{} has no outbound: {}", self.name, self.ports))
    }

    /// The inbound address for an application port.
    pub fn inbound(&self, app_port: u16) -> SocketAddr {
        let text = self.ports["inbound"][app_port.to_string()].as_str();
        text.and_then(|a| a.parse().ok())
            .unwrap_or_else(|| panic!("{} has no inbound: {}", self.name, self.ports))
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Panics
    /// When it still runs after `most`.
    pub async fn ended(&mut self, most: Duration) -> ExitStatus {
        let deadline = Instant::now() + most;
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        loop {
            poll.tick().await;
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            assert!(Instant::now() < deadline, "{} still runs after {most:?}:\n{}", self.name, self.log());
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(25).collect();
            crate::say(&format!(
                "log of {}:\n{}",
                self.name,
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            ));
        }
    }
}

/// A control plane with an empty store, and whoever joins it.
pub struct Mesh {
    pub control: Role,
    pub scratch: TempDir,
    /// Workers of each proxy that joins from now on.
    pub workers: usize,
}

impl Mesh {
    /// # Panics
    /// When the control plane does not start.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// With a store on disk, at addresses that stay the same over [`Mesh::restart_control`].
    ///
    /// # Panics
    /// When the control plane does not start.
    pub fn durable() -> Self {
        Self::on("127.0.0.2:0", "127.0.0.2:0", &["--store", "redb"])
    }

    /// Starts the control plane again after [`Role::kill`], from its data and at its addresses.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart_control(&mut self) {
        let (xds, api) = (self.control.address("xds").to_string(), self.control.address("api").to_string());
        let dir = self.control.dir.clone();
        let args = ["control", "--xds", &xds, "--api", &api, "--store", "redb"];
        self.control = Role::start("control", &dir, &args);
    }

    /// With more flags for `heddle control`.
    ///
    /// # Panics
    /// When the control plane does not start.
    pub fn with(flags: &[&str]) -> Self {
        Self::on("127.0.0.1:0", "127.0.0.1:0", flags)
    }

    /// With the control plane's data, a store on disk among it, in this directory.
    ///
    /// # Panics
    /// When the control plane does not start.
    pub fn at(dir: &Path) -> Self {
        let scratch = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        let args = ["control", "--xds", "127.0.0.1:0", "--api", "127.0.0.1:0", "--store", "redb"];
        Self { control: Role::start("control", dir, &args), scratch, workers: 1 }
    }

    fn on(xds: &str, api: &str, flags: &[&str]) -> Self {
        let scratch = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        let mut args = vec!["control", "--xds", xds, "--api", api];
        if !flags.contains(&"--store") {
            args.extend(["--store", "memory"]);
        }
        args.extend(flags);
        let control = Role::start("control", &scratch.path().join("control"), &args);
        Self { control, scratch, workers: 1 }
    }

    pub fn api(&self) -> String {
        format!("http://{}", self.control.address("api"))
    }

    pub fn xds(&self) -> String {
        format!("http://{}", self.control.address("xds"))
    }

    /// Runs `heddle ARGS` against this mesh: exit code, stdout, stderr.
    ///
    /// # Panics
    /// When the binary cannot be run.
    pub fn heddle(&self, args: &[&str]) -> (i32, String, String) {
        let output = Command::new(binary())
            .args(args)
            .env("HEDDLE_SERVER", self.api())
            .env("HEDDLE_XDS", self.xds())
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("{e}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// Applies resources and waits until the connected proxies serve them.
    ///
    /// # Panics
    /// When a document is refused.
    pub fn apply(&self, yaml: &str) {
        let file = self.scratch.path().join("apply.yaml");
        std::fs::write(&file, yaml).unwrap_or_else(|e| panic!("{e}"));
        let (code, out, err) = self.heddle(&["apply", "--wait", "-f", &file.display().to_string()]);
        assert_eq!(code, 0, "apply: {out}{err}\n{yaml}");
    }

    /// A sidecar without an application: only its outbound side is used.
    pub fn client(&self, workload: &str, namespace: &str, labels: &BTreeMap<&str, &str>) -> Role {
        self.proxy(workload, namespace, labels, &["--role", "sidecar", "--outbound", "127.0.0.1:0"])
    }

    /// As [`Mesh::client`], with at most so many open files.
    pub fn client_of_few_files(&self, workload: &str, files: u32) -> Role {
        let xds = self.xds();
        let args = [
            "proxy",
            "--xds",
            &xds,
            "--workload",
            workload,
            "--role",
            "sidecar",
            "--outbound",
            "127.0.0.1:0",
        ];
        let more = ["--admin", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--workers", "1"];
        Role::start_with_files(
            workload,
            &self.scratch.path().join(workload),
            files,
            &[&args[..], &more].concat(),
        )
    }

    /// A sidecar in front of an application port.
    pub fn sidecar(
        &self,
        workload: &str,
        namespace: &str,
        labels: &BTreeMap<&str, &str>,
        app_port: u16,
    ) -> Role {
        let inbound = format!("{app_port}=127.0.0.1:0");
        self.proxy(
            workload,
            namespace,
            labels,
            &["--role", "sidecar", "--outbound", "127.0.0.1:0", "--inbound", &inbound],
        )
    }

    /// A gateway for `[istio:|k8s:]NAMESPACE/NAME` on `bind`.
    pub fn gateway(&self, gateway: &str, bind: &str, labels: &BTreeMap<&str, &str>) -> Role {
        let namespace = gateway.split(':').next_back().and_then(|g| g.split('/').next()).unwrap_or("default");
        self.proxy("gateway", namespace, labels, &["--role", "gateway", "--gateway", gateway, "--bind", bind])
    }

    fn proxy(&self, workload: &str, namespace: &str, labels: &BTreeMap<&str, &str>, more: &[&str]) -> Role {
        let labels: Vec<String> = labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let (xds, labels, workers) = (self.xds(), labels.join(","), self.workers.to_string());
        let mut args = vec!["proxy", "--xds", &xds, "--namespace", namespace, "--workload", workload];
        args.extend([
            "--labels",
            &labels,
            "--admin",
            "127.0.0.1:0",
            "--dns",
            "127.0.0.1:0",
            "--workers",
            &workers,
        ]);
        args.extend(more);
        Role::start(workload, &self.scratch.path().join(format!("{namespace}.{workload}")), &args)
    }
}

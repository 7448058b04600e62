//! Programs under `heddle run --capture redirect`, by root and by somebody else.

use std::{
    io::Read,
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use heddle_tests::mesh::{self, Mesh};

/// Who runs `heddle run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Root,
    /// User and group 65534, without any privilege.
    Nobody,
}

impl Who {
    /// Those that this test can be.
    pub(crate) fn all() -> Vec<Self> {
        if rustix::process::geteuid().is_root() {
            return vec![Self::Root, Self::Nobody];
        }
        heddle_tests::say("LEFT OUT: what root can do; this test is not run by root");
        vec![Self::Nobody]
    }

    fn command(self, program: &Path) -> Command {
        match self {
            Self::Nobody if rustix::process::geteuid().is_root() => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(program);
                command
            }
            _ => Command::new(program),
        }
    }
}

/// A mesh, and the binary where everybody can run it.
pub(crate) struct Bed {
    pub(crate) mesh: Mesh,
    binary: PathBuf,
}

impl Bed {
    pub(crate) fn start() -> Self {
        let mesh = Mesh::start();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(mesh.scratch.path(), open).unwrap();
        let binary = mesh.scratch.path().join("heddle");
        // Not by this process: a child that another thread forks meanwhile would keep the copy open for writing.
        let copied = Command::new("cp").arg(mesh::binary()).arg(&binary).status().unwrap();
        assert!(copied.success());
        for (name, text) in [("serve.py", SERVE), ("greet.py", GREET), ("greeted.py", GREETED)] {
            std::fs::write(mesh.scratch.path().join(name), text).unwrap();
        }
        Self { mesh, binary }
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.mesh.scratch.path().join(name).display().to_string()
    }

    /// `heddle run ARGS`, not yet started.
    pub(crate) fn run(&self, who: Who, args: &[&str]) -> Command {
        let mut command = who.command(&self.binary);
        command
            .arg("run")
            .args(args)
            .env("HEDDLE_SERVER", self.mesh.api())
            .env("HEDDLE_XDS", self.mesh.xds());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir("/");
        command
    }

    /// Runs a shell script as a program of the mesh, in a namespace of the mesh.
    pub(crate) fn script(&self, who: Who, namespace: &str, script: &str) -> Output {
        let args = ["--service", "client", "--port", "9", "--namespace", namespace, "--capture", "redirect"];
        self.run(who, &[&args[..], &["--", "sh", "-ec", script]].concat()).output().unwrap()
    }

    /// What a script printed; it must have succeeded.
    pub(crate) fn told(&self, who: Who, namespace: &str, script: &str) -> String {
        let output = self.script(who, namespace, script);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{who:?}, {script}: {}\n{out}\n{err}", output.status);
        out.trim().to_owned()
    }

    /// An instance of a service that says its name: `serve.py NAME PORT [ADDRESS]`.
    pub(crate) fn serve(&self, who: Who, service: &str, version: &str, address: &str) -> Running {
        let port = "9080";
        let args = ["--service", service, "--port", port, "--version", version, "--protocol", "http"];
        let name = format!("{service}-{version}");
        let file = self.file("serve.py");
        let command = ["--capture", "redirect", "--", "python3", &file, &name, port, address];
        Running::start(self.run(who, &[&args[..], &command].concat()))
    }
}

/// A program under `heddle run`. Dropping it ends it.
pub(crate) struct Running {
    pub(crate) child: Child,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        Self { child: command.stderr(Stdio::inherit()).spawn().unwrap() }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> std::process::ExitStatus {
        wait_until("the program's end", || self.child.try_wait().unwrap())
    }

    /// The first line that the program prints.
    pub(crate) fn first_line(&mut self) -> String {
        let mut line = Vec::new();
        let out = self.child.stdout.as_mut().unwrap();
        let mut byte = [0];
        while out.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
            line.push(byte[0]);
        }
        text(&line)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(rustix::process::Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

/// Waits for a condition, at most 30 s.
pub(crate) fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what}: not within 30 s");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An address of this machine that is not loopback.
pub(crate) fn machine_address() -> Option<IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect(SocketAddr::from(([192, 0, 2, 1], 9))).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    if ip.is_loopback() {
        heddle_tests::say("LEFT OUT: an address outside the mesh; this machine has loopback only");
        return None;
    }
    Some(ip)
}

/// Whether this machine has a way to IPv6 addresses.
pub(crate) fn has_ipv6() -> bool {
    let socket = std::net::UdpSocket::bind("[::]:0");
    socket.and_then(|socket| socket.connect("[2001:db8::1]:9")).is_ok()
}

pub(crate) fn mode(mode: u32) -> std::fs::Permissions {
    std::fs::Permissions::from_mode(mode)
}

/// The same command run by others: `WRAPPER... COMMAND`.
pub(crate) fn wrapped(command: &Command, wrapper: &[&str]) -> Command {
    let mut outer = Command::new(wrapper[0]);
    outer.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        outer.env(name, value.unwrap_or_default());
    }
    outer
}

/// How many processes are in a network namespace, as `/proc/PID/ns/net` names it.
pub(crate) fn processes_in(namespace: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let links = processes.filter_map(|process| std::fs::read_link(process.path().join("ns/net")).ok());
    links.filter(|link| link.as_os_str() == namespace).count()
}

/// What a namespace could leave behind on the host.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Host {
    rules: String,
    mounts: String,
    links: Vec<String>,
    routes: String,
}

impl Host {
    pub(crate) fn now() -> Self {
        let rules = match Command::new("nft").args(["list", "ruleset"]).output() {
            Ok(output) => text(&output.stdout),
            Err(_) => String::new(),
        };
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mounts: Vec<_> = read("/proc/self/mounts")
            .lines()
            .filter(|l| l.contains("resolv.conf"))
            .map(String::from)
            .collect();
        let mut links: Vec<_> = std::fs::read_dir("/sys/class/net")
            .unwrap()
            .flatten()
            .map(|link| link.file_name().to_string_lossy().into_owned())
            .collect();
        links.sort();
        Self { rules, mounts: mounts.join("\n"), links, routes: read("/proc/net/route") }
    }
}

/// A resolver that answers every question with 192.0.2.7, over UDP and TCP, and writes down what it was asked.
pub(crate) struct Resolver {
    process: Child,
    log: tempfile::NamedTempFile,
}

impl Resolver {
    pub(crate) fn start(address: &str) -> Self {
        let log = tempfile::NamedTempFile::new().unwrap();
        let (ip, port) = address.split_once(':').unwrap();
        let mut process = Command::new("python3")
            .args(["-c", RESOLVER, ip, port])
            .arg(log.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 3];
        process.stdout.as_mut().unwrap().read_exact(&mut up).expect("the resolver starts");
        Self { process, log }
    }

    /// The names it was asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::fs::read_to_string(self.log.path()).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const RESOLVER: &str = r#"
import socket, socketserver, struct, sys, threading
def answer(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    question, kind = query[12:at + 5], query[at + 2]
    with open(sys.argv[3], "a") as log:
        log.write(".".join(labels).lower() + "\n")
    found = kind == 1
    head = query[:2] + struct.pack("!HHHHH", 0x8180, 1, int(found), 0, 0)
    return head + question + (b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07" if found else b"")
class Udp(socketserver.BaseRequestHandler):
    def handle(self):
        self.request[1].sendto(answer(self.request[0]), self.client_address)
class Tcp(socketserver.StreamRequestHandler):
    def handle(self):
        reply = answer(self.rfile.read(struct.unpack("!H", self.rfile.read(2))[0]))
        self.wfile.write(struct.pack("!H", len(reply)) + reply)
socketserver.TCPServer.allow_reuse_address = True
at = (sys.argv[1], int(sys.argv[2]))
udp, tcp = socketserver.ThreadingUDPServer(at, Udp), socketserver.ThreadingTCPServer(at, Tcp)
threading.Thread(target=udp.serve_forever, daemon=True).start()
print("up", flush=True)
tcp.serve_forever()
"#;

/// Connects, waits to be greeted, and then speaks.
const GREETED: &str = r#"
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10) as server:
    lines = server.makefile("rw")
    print(lines.readline(), end="")
    lines.write("hello\n")
    lines.flush()
    print(lines.readline(), end="")
"#;

/// Answers GET with its name, the path and the Host it was asked by.
const SERVE: &str = r#"
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{sys.argv[1]} {self.path} {self.headers['Host']}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer((sys.argv[3], int(sys.argv[2])), Handler).serve_forever()
"#;

/// Greets whoever connects, and echoes one line.
const GREET: &str = r#"
import socketserver, sys
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            self.wfile.write(b"220 ready\n")
            self.wfile.write(b"echo " + self.rfile.readline())
        except OSError:
            pass  # A health check does not stay.
socketserver.ThreadingTCPServer.allow_reuse_address = True
socketserver.ThreadingTCPServer(("0.0.0.0", int(sys.argv[1])), Handler).serve_forever()
"#;

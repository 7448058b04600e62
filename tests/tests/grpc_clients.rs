//! gRPC programs without a proxy: the real `grpcio` resolves `xds:///` targets through `heddle control`,
//! balances, follows a traffic split and a failover.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use heddle_tests::{envoy::free_address, eventually, mesh::Mesh, peer, root};
use serde_json::{Value, json};

/// A bootstrap file as gRPC reads it.
fn bootstrap(mesh: &Mesh, id: &str) -> PathBuf {
    let file = mesh.scratch.path().join(format!("{id}.json"));
    let bootstrap = json!({
        "xds_servers": [{
            "server_uri": mesh.control.address("xds").to_string(),
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
        "node": {
            "id": format!("sidecar~127.0.0.1~{id}.default~default.svc.cluster.local"),
            "metadata": {"NAMESPACE": "default"},
        },
    });
    std::fs::write(&file, bootstrap.to_string()).unwrap();
    file
}

/// A Python process of the peer script; killed with the value.
struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &PathBuf, args: &[&str], bootstrap: Option<PathBuf>) -> Self {
        let mut command = Command::new(python);
        command.arg(root().join("tests/peers/grpc_peer.py")).args(args);
        if let Some(bootstrap) = bootstrap {
            command.env("GRPC_XDS_BOOTSTRAP", bootstrap);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the peer ended");
        line.trim().to_owned()
    }

    /// Calls and counts the answers.
    fn call(&mut self, command: Value) -> BTreeMap<String, u64> {
        let stdin = self.stdin.as_mut().unwrap();
        writeln!(stdin, "{command}").unwrap();
        stdin.flush().unwrap();
        let answer: Value = serde_json::from_str(&self.line()).unwrap();
        serde_json::from_value(answer["answers"].clone()).unwrap()
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Python with `grpcio`: `HEDDLE_PEERS_PYTHON`, `/opt/peers`, or one that is made here.
fn python() -> Option<PathBuf> {
    let given = std::env::var_os("HEDDLE_PEERS_PYTHON").map(PathBuf::from);
    let made = root().join(".peers/bin/python");
    let has_grpc = |python: &PathBuf| {
        let run = Command::new(python).args(["-c", "import grpc"]).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    let known = [given, Some("/opt/peers/bin/python".into()), Some(made.clone())];
    if let Some(found) = known.into_iter().flatten().find(has_grpc) {
        return Some(found);
    }
    let venv = root().join(".peers");
    let run = |program: &PathBuf, args: &[&str]| {
        Command::new(program).args(args).status().is_ok_and(|status| status.success())
    };
    let built = run(&"python3".into(), &["-m", "venv", &venv.display().to_string()])
        && run(&made, &["-m", "pip", "install", "-q", "grpcio"]);
    if built && has_grpc(&made) {
        return Some(made);
    }
    peer::absent("Python with grpcio", "HEDDLE_PEERS_PYTHON");
    None
}

fn backend(name: &str, version: &str, port: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata:\n  name: {name}\nspec:\n  \
         address: 127.0.0.1\n  ports: {{grpc: {port}}}\n  labels: {{app: say, version: {version}}}\n---\n"
    )
}

const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: say}
spec:
  selector: {app: say}
  ports: [{name: grpc, port: 7070}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: say}
spec:
  host: say
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

fn split(v1: u32, v2: u32) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: say}}
spec:
  hosts: [say]
  http:
  - match: [{{headers: {{x-user: {{exact: jason}}}}}}]
    route: [{{destination: {{host: say, subset: v2}}}}]
  - route:
    - {{destination: {{host: say, subset: v1}}, weight: {v1}}}
    - {{destination: {{host: say, subset: v2}}, weight: {v2}}}
"
    )
}

const SAY: &str = "xds:///say:7070";

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_resolves_balances_splits_and_fails_over() {
    let Some(python) = python() else { return };
    let mesh = Mesh::start();
    let mut backends: Vec<Peer> =
        ["a", "b", "c"].iter().map(|name| Peer::start(&python, &["serve", name], None)).collect();
    let ports: Vec<u16> = backends.iter_mut().map(|backend| backend.line().parse().unwrap()).collect();
    mesh.apply(SERVICE);
    let entries = [("a", "v1"), ("b", "v1"), ("c", "v2")];
    for ((name, version), port) in entries.iter().zip(&ports) {
        mesh.apply(&backend(name, version, *port));
    }
    let mut client = Peer::start(&python, &["call"], Some(bootstrap(&mesh, "client")));

    // Resolve: every form of the name.
    for target in [SAY, "xds:///say.default:7070", "xds:///say.default.svc.cluster.local:7070"] {
        let answers = client.call(json!({"target": target, "calls": 3, "wait": true}));
        assert_eq!(answers.values().sum::<u64>(), 3, "{target}: {answers:?}");
        assert!(answers.keys().all(|name| !name.starts_with("error")), "{target}: {answers:?}");
    }
    // What does not exist fails; gRPC itself takes 15 s to believe it, longer than this call waits.
    let answers = client.call(json!({"target": "xds:///nobody:7070", "timeout": 1}));
    assert!(answers.keys().all(|answer| answer.starts_with("error")), "{answers:?}");

    // Balance: least request is offered first; grpcio falls back to round robin.
    let answers = client.call(json!({"target": SAY, "calls": 300}));
    for name in ["a", "b", "c"] {
        assert_eq!(answers.get(name), Some(&100), "{answers:?}");
    }

    // Split 90/10, within four sigma of 2,000 calls (a fair split leaves that once in 16,000 times), and a header that decides.
    mesh.apply(&split(90, 10));
    eventually("the header leads to v2", || {
        let call = json!({"target": SAY, "calls": 6, "metadata": {"x-user": "jason"}});
        let answers = client.call(call);
        let done = answers.get("c") == Some(&6);
        async move { if done { Ok(()) } else { Err(format!("{answers:?}")) } }
    })
    .await;
    let answers = client.call(json!({"target": SAY, "calls": 2000}));
    let to_v2 = answers["c"];
    let sigma = (2000.0f64 * 0.1 * 0.9).sqrt();
    assert!((to_v2 as f64 - 200.0).abs() <= 4.0 * sigma, "{answers:?}");
    assert_eq!(answers.values().sum::<u64>(), 2000);
    assert_eq!(answers.len(), 3, "no call failed: {answers:?}");

    // Fail over: everything to v1, one of its two endpoints dies, calls go on; then it is withdrawn.
    mesh.apply(&split(100, 0));
    eventually("v1 only", || {
        let answers = client.call(json!({"target": SAY, "calls": 50}));
        let done = !answers.contains_key("c");
        async move { if done { Ok(()) } else { Err(format!("{answers:?}")) } }
    })
    .await;
    backends[0].kill();
    let answers = client.call(json!({"target": SAY, "calls": 200}));
    assert_eq!(answers, BTreeMap::from([("b".to_owned(), 200)]), "retried elsewhere, none failed");
    let (code, out, err) = mesh.heddle(&["delete", "workloadentry", "a"]);
    assert_eq!(code, 0, "{out}{err}");
    backends[0] = Peer::start(&python, &["serve", "d"], None);
    let port = backends[0].line().parse().unwrap();
    mesh.apply(&backend("d", "v1", port));
    eventually("the new endpoint is used", || {
        let answers = client.call(json!({"target": SAY, "calls": 20}));
        let done = answers.get("d").is_some_and(|count| *count >= 9) && answers.len() == 2;
        async move { if done { Ok(()) } else { Err(format!("{answers:?}")) } }
    })
    .await;
    assert_no_refusal(&mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_server_takes_its_listener_from_the_control_plane() {
    let Some(python) = python() else { return };
    let mesh = Mesh::start();
    let port = free_address([127, 0, 0, 1]).port();
    mesh.apply(SERVICE);
    mesh.apply(&backend("served", "v1", port));
    let mut server =
        Peer::start(&python, &["serve-xds", "served", &port.to_string()], Some(bootstrap(&mesh, "server")));
    server.line();
    let mut client = Peer::start(&python, &["call"], Some(bootstrap(&mesh, "client")));
    let answers = client.call(json!({"target": SAY, "calls": 20, "wait": true, "timeout": 20}));
    assert_eq!(answers, BTreeMap::from([("served".to_owned(), 20)]));
    assert_no_refusal(&mesh);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grpc_cannot_follow_is_reported_and_does_not_pass() {
    let Some(python) = python() else { return };
    let mesh = Mesh::start();
    let mut only = Peer::start(&python, &["serve", "a"], None);
    let port = only.line().parse().unwrap();
    mesh.apply(SERVICE);
    mesh.apply(&backend("a", "v1", port));
    mesh.apply(
            "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: say}
spec:
  hosts: [say]
  http:
  - match: [{headers: {x-moved: {exact: 'yes'}}}]
    redirect: {authority: elsewhere}
  - headers: {request: {set: {x-a: b}}}
    corsPolicy: {allowOrigins: [{exact: 'http://a'}]}
    fault: {abort: {percentage: {value: 100}, httpStatus: 503}, delay: {percentage: {value: 0}, fixedDelay: 1s}}
    match: [{headers: {x-fault: {exact: 'yes'}}}]
    route: [{destination: {host: say}}]
  - route: [{destination: {host: say}}]
",
    );
    let mut client = Peer::start(&python, &["call"], Some(bootstrap(&mesh, "client")));
    let answers = client.call(json!({"target": SAY, "calls": 5, "wait": true}));
    assert_eq!(answers, BTreeMap::from([("a".to_owned(), 5)]));
    let answers = client.call(json!({"target": SAY, "metadata": {"x-moved": "yes"}}));
    assert!(answers.keys().all(|answer| answer.starts_with("error UNAVAILABLE")), "{answers:?}");
    let answers = client.call(json!({"target": SAY, "metadata": {"x-fault": "yes"}}));
    assert!(answers.keys().all(|answer| answer.starts_with("error UNAVAILABLE")), "{answers:?}");
    eventually("the object says so", || {
        let (_, text, _) = mesh.heddle(&["describe", "virtualservice", "say"]);
        let parts = ["PartiallyInvalid", "gRPC clients", "redirects", "header changes", "CORS"];
        let missing = parts.into_iter().find(|part| !text.contains(part));
        async move { missing.map_or(Ok(()), |part| Err(format!("{part} in {text}"))) }
    })
    .await;
    assert_no_refusal(&mesh);
}

/// `heddle status` fails when a client has refused something.
fn assert_no_refusal(mesh: &Mesh) {
    let (code, out, err) = mesh.heddle(&["status"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains("sidecar~127.0.0.1~client"), "{out}");
}

//! Connections that rules of the kernel lead to a proxy, with the rules that `docs/capture.md` gives: REDIRECT and TPROXY,
//! to the workload and from it, over IPv4 and IPv6, HTTP and servers that speak first.

mod ground;

use std::{
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    time::{Duration, Instant},
};

use ground::{Machine, both, get, greeted};
use heddle_tests::{
    mesh::{Mesh, Role},
    root, say,
};

/// The workload, and its peers: their machines are joined by a cable.
const WORKLOAD: [&str; 2] = ["10.81.2.1", "fd81:2::1"];
const PEER: [&str; 2] = ["10.81.2.2", "fd81:2::2"];

/// A service with an address of its own, one at the peer that greets and whose protocol nobody declares, and the workload.
const RESOURCES: &str = "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: web}
spec:
  hosts: [web.mesh]
  addresses: [10.99.0.1, 'fd99::1']
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 10.81.2.2, ports: {http: 8080}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: mail}
spec:
  hosts: [mail.mesh]
  addresses: [10.81.2.2, 'fd81:2::2']
  ports: [{number: 25, name: mail, protocol: ''}]
  resolution: NONE
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{name: any, port: 9080}]}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: app}
spec: {address: 10.81.2.1, labels: {app: app}}
";

/// A block of `docs/capture.md`, by what stands behind its fence.
fn documented(what: &str) -> String {
    let text = std::fs::read_to_string(root().join("docs/capture.md")).unwrap();
    let (_, rest) = text.split_once(&format!("```{what}\n")).unwrap_or_else(|| panic!("no block {what}"));
    rest.split_once("```").unwrap().0.to_owned()
}

struct Ground {
    workload: Machine,
    peer: Machine,
    _mesh: Mesh,
    proxy: Role,
}

impl Ground {
    fn new(mode: &str) -> Self {
        let (workload, peer) = (Machine::new(), Machine::new());
        workload.shell(&format!("ip link add wire type veth peer name wire netns {}", peer.pid()));
        for (machine, [v4, v6]) in [(&workload, WORKLOAD), (&peer, PEER)] {
            machine.shell(&format!(
                "ip address add {v4}/24 dev wire; ip link set wire up; ip route add default dev wire"
            ));
            if both(v4, v6).len() == 2 {
                let ipv6 = format!("ip address add {v6}/64 dev wire nodad; ip -6 route add default dev wire");
                machine.shell(&ipv6);
            }
        }
        peer.greets(25, "mail");
        peer.greets(2525, "stranger");
        peer.answers(8080, "web");
        if mode == "tproxy" {
            workload.shell(&documented("sh tproxy"));
        }
        workload.rules(&documented(&format!("nft {mode}")));
        let (mesh, proxy) = workload.within(|| start(mode));
        Self { workload, peer, _mesh: mesh, proxy }
    }

    /// Tries from a machine until it is as it should be.
    fn eventually(
        &self,
        from: &Machine,
        attempt: impl Fn() -> Result<String, String> + Send + Sync,
        wanted: &str,
    ) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let seen = from.within(&attempt);
            if seen.as_ref().is_ok_and(|seen| seen.contains(wanted)) {
                return;
            }
            assert!(Instant::now() < deadline, "wanted {wanted:?}, got {seen:?}\n{}", self.proxy.log());
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// A control plane and the workload's proxy, as user 1337.
fn start(mode: &str) -> (Mesh, Role) {
    let mesh = Mesh::start();
    mesh.apply(RESOURCES);
    let dir = mesh.scratch.path().join("app");
    std::fs::create_dir_all(&dir).unwrap();
    for path in [mesh.scratch.path(), &dir] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    // Where everybody can run it.
    let binary = mesh.scratch.path().join("heddle");
    let copied = std::process::Command::new("cp").arg(heddle_tests::mesh::binary()).arg(&binary).status();
    assert!(copied.unwrap().success());
    let binary = binary.display().to_string();
    let mut wrapper = vec!["setpriv", "--reuid", "1337", "--regid", "1337", "--clear-groups"];
    if mode == "tproxy" {
        wrapper.extend(["--inh-caps", "+net_admin", "--ambient-caps", "+net_admin"]);
    }
    wrapper.push(&binary);
    let xds = mesh.xds();
    let args = ["proxy", "--xds", &xds, "--workload", "app", "--labels", "app=app", "--interception", mode];
    let more =
        ["--outbound", "127.0.0.1:15001,[::1]:15001", "--admin", "127.0.0.1:0", "--dns", "127.0.0.1:0"];
    let proxy = Role::start_by("app", &dir, &wrapper, &[&args[..], &more].concat());
    (mesh, proxy)
}

fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

fn captures(mode: &str) {
    if !rustix::process::geteuid().is_root() {
        return say("LEFT OUT: rules of the kernel, which take root");
    }
    if heddle_tests::peer::find("nft", "HEDDLE_PEER_NFT", &[]).is_none() {
        return;
    }
    let ground = Ground::new(mode);
    // From the workload: a service at an address that no machine has can only be reached through the proxy.
    for ip in both("10.99.0.1", "fd99::1") {
        ground.eventually(&ground.workload, || get(at(ip, 80), "web.mesh"), "web");
    }
    for (ip, own) in both(PEER[0], PEER[1]).into_iter().zip(WORKLOAD) {
        // Servers that speak first, one in the mesh and one that nobody knows: heard without a delay.
        for (port, name) in [(25, "mail"), (2525, "stranger")] {
            let wanted = format!("{name} greets {own}\nhello again\n");
            ground.eventually(&ground.workload, || greeted(at(ip, port)), &wanted);
            let begin = Instant::now();
            let said = ground.workload.within(|| greeted(at(ip, port)));
            assert_eq!(said, Ok(wanted));
            assert!(begin.elapsed() < Duration::from_secs(1), "{ip}:{port}: {:?}", begin.elapsed());
        }
    }

    // To the workload: it listens at loopback only, where nobody else can reach it. It speaks first, too.
    ground.workload.greets(9080, "app");
    for ip in both(WORKLOAD[0], WORKLOAD[1]) {
        let wanted = "app greets 127.0.0.1\nhello again\n";
        ground.eventually(&ground.peer, || greeted(at(ip, 9080)), wanted);
        let begin = Instant::now();
        assert_eq!(ground.peer.within(|| greeted(at(ip, 9080))).as_deref(), Ok(wanted));
        assert!(begin.elapsed() < Duration::from_secs(1), "{ip}: {:?}", begin.elapsed());
        // The capturing port itself leads nowhere.
        let direct = ground.peer.within(|| get(at(ip, 15006), "web.mesh"));
        assert!(direct.as_ref().is_err() || direct.as_ref().is_ok_and(String::is_empty), "{direct:?}");
    }
}

#[test]
fn redirected_connections_reach_where_they_were_going() {
    captures("redirect");
}

#[test]
fn connections_handed_over_by_tproxy_reach_where_they_were_going() {
    captures("tproxy");
}

//! Ports that somebody else has.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    process::{Command, Stdio},
    time::Duration,
};

use heddle_tests::{
    client::get,
    eventually,
    mesh::{Mesh, Role, binary},
};

use crate::admin;

/// Runs a role that must refuse to start: what it says.
fn refused(args: &[&str]) -> String {
    let scratch = tempfile::tempdir().unwrap();
    let mut child = Command::new(binary())
        .args(args)
        .arg("--data-dir")
        .arg(scratch.path())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that starts after all would run for ever.
    let started = scratch.path().join("ports.json");
    while child.try_wait().unwrap().is_none() {
        if started.exists() {
            let _ = child.kill();
            panic!("it started: {args:?}");
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{args:?}: {told}");
    told
}

#[test]
fn a_role_whose_port_is_taken_says_which_and_what_to_do() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (taken, names, free) =
        (held.local_addr().unwrap().to_string(), udp.local_addr().unwrap().to_string(), "127.0.0.1:0");
    let control = |flag: &'static str| ("control", ["--xds", "--api"], flag);
    let proxy = |flag: &'static str| ("proxy", ["--outbound", "--admin"], flag);
    let flags = [control("--xds"), control("--api"), control("--dns"), proxy("--outbound"), proxy("--admin")];
    for (role, others, flag) in flags.into_iter().chain([proxy("--inbound"), proxy("--dns")]) {
        let address = if flag == "--dns" { &names } else { &taken };
        let mut args = vec![role, flag, address];
        for other in others.into_iter().filter(|other| *other != flag) {
            args.extend([other, free]);
        }
        if role == "proxy" && flag != "--dns" {
            args.extend(["--dns", free]);
        }
        let told = refused(&args);
        let port = address.rsplit(':').next().unwrap();
        assert!(told.contains(&format!("cannot listen on {address} ({flag})")), "{told}");
        assert!(
            told.contains("Address already in use") && told.contains(&format!("sport = :{port}")),
            "{told}"
        );
        assert!(told.contains("give another address"), "{told}");
    }
}

#[test]
fn a_second_proxy_does_not_share_the_first_ones_port() {
    let mesh = Mesh::start();
    let first = mesh.client("first", "default", &BTreeMap::new());
    mesh.apply("apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n");
    let taken = first.outbound().to_string();
    let free = "127.0.0.1:0";
    let told =
        refused(&["proxy", "--xds", &mesh.xds(), "--outbound", &taken, "--admin", free, "--dns", free]);
    assert!(
        told.contains(&format!("cannot listen on {taken} (--outbound): Address already in use")),
        "{told}"
    );
}

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: two}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: TAKEN, name: http-1, protocol: HTTP}, hosts: ['*']}
  - {port: {number: FREE, name: http-2, protocol: HTTP}, hosts: ['*']}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: two}
spec: {hosts: ['*'], gateways: [two], http: [{directResponse: {status: 204}}]}
";

/// An address of this process's own on loopback.
fn own_ip() -> Ipv4Addr {
    let [_, _, high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 200, high, low.clamp(1, 254))
}

async fn opens(at: SocketAddr) {
    eventually("the listener answers", || async {
        let status = get(at, "any", "/", &[]).await?.status;
        if status == 204 { Ok(()) } else { Err(format!("{status}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_whose_port_is_taken_is_shown_refused_and_opened_when_it_can_be() {
    let mesh = Mesh::start();
    let held = TcpListener::bind((own_ip(), 0)).unwrap();
    let free = TcpListener::bind((own_ip(), 0)).unwrap().local_addr().unwrap();
    let taken = held.local_addr().unwrap();
    let text = GATEWAY.replace("TAKEN", &taken.port().to_string()).replace("FREE", &free.port().to_string());
    let labels = BTreeMap::from([("istio", "ingressgateway")]);
    let gateway = mesh.gateway("istio:default/two", &own_ip().to_string(), &labels);
    eventually("the gateway joins", || async {
        let (_, out, _) = mesh.heddle(&["status"]);
        if out.contains("router~") { Ok(()) } else { Err(out) }
    })
    .await;
    let file = mesh.scratch.path().join("gateway.yaml");
    std::fs::write(&file, &text).unwrap();
    let apply = || mesh.heddle(&["apply", "--wait", "--timeout", "20s", "-f", &file.display().to_string()]);
    let (code, out, err) = apply();
    assert_eq!(code, 1, "{out}{err}");
    assert!(err.contains(&format!("cannot listen on {taken}")) && err.contains("refused by"), "{out}{err}");
    opens(free).await;

    shown(&gateway, taken).await;
    let (code, out, _) = mesh.heddle(&["status"]);
    assert_eq!(code, 1, "a refusal is a no: {out}");

    drop(held);
    opens(taken).await;
    eventually("nothing is failed any more", || async {
        let ready = admin(&gateway, "/ready").await;
        let (code, out, err) = mesh.heddle(&["status"]);
        if ready == "LIVE\n" && code == 0 { Ok(()) } else { Err(format!("{ready}{out}{err}")) }
    })
    .await;
    let (code, out, err) = apply();
    assert_eq!(code, 0, "{out}{err}");
}

/// The admin interface, `proxy-config` and the log name the port and say what to do.
async fn shown(gateway: &Role, taken: SocketAddr) {
    let told = format!("cannot listen on {taken}");
    let ready = admin(gateway, "/ready").await;
    assert!(ready.starts_with("LIVE") && ready.contains(&told), "{ready}");
    let listeners = admin(gateway, "/listeners").await;
    assert!(listeners.contains(&format!("failed::{taken}")), "{listeners}");
    let at = gateway.address("admin").to_string();
    let output = Command::new(binary()).args(["proxy-config", "listeners", "--admin", &at]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("failed") && text.contains("listening"), "{text}");
    assert!(String::from_utf8_lossy(&output.stderr).contains(&told), "{output:?}");
    let log = gateway.log();
    assert!(log.contains(&told) && log.contains("sport = :"), "{log}");
}

//! `heddle run --capture redirect`: programs that know nothing of the mesh, in a network of their own.
//!
//! The programs are curl, dig and python; the mesh is `heddle control`. As root everything is run twice: by root, and by
//! a user without privileges in a user namespace.

mod frontend;
mod kit;
mod sni;

use std::collections::BTreeMap;

use heddle_tests::{backend::Backend, client, eventually};
use kit::{Bed, Host, Resolver, Running, Who, wait_until};
use rustix::process::Signal;

/// Two versions of reviews; Jason gets the second.
const ROUTES: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: reviews, subset: v2}}]
  - route: [{destination: {host: reviews, subset: v1}}]
";

/// Waits until every version of reviews is called by somebody of the mesh.
async fn both_answer(bed: &Bed) {
    let sidecar = bed.mesh.client("somebody", "default", &BTreeMap::new());
    for (user, version) in [("nobody", "reviews-v1"), ("jason", "reviews-v2")] {
        eventually(version, || async {
            let answer = client::get(sidecar.outbound(), "reviews:9080", "/", &[("end-user", user)]).await?;
            let body = String::from_utf8_lossy(&answer.body).into_owned();
            if body.starts_with(version) { Ok(()) } else { Err(format!("{} {body}", answer.status)) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_knows_nothing_of_the_mesh_follows_its_routes() {
    for who in Who::all() {
        let bed = Bed::start();
        let _one = bed.serve(who, "reviews", "v1", "0.0.0.0");
        // One that takes connections on its own loopback only.
        let _two = bed.serve(who, "reviews", "v2", "127.0.0.1");
        bed.mesh.apply(ROUTES);
        both_answer(&bed).await;
        let told = bed.told(
            who,
            "default",
            "curl -sS http://reviews:9080/a; curl -sS -H 'end-user: jason' http://reviews:9080/b",
        );
        assert_eq!(told, "reviews-v1 /a reviews:9080\nreviews-v2 /b reviews:9080", "{who:?}");
        let told = bed.told(who, "elsewhere", "curl -sS http://reviews.default.svc.cluster.local:9080/c");
        assert_eq!(told, "reviews-v1 /c reviews.default.svc.cluster.local:9080", "{who:?}");
        let output = bed.script(who, "elsewhere", "curl -sS http://reviews:9080/");
        assert!(!output.status.success(), "{who:?}: the short name of another namespace");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_code_and_standard_streams_are_the_program_s() {
    use std::io::Write as _;
    for who in Who::all() {
        let bed = Bed::start();
        let args =
            ["--service", "cat", "--port", "9", "--capture", "redirect", "--", "sh", "-c", "cat; exit 7"];
        let mut running = Running::start({
            let mut c = bed.run(who, &args);
            c.stdin(std::process::Stdio::piped());
            c
        });
        running.child.stdin.take().unwrap().write_all(b"through\n").unwrap();
        assert_eq!(running.first_line(), "through");
        assert_eq!(running.ended().code(), Some(7), "{who:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_name_is_the_asker_s_namespace_s() {
    let bed = Bed::start();
    let (ours, theirs) = (Backend::start("ours").await, Backend::start("theirs").await);
    for (namespace, backend) in [("ours", &ours), ("theirs", &theirs)] {
        let address = backend.address.to_string();
        let (code, _, err) = bed.mesh.heddle(&[
            "register",
            "--service",
            "api",
            "--namespace",
            namespace,
            "--address",
            &address,
            "--service-port",
            "80",
            "--protocol",
            "http",
        ]);
        assert_eq!(code, 0, "{err}");
    }
    for who in Who::all() {
        for namespace in ["ours", "theirs"] {
            let script =
                "for name in api api.ours; do curl -sS -w '\\n' http://$name/; done; dig +short +search api";
            let told = bed.told(who, namespace, script);
            let lines: Vec<_> = told.lines().collect();
            let [short, full, address @ ..] = lines.as_slice() else { panic!("{told}") };
            assert!(short.contains(&format!("\"backend\":{namespace:?}")), "{who:?} in {namespace}: {told}");
            assert!(full.contains("\"backend\":\"ours\""), "{who:?} in {namespace}: {told}");
            assert!(address.last().is_some_and(|a| a.starts_with("240.2")), "{who:?}: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_is_reached_by_name() {
    for who in Who::all() {
        let bed = Bed::start();
        let file = bed.file("greet.py");
        let args = ["--service", "mail", "--port", "2525", "--capture", "redirect"];
        let _mail = Running::start(bed.run(who, &[&args[..], &["--", "python3", &file, "2525"]].concat()));
        // Nothing says what it speaks: that is found out. The client waits for the greeting before it says anything.
        let script = format!("python3 {} mail 2525", bed.file("greeted.py"));
        let told = eventually("a greeting", || async {
            let output = bed.script(who, "default", &script);
            let told = kit::text(&output.stdout);
            // Before the server listens there is nothing to be greeted by.
            let greeted = output.status.success() && !told.is_empty();
            if greeted { Ok(told) } else { Err(told + &kit::text(&output.stderr)) }
        })
        .await;
        assert_eq!(told, "220 ready\necho hello\n", "{who:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_mesh_does_not_know_is_reached_from_the_host() {
    let Some(ip) = kit::machine_address() else { return };
    let outside = Backend::on("outside", tokio::net::TcpListener::bind((ip, 0)).await.unwrap());
    let inside = Backend::start("the host's loopback").await;
    let url = format!("http://{}/", outside.address);
    let loopback = format!("http://{}/", inside.address);
    for who in Who::all() {
        let bed = Bed::start();
        assert!(bed.told(who, "default", &format!("curl -sS {url}")).contains("outside"), "{who:?}");
        // Loopback is CMD's own, and what is neither TCP nor a question for a name goes nowhere, at once.
        let output = bed.script(who, "default", &format!("curl -sS {loopback}"));
        assert_eq!(output.status.code(), Some(7), "{who:?}: curl says that it cannot connect");
        let script = format!(
            "python3 -c \"import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('{ip}', 9))\""
        );
        let output = bed.script(who, "default", &script);
        assert!(kit::text(&output.stderr).contains("PermissionError"), "{who:?}: {output:?}");
    }
    assert!(inside.take().is_empty(), "the host's loopback was reached");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv6_is_captured_where_the_host_has_it() {
    let backend = Backend::start("six").await;
    for who in Who::all() {
        let bed = Bed::start();
        let address = backend.address.to_string();
        let (code, _, err) =
            bed.mesh.heddle(&["register", "--service", "six", "--address", &address, "--service-port", "80"]);
        assert_eq!(code, 0, "{err}");
        let output = bed.script(who, "default", "curl -sS -6 http://six/");
        if kit::has_ipv6() {
            assert!(kit::text(&output.stdout).contains("\"six\""), "{who:?}: {output:?}");
        } else {
            heddle_tests::say("the host has no way to IPv6 addresses: CMD must have none either");
            assert_eq!(output.status.code(), Some(7), "{who:?}: {output:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_names_are_asked_of_the_host_s_resolvers() {
    if !rustix::process::geteuid().is_root() {
        heddle_tests::say("LEFT OUT: a resolver on port 53 takes root");
        return;
    }
    let bed = Bed::start();
    let resolv_conf = bed.file("host-resolv.conf");
    std::fs::write(&resolv_conf, "nameserver 127.77.53.1\nsearch corp.example\n").unwrap();
    let resolver = Resolver::start("127.77.53.1:53");
    // The host as `heddle run` sees it: with a resolv.conf that names the resolver of this test.
    let host = format!("mount --bind {resolv_conf} /etc/resolv.conf && exec \"$@\"");
    let script = "dig +short outside.example; dig +tcp +short other.example; dig +short @192.0.2.53 hard-coded.example;
        getent ahostsv4 reviewer | cut -d' ' -f1 | head -n 1; cat /etc/resolv.conf";
    let run = bed.run(
        Who::Root,
        &["--service", "client", "--port", "9", "--capture", "redirect", "--", "sh", "-c", script],
    );
    let output = kit::wrapped(&run, &["unshare", "--mount", "sh", "-c", &host, "sh"]).output().unwrap();
    let told = kit::text(&output.stdout);
    assert!(
        told.starts_with("192.0.2.7\n192.0.2.7\n192.0.2.7\n192.0.2.7\n"),
        "{told}{}",
        kit::text(&output.stderr)
    );
    assert!(
        told.contains("search default.svc.cluster.local svc.cluster.local cluster.local corp.example"),
        "{told}"
    );
    let asked = resolver.asked();
    for name in ["outside.example", "other.example", "hard-coded.example", "reviewer.corp.example"] {
        assert!(asked.iter().any(|a| a == name), "{name} was not asked of the host's resolver: {asked:?}");
    }
    assert!(!asked.iter().any(|a| a.contains("cluster.local")), "a name of the mesh left it: {asked:?}");
}

#[test]
fn nothing_is_left_on_the_host() {
    for who in Who::all() {
        let bed = Bed::start();
        let before = Host::now();
        let args = ["--service", "web", "--port", "9080", "--capture", "redirect", "--", "sh", "-c"];
        let script = "readlink /proc/self/ns/net; trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done";
        let mut running = Running::start(bed.run(who, &[&args[..], &[script]].concat()));
        let namespace = running.first_line();
        assert!(namespace.starts_with("net:["), "{namespace}");
        assert!(kit::processes_in(&namespace) >= 1, "CMD and the holder are in {namespace}");
        assert_eq!(Host::now(), before, "{who:?}: while it runs");
        running.signal(Signal::TERM);
        assert_eq!(running.ended().code(), Some(0), "{who:?}");
        wait_until("the namespace's end", || (kit::processes_in(&namespace) == 0).then_some(()));
        assert_eq!(Host::now(), before, "{who:?}: after it has ended");
        let (_, left, _) = bed.mesh.heddle(&["get", "workloadentries", "-A"]);
        assert!(!left.contains("web-9080"), "{left}");
    }
}

#[test]
fn the_program_does_not_outlive_its_sidecar() {
    for who in Who::all() {
        let bed = Bed::start();
        let args = ["--service", "web", "--port", "9080", "--capture", "redirect", "--", "sh", "-c"];
        let script = "readlink /proc/self/ns/net; while :; do sleep 1 & wait $!; done";
        let mut running = Running::start(bed.run(who, &[&args[..], &[script]].concat()));
        let namespace = running.first_line();
        running.signal(Signal::KILL);
        running.ended();
        wait_until("the namespace's end", || (kit::processes_in(&namespace) == 0).then_some(()));
    }
}

/// A program that needs its network to end well: says by which signal it was ended, and asks for an address.
const END_WELL: &str = r#"
import signal, socket, sys
ends = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, ends)
print("up", flush=True)
name = signal.sigwait(ends).name
with open(sys.argv[1], "w") as file:
    print(name, socket.gethostbyname("peer"), file=file)
"#;

#[test]
fn ctrl_c_is_for_the_program_and_its_exit_is_waited_for() {
    let bed = Bed::start();
    let (code, _, err) = bed.mesh.heddle(&["register", "--service", "peer", "--address", "127.0.0.1:9"]);
    assert_eq!(code, 0, "{err}");
    for who in Who::all() {
        let file = bed.file(&format!("{who:?}.said"));
        let args =
            ["--service", "web", "--port", "9080", "--capture", "redirect", "--", "python3", "-c", END_WELL];
        if who == Who::Nobody {
            std::fs::set_permissions(bed.mesh.scratch.path(), kit::mode(0o777)).unwrap();
        }
        let mut command = bed.run(who, &[&args[..], &[&file]].concat());
        // A group of its own, as a shell gives to what runs in the foreground; all of it gets Ctrl-C.
        let mut running = Running::start({
            use std::os::unix::process::CommandExt as _;
            command.process_group(0);
            command
        });
        assert_eq!(running.first_line(), "up");
        let group = rustix::process::Pid::from_raw(running.child.id().cast_signed()).unwrap();
        rustix::process::kill_process_group(group, Signal::INT).unwrap();
        assert_eq!(running.ended().code(), Some(0), "{who:?}");
        let said = std::fs::read_to_string(&file).unwrap();
        assert!(said.starts_with("SIGINT 240.2"), "{who:?}: {said:?}");
    }
}

#[test]
fn a_refusal_says_what_failed_and_what_to_do() {
    let bed = Bed::start();
    // A machine on which this user is no root and may make no user namespace.
    let forbidding = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let mut machines = vec![(
        vec!["unshare", "--user", "--map-root-user", "sh", "-c", forbidding, "sh"],
        ["making a user namespace", "sysctl user.max_user_namespaces=10000"],
    )];
    let nft = heddle_tests::peer::find("nft", "HEDDLE_PEER_NFT", &[]);
    let hiding = nft.map(|nft| format!("mount --bind /dev/null {} && exec \"$@\"", nft.display()));
    if let Some(hiding) = &hiding {
        let unshare = vec!["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", hiding, "sh"];
        machines.push((unshare, ["looking for nft", "install nftables"]));
    }
    for (machine, reasons) in machines {
        let run = |capture: &str| {
            let args =
                ["--service", "web", "--port", "9080", "--capture", capture, "--", "printenv", "http_proxy"];
            let output = kit::wrapped(&bed.run(Who::Root, &args), &machine).output().unwrap();
            (output.status.code(), kit::text(&output.stdout), kit::text(&output.stderr))
        };
        let (code, out, err) = run("redirect");
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        assert!(err.contains("--capture redirect: "), "{err}");
        let (code, out, err2) = run("auto");
        assert_eq!(code, Some(0), "{err2}");
        assert!(out.starts_with("http://127.0.0.1:"), "{out}");
        let line = err2.lines().find(|line| line.contains("capture: explicit")).expect("it says which");
        for reason in reasons {
            assert!(err.contains(reason) && line.contains(reason), "{reason}: {err}{err2}");
        }
    }
}

#[test]
fn a_program_that_does_not_exist_is_an_error_of_its_own() {
    let bed = Bed::start();
    for who in Who::all() {
        let args = ["--service", "web", "--port", "9080", "--capture", "redirect", "--", "/no/such/program"];
        let output = bed.run(who, &args).output().unwrap();
        assert_eq!(output.status.code(), Some(127), "{output:?}");
        assert!(kit::text(&output.stderr).contains("cannot run /no/such/program"), "{output:?}");
    }
}

//! `heddle register` and the lease of what it registers.

use std::process::{Child, Command, Stdio};

use heddle_tests::{
    client::{Answer, get},
    eventually,
    mesh::{Mesh, binary},
};

/// Nobody listens there: it is only registered.
const ADDRESS: &str = "127.0.0.1:9";
const ENTRY: &str = "/apis/networking.istio.io/v1/namespaces/default/workloadentries/shop-127-0-0-1-9";

fn register_for_a_second(mesh: &Mesh) -> Child {
    Command::new(binary())
        .args(["register", "--service", "shop", "--address", ADDRESS, "--ttl", "1s"])
        .env("HEDDLE_SERVER", mesh.api())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn look(mesh: &Mesh, path: &str, expected: u16) -> Answer {
    eventually(&format!("{path} answers {expected}"), || async {
        let answer = get(mesh.control.address("api"), "localhost", path, &[]).await?;
        if answer.status == expected { Ok(answer) } else { Err(format!("{answer:?}")) }
    })
    .await
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_asks_for_its_lease_from_the_first_moment() {
    let mesh = Mesh::start();
    let heartbeat = register_for_a_second(&mesh);
    let entry = look(&mesh, ENTRY, 200).await.json();
    kill(heartbeat);
    // Whoever dies between registering and the first renewal leaves nothing behind.
    assert_eq!(entry["metadata"]["annotations"]["heddle.dev/lease-ttl"], "1s", "{entry}");
    look(&mesh, ENTRY, 404).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_for_good_ends_the_lease_of_before() {
    let mesh = Mesh::start();
    let heartbeat = register_for_a_second(&mesh);
    let lease = format!("{ENTRY}/lease");
    look(&mesh, &lease, 200).await;
    kill(heartbeat);
    let (code, out, err) = mesh.heddle(&["register", "--service", "shop", "--address", ADDRESS]);
    assert_eq!(code, 0, "{out}{err}");
    look(&mesh, &lease, 404).await;
    look(&mesh, ENTRY, 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_still_runs_is_registered_again() {
    let mesh = Mesh::start();
    let heartbeat = register_for_a_second(&mesh);
    let uid = |entry: &Answer| entry.json()["metadata"]["uid"].clone();
    let first = uid(&look(&mesh, ENTRY, 200).await);
    let (code, out, err) = mesh.heddle(&["deregister", "--service", "shop", "--address", ADDRESS]);
    assert_eq!(code, 0, "{out}{err}");
    eventually("another entry is there", || async {
        let entry = look(&mesh, ENTRY, 200).await;
        if uid(&entry) == first { Err(format!("{entry:?}")) } else { Ok(()) }
    })
    .await;
    look(&mesh, &format!("{ENTRY}/lease"), 200).await;
    kill(heartbeat);
}

#[test]
fn a_service_that_is_there_keeps_its_port_and_says_so() {
    let mesh = Mesh::start();
    let register = |port: &str| {
        mesh.heddle(&["register", "--service", "shop", "--address", ADDRESS, "--service-port", port])
    };
    let (code, _, told) = register("80");
    assert!(code == 0 && told.contains("service shop did not exist: created with port 80"), "{told}");
    let (code, _, told) = register("8080");
    assert!(code == 0 && told.contains("service shop is there already: called at shop:80"), "{told}");
    let (code, _, told) = register("80");
    assert!(code == 0 && told.is_empty(), "{told}");
}

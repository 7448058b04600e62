//! What the proxy says to those who ask for its sockets and are not, or not yet, its successor.

use std::{io::IoSliceMut, mem::MaybeUninit, os::fd::OwnedFd, path::Path};

use heddle_tests::mesh::{Role, binary};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketAddrUnix,
    SocketFlags, SocketType, connect, recvmsg, send, socket_with,
};
use serde_json::{Value, json};

use super::{Ground, load};

/// Speaks as a successor does.
struct Asker(OwnedFd);

impl Asker {
    fn new(dir: &Path) -> Self {
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        connect(&socket, &SocketAddrUnix::new(dir.join("proxy.sock")).unwrap()).unwrap();
        Self(socket)
    }

    fn say(&self, message: &Value) {
        send(&self.0, message.to_string().as_bytes(), SendFlags::empty()).unwrap();
    }

    fn hello(&self, protocol: u32) {
        self.say(&json!({ "protocol": protocol, "version": "0.0.1-test", "pid": std::process::id() }));
    }

    /// The next message and its descriptors; null when the proxy has hung up.
    fn hear(&self) -> (Value, Vec<OwnedFd>) {
        let (mut text, mut space) =
            (vec![0; 65536], [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))]);
        let mut rights = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [IoSliceMut::new(&mut text)];
        let received = recvmsg(&self.0, slices, &mut rights, RecvFlags::CMSG_CLOEXEC).unwrap();
        let mut descriptors = Vec::new();
        for message in rights.drain() {
            if let RecvAncillaryMessage::ScmRights(list) = message {
                descriptors.extend(list);
            }
        }
        (serde_json::from_slice(&text[..received.bytes]).unwrap_or_default(), descriptors)
    }

    /// Everything that is handed over: how many descriptors of each kind.
    fn everything(&self) -> std::collections::BTreeMap<String, usize> {
        let mut kinds = std::collections::BTreeMap::new();
        loop {
            let (message, descriptors) = self.hear();
            if message == "Done" {
                return kinds;
            }
            let described = message["Sockets"].as_array().cloned().unwrap_or_default();
            assert_eq!(described.len(), descriptors.len(), "{message}");
            for one in described {
                *kinds.entry(one["kind"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
        }
    }
}

/// A successor by hand: whether it took over, and what it said.
fn try_to_replace(ground: &Ground) -> (bool, String) {
    let output = std::process::Command::new(binary())
        .args(super::with_workers(&ground.flags, "1"))
        .arg("--replace")
        .arg("--data-dir")
        .arg(&ground.gateway.dir)
        .output()
        .unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_dies_before_it_is_ready_leaves_everything_as_it_was() {
    let mut ground = Ground::new(2, &[]).await;
    let dir = ground.gateway.dir.clone();
    // Another version is refused, and told by whom.
    let asker = Asker::new(&dir);
    asker.hello(99);
    let (refusal, _) = asker.hear();
    let reason = refusal["Refused"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("protocol 99") && reason.contains("0.0.1-test"), "{refusal}");
    load::once(ground.http).await.unwrap();

    // What is no greeting is not answered at all.
    let asker = Asker::new(&dir);
    asker.say(&json!("what?"));
    assert_eq!(asker.hear().0, Value::Null);

    // Everything is handed over: two listeners with a socket for each of two workers, one with copies of a Unix socket, and
    // the rest.
    let asker = Asker::new(&dir);
    asker.hello(1);
    let (welcome, _) = asker.hear();
    assert_eq!(welcome["Welcome"]["pid"], ground.gateway.child.id(), "{welcome}");
    let kinds = asker.everything();
    let expected =
        [("Admin", 1), ("Configuration", 1), ("Door", 1), ("Listener", 6), ("NamesTcp", 1), ("NamesUdp", 1)];
    assert_eq!(kinds, expected.map(|(kind, count)| (kind.to_owned(), count)).into());

    // Meanwhile nobody else gets them.
    let (took, said) = try_to_replace(&ground);
    let expected = format!("process {} is taking over already", std::process::id());
    assert!(!took && said.contains(&expected) && said.contains("serves on"), "{said}");
    load::once(ground.http).await.unwrap();

    // It dies: the old one serves on, follows its configuration, and can still be replaced.
    drop(asker);
    let other = heddle_runtime::free_port(std::net::Ipv4Addr::LOCALHOST.into()).unwrap();
    ground.mesh.apply(&format!(
        "apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: front}}
spec:
  selector: {{}}
  servers:
  - {{port: {{number: {}, name: http, protocol: HTTP}}, hosts: ['{host}']}}
  - {{port: {{number: {}, name: tcp, protocol: TCP}}, hosts: ['*']}}
  - {{port: {{number: {other}, name: more, protocol: HTTP}}, hosts: ['{host}']}}
",
        ground.http.port(),
        ground.tcp.port(),
        host = super::HOST,
    ));
    let other = std::net::SocketAddr::from((std::net::Ipv4Addr::LOCALHOST, other));
    heddle_tests::eventually("the new port is served", || load::once(other)).await;
    for _ in 0..50 {
        load::once(ground.http).await.unwrap();
    }
    let mut old: Role = ground.replace(1);
    old.ended(std::time::Duration::from_secs(30)).await;
    for address in [ground.http, other] {
        for _ in 0..50 {
            load::once(address).await.unwrap();
        }
    }
}

//! A proxy is replaced by another process, or told to end: nobody notices who need not.
//!
//! `HEDDLE_REPLACEMENTS`, `HEDDLE_REPLACE_RATE` and `HEDDLE_REPLACE_STREAMS` set how often, under how many new connections a
//! second, and with how many streams open; the default is what CI has time for.

mod backend;
mod door;
mod ending;
mod load;
mod pipe;
mod secrets;
mod streams;

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use heddle_tests::{
    mesh::{Mesh, Role},
    say,
};
use load::Load;
use streams::{Doors, Streams};

/// The one host of the gateway.
pub(crate) const HOST: &str = "shop.example";
/// What it answers.
pub(crate) const BODY: &str = "still here";

/// A control plane, a gateway of its own process, and what stands behind it.
struct Ground {
    mesh: Mesh,
    gateway: Role,
    http: SocketAddr,
    tcp: SocketAddr,
    flags: Vec<String>,
}

impl Ground {
    async fn new(workers: usize, more: &[&str]) -> Self {
        let mesh = Mesh::start();
        let port = || heddle_runtime::free_port(Ipv4Addr::LOCALHOST.into()).unwrap();
        let (http, tcp) = (port(), port());
        let socket = mesh.scratch.path().join("front.sock");
        mesh.apply(&resources(
            (http, tcp),
            backend::http().await.port(),
            backend::tcp().await.port(),
            &socket,
        ));
        let mut flags: Vec<String> = ["proxy", "--role", "gateway", "--gateway", "istio:default/front"]
            .into_iter()
            .chain(["--bind", "127.0.0.1", "--admin", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--xds"])
            .map(str::to_owned)
            .collect();
        flags.push(mesh.xds());
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let dir = mesh.scratch.path().join("gateway");
        let gateway = Role::start("gateway", &dir, &with_workers(&flags, &workers.to_string()));
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let ground = Self { mesh, gateway, http: at(http), tcp: at(tcp), flags };
        heddle_tests::eventually("the gateway serves", || load::once(ground.http)).await;
        let doors = ground.doors();
        heddle_tests::eventually("the gateway relays", || async {
            streams::LongStream::open(streams::Kind::Tcp, &doors).await?.close().await
        })
        .await;
        heddle_tests::eventually("the gateway serves at its socket", || pipe::once(&doors.socket)).await;
        ground
    }

    fn doors(&self) -> Doors {
        let socket = self.mesh.scratch.path().join("front.sock");
        Doors { http: self.http, tcp: self.tcp, socket }
    }

    /// Another process takes over; the one before, which drains.
    fn replace(&mut self, workers: usize) -> Role {
        let workers = workers.to_string();
        let mut flags = with_workers(&self.flags, &workers);
        flags.push("--replace");
        let successor = self.gateway.successor(&flags);
        std::mem::replace(&mut self.gateway, successor)
    }
}

fn with_workers<'f>(flags: &'f [String], workers: &'f str) -> Vec<&'f str> {
    flags.iter().map(String::as_str).chain(["--workers", workers]).collect()
}

fn resources((http, tcp): (u16, u16), shop: u16, echo: u16, socket: &std::path::Path) -> String {
    let socket = socket.display();
    format!(
        "apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shop}}
spec:
  hosts: [shop.mesh]
  ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 9000, name: tcp, protocol: TCP}}]
  resolution: STATIC
  location: MESH_INTERNAL
  endpoints: [{{address: 127.0.0.1, ports: {{http: {shop}, tcp: {echo}}}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: front}}
spec:
  selector: {{}}
  servers:
  - {{port: {{number: {http}, name: http, protocol: HTTP}}, hosts: ['{HOST}']}}
  - {{port: {{number: {tcp}, name: tcp, protocol: TCP}}, hosts: ['*']}}
  - {{port: {{number: 0, name: socket, protocol: HTTP}}, bind: 'unix://{socket}', hosts: ['{HOST}']}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec:
  hosts: ['{HOST}']
  gateways: [front]
  http: [{{route: [{{destination: {{host: shop.mesh, port: {{number: 80}}}}}}]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: echo}}
spec:
  hosts: ['*']
  gateways: [front]
  tcp: [{{match: [{{port: {tcp}}}], route: [{{destination: {{host: shop.mesh, port: {{number: 9000}}}}}}]}}]
"
    )
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[tokio::test(flavor = "multi_thread")]
async fn replacements_in_a_row_break_nothing() {
    let rounds = setting("HEDDLE_REPLACEMENTS", 10);
    let rate = setting("HEDDLE_REPLACE_RATE", 200);
    let count = setting("HEDDLE_REPLACE_STREAMS", 30) as usize;
    let mut ground = Ground::new(1, &[]).await;
    let doors = ground.doors();
    let mut streams = Streams::default();
    streams.open(count, &doors).await;
    let mut load = Load::start(doors.http, rate);
    load.watch(ground.gateway.address("admin"), ground.gateway.address("dns"));
    load.knock(&doors.socket);
    load.more(rate).await;
    // A fifth of the streams is exchanged with each replacement, so that several processes serve some at a time.
    let turn = (count / 5).max(1);
    let (mut draining, mut most) = (Vec::<Role>::new(), 0);
    let start = std::time::Instant::now();
    for round in 0..rounds {
        let workers = [4, 1, 3, 2][round as usize % 4];
        draining.push(ground.replace(workers));
        load.more(rate / 2).await;
        streams.close(turn).await;
        streams.open(turn, &doors).await;
        draining.retain_mut(|old| old.child.try_wait().ok().flatten().is_none());
        most = most.max(draining.len());
    }
    assert_eq!(streams.len(), count, "{:?}", streams.broken.lock());
    say(&format!(
        "{rounds} replacements in {:?}, up to {most} processes draining at a time",
        start.elapsed()
    ));
    assert!(most > 1, "streams kept several processes: {most}");
    streams.close(count).await;
    for mut old in draining {
        let status = old.ended(Duration::from_secs(30)).await;
        assert!(status.success(), "{status}: {}", old.log());
    }
    let (done, failed) = load.end().await;
    let broken = streams.broken.lock().unwrap();
    say(&format!("{done} requests, {} failed; {} streams broken", failed.len(), broken.len()));
    let some: Vec<_> = failed.iter().take(10).collect();
    assert!(
        failed.is_empty(),
        "{} of {} requests failed: {some:#?}",
        failed.len(),
        done + failed.len() as u64
    );
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The sockets that listen at a port, by inode, whoever has them.
fn listening(port: u16) -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let at = format!(":{port:04X}");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // Local address, state (0A: listening), inode.
    let meant = rows.filter(|row| row.len() > 9 && row[1].ends_with(&at) && row[3] == "0A");
    meant.map(|row| row[9].to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_listening_socket_is_closed_whatever_the_number_of_workers() {
    let mut ground = Ground::new(4, &[]).await;
    let before = listening(ground.http.port());
    assert_eq!(before.len(), 4);
    for (workers, expected) in [(1, 4), (3, 4), (6, 6), (2, 6)] {
        let mut old = ground.replace(workers);
        assert!(old.ended(Duration::from_secs(30)).await.success(), "{}", old.log());
        let now = listening(ground.http.port());
        assert!(
            before.is_subset(&now) && now.len() == expected,
            "{workers} workers: {before:?}, then {now:?}"
        );
        // Enough for each socket to be chosen: one that nobody accepts from would leave its share unanswered.
        for _ in 0..60 {
            load::once(ground.http).await.unwrap();
        }
    }
}

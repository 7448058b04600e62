//! A proxy that may use little memory, driven over it: every stage of shedding acts, and it comes back by itself.

use std::time::Duration;

use heddle_tests::{
    eventually,
    mesh::{Mesh, Role},
    say,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Backend, Bed};

/// Of a request's body; it is kept for a retry for as long as the endpoint has not answered.
const BODY: usize = 60_000;

/// A proxy that uses three quarters of its memory when it does nothing.
async fn bed() -> (Bed, u64) {
    let at_rest = Bed::start(None).await.memory();
    let most = at_rest * 4 / 3 + 1;
    let (mesh, backend) = (Mesh::start(), Backend::start().await);
    let (xds, limit) = (mesh.xds(), most.to_string());
    let args = ["proxy", "--xds", &xds, "--role", "sidecar", "--outbound", "127.0.0.1:0", "--workers", "1"];
    let more = ["--admin", "127.0.0.1:0", "--dns", "127.0.0.1:0", "--max-memory", &limit];
    let dir = mesh.scratch.path().join("small");
    let proxy = Role::start("small", &dir, &[&args[..], &more].concat());
    (Bed::of(mesh, proxy, backend).await, most)
}

impl Bed {
    /// Whether an action of shedding is in force.
    async fn sheds(&self, action: &str) -> bool {
        self.stat(&format!("overload_actions.{action}.active")).await == 1
    }

    async fn until_it_sheds(&self, action: &str, wanted: bool) {
        eventually(action, || async {
            if self.sheds(action).await == wanted { Ok(()) } else { Err(self.pressure().await) }
        })
        .await;
    }

    async fn pressure(&self) -> String {
        format!("{} % of memory", self.stat("fixed_heap.pressure").await)
    }

    /// A request that is not answered, and so much of its body.
    async fn post(&self, some: usize) -> TcpStream {
        let mut stream = self.connect().await;
        let head = format!("POST /hang HTTP/1.1\r\nHost: web.mesh\r\nContent-Length: {BODY}\r\n\r\n");
        stream.write_all(&[head.as_bytes(), &vec![b'x'; some]].concat()).await.unwrap();
        stream
    }

    /// Whole requests, a few at a time, until an action is in force.
    async fn fill(&self, held: &mut Vec<TcpStream>, action: &str) {
        for _ in 0..400 {
            for _ in 0..4 {
                held.push(self.post(BODY).await);
            }
            // Memory is looked at ten times a second: the request that follows what was looked at comes after it.
            let before = self.stat("fixed_heap.pressure").await;
            let _ = tokio::time::timeout(Duration::from_millis(300), async {
                while self.stat("fixed_heap.pressure").await == before && !self.sheds(action).await {}
            })
            .await;
            if self.sheds(action).await {
                return;
            }
        }
        panic!("{action} is not in force at {}", self.pressure().await);
    }
}

impl Bed {
    /// Many who have begun send the rest at once, so that nothing more is accepted. Whoever is slow is cut after 2 s where
    /// room is short: on a busy machine it takes another try.
    async fn overfill(&self, most: u64) -> Vec<TcpStream> {
        for parts in [2, 3, 2, 3, 2] {
            let mut begun = Vec::new();
            for _ in 0..(most << 20) / parts / BODY as u64 {
                begun.push(self.post(1).await);
            }
            for stream in &mut begun {
                let _ = stream.write_all(&vec![b'x'; BODY - 1]).await;
            }
            let full = async { while !self.sheds("stop_accepting_connections").await {} };
            if tokio::time::timeout(Duration::from_secs(2), full).await.is_ok() {
                return begun;
            }
            say(&format!("{} with {} requests", self.pressure().await, begun.len()));
            drop(begun);
            self.until_it_sheds("disable_http_keepalive", false).await;
        }
        panic!("connections are accepted at {}", self.pressure().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_that_runs_out_is_shed_in_stages_and_comes_back() {
    heddle_runtime::raise_open_files();
    let (bed, most) = bed().await;
    assert!(!bed.sheds("disable_http_keepalive").await, "{} of {most} MiB", bed.pressure().await);
    // Connections at rest.
    let mut idle = Vec::new();
    for _ in 0..5 {
        let mut stream = bed.connect().await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: web.mesh\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 1024];
        let len = stream.read(&mut answer).await.unwrap();
        assert!(answer[..len].starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..len]));
        idle.push(stream);
    }
    // 80 %: whoever is idle is closed, and whoever asks is served.
    let mut held = Vec::new();
    bed.fill(&mut held, "disable_http_keepalive").await;
    for stream in &mut idle {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "an idle connection is closed");
    }
    assert_eq!(bed.ask().await, (200, "ok".to_owned()));
    // 95 %: requests are refused, with the reason; the admin server, which told so, never.
    bed.fill(&mut held, "stop_accepting_requests").await;
    assert_eq!(bed.ask().await, (503, "overload".to_owned()), "{}", bed.pressure().await);
    say(&format!("{most} MiB are full with {} requests; {} MiB in use", held.len(), bed.memory()));
    // What is given up comes back.
    drop(held);
    bed.until_it_sheds("stop_accepting_requests", false).await;
    bed.until_it_sheds("disable_http_keepalive", false).await;
    assert_eq!(bed.ask().await, (200, "ok".to_owned()));

    // 98 %: those who have begun go on, and nobody else is accepted.
    let begun = bed.overfill(most).await;
    // The worker was waiting for one more, which it takes.
    let taken = bed.connect().await;
    let mut waiting = bed.connect().await;
    waiting.write_all(b"GET / HTTP/1.1\r\nHost: web.mesh\r\nConnection: close\r\n\r\n").await.unwrap();
    // The admin server answers meanwhile, again and again, and nothing comes.
    for _ in 0..20 {
        assert!(bed.sheds("stop_accepting_connections").await, "{}", bed.pressure().await);
    }
    assert!(waiting.try_read(&mut [0; 1]).is_err(), "nobody is served");
    drop((begun, taken));
    let mut answer = String::new();
    let served = tokio::time::timeout(Duration::from_secs(30), waiting.read_to_string(&mut answer)).await;
    let open = bed.stat("http.downstream_cx_active").await;
    assert!(served.is_ok(), "it is its turn at {}, {open} connections", bed.pressure().await);
    assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
    bed.until_it_sheds("disable_http_keepalive", false).await;
    assert_eq!(bed.ask().await, (200, "ok".to_owned()));
    bed.rest().await;
}

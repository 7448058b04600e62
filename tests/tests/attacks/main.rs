//! Hostile crowds against the built binary, while an honest client goes on: it is always answered, the proxy's memory
//! stays bounded, and everything comes back by itself.

mod memory;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use heddle_tests::{
    eventually,
    mesh::{Mesh, Role},
    say,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Answers `ok`; `/hang` with nothing, `/big` with a mebibyte.
struct Backend {
    address: SocketAddr,
    hanging: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Backend {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, hanging) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let count = hanging.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, count.clone()));
            }
        });
        Self { address, hanging, task }
    }
}

async fn serve(mut stream: TcpStream, hanging: Arc<AtomicUsize>) -> std::io::Result<()> {
    let mut input = Vec::new();
    loop {
        while !input.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&input).into_owned();
        input.clear();
        if head.contains(" /hang ") {
            hanging.fetch_add(1, Ordering::Relaxed);
            let _ = stream.read_to_end(&mut input).await;
            hanging.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        let body = if head.starts_with("GET /big") { vec![b'x'; 1 << 20] } else { b"ok".to_vec() };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(&[answer.as_bytes(), &body].concat()).await?;
    }
}

fn service(port: u16) -> String {
    format!(
        "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: web}}\nspec: {{hosts: [web.mesh], ports: \
         [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, location: MESH_INTERNAL, endpoints: \
         [{{address: 127.0.0.1, ports: {{http: {port}}}}}]}}\n"
    )
}

struct Bed {
    _mesh: Mesh,
    proxy: Role,
    backend: Backend,
}

impl Bed {
    /// `files`: the most descriptors that the proxy may have.
    async fn start(files: Option<u32>) -> Self {
        let (mesh, backend) = (Mesh::start(), Backend::start().await);
        let labels = BTreeMap::new();
        let proxy = match files {
            Some(files) => mesh.client_of_few_files("client", files),
            None => mesh.client("client", "default", &labels),
        };
        Self::of(mesh, proxy, backend).await
    }

    async fn of(mesh: Mesh, proxy: Role, backend: Backend) -> Self {
        mesh.apply(&service(backend.address.port()));
        let bed = Self { _mesh: mesh, proxy, backend };
        eventually("the service", || async {
            match bed.ask().await {
                (200, _) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        bed
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.proxy.outbound()).await.unwrap()
    }

    /// An honest request on a connection of its own: status and body.
    async fn ask(&self) -> (u16, String) {
        let ask = async {
            let mut stream = self.connect().await;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: web.mesh\r\nConnection: close\r\n\r\n").await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.map(|_| answer)
        };
        let answer = tokio::time::timeout(Duration::from_secs(10), ask).await;
        let answer =
            answer.unwrap_or_else(|_| Ok("no answer in 10 s".into())).unwrap_or_else(|e| e.to_string());
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        (status, answer.split_once("\r\n\r\n").map_or(answer.clone(), |(_, body)| body.to_owned()))
    }

    async fn stat(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(self.proxy.address("admin")).await.unwrap();
        let request =
            format!("GET /stats?filter={name}$ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        body.lines().filter_map(|line| line.rsplit(": ").next()?.parse::<u64>().ok()).sum()
    }

    /// MiB of memory that the proxy uses.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.proxy.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
    }

    /// Nothing of the attack is left.
    async fn rest(&self) {
        eventually("rest", || async {
            let left = [
                self.stat("http.downstream_cx_active").await,
                self.stat("cluster.outbound.80..web.mesh.upstream_rq_active").await,
                self.backend.hanging.load(Ordering::Relaxed) as u64,
            ];
            if left == [0; 3] { Ok(()) } else { Err(format!("{left:?} connections, requests, hanging")) }
        })
        .await;
    }
}

/// A GET over HTTP/2, by hand.
fn stream(id: u32) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    for (name, value) in [(":path", "/hang"), (":authority", "web.mesh")] {
        block.extend([0, name.len() as u8]);
        block.extend(name.as_bytes());
        block.push(value.len() as u8);
        block.extend(value.as_bytes());
    }
    let mut frame = vec![0, 0, block.len() as u8, 1, 5];
    frame.extend(id.to_be_bytes());
    frame.extend(block);
    frame
}

/// One client takes a descriptor with each stream, up to the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_that_run_out_are_shed_and_come_back() {
    let bed = Bed::start(Some(256)).await;
    let (mut read, mut hostile) = bed.connect().await.into_split();
    let reading =
        tokio::spawn(async move { while read.read(&mut [0; 4096]).await.is_ok_and(|len| len > 0) {} });
    hostile.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut shed = None;
    for batch in 0..64_u32 {
        let before = bed.stat("open_files.pressure").await;
        let some: Vec<u8> = (0..4).flat_map(|n| stream(2 * (4 * batch + n) + 1)).collect();
        hostile.write_all(&some).await.unwrap();
        eventually("the proxy sees it", || async {
            let now = bed.stat("open_files.pressure").await;
            let refusing = bed.stat("stop_accepting_requests.active").await == 1;
            if now > before || refusing { Ok(()) } else { Err(format!("{now} %")) }
        })
        .await;
        match bed.ask().await {
            (200, _) => {}
            other => {
                shed = Some(other);
                break;
            }
        }
    }
    assert_eq!(shed, Some((503, "overload".to_owned())), "the first that is not served is told why");
    assert!(bed.stat("open_files.pressure").await >= 95);
    let flags = bed.stat("downstream_rq_5xx").await;
    assert!(flags >= 1, "{flags}");
    drop(hostile);
    reading.abort();
    eventually("it comes back", || async {
        match bed.ask().await {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    bed.rest().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_clients_and_clients_that_never_read_harm_nobody() {
    const SLOW: usize = 500;
    const DEAF: usize = 200;
    heddle_runtime::raise_open_files();
    let bed = Bed::start(None).await;
    let before = bed.memory();
    let (mut slow, mut deaf) = (Vec::new(), Vec::new());
    for number in 0..SLOW {
        let mut stream = bed.connect().await;
        let start: &[u8] = match number % 2 {
            0 => b"GET / HTTP/1.1\r\nHost: web.mesh\r\nX-A: ",
            _ => b"POST /hang HTTP/1.1\r\nHost: web.mesh\r\nContent-Length: 1000000\r\n\r\n",
        };
        stream.write_all(start).await.unwrap();
        slow.push(stream);
    }
    for _ in 0..DEAF {
        let mut stream = bed.connect().await;
        // As many responses as it may ask for at once.
        stream.write_all(b"GET /big HTTP/1.1\r\nHost: web.mesh\r\n\r\n".repeat(8).as_slice()).await.unwrap();
        deaf.push(stream);
    }
    let dripping = tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            tick.tick().await;
            for stream in &mut slow {
                let _ = stream.try_write(b"x");
            }
        }
    });
    let mut longest = Duration::ZERO;
    let mut memory = 0;
    for number in 0..300 {
        let start = std::time::Instant::now();
        assert_eq!(bed.ask().await, (200, "ok".to_owned()), "request {number}");
        longest = longest.max(start.elapsed());
        memory = memory.max(bed.memory());
    }
    say(&format!("{before} MiB before, at most {memory} MiB under attack; longest request {longest:?}"));
    assert!(memory < before + 100, "{before} MiB before, {memory} MiB under attack");
    let there = bed.stat("http.downstream_cx_active").await;
    assert!(there >= (SLOW + DEAF) as u64, "{there} are still there");
    dripping.abort();
    drop(deaf);
    bed.rest().await;
}

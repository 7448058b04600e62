//! Clients of HTTP/2 that ask for work and give none: each is sent away, counted, and disturbs nobody else.

mod kit;

use std::time::Duration;

use kit::backend::{Backend, Client, Reply};
use kit::frames::*;
use kit::*;
use tokio::io::AsyncWriteExt;

const PROTOCOL_ERROR: u32 = 1;
const CALM: u32 = 11;

/// What a hostile client sends: once, and then again and again with the number of the round.
struct Attack {
    name: &'static str,
    first: Vec<u8>,
    again: fn(u32) -> Vec<u8>,
    /// Reasons of the GOAWAY that ends it; any of them.
    ends: &'static [u32],
    /// The counter that tells of it.
    counted: &'static str,
}

fn attacks() -> Vec<Attack> {
    let open = frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[]));
    let begun = frame(HEADERS, 0, 1, &request("GET", "/", &[]));
    let (control, errors) = ("http2.outbound_control_flood", "http.downstream_cx_protocol_error");
    let attack = |name, first: &[u8], again, ends, counted| Attack {
        name,
        first: first.to_vec(),
        again,
        ends,
        counted,
    };
    vec![
        attack("ping", &[], |_| frame(PING, 0, 0, &[7; 8]), &[CALM], control),
        attack("settings", &[], |_| frame(SETTINGS, 0, 0, &[]), &[CALM], control),
        attack(
            "windows that change",
            &open,
            |n| frame(SETTINGS, 0, 0, &[&[0, 4][..], &(n % 2 * 60000).to_be_bytes()].concat()),
            &[CALM],
            control,
        ),
        attack("unknown frames", &[], |_| frame(0xbe, 0, 0, b"x"), &[CALM], control),
        attack(
            "resets of what has ended",
            &open,
            |_| frame(RST_STREAM, 0, 1, &[0, 0, 0, 8]),
            &[CALM],
            control,
        ),
        attack(
            "window updates",
            &open,
            |_| frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
            &[CALM],
            "http2.inbound_window_update_frames_flood",
        ),
        attack(
            "priorities",
            &[],
            |_| frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 9]),
            &[CALM],
            "http2.inbound_priority_frames_flood",
        ),
        attack("empty data", &open, |_| frame(DATA, 0, 1, &[]), &[CALM], "http2.inbound_empty_frames_flood"),
        attack(
            "rapid reset",
            &[],
            |n| {
                let stream = 2 * n + 1;
                let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", "/slow", &[]));
                [request, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
            },
            &[CALM],
            "",
        ),
        attack(
            "continuation",
            &begun,
            |_| frame(CONTINUATION, 0, 1, &block(&[("x-a", "b")])),
            &[CALM, PROTOCOL_ERROR],
            errors,
        ),
        attack("empty continuation", &begun, |_| frame(CONTINUATION, 0, 1, &[]), &[CALM, PROTOCOL_ERROR], ""),
        attack(
            "a bomb of indexed fields",
            &{
                // One large field in the table, then requests of nothing but references to it.
                let mut large = vec![0x40, 3, b'x', b'-', b'a', 0x7f, 0x81, 0x1e];
                large.extend(vec![b'b'; 3968]);
                frame(HEADERS, END_HEADERS | END_STREAM, 1, &[request("GET", "/", &[]), large].concat())
            },
            |n| {
                let block = [request("GET", "/", &[]), vec![0xbe; 8000]].concat();
                frame(HEADERS, END_HEADERS | END_STREAM, 2 * n + 3, &block)
            },
            &[CALM, PROTOCOL_ERROR],
            errors,
        ),
    ]
}

/// Sends until the connection ends, for at most 30 s; the reason of the GOAWAY.
async fn run(mesh: &Mesh, attack: &Attack) -> Option<u32> {
    let (mut read, mut write) = mesh.connect().await.into_split();
    let mut start = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    start.extend(&attack.first);
    let again = attack.again;
    let sending = tokio::spawn(async move {
        if write.write_all(&start).await.is_err() {
            return;
        }
        for round in (0_u32..).step_by(16) {
            let some: Vec<u8> = (round..round + 16).flat_map(again).collect();
            if write.write_all(&some).await.is_err() {
                return;
            }
        }
    });
    let reading = async {
        let mut said = None;
        while let Some(frame) = next(&mut read).await {
            if frame.kind == GOAWAY {
                said = Some(reason(&frame));
            }
        }
        said
    };
    let said = tokio::time::timeout(Duration::from_secs(30), reading).await;
    sending.abort();
    said.unwrap_or_else(|_| panic!("{} was let go on", attack.name))
}

async fn stat(mesh: &Mesh, name: &str) -> u64 {
    let answer = String::from_utf8(mesh.admin("GET", &format!("/stats?filter=^{name}$")).await).unwrap();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    body.trim().rsplit(": ").next().and_then(|value| value.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_are_sent_away_and_counted() {
    let backend = Backend::named("a").await;
    let silent = Backend::start(|_, _, _| Reply::Silence).await;
    let mesh = Mesh::start(1, |at| {
        let routes = vec![to_cluster("/slow", "slow"), to_cluster("/", "a")];
        http(
            at,
            routes,
            &[static_cluster("a", &[backend.address]), static_cluster("slow", &[silent.address])],
        )
    })
    .await;
    let mut honest = Client::new(mesh.connect().await);
    for attack in attacks() {
        let name = attack.name;
        let before = if attack.counted.is_empty() { 0 } else { stat(&mesh, attack.counted).await };
        let (mut said, mut times) = (None, 0);
        // Who sends on may have the connection reset before he reads why.
        while said.is_none() && times < 3 {
            said = run(&mesh, &attack).await;
            times += 1;
        }
        assert!(said.is_some_and(|said| attack.ends.contains(&said)), "{name}: GOAWAY {said:?}");
        if !attack.counted.is_empty() {
            assert_eq!(stat(&mesh, attack.counted).await, before + times, "{name}: {}", attack.counted);
        }
        assert_eq!(honest.get("/").await.1, "a", "{name}");
    }
    // Nothing of them is left.
    drop(honest);
    let rest = async { while stat(&mesh, "http.downstream_cx_active").await > 0 {} };
    tokio::time::timeout(Duration::from_secs(20), rest).await.expect("no connection is left");
}

/// Streams that are begun and broken off at leisure are no flood of frames; that they are nearly all there is tells them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_breaks_off_most_of_its_requests_is_sent_away() {
    let silent = Backend::start(|_, _, _| Reply::Silence).await;
    let mesh =
        Mesh::start(1, |at| http(at, vec![to_cluster("/", "a")], &[static_cluster("a", &[silent.address])]))
            .await;
    let (mut read, mut write) = mesh.connect().await.into_split();
    write.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut said = None;
        while let Some(frame) = next(&mut read).await {
            if frame.kind == GOAWAY {
                said = Some(reason(&frame));
            }
        }
        said
    });
    for round in 0..2000_u32 {
        let stream = 2 * round + 1;
        let request = frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", "/", &[]));
        if write.write_all(&request).await.is_err() {
            break;
        }
        // Each reaches the endpoint before it is broken off.
        let seen = round as usize + 1;
        let wait = async {
            while silent.seen.lock().unwrap().len() < seen {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(2), wait).await.is_err() {
            break;
        }
        let _ = write.write_all(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])).await;
    }
    let said = tokio::time::timeout(Duration::from_secs(30), reading).await.expect("an end").unwrap();
    assert_eq!(said, Some(CALM));
    assert_eq!(stat(&mesh, "http.downstream_rq_too_many_premature_resets").await, 1);
    let requests = silent.heads().len();
    assert!((250..=300).contains(&requests), "{requests}");
}

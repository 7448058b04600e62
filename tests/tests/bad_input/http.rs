//! Requests that are none: 400 and its kin, counted with the flag DPE, and everybody else is served.

use heddle_tests::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Bed, admin};

/// Sends bytes over a connection of their own, and reads until it is closed.
async fn exchange(bed: &Bed, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(bed.client.outbound()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    // A reset after the answer is an end, too.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(20), read).await.expect("it is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// How many requests were recorded with the flag DPE and this code.
async fn recorded(bed: &Bed, code: u16) -> u64 {
    let metrics = admin(&bed.client, "/stats/prometheus").await;
    let code = format!("response_code=\"{code}\"");
    let lines = metrics.lines().filter(|line| {
        line.starts_with("istio_requests_total{")
            && line.contains("response_flags=\"DPE\"")
            && line.contains(&code)
    });
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_answered_recorded_and_closed() {
    let bed = Bed::start().await;
    let many = "x: y\r\n".repeat(150);
    let long = format!("x: {}\r\n", "y".repeat(70 << 10));
    let cases: [(&str, String, u16); 10] = [
        ("no host", "GET / HTTP/1.1\r\n\r\n".into(), 400),
        ("two hosts", "GET / HTTP/1.1\r\nHost: web\r\nHost: other\r\n\r\n".into(), 400),
        ("noise", "\x01\x02\x03\r\n\r\n".into(), 400),
        ("a space in a name", "GET / HTTP/1.1\r\nHost: web\r\nx : y\r\n\r\n".into(), 400),
        ("a folded line", "GET / HTTP/1.1\r\nHost: web\r\nx: y\r\n z\r\n\r\n".into(), 400),
        (
            "two lengths",
            "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".into(),
            400,
        ),
        (
            "length and chunks",
            "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                .into(),
            400,
        ),
        ("a negative length", "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: -1\r\n\r\n".into(), 400),
        ("too many fields", format!("GET / HTTP/1.1\r\nHost: web\r\n{many}\r\n"), 431),
        ("too long a head", format!("GET / HTTP/1.1\r\nHost: web\r\n{long}\r\n"), 431),
    ];
    bed.backend.take();
    for (what, request, code) in &cases {
        let before = recorded(&bed, *code).await;
        let answer = exchange(&bed, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{what}: {answer:?}");
        assert!(answer.to_lowercase().contains("connection: close"), "{what}: {answer:?}");
        assert_eq!(recorded(&bed, *code).await, before + 1, "{what} is recorded");
        bed.serves("web").await;
    }
    let seen = bed.backend.take();
    assert!(
        seen.iter().all(|seen| seen.method == "GET" && seen.path == "/"),
        "nothing of it went on: {seen:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pipelined_behind_good_requests_is_answered_in_its_turn() {
    let bed = Bed::start().await;
    let good = "GET /a HTTP/1.1\r\nHost: web\r\n\r\n";
    let answer = exchange(&bed, format!("{good}{good}GET / HTTP/1.1\r\n\r\n{good}").as_bytes()).await;
    let codes: Vec<&str> =
        answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert_eq!(codes, ["200", "200", "400"], "and nothing behind it: {answer}");
    // A body that hides a request is a body.
    let hidden = "GET /hidden HTTP/1.1\r\nHost: web\r\n\r\n";
    let request = format!(
        "POST /b HTTP/1.1\r\nHost: web\r\nContent-Length: {}\r\n\r\n{hidden}GET / HTTP/1.1\r\n\r\n",
        hidden.len()
    );
    bed.backend.take();
    let answer = exchange(&bed, request.as_bytes()).await;
    assert!(answer.contains("HTTP/1.1 200") && answer.contains("HTTP/1.1 400"), "{answer}");
    let paths: Vec<String> = bed.backend.take().into_iter().map(|seen| seen.path).collect();
    assert_eq!(paths, ["/b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_half_sent_disturbs_nobody_and_is_let_go() {
    let bed = Bed::start().await;
    let halves =
        ["G", "GET / HTTP/1.1\r\nHost: we", "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 9\r\n\r\nhalf"];
    let mut held = Vec::new();
    for n in 0..60 {
        let mut stream = TcpStream::connect(bed.client.outbound()).await.unwrap();
        stream.write_all(halves[n % halves.len()].as_bytes()).await.unwrap();
        held.push(stream);
    }
    bed.serves("web").await;
    drop(held);
    eventually("the connections end", || async {
        let stats = admin(&bed.client, "/stats").await;
        let line =
            stats.lines().find(|line| line.contains("downstream_cx_active")).unwrap_or_default().to_owned();
        let open: u64 = line.rsplit(' ').next().and_then(|n| n.parse().ok()).ok_or(stats)?;
        if open <= 1 { Ok(()) } else { Err(line) }
    })
    .await;
    bed.serves("web").await;
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Type and error code of the first RST_STREAM (3) or GOAWAY (7) in an answer.
fn error_of(mut answer: &[u8]) -> Option<(u8, u32)> {
    while answer.len() >= 9 {
        let length = u32::from_be_bytes([0, answer[0], answer[1], answer[2]]) as usize;
        let (kind, payload) = (answer[3], answer.get(9..9 + length)?);
        let code = |at: usize| Some(u32::from_be_bytes(payload.get(at..at + 4)?.try_into().ok()?));
        match kind {
            3 => return Some((3, code(0)?)),
            7 if code(4)? != 0 => return Some((7, code(4)?)),
            _ => answer = &answer[9 + length..],
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_http2_is_reset_with_its_code_and_recorded() {
    let bed = Bed::start().await;
    let hello = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, b"")].concat();
    // :method GET, :scheme http, :authority web, and no :path.
    let no_path = b"\x82\x86\x41\x03web";
    // What is sent, and what comes back: RST_STREAM or GOAWAY, with which code.
    let cases = [
        ("a field block that is none", frame(1, 5, 1, b"\xff\xff\xff\xff"), (7, 9)),
        ("a request on stream 0", frame(1, 5, 0, no_path), (7, 1)),
        ("a body without a request", frame(0, 1, 1, b"x"), (7, 1)),
        ("a frame beyond the limit", frame(0, 0, 1, &[0; 70_000]), (7, 6)),
        ("a request without a path", frame(1, 5, 1, no_path), (3, 1)),
    ];
    for (what, bytes, expected) in cases {
        let before = recorded(&bed, 0).await;
        let mut stream = TcpStream::connect(bed.client.outbound()).await.unwrap();
        stream.write_all(&[&hello[..], &bytes].concat()).await.unwrap();
        let mut answer = Vec::new();
        let read = async {
            loop {
                if let Some(found) = error_of(&answer) {
                    return Some(found);
                }
                if stream.read_buf(&mut answer).await.unwrap_or(0) == 0 {
                    return error_of(&answer);
                }
            }
        };
        let found = tokio::time::timeout(std::time::Duration::from_secs(20), read).await.expect("an answer");
        assert_eq!(found, Some(expected), "{what}");
        if expected.0 == 7 {
            eventually("it is recorded", || async {
                let now = recorded(&bed, 0).await;
                if now == before + 1 { Ok(()) } else { Err(format!("{what}: {now}, before {before}")) }
            })
            .await;
        }
        bed.serves("web").await;
    }
}

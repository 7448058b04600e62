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

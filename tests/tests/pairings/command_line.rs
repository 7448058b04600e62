//! wrk, h2load and nghttp.

use std::path::PathBuf;

use futures_util::future::join_all;
use heddle_tests::peer;

use crate::{
    backend::pattern,
    bed::{Bed, Pair},
    report, run,
};

#[tokio::test(flavor = "multi_thread")]
async fn wrk_passes_in_every_pairing_of_its_version() {
    let Some(program) = peer::find("wrk", "HEDDLE_PEER_WRK", &[]) else { return };
    let bed = crate::bed().await;
    let load = async |pair: &Pair| {
        let said = run(&program, &["-t1", "-c4", "-d1s", &pair.url("/size/5000")], None).await?;
        let told = said.lines().find_map(|line| line.trim().split_once(" requests in "));
        let count = told.and_then(|(count, _)| count.parse::<u64>().ok()).unwrap_or(0);
        let good = count > 20 && !said.contains("Socket errors") && !said.contains("Non-2xx");
        if good { Ok(()) } else { Err(said) }
    };
    every("wrk", &bed, false, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h2load_passes_in_every_pairing() {
    let Some(program) = peer::find("h2load", "HEDDLE_PEER_H2LOAD", &[]) else { return };
    let bed = crate::bed().await;
    let upload = bed.keys.file("upload");
    std::fs::write(&upload, pattern(70_001)).unwrap();
    let load = async |pair: &Pair| {
        let url = pair.url("/echo");
        let version = if pair.down.http2 { "--npn-list=h2" } else { "--h1" };
        let args = ["-n", "200", "-c", "4", "-m", "10", "-d", &upload, version, &url];
        let said = run(&program, &args, None).await?;
        let good = said.contains("200 succeeded, 0 failed, 0 errored, 0 timeout")
            && said.contains(&format!("({}) data", 200 * 70_001));
        if good { Ok(()) } else { Err(said) }
    };
    every("h2load", &bed, true, load).await;
    every("h2load", &bed, false, load).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nghttp_passes_in_every_pairing_of_its_version() {
    let Some(program) = peer::find("nghttp", "HEDDLE_PEER_NGHTTP", &[]) else { return };
    let bed = crate::bed().await;
    let upload = bed.keys.file("upload");
    std::fs::write(&upload, pattern(1_300_003)).unwrap();
    every("nghttp", &bed, true, async |pair: &Pair| nghttp(&program, pair, &upload).await).await;
}

async fn nghttp(program: &PathBuf, pair: &Pair, upload: &str) -> Result<(), String> {
    let get = async |path: &str, more: &[&str], wanted: &[&str]| {
        let url = pair.url(path);
        let mut args = vec!["-v", "-n", "-y"];
        args.extend(more);
        args.push(&url);
        let said = run(program, &args, None).await?;
        // What was received, in its order.
        let mut rest = said.as_str();
        for text in wanted {
            let Some((_, after)) = rest.split_once(text) else {
                return Err(format!("{path} {more:?}: no {text:?} in\n{said}"));
            };
            rest = after;
        }
        Ok(())
    };
    get("/size/100000", &[], &[":status: 200", "content-length: 100000"]).await?;
    get("/trailers", &[], &[":status: 200", "x-sum: 42"]).await?;
    get("/hints", &[], &[":status: 103", "link: </style.css>; rel=preload", ":status: 200"]).await?;
    get("/size/1000", &["-H:method: HEAD"], &[":status: 200", "content-length: 1000"]).await?;
    get("/status/204", &[], &[":status: 204"]).await?;
    get("/status/304", &[], &[":status: 304"]).await?;
    let told = ["x-told: 1300003", "x-told: nothing"];
    get("/echo", &["-d", upload], &[":status: 200", told[0]]).await?;
    get("/echo", &["-d", upload, "--no-content-length"], &[":status: 200", told[1]]).await?;
    get("/echo", &["-d", upload, "--expect-continue"], &[":status: 100", ":status: 200", told[0]]).await?;
    // Trailers of the request come back as trailers of the response.
    let trailing = ["-d", upload, "--no-content-length", "--trailer=x-sum: 43"];
    get("/echo", &trailing, &[":status: 200", told[1], "recv HEADERS", "x-sum: 43"]).await
}

/// Tries all pairs of a version at once.
async fn every(who: &str, bed: &Bed, http2: bool, attempt: impl AsyncFn(&Pair) -> Result<(), String>) {
    let attempts = bed
        .pairs(|down| down.http2 == http2)
        .map(async |pair| attempt(pair).await.err().map(|complaint| format!("{pair}: {complaint}")));
    let complaints: Vec<String> = join_all(attempts).await.into_iter().flatten().collect();
    report(who, &complaints);
}

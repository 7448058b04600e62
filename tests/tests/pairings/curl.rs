//! curl: bodies both ways, HEAD, answers without a body, Expect, trailers, early hints.

use std::path::PathBuf;

use heddle_tests::peer;

use crate::{
    backend::pattern,
    bed::{Bed, Pair},
    report, run,
};

/// More than a mebibyte, and no multiple of anything.
const LARGE: usize = 2_500_007;

/// curl at one pair.
struct Curl<'b> {
    program: &'b PathBuf,
    bed: &'b Bed,
    pair: &'b Pair,
    number: usize,
}

/// What curl got.
struct Got {
    /// Status and version of the final response, as curl tells them: `200 2`.
    told: String,
    /// The heads of all responses, and the trailers, in lower case.
    heads: String,
    body: Vec<u8>,
}

impl Curl<'_> {
    async fn get(&self, path: &str, more: &[&str], input: Option<&[u8]>) -> Result<Got, String> {
        let (heads, body, ca) = (self.file("heads"), self.file("body"), self.bed.keys.file("ca.pem"));
        let _ = std::fs::remove_file(&body);
        let version = match (self.pair.down.http2, self.pair.down.tls) {
            (false, _) => "--http1.1",
            (true, false) => "--http2-prior-knowledge",
            (true, true) => "--http2",
        };
        let url = self.pair.url(path);
        let mut args = vec!["-sS", "--max-time", "30", version, "--cacert", &ca, "-D", &heads, "-o", &body];
        args.extend(["-w", "%{http_code} %{http_version}"]);
        args.extend(more);
        args.push(&url);
        let told = run(self.program, &args, input).await?;
        let heads = std::fs::read_to_string(heads).map_err(|e| e.to_string())?.to_lowercase();
        Ok(Got { told, heads, body: std::fs::read(body).unwrap_or_default() })
    }

    /// A name of its own in the test's folder.
    fn file(&self, name: &str) -> String {
        self.bed.keys.file(&format!("{name}-{}", self.number))
    }

    fn is(&self, status: u16) -> String {
        format!("{status} {}", if self.pair.down.http2 { "2" } else { "1.1" })
    }

    async fn everything(&self) -> Result<(), String> {
        self.bodies().await?;
        self.no_bodies().await?;
        self.expectations().await?;
        self.trailers_and_hints().await
    }

    async fn bodies(&self) -> Result<(), String> {
        let large = pattern(LARGE);
        for path in [format!("/size/{LARGE}"), format!("/open/{LARGE}")] {
            let got = self.get(&path, &[], None).await?;
            check(&path, got.told == self.is(200) && got.body == large, &got)?;
            let told = got.heads.contains(&format!("content-length: {LARGE}\r\n"));
            check("the length is told where it is known", told == path.contains("size"), &got)?;
        }
        let file = self.file("upload");
        std::fs::write(&file, &large).map_err(|e| e.to_string())?;
        let at_file = format!("@{file}");
        let got = self.get("/echo", &["--data-binary", &at_file], None).await?;
        check("an upload", got.told == self.is(200) && got.body == large, &got)?;
        let told = got.heads.contains(&format!("x-told: {LARGE}\r\n"));
        check("its length", told && got.heads.contains("x-method: post\r\n"), &got)?;
        // From a pipe: nobody knows how long it is.
        let got = self.get("/echo", &["-X", "POST", "-T", "-"], Some(&large)).await?;
        check("an open upload", got.told == self.is(200) && got.body == large, &got)?;
        check("no length", got.heads.contains("x-told: nothing\r\n"), &got)?;
        let got = self.get("/echo", &["--data-binary", ""], None).await?;
        check("an empty upload", got.told == self.is(200) && got.body.is_empty(), &got)
    }

    async fn no_bodies(&self) -> Result<(), String> {
        // Twice over one connection: what is no body must not be waited for, nor taken for the next answer. This curl
        // cannot use a connection of prior knowledge twice.
        let times = if self.pair.down.http2 && !self.pair.down.tls { 1 } else { 2 };
        let get = async |path: &str, head: bool| {
            let url = self.pair.url(path);
            let mut more = if head { vec!["--head"] } else { vec![] };
            if times > 1 {
                more.extend(["-o", "/dev/null", &url]);
            }
            self.get(path, &more, None).await
        };
        let got = get("/size/1000", true).await?;
        check("HEAD", got.told == self.is(200).repeat(times), &got)?;
        check("its length", got.heads.matches("content-length: 1000\r\n").count() == times, &got)?;
        for status in [204, 304] {
            let path = format!("/status/{status}");
            let got = get(&path, false).await?;
            check(&path, got.told == self.is(status).repeat(times), &got)?;
        }
        Ok(())
    }

    async fn expectations(&self) -> Result<(), String> {
        let large = pattern(LARGE);
        let file = format!("@{}", self.file("upload"));
        let expect = ["-H", "Expect: 100-continue", "--expect100-timeout", "20", "--data-binary", &file];
        let start = std::time::Instant::now();
        let got = self.get("/echo", &expect, None).await?;
        check("Expect", got.told == self.is(200) && got.body == large, &got)?;
        check("nobody waited in vain", start.elapsed().as_secs() < 10, &got)?;
        check("100", self.pair.down.http2 || got.heads.starts_with("http/1.1 100 "), &got)
    }

    async fn trailers_and_hints(&self) -> Result<(), String> {
        let got = self.get("/trailers", &["-H", "TE: trailers"], None).await?;
        check("trailers", got.told == self.is(200) && got.body == b"body", &got)?;
        check(
            "trailers",
            got.heads.ends_with("x-sum: 42\r\n\r\n") || got.heads.ends_with("x-sum: 42\r\n"),
            &got,
        )?;
        let got = self.get("/hints", &[], None).await?;
        check("hints", got.told == self.is(200) && got.body == b"late", &got)?;
        let hint = got.heads.split("\r\n\r\n").next().unwrap_or_default();
        check("hints", hint.contains(" 103 ") && hint.contains("link: </style.css>; rel=preload"), &got)
    }
}

fn check(what: &str, holds: bool, got: &Got) -> Result<(), String> {
    let body = String::from_utf8_lossy(&got.body[..got.body.len().min(100)]);
    let (told, heads, len) = (&got.told, &got.heads, got.body.len());
    if holds { Ok(()) } else { Err(format!("{what}: {told}\n{heads}{len} bytes: {body:?}")) }
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_passes_in_every_pairing() {
    let Some(program) = peer::find("curl", "HEDDLE_PEER_CURL", &[]) else { return };
    let bed = crate::bed().await;
    let mut complaints = Vec::new();
    for (number, pair) in bed.pairs(|_| true).enumerate() {
        let curl = Curl { program: &program, bed: &bed, pair, number };
        if let Err(complaint) = curl.everything().await {
            complaints.push(format!("{pair}: {complaint}"));
        }
    }
    report("curl", &complaints);
}

//! The admin server, with the paths and answers that Envoy's tools expect.

mod clusters;
mod dump;
mod prometheus;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use heddle_runtime::Phase;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};

use self::prometheus::Exposition;
use crate::run::{End, Plane};

/// The most connections served at a time: who asks more waits to be accepted.
const CONNECTIONS: usize = 128;
/// How long connections stay open here once another process has the port.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A pause after the system refused a connection.
const BACK_OFF: Duration = Duration::from_millis(100);

/// What is given back after an answer of so many bytes is worth asking for.
const LONG: u64 = 1 << 20;

/// Paths with their methods and what they do, for `/help`.
const PATHS: [(&str, &str); 16] = [
    ("/certs", "certificates in use"),
    ("/clusters", "endpoints and their counts; ?format=json"),
    ("/config_dump", "configuration in force; ?format=snapshot for `heddle explain`"),
    ("/drain_listeners", "POST: ask connections to end; ?graceful"),
    ("/healthcheck/fail", "POST: not ready any more"),
    ("/healthcheck/ok", "POST: ready again"),
    ("/help", "this list"),
    ("/listeners", "addresses that are listened on; ?format=json"),
    ("/logging", "the level of logging"),
    ("/memory", "memory in use"),
    ("/quitquitquit", "POST: drain and end"),
    ("/ready", "200 LIVE when traffic can be served"),
    ("/reopen_logs", "POST: open the files of access logs again, as SIGUSR1 does"),
    ("/server_info", "version, state and settings"),
    ("/stats", "counters; ?format=prometheus|json, ?filter=, ?usedonly"),
    ("/stats/prometheus", "counters and histograms"),
];

type Answer = Response<Either<Full<Bytes>, Exposition>>;

/// Serves until the task is aborted, or another process does.
pub(crate) async fn serve(listener: TcpListener, plane: Arc<Plane>) {
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    let mut end = plane.end.subscribe();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = end.wait_for(|end| *end == Some(End::Replaced)) => break,
        };
        match accepted {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, plane.clone(), slot))),
            Err(error) => pause_after(&error).await,
        }
    }
    drop(listener);
    // Who asks once more is told to come again; who does not is let go.
    let _ = tokio::time::timeout(LAST_WORDS, slots.acquire_many(CONNECTIONS as u32)).await;
}

/// Serves on a socket in the data directory: what a process that has been replaced has to say. Until the task is aborted.
pub(crate) async fn serve_unix(listener: UnixListener, plane: Arc<Plane>) {
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(connection(stream, plane.clone(), slot))),
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn pause_after(error: &std::io::Error) {
    tracing::warn!(%error, "admin: cannot accept a connection");
    tokio::time::sleep(BACK_OFF).await;
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    plane: Arc<Plane>,
    slot: tokio::sync::OwnedSemaphorePermit,
) {
    let long = Arc::new(AtomicBool::new(false));
    let (serving, told) = (plane.clone(), long.clone());
    let service = service_fn(move |request| {
        let (plane, long) = (serving.clone(), told.clone());
        async move {
            let mut answer = answer(&plane, request).await;
            long.fetch_or(answer.body().size_hint().lower() >= LONG, Ordering::Relaxed);
            if plane.replaced() {
                // Who comes again comes to the process that serves now.
                answer.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(30));
    // A client that breaks off is its own affair.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
    if long.load(Ordering::Relaxed) {
        plane.published.overload.freed();
    }
    drop(slot);
}

async fn answer(plane: &Arc<Plane>, request: Request<Incoming>) -> Answer {
    if let Err(reason) = door(request.headers(), request.uri(), plane.config.admin.map(|at| at.ip())) {
        return text(StatusCode::FORBIDDEN, format!("{reason}\n"));
    }
    let path = request.uri().path().trim_end_matches('/').to_owned();
    let query = Query::of(request.uri());
    let changes = matches!(
        path.as_str(),
        "/quitquitquit" | "/drain_listeners" | "/healthcheck/fail" | "/healthcheck/ok" | "/reopen_logs"
    );
    if changes && request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed; use POST\n".to_owned());
    }
    match path.as_str() {
        "" | "/help" => {
            let list: String = PATHS.iter().map(|(path, what)| format!("{path}: {what}\n")).collect();
            text(StatusCode::OK, list)
        }
        "/ready" => ready(plane),
        "/stats/prometheus" => plain(StatusCode::OK, Either::Right(Exposition::of(plane).await)),
        "/stats" => match query.get("format") {
            Some("prometheus") => plain(StatusCode::OK, Either::Right(Exposition::of(plane).await)),
            format => clusters::stats(plane, &query, format == Some("json")).await,
        },
        "/clusters" => clusters::clusters(plane, query.get("format") == Some("json")).await,
        "/listeners" => listeners(plane, query.get("format") == Some("json")),
        "/config_dump" if query.get("format") == Some("snapshot") => {
            Response::new(Either::Left(Full::from(plane.dump().await.file)))
        }
        "/config_dump" => json_answer(&dump::render(plane.dump().await)),
        "/server_info" => json_answer(&server_info(plane)),
        "/memory" => json_answer(&memory()),
        "/certs" => json_answer(&json!({ "certificates": [] })),
        "/logging" => text(
            StatusCode::OK,
            format!("active loggers:\n  heddle: {}\n", tracing::level_filters::LevelFilter::current()),
        ),
        "/healthcheck/fail" => {
            plane.healthy.close();
            text(StatusCode::OK, "OK\n".to_owned())
        }
        "/healthcheck/ok" => {
            plane.healthy.open();
            text(StatusCode::OK, "OK\n".to_owned())
        }
        "/drain_listeners" => {
            let (plane, most) = (plane.clone(), plane.config.drain_time);
            plane.ask_to_end(most);
            tokio::spawn(async move { plane.drain_connections(most).await });
            text(StatusCode::OK, "OK\n".to_owned())
        }
        "/reopen_logs" => {
            plane.published.logs.reopen();
            text(StatusCode::OK, "OK\n".to_owned())
        }
        "/quitquitquit" => {
            plane.drain.advance(Phase::Draining);
            plane.end.send_if_modified(|end| {
                let first = end.is_none();
                end.get_or_insert(End::Quit);
                first
            });
            text(StatusCode::OK, "OK\n".to_owned())
        }
        _ => text(StatusCode::NOT_FOUND, "invalid path. See /help\n".to_owned()),
    }
}

/// Keeps web pages out: a page cannot choose `Host` to be an address of ours, and says by `Origin` whence it comes.
fn door(headers: &HeaderMap, uri: &Uri, own: Option<IpAddr>) -> Result<(), String> {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .or_else(|| uri.authority().map(http::uri::Authority::as_str))
        .unwrap_or_default();
    if !host.is_empty() && !is_ours(host, own) {
        return Err(format!("Host {host} is neither loopback nor this server's address"));
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let of = origin.split_once("://").map_or("", |(_, of)| of);
        if !is_ours(of, own) {
            return Err(format!("a request from {origin} is not answered"));
        }
    }
    Ok(())
}

fn is_ours(host: &str, own: Option<IpAddr>) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || own.is_some_and(|own| own == ip))
}

fn ready(plane: &Plane) -> Answer {
    if plane.replaced() {
        // Who still asks here has an old connection, and wants to know of the proxy, not of this process.
        return text(StatusCode::OK, "LIVE\nanother process has taken over\n".to_owned());
    }
    if plane.drain.phase() > Phase::Serving {
        return text(StatusCode::SERVICE_UNAVAILABLE, "DRAINING\n".to_owned());
    }
    let waiting = plane.readiness.waiting_for();
    if waiting.is_empty() {
        let sockets = plane.lock_sockets();
        // The others serve: the proxy is ready, and says what is missing.
        let failed: String =
            sockets.failed.values().map(|failed| format!("failed: {}\n", failed.reason)).collect();
        return text(StatusCode::OK, format!("LIVE\n{failed}"));
    }
    text(StatusCode::SERVICE_UNAVAILABLE, format!("PRE_INITIALIZING: waiting for {}\n", waiting.join(", ")))
}

fn listeners(plane: &Plane, as_json: bool) -> Answer {
    let sockets = plane.lock_sockets();
    let mut serving: Vec<_> = sockets.serving().map(|(address, name)| (name.to_string(), address)).collect();
    serving.sort();
    if as_json {
        let list: Vec<_> = serving
            .iter()
            .map(|(name, address)| json!({ "name": name, "local_address": clusters::address_json(*address) }))
            .collect();
        let failed: Vec<_> = sockets
            .failed
            .iter()
            .map(|(address, failed)| {
                json!({ "name": failed.listener.to_string(), "address": address.to_string(), "error": failed.reason })
            })
            .collect();
        return json_answer(&json!({ "listener_statuses": list, "failed": failed }));
    }
    let mut out: String = serving.iter().map(|(name, address)| format!("{name}::{address}\n")).collect();
    for (address, failed) in &sockets.failed {
        out.push_str(&format!("failed::{address}::{}\n", failed.reason));
    }
    text(StatusCode::OK, out)
}

fn server_info(plane: &Plane) -> serde_json::Value {
    let state = match plane.drain.phase() {
        Phase::Serving if plane.readiness.waiting_for().is_empty() => "LIVE",
        Phase::Serving => "PRE_INITIALIZING",
        Phase::Draining | Phase::Closing | Phase::Stopped => "DRAINING",
    };
    let uptime = format!("{}s", plane.started.elapsed().as_secs());
    let status = plane.xds.borrow();
    json!({
        "version": format!("heddle/{}", plane.config.version),
        "state": state,
        "uptime_current_epoch": uptime,
        "uptime_all_epochs": format!("{}s", plane.uptime_of_all().as_secs()),
        "node": { "id": plane.config.id(), "cluster": format!("{}.{}", plane.config.name, plane.config.namespace) },
        "command_line_options": { "concurrency": plane.workers.len(), "service_node": plane.config.id(), "restart_epoch": plane.epoch },
        "control_plane": {
            "uri": plane.config.xds,
            "connected": status.connected,
            "connects": status.connects,
            "last_error": status.last_error,
        },
        "generation": plane.published.load().generation,
    })
}

/// Memory as the kernel counts it, in bytes.
fn memory() -> serde_json::Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        (kib.unwrap_or(0) * 1024).to_string()
    };
    json!({ "allocated": field("RssAnon:"), "heap_size": field("VmData:"), "total_physical_bytes": field("VmRSS:") })
}

fn text(status: StatusCode, body: String) -> Answer {
    plain(status, Either::Left(Full::from(body)))
}

fn plain(status: StatusCode, body: Either<Full<Bytes>, Exposition>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=UTF-8"));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache, max-age=0"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, header::HeaderValue::from_static("nosniff"));
    answer
}

fn json_answer(value: &serde_json::Value) -> Answer {
    let mut answer = text(StatusCode::OK, format!("{value:#}\n"));
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

/// The parameters of a query.
struct Query(Vec<(String, String)>);

impl Query {
    fn of(uri: &Uri) -> Self {
        let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (name.to_owned(), value.to_owned())
                })
                .collect(),
        )
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod admin_test {
    use super::*;

    #[test]
    fn web_pages_stay_outside() {
        let check = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            door(&headers, &"/ready".parse().unwrap(), Some([10, 0, 0, 1].into())).is_ok()
        };
        assert!(check(&[("host", "127.0.0.1:15000")]));
        assert!(check(&[("host", "localhost")]));
        assert!(check(&[("host", "[::1]:15000")]));
        assert!(check(&[("host", "10.0.0.1:15000")]));
        assert!(check(&[]));
        assert!(!check(&[("host", "evil.example")]));
        assert!(!check(&[("host", "localhost.evil.example:15000")]));
        assert!(!check(&[("host", "localhost"), ("origin", "https://evil.example")]));
        assert!(check(&[("host", "localhost"), ("origin", "http://localhost:3000")]));
        assert!(!check(&[("host", "localhost"), ("origin", "null")]));
    }
}

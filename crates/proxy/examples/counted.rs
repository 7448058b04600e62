//! A proxy of one worker with a listener for each scenario of `bench/counts.py`, which counts its instructions.
//!
//! `counted HTTP GRPC TCP TABLE...`: three upstreams; each TABLE is a file of routes as `bench/load.py` writes them. Prints
//! the addresses of its listeners and of its admin server as JSON.

#![allow(clippy::print_stdout, reason = "a program of its own")]

#[path = "../tests/kit/mod.rs"]
mod kit;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use route::route_match::PathSpecifier;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Istio's line of an access log.
const LINE: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// One row of a table.
#[derive(serde::Deserialize)]
struct Row {
    host: String,
    kind: String,
    path: String,
    tenant: String,
    env: String,
    cluster: usize,
}

fn header(name: &str, value: &str) -> Option<route::HeaderMatcher> {
    use matcher::string_matcher::MatchPattern;
    use route::header_matcher::HeaderMatchSpecifier;
    let text = matcher::StringMatcher {
        match_pattern: Some(MatchPattern::Exact(value.to_owned())),
        ..Default::default()
    };
    (!value.is_empty()).then(|| route::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(text)),
        ..Default::default()
    })
}

fn route_of(row: &Row) -> route::Route {
    let mut made = kit::to_cluster("/", &format!("c{}", row.cluster));
    let path = match row.kind.as_str() {
        "exact" => PathSpecifier::Path(row.path.clone()),
        "regex" => {
            let regex = matcher::RegexMatcher { regex: row.path.clone(), ..Default::default() };
            PathSpecifier::SafeRegex(regex)
        }
        _ => PathSpecifier::Prefix(row.path.clone()),
    };
    if let Some(matches) = &mut made.r#match {
        matches.path_specifier = Some(path);
        matches.headers = header("x-tenant", &row.tenant).into_iter().collect();
        matches.headers.extend(header("x-env", &row.env));
    }
    made
}

fn manager(rows: &[Row]) -> kit::Manager {
    let mut hosts: BTreeMap<&str, Vec<route::Route>> = BTreeMap::new();
    for row in rows {
        hosts.entry(&row.host).or_default().push(route_of(row));
    }
    let virtual_hosts = hosts.into_iter().map(|(host, routes)| route::VirtualHost {
        name: host.to_owned(),
        domains: vec![host.to_owned()],
        routes,
        include_request_attempt_count: true,
        ..Default::default()
    });
    kit::connection_manager_of(virtual_hosts.collect())
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // callgrind makes everything some fifty times slower.
    kit::PATIENCE.store(300, std::sync::atomic::Ordering::Relaxed);
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let upstream = |index: usize| arguments[index].parse::<SocketAddr>().unwrap();
    let tables: Vec<Vec<Row>> = arguments[3..]
        .iter()
        .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
        .collect();
    let clusters = tables.iter().flatten().map(|row| row.cluster + 1).max().unwrap_or(1);
    let mut at = BTreeMap::new();
    let mut free = |name: String| {
        let address =
            SocketAddr::from(([127, 0, 0, 1], heddle_runtime::free_port([127, 0, 0, 1].into()).unwrap()));
        at.insert(name, address.to_string());
        address
    };
    let [grpc, tcp, logged] = ["grpc", "tcp", "logged"].map(|name| free(name.to_owned()));
    let others: Vec<SocketAddr> = (0..tables.len()).map(|table| free(format!("table{table}"))).collect();
    let mesh = kit::Mesh::start(1, |first| {
        let plain = |rows: &[Row]| kit::http_filter(&manager(rows));
        let to =
            |cluster: &str| kit::http_filter(&kit::connection_manager(vec![kit::to_cluster("/", cluster)]));
        let mut with_log = kit::connection_manager(vec![kit::to_cluster("/", "c0")]);
        with_log.access_log = vec![kit::log_to("access.log".as_ref(), LINE)];
        let mut listeners = vec![
            kit::listener("one", first, to("c0")),
            kit::listener("grpc", grpc, to("h2")),
            kit::listener("tcp", tcp, kit::tcp_filter("raw")),
            kit::listener("logged", logged, kit::http_filter(&with_log)),
        ];
        let named = tables.iter().zip(&others).enumerate();
        listeners.extend(named.map(|(n, (rows, at))| kit::listener(&format!("table{n}"), *at, plain(rows))));
        let mut all: Vec<_> = listeners.iter().map(kit::encoded_listener).collect();
        all.push(kit::encoded_cluster(&kit::http2(kit::static_cluster("h2", &[upstream(1)]))));
        all.push(kit::encoded_cluster(&kit::static_cluster("raw", &[upstream(2)])));
        let plain = (0..clusters).map(|n| kit::static_cluster(&format!("c{n}"), &[upstream(0)]));
        all.extend(plain.map(|cluster| kit::encoded_cluster(&cluster)));
        all
    })
    .await;
    at.insert("one".to_owned(), mesh.address.to_string());
    at.insert("admin".to_owned(), mesh.proxy.bound().admin.unwrap().to_string());
    println!("{}", serde_json::to_string(&at).unwrap());
    std::future::pending::<()>().await;
}

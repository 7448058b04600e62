//! An xDS server that sends rubbish, dies, talks nonsense, and comes back.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{
        config::{
            cluster::v3 as cluster, core::v3 as core, endpoint::v3 as endpoint, listener::v3 as listener,
            route::v3 as route,
        },
        extensions::filters::{http::router::v3::Router, network::http_connection_manager::v3 as hcm},
    },
    google::protobuf::Any,
};
use heddle_tests::{backend::Backend, client::get, eventually, mesh::Role};
use heddle_xds::{Attached, Encoded, Event, NodeInfo, Outcome, Refusal, ResourceType, View, ViewSource};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use prost::{Message, Name};
use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};

use crate::admin;

/// Serves one view to whoever comes, and keeps what they refuse.
struct Source {
    views: watch::Sender<Arc<View>>,
    refused: Arc<Mutex<Vec<Refusal>>>,
    next: AtomicU64,
}

#[async_trait::async_trait]
impl ViewSource for Source {
    async fn attach(&self, _node: NodeInfo) -> Result<Attached, String> {
        let (outcomes, mut seen) = mpsc::channel::<Outcome>(64);
        let refused = self.refused.clone();
        tokio::spawn(async move {
            while let Some(outcome) = seen.recv().await {
                if let Event::Nacked { refused: names, .. } = outcome.event {
                    refused.lock().unwrap().extend(names);
                }
            }
        });
        Ok(Attached::new(self.next.fetch_add(1, Ordering::Relaxed), self.views.subscribe(), outcomes))
    }
}

impl Source {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            views: watch::Sender::new(Arc::default()),
            refused: Arc::default(),
            next: AtomicU64::new(1),
        })
    }

    fn publish(&self, resources: Vec<Arc<Encoded>>) {
        let mut view: View = resources.into_iter().collect();
        view.generation = self.views.borrow().generation + 1;
        self.views.send_replace(Arc::new(view));
    }

    /// Serves on a listener until aborted, and then drops every stream.
    fn serve(self: &Arc<Self>, on: TcpListener) -> JoinHandle<()> {
        let source = self.clone();
        tokio::spawn(async move {
            heddle_xds::serve(on, source, std::future::pending()).await.unwrap();
        })
    }
}

fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

fn address(at: SocketAddr) -> core::Address {
    let socket = core::SocketAddress {
        address: at.ip().to_string(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(at.port().into())),
        ..Default::default()
    };
    core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
}

/// A cluster of one address.
fn cluster(name: &str, at: SocketAddr) -> Arc<Encoded> {
    let host = endpoint::Endpoint { address: Some(address(at)), ..Default::default() };
    let host = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(host)),
        ..Default::default()
    };
    let set = endpoint::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![endpoint::LocalityLbEndpoints { lb_endpoints: vec![host], ..Default::default() }],
        ..Default::default()
    };
    let message =
        cluster::Cluster { name: name.to_owned(), load_assignment: Some(set), ..Default::default() };
    Encoded::new(ResourceType::Cluster, name, &message)
}

/// A listener that sends `/NAME` to the cluster NAME.
fn http_listener(at: SocketAddr, clusters: &[&str]) -> Arc<Encoded> {
    let to = |name: &&str| route::Route {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix(format!("/{name}"))),
            ..Default::default()
        }),
        action: Some(route::route::Action::Route(route::RouteAction {
            cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster((*name).to_owned())),
            ..Default::default()
        })),
        ..Default::default()
    };
    let host = route::VirtualHost {
        name: "all".into(),
        domains: vec!["*".into()],
        routes: clusters.iter().map(to).collect(),
        ..Default::default()
    };
    let routes =
        route::RouteConfiguration { name: "r".into(), virtual_hosts: vec![host], ..Default::default() };
    let manager = hcm::HttpConnectionManager {
        stat_prefix: "test".into(),
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(routes)),
        http_filters: vec![hcm::HttpFilter {
            name: "envoy.filters.http.router".into(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(&Router::default()))),
            ..Default::default()
        }],
        ..Default::default()
    };
    let filter = listener::Filter {
        name: "envoy.filters.network.http_connection_manager".into(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(any(&manager))),
    };
    let message = listener::Listener {
        name: "main".into(),
        address: Some(address(at)),
        filter_chains: vec![listener::FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    };
    Encoded::new(ResourceType::Listener, "main", &message)
}

fn rubbish(kind: ResourceType, name: &str) -> Arc<Encoded> {
    Encoded::from_bytes(kind, name, Bytes::from_static(b"\xff\xff\xff this is no protobuf \x00\x01"))
}

/// A proxy of the built binary that follows this server.
fn proxy(dir: &Path, xds: SocketAddr) -> Role {
    let url = format!("http://{xds}");
    let any = "127.0.0.1:0";
    Role::start("proxy", dir, &["proxy", "--xds", &url, "--outbound", any, "--admin", any, "--dns", any])
}

async fn answers(proxy: &Role, path: &str, expected: &str) -> Result<(), String> {
    let answer = get(proxy.outbound(), "any", path, &[]).await?;
    let got = if answer.status == 200 { answer.backend() } else { answer.status.to_string() };
    if got == expected { Ok(()) } else { Err(got) }
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_is_refused_by_name_and_what_was_there_stays() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let on = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (xds, source) = (on.local_addr().unwrap(), Source::new());
    let _server = source.serve(on);
    let scratch = tempfile::tempdir().unwrap();
    let proxy = proxy(scratch.path(), xds);
    let at = proxy.outbound();
    source.publish(vec![cluster("one", one.address), http_listener(at, &["one"])]);
    eventually("the first configuration", || answers(&proxy, "/one", "one")).await;

    // Both resources become rubbish, and something good comes with them.
    source.publish(vec![
        rubbish(ResourceType::Cluster, "one"),
        rubbish(ResourceType::Listener, "main"),
        cluster("two", two.address),
        rubbish(ResourceType::Cluster, "three"),
    ]);
    eventually("the refusals", || async {
        let refused = source.refused.lock().unwrap().clone();
        let named =
            |name: &str| refused.iter().any(|r| &*r.name == name && r.reason.contains("does not decode"));
        let other = refused.iter().any(|r| &*r.name == "two");
        if named("one") && named("three") && named("main") && !other {
            Ok(())
        } else {
            Err(format!("{refused:?}"))
        }
    })
    .await;
    answers(&proxy, "/one", "one").await.unwrap();

    // A listener that makes no sense is no harm to the next that does.
    source.publish(vec![cluster("two", two.address), http_listener(at, &["two"])]);
    eventually("what is good again", || answers(&proxy, "/two", "two")).await;
    let log = proxy.log();
    assert!(log.contains("configuration refused") && log.contains("main"), "{log}");
}

/// Takes connections, says something, and hangs up; the times at which they came.
async fn nonsense(on: TcpListener, talk: bool) -> (JoinHandle<()>, Arc<Mutex<Vec<Instant>>>) {
    let came: Arc<Mutex<Vec<Instant>>> = Arc::default();
    let log = came.clone();
    let task = tokio::spawn(async move {
        let mut random = fastrand_bytes();
        while let Ok((mut stream, _)) = on.accept().await {
            log.lock().unwrap().push(Instant::now());
            if talk {
                let _ = stream.write_all(&random()).await;
                continue;
            }
            // A gRPC answer whose message is none.
            tokio::spawn(async move {
                let answer = service_fn(|_| async {
                    let body = Full::new(Bytes::from_static(b"\x00\x00\x00\x00\x06\xff\xff\xff\xff\xff\xff"));
                    let answer = hyper::Response::builder().header("content-type", "application/grpc");
                    answer.body(body)
                });
                let connection = auto::Builder::new(TokioExecutor::new());
                let _ = connection.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
    (task, came)
}

/// Bytes that look like nothing, the same in each run.
fn fastrand_bytes() -> impl FnMut() -> Vec<u8> {
    let mut state = 7_u64;
    move || {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        (0..400).map(|_| next()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_or_raves_is_asked_again_with_pauses_while_traffic_goes_on() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let on = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (xds, source) = (on.local_addr().unwrap(), Source::new());
    // A runtime of its own: dropped, it takes every stream with it, in the middle of whatever it was at.
    let first = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let on = on.into_std().unwrap();
    let serving = source.clone();
    first.spawn(async move { serving.serve(TcpListener::from_std(on).unwrap()).await });
    let scratch = tempfile::tempdir().unwrap();
    let proxy = proxy(scratch.path(), xds);
    let at = proxy.outbound();
    source.publish(vec![cluster("one", one.address), http_listener(at, &["one"])]);
    eventually("the first configuration", || answers(&proxy, "/one", "one")).await;

    first.shutdown_background();
    for talk in [true, false] {
        let on = eventually("the port is free", || async {
            TcpListener::bind(xds).await.map_err(|e| e.to_string())
        })
        .await;
        let (server, came) = nonsense(on, talk).await;
        eventually("a second of attempts", || async {
            answers(&proxy, "/one", "one").await?;
            let came = came.lock().unwrap();
            match (came.first(), came.last()) {
                (Some(first), Some(last)) if *last - *first >= Duration::from_secs(1) => Ok(()),
                _ => Err(format!("{came:?}")),
            }
        })
        .await;
        server.abort();
        let _ = server.await;
        let came = came.lock().unwrap().clone();
        // 100 ms, doubled each time up to 5 s, each by chance down to its half. A broken connection may be made
        // once more within one attempt.
        let pauses: Vec<Duration> = came.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let early = came.iter().filter(|at| **at - came[0] < Duration::from_secs(1)).count();
        assert!(early <= 12, "{early} connections in the first second: {pauses:?}");
        assert!(
            pauses.iter().any(|pause| *pause > Duration::from_millis(150)),
            "the pauses grow: {pauses:?}"
        );
        assert!(admin(&proxy, "/ready").await.starts_with("LIVE"), "what it has is in force");
        let info: serde_json::Value = serde_json::from_str(&admin(&proxy, "/server_info").await).unwrap();
        assert!(info["control_plane"]["last_error"].is_string(), "{info}");
    }

    let on = TcpListener::bind(xds).await.unwrap();
    let _server = source.serve(on);
    source.publish(vec![cluster("two", two.address), http_listener(at, &["two"])]);
    eventually("what the server has now", || answers(&proxy, "/two", "two")).await;
}

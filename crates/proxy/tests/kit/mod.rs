//! A proxy with a hand-made configuration, served to it over real xDS.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

pub mod backend;
pub mod frames;
pub mod peer;
pub mod tls;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use envoy_types::pb::envoy::config::accesslog::v3 as accesslog;
use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3 as file;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
use envoy_types::pb::google::protobuf::{Any, Duration as PbDuration, UInt32Value};
use heddle_proxy::{Proxy, ProxyConfig};
use heddle_xds::{Attached, Encoded, NodeInfo, ResourceType, View, ViewSource};
use prost::Message;
use tokio::sync::{mpsc, watch};

/// How many seconds [`Mesh::until`] waits. A program that runs under an emulator needs more.
pub static PATIENCE: AtomicU64 = AtomicU64::new(20);

/// Serves one view to whoever comes.
pub struct Source {
    views: watch::Sender<Arc<View>>,
    next: AtomicU64,
}

#[async_trait]
impl ViewSource for Source {
    async fn attach(&self, _node: NodeInfo) -> Result<Attached, String> {
        let (outcomes, mut seen) = mpsc::channel(64);
        tokio::spawn(async move { while seen.recv().await.is_some() {} });
        Ok(Attached::new(self.next.fetch_add(1, Ordering::Relaxed), self.views.subscribe(), outcomes))
    }
}

/// A proxy and the control plane that feeds it.
pub struct Mesh {
    pub proxy: Proxy,
    pub source: Arc<Source>,
    pub address: SocketAddr,
}

impl Mesh {
    /// Starts a proxy whose outbound listener is configured by `make` for the address it was given.
    pub async fn start(workers: usize, make: impl Fn(SocketAddr) -> Vec<Arc<Encoded>>) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), workers, make).await
    }

    pub async fn start_at(
        listen: SocketAddr,
        workers: usize,
        make: impl Fn(SocketAddr) -> Vec<Arc<Encoded>>,
    ) -> Self {
        Self::start_as(listen, workers, |config| config, make).await
    }

    /// With settings of its own.
    pub async fn start_as(
        listen: SocketAddr,
        workers: usize,
        change: impl FnOnce(ProxyConfig) -> ProxyConfig,
        make: impl Fn(SocketAddr) -> Vec<Arc<Encoded>>,
    ) -> Self {
        let source = Arc::new(Source { views: watch::Sender::new(Arc::default()), next: AtomicU64::new(1) });
        let xds = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}", xds.local_addr().unwrap());
        tokio::spawn(heddle_xds::serve(xds, source.clone(), std::future::pending()));
        let config = ProxyConfig {
            xds: uri,
            outbound: vec![(None, listen)],
            workers: Some(workers),
            admin: Some(([127, 0, 0, 1], 0).into()),
            ..ProxyConfig::default()
        };
        let proxy = Box::pin(Proxy::start(change(config))).await.unwrap();
        let address = proxy.bound().outbound[0].1;
        let mesh = Self { proxy, source, address };
        mesh.publish(make(address));
        mesh.until(|proxy| proxy.waiting_for().is_empty()).await;
        mesh
    }

    /// Replaces the configuration.
    pub fn publish(&self, resources: Vec<Arc<Encoded>>) {
        let mut view: View = resources.into_iter().collect();
        view.generation = self.source.views.borrow().generation + 1;
        self.source.views.send_replace(Arc::new(view));
    }

    /// Waits until something holds.
    pub async fn until(&self, holds: impl Fn(&Proxy) -> bool) {
        let wait = async {
            while !holds(&self.proxy) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let patience = Duration::from_secs(PATIENCE.load(Ordering::Relaxed));
        tokio::time::timeout(patience, wait).await.expect("the proxy got there in time");
    }

    pub async fn connect(&self) -> tokio::net::TcpStream {
        tokio::net::TcpStream::connect(self.address).await.unwrap()
    }
}

pub fn any(url: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/{url}"), value: message.encode_to_vec() }
}

pub fn address(at: SocketAddr) -> core::Address {
    core::Address {
        address: Some(core::address::Address::SocketAddress(core::SocketAddress {
            address: at.ip().to_string(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(at.port().into())),
            ..Default::default()
        })),
    }
}

/// A Unix socket; `@NAME` is abstract.
pub fn pipe(path: &str) -> core::Address {
    let pipe = core::Pipe { path: path.to_owned(), ..Default::default() };
    core::Address { address: Some(core::address::Address::Pipe(pipe)) }
}

/// A cluster with one endpoint, at a Unix socket.
pub fn at_pipe(name: &str, path: &str) -> cluster::Cluster {
    let mut made = static_cluster(name, &[([127, 0, 0, 1], 1).into()]);
    let groups = made.load_assignment.iter_mut().flat_map(|all| &mut all.endpoints);
    for lb in groups.flat_map(|group| &mut group.lb_endpoints) {
        if let Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)) = &mut lb.host_identifier {
            endpoint.address = Some(pipe(path));
        }
    }
    made
}

pub fn load_assignment(name: &str, at: &[SocketAddr]) -> endpoint::ClusterLoadAssignment {
    let endpoints = at.iter().map(|at| endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
            address: Some(address(*at)),
            ..Default::default()
        })),
        ..Default::default()
    });
    endpoint::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints: endpoints.collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub fn static_cluster(name: &str, at: &[SocketAddr]) -> cluster::Cluster {
    cluster::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::Static.into(),
        )),
        connect_timeout: Some(PbDuration { seconds: 2, nanos: 0 }),
        load_assignment: Some(load_assignment(name, at)),
        ..Default::default()
    }
}

/// HTTP/2 towards the endpoints.
pub fn http2(cluster: cluster::Cluster) -> cluster::Cluster {
    http2_with(cluster, core::Http2ProtocolOptions::default())
}

/// A cluster that speaks HTTP/2 with these settings.
pub fn http2_with(mut cluster: cluster::Cluster, http2: core::Http2ProtocolOptions) -> cluster::Cluster {
    use envoy_types::pb::envoy::extensions::upstreams::http::v3 as up;
    let options = up::HttpProtocolOptions {
        upstream_protocol_options: Some(
            up::http_protocol_options::UpstreamProtocolOptions::ExplicitHttpConfig(
                up::http_protocol_options::ExplicitHttpConfig {
                    protocol_config: Some(
                        up::http_protocol_options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(
                            http2,
                        ),
                    ),
                },
            ),
        ),
        ..Default::default()
    };
    let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    cluster.typed_extension_protocol_options = HashMap::from([(name.to_owned(), any(name, &options))]);
    cluster
}

/// A route of everything with a prefix to a cluster.
pub fn to_cluster(prefix: &str, cluster: &str) -> route::Route {
    route::Route {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix(prefix.to_owned())),
            ..Default::default()
        }),
        action: Some(route::route::Action::Route(route::RouteAction {
            cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
            timeout: Some(PbDuration::default()),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// Changes the action of a forwarding route.
pub fn action(mut route: route::Route, change: impl FnOnce(&mut route::RouteAction)) -> route::Route {
    if let Some(route::route::Action::Route(action)) = &mut route.action {
        change(action);
    }
    route
}

pub fn retries(on: &str, count: u32) -> Option<route::RetryPolicy> {
    Some(route::RetryPolicy {
        retry_on: on.to_owned(),
        num_retries: Some(UInt32Value { value: count }),
        ..Default::default()
    })
}

/// What answers on an HTTP listener.
pub type Manager = hcm::HttpConnectionManager;

pub fn connection_manager(routes: Vec<route::Route>) -> Manager {
    connection_manager_of(vec![route::VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes,
        include_request_attempt_count: true,
        ..Default::default()
    }])
}

pub fn connection_manager_of(virtual_hosts: Vec<route::VirtualHost>) -> Manager {
    hcm::HttpConnectionManager {
        stat_prefix: "test".to_owned(),
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(
            route::RouteConfiguration { name: "inline".to_owned(), virtual_hosts, ..Default::default() },
        )),
        http_filters: vec![hcm::HttpFilter {
            name: "envoy.filters.http.router".to_owned(),
            config_type: Some(hcm::http_filter::ConfigType::TypedConfig(any(
                "envoy.extensions.filters.http.router.v3.Router",
                &Router::default(),
            ))),
            ..Default::default()
        }],
        server_header_transformation: hcm::http_connection_manager::ServerHeaderTransformation::PassThrough
            .into(),
        upgrade_configs: vec![hcm::http_connection_manager::UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub fn listener(name: &str, at: SocketAddr, filter: listener::Filter) -> listener::Listener {
    listener::Listener {
        name: name.to_owned(),
        address: Some(address(at)),
        filter_chains: vec![listener::FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    }
}

pub fn http_filter(manager: &hcm::HttpConnectionManager) -> listener::Filter {
    filter("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", manager)
}

pub fn tcp_filter(cluster: &str) -> listener::Filter {
    let proxy = tcp::TcpProxy {
        stat_prefix: "tcp".to_owned(),
        cluster_specifier: Some(tcp::tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    filter("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", &proxy)
}

fn filter(url: &str, message: &impl Message) -> listener::Filter {
    listener::Filter {
        name: url.to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(any(url, message))),
    }
}

pub fn encoded_listener(listener: &listener::Listener) -> Arc<Encoded> {
    Encoded::new(ResourceType::Listener, listener.name.as_str(), listener)
}

pub fn encoded_cluster(cluster: &cluster::Cluster) -> Arc<Encoded> {
    Encoded::new(ResourceType::Cluster, cluster.name.as_str(), cluster)
}

/// One HTTP listener with these routes, and these clusters.
pub fn http(at: SocketAddr, routes: Vec<route::Route>, clusters: &[cluster::Cluster]) -> Vec<Arc<Encoded>> {
    let manager = connection_manager(routes);
    let mut all = vec![encoded_listener(&listener("test", at, http_filter(&manager)))];
    all.extend(clusters.iter().map(encoded_cluster));
    all
}

impl Mesh {
    /// The raw answer of the admin server.
    pub async fn admin(&self, method: &str, path: &str) -> Vec<u8> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let at = self.proxy.bound().admin.unwrap();
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        answer
    }
}

/// A log of text lines in a file.
pub fn log_to(path: &Path, format: &str) -> accesslog::AccessLog {
    let text = core::data_source::Specifier::InlineString(format.to_owned());
    let text = core::DataSource { specifier: Some(text), ..Default::default() };
    log_as(
        path,
        core::SubstitutionFormatString {
            format: Some(core::substitution_format_string::Format::TextFormatSource(text)),
            ..Default::default()
        },
    )
}

/// A log in a file.
pub fn log_as(path: &Path, format: core::SubstitutionFormatString) -> accesslog::AccessLog {
    let file = file::FileAccessLog {
        path: path.to_str().unwrap().to_owned(),
        access_log_format: Some(file::file_access_log::AccessLogFormat::LogFormat(format)),
    };
    accesslog::AccessLog {
        name: "file".to_owned(),
        config_type: Some(accesslog::access_log::ConfigType::TypedConfig(any(
            "envoy.extensions.access_loggers.file.v3.FileAccessLog",
            &file,
        ))),
        ..Default::default()
    }
}

//! Many delta streams against a control plane: what is compiled, encoded and sent is counted, and how long a
//! change takes is measured.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use envoy_types::pb::{
    envoy::{config::core::v3::Node, service::discovery::v3::DeltaDiscoveryRequest},
    google::protobuf::{Struct, Value, value::Kind},
};
use heddle_control::{Control, ControlConfig};
use heddle_resource::{Admission, AdmitOptions, UnknownFields, admit_json};
use heddle_store::{MemoryStore, Precondition, Store};
use heddle_xds::{Metrics, ResourceType, Server, ServerConfig};
use serde_json::json;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub services: usize,
    /// Per service.
    pub endpoints: usize,
    /// VirtualServices. When there are any, each stream also watches the routes of a sidecar.
    pub routes: usize,
    pub streams: usize,
    pub connections: usize,
}

/// A control plane with services and endpoints, serving on a port of its own.
pub struct Plane {
    store: Arc<MemoryStore>,
    pub control: Control,
    pub metrics: Arc<Metrics>,
    pub xds: SocketAddr,
    size: Size,
    turn: AtomicU64,
}

/// Work counted so far, by type.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Work {
    pub compiled: [u64; ResourceType::COUNT],
    pub encoded: [u64; ResourceType::COUNT],
    pub pushes: [u64; ResourceType::COUNT],
    pub resources: [u64; ResourceType::COUNT],
}

impl Work {
    /// What was done since.
    pub fn since(&self, before: &Work) -> Work {
        let minus = |a: [u64; ResourceType::COUNT], b: [u64; ResourceType::COUNT]| {
            std::array::from_fn(|i| a[i].saturating_sub(b[i]))
        };
        Work {
            compiled: minus(self.compiled, before.compiled),
            encoded: minus(self.encoded, before.encoded),
            pushes: minus(self.pushes, before.pushes),
            resources: minus(self.resources, before.resources),
        }
    }

    /// What one changed endpoint set has to be: compiled and encoded once, sent once to each stream, and
    /// nothing else done.
    pub fn of_one_endpoint_set(streams: usize) -> Work {
        let only = |n: u64| std::array::from_fn(|i| if i == ResourceType::Endpoint.index() { n } else { 0 });
        let streams = streams as u64;
        Work { compiled: only(1), encoded: only(1), pushes: only(streams), resources: only(streams) }
    }
}

impl Plane {
    /// # Panics
    /// When a resource is refused or no port is free.
    pub async fn start(size: Size) -> Self {
        let store = Arc::new(MemoryStore::new());
        let (xds, turn) = (listen(), AtomicU64::new(0));
        let address = xds.local_addr().unwrap_or_else(|e| panic!("{e}"));
        let stores: Vec<Arc<dyn Store>> = vec![store.clone()];
        let admit_all = ServerConfig { admit_per_second: 100_000, ..Default::default() };
        for service in 0..size.services {
            put(
                &store,
                json!({
                    "apiVersion": "v1", "kind": "Service",
                    "metadata": {"name": format!("svc-{service}"), "namespace": "default"},
                    "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
                }),
            )
            .await;
            put(&store, slice(service, size.endpoints, 0)).await;
        }
        for route in 0..size.routes {
            put(&store, virtual_service(route, size.services)).await;
        }
        let control = Control::start(ControlConfig { stores, ..Default::default() });
        control.wait_ready().await;
        let server = Server::new(Arc::new(control.clone()), admit_all);
        let metrics = server.metrics();
        tokio::spawn(async move { server.serve(xds, std::future::pending()).await });
        Self { store, control, metrics, xds: address, size, turn }
    }

    /// Changes one endpoint of one service; the time just before.
    pub async fn touch(&self, service: usize) -> Duration {
        let turn = self.turn.fetch_add(1, Relaxed) + 1;
        let slice = slice(service % self.size.services, self.size.endpoints, turn);
        let began = now();
        put(&self.store, slice).await;
        began
    }

    pub fn work(&self) -> Work {
        let counters = self.control.counters();
        let by = |count: &dyn Fn(ResourceType) -> u64| ResourceType::ALL.map(count);
        Work {
            compiled: by(&|kind| counters.compiled_of(kind)),
            encoded: by(&|kind| counters.encoded_of(kind)),
            pushes: by(&|kind| self.metrics.of(kind).pushes.load(Relaxed)),
            resources: by(&|kind| self.metrics.of(kind).resources.load(Relaxed)),
        }
    }
}

fn listen() -> tokio::net::TcpListener {
    let bind = || {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        socket.listen(1024)
    };
    bind().unwrap_or_else(|e| panic!("{e}"))
}

/// Since 1970: comparable between processes of one machine.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn slice(service: usize, endpoints: usize, turn: u64) -> serde_json::Value {
    let address = |n: usize| {
        let host = (service * endpoints + n) as u64;
        // The first endpoint moves with each turn.
        let last = if n == 0 { turn } else { 0 };
        let (a, b, c) = (10 + last / 256 % 100, host / 256 % 256, host % 256);
        json!({"addresses": [format!("{a}.{}.{b}.{c}", last % 256)], "conditions": {"ready": true}})
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": format!("svc-{service}"), "namespace": "default",
            "labels": {"kubernetes.io/service-name": format!("svc-{service}")},
        },
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..endpoints).map(address).collect::<Vec<_>>(),
    })
}

/// A header match to one service and the rest to another.
fn virtual_service(route: usize, services: usize) -> serde_json::Value {
    let to = |n: usize| json!([{"destination": {"host": format!("svc-{}", n % services)}}]);
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": format!("route-{route}"), "namespace": "default"},
        "spec": {"hosts": [format!("svc-{}", route % services)], "http": [
            {"match": [{"uri": {"prefix": "/v2"}, "headers": {"end-user": {"exact": "jason"}}}], "route": to(route + 1)},
            {"route": to(route)},
        ]},
    })
}

async fn put(store: &MemoryStore, value: serde_json::Value) {
    let options = AdmitOptions { unknown_fields: UnknownFields::Refuse, default_namespace: "default" };
    match admit_json(value, &options) {
        Admission::Admitted { object, .. } => {
            store.put(object, Precondition::Any).await.unwrap_or_else(|e| panic!("{e}"));
        }
        refused => panic!("{:?}", refused.diagnostics()),
    }
}

/// A delta response as far as a counting client reads it.
#[derive(Clone, PartialEq, prost::Message)]
struct Slim {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    type_url: String,
    #[prost(string, tag = "5")]
    nonce: String,
}

/// Open delta streams that subscribe to every cluster and every endpoint set, and answer everything.
pub struct Streams {
    pub ready: Arc<AtomicU64>,
    /// When an endpoint set arrived on a stream that had them all.
    pub arrivals: mpsc::UnboundedReceiver<Duration>,
}

impl Streams {
    /// Opens all streams and waits until each has everything.
    ///
    /// # Panics
    /// When the server cannot be reached, or a stream ends.
    pub async fn open(xds: SocketAddr, size: Size) -> Self {
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let ready = Arc::new(AtomicU64::new(0));
        let name = |i| format!("outbound|80||svc-{i}.default.svc.cluster.local");
        let names: Arc<[String]> = (0..size.services).map(name).collect();
        let mut channels = Vec::new();
        for _ in 0..size.connections.max(1) {
            let endpoint = Endpoint::from_shared(format!("http://{xds}")).unwrap_or_else(|e| panic!("{e}"));
            let channel = endpoint.initial_connection_window_size(8 << 20).connect().await;
            channels.push(channel.unwrap_or_else(|e| panic!("{e}")));
        }
        for stream in 0..size.streams {
            let channel = channels[stream % channels.len()].clone();
            let (names, ready, arrived) = (names.clone(), ready.clone(), arrived.clone());
            tokio::spawn(async move {
                let watched = Watched { sets: names, routes: size.routes > 0 };
                if let Err(error) = one(channel, stream, watched, ready, arrived).await {
                    crate::say(&format!("stream {stream} ended: {error}"));
                }
            });
        }
        let mut poll = tokio::time::interval(Duration::from_millis(20));
        while ready.load(Relaxed) < size.streams as u64 {
            poll.tick().await;
        }
        Self { ready, arrivals }
    }

    /// Waits for one endpoint set on each stream; how long each took since `began`, sorted.
    ///
    /// # Panics
    /// When a stream hears nothing for a minute.
    pub async fn arrivals(&mut self, began: Duration, streams: usize) -> Vec<Duration> {
        let mut took = Vec::with_capacity(streams);
        while took.len() < streams {
            let next = tokio::time::timeout(Duration::from_secs(60), self.arrivals.recv()).await;
            let Ok(Some(at)) = next else { panic!("{} of {streams} streams heard of it", took.len()) };
            took.push(at.saturating_sub(began));
        }
        took.sort_unstable();
        took
    }
}

/// What a stream asks for, beside every cluster.
struct Watched {
    sets: Arc<[String]>,
    routes: bool,
}

async fn one(
    channel: Channel,
    stream: usize,
    watched: Watched,
    ready: Arc<AtomicU64>,
    arrived: mpsc::UnboundedSender<Duration>,
) -> Result<(), tonic::Status> {
    let (requests, outbound) = mpsc::channel(8);
    let send = async |request| {
        requests.send(request).await.map_err(|_| tonic::Status::unavailable("the connection is gone"))
    };
    let clusters = DeltaDiscoveryRequest {
        node: Some(node(stream)),
        type_url: ResourceType::Cluster.url().to_owned(),
        resource_names_subscribe: vec!["*".to_owned()],
        ..Default::default()
    };
    send(clusters).await?;
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(256 << 20);
    grpc.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
    let codec = tonic_prost::ProstCodec::<DeltaDiscoveryRequest, Slim>::new();
    let path = http::uri::PathAndQuery::from_static(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    );
    let outbound = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(outbound));
    let mut responses = grpc.streaming(outbound, path, codec).await?.into_inner();
    let (names, mut asked, mut sets) = (watched.sets, false, 0);
    while let Some(response) = responses.message().await? {
        let endpoints = response.type_url == ResourceType::Endpoint.url();
        if endpoints && sets == names.len() {
            // Nobody listens any more when the measuring is over.
            let _ = arrived.send(now());
        }
        let answer = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            ..Default::default()
        };
        send(answer).await?;
        if !asked {
            asked = true;
            let subscribe = DeltaDiscoveryRequest {
                type_url: ResourceType::Endpoint.url().to_owned(),
                resource_names_subscribe: names.to_vec(),
                ..Default::default()
            };
            send(subscribe).await?;
            if watched.routes {
                let subscribe = DeltaDiscoveryRequest {
                    type_url: ResourceType::Route.url().to_owned(),
                    resource_names_subscribe: vec!["http_proxy".to_owned()],
                    ..Default::default()
                };
                send(subscribe).await?;
            }
        }
        if endpoints && sets < names.len() {
            sets += response.resources.len();
            if sets == names.len() {
                ready.fetch_add(1, Relaxed);
            }
        }
    }
    Err(tonic::Status::unavailable("the server closed the stream"))
}

fn node(stream: usize) -> Node {
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let metadata = [("NAMESPACE", "default"), ("INTERCEPTION_MODE", "NONE"), ("OUTBOUND", "127.0.0.1:15001")];
    let fields = metadata.into_iter().map(|(key, value)| (key.to_owned(), text(value))).collect();
    Node {
        id: format!("sidecar~127.0.0.1~w{stream}.default~default.svc.cluster.local"),
        user_agent_name: "heddle".to_owned(),
        metadata: Some(Struct { fields }),
        ..Default::default()
    }
}

/// The value below which so many of a hundred are, of a sorted list.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or_default()
}

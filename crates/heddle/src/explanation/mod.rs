//! Where a request would go and why: the control plane's own compile and the proxy's own decision, without a wire
//! between them. `heddle explain -f`, the API's `/debug/explain` and the demo all ask here.

mod described;
mod target;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use heddle_control::{Scope, World, compile};
use heddle_proxy::{
    decide::{Connection, Downstream, Explain, Step, decide_with, match_filter_chain, prepare},
    http::head::{RequestHead, Scheme},
    snapshot::{FilterChain, Given, Listener, NetworkFilter, Snapshot, SnapshotBuilder},
};
use heddle_xds::{ClientKind, NodeInfo, ResourceType, View};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::{
    described::{describe, respond},
    target::Target,
};

/// The outbound address of a workload that is only imagined.
const OUTBOUND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15001);

/// The cluster that takes nothing: what a server that cannot be served leads to.
const BLACK_HOLE: &str = "BlackHoleCluster";

/// A request that is not sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Question {
    pub(crate) method: String,
    /// `http://HOST[:PORT]/PATH`, or `https://` for a gateway.
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    /// `NAMESPACE/WORKLOAD`
    pub(crate) from: String,
    pub(crate) labels: BTreeMap<String, String>,
    /// `[istio:|k8s:]NAMESPACE/NAME`; empty for a call inside the mesh.
    pub(crate) gateway: String,
}

/// What would happen.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// In one line: the cluster, or the answer that the proxy gives itself.
    pub(crate) verdict: String,
    pub(crate) forwarded: bool,
    pub(crate) steps: Vec<Looked>,
    /// What else holds for the request: timeout, retries, faults, endpoints.
    pub(crate) effects: Vec<(String, String)>,
}

/// One thing that was looked at on the way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Looked {
    pub(crate) what: String,
    pub(crate) name: String,
    pub(crate) outcome: String,
    pub(crate) taken: bool,
    /// `VirtualService default/reviews spec.http[0]`
    pub(crate) origin: Option<String>,
}

impl Question {
    /// Answers over a world.
    ///
    /// # Errors
    /// When the question cannot be asked: a URL that is none, a gateway that does not exist.
    pub(crate) fn ask(&self, world: &World) -> Result<Answer, String> {
        let target = Target::parse(&self.url)?;
        if target.tls && self.gateway.is_empty() {
            return Err("programs in the mesh make TLS themselves, and a proxy passes it on by its destination: ask with \
                        http://, or for a gateway with --gateway"
                .to_owned());
        }
        let scope = Scope::of(&self.node(world), |key| world.reads_label(key))?;
        let snapshot = snapshot(&compile(world, &scope).view)?;
        let listener = self.listener(&snapshot, &target)?;
        let destination =
            if self.gateway.is_empty() { OUTBOUND } else { SocketAddr::new(OUTBOUND.ip(), target.port) };
        let source = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let connection = Connection {
            destination: destination.into(),
            source: source.into(),
            direct_source: Some(source.ip()),
            server_name: target.server_name(),
            transport_protocol: if target.tls { "tls" } else { "raw_buffer" },
            application_protocols: if target.tls { &["h2", "http/1.1"] } else { &["http/1.1"] },
        };
        let chain = match match_filter_chain(&listener, &connection) {
            Some(chain) => chain.clone(),
            None => return Ok(no_chain(&listener, &target)),
        };
        if let Some(answer) = before_http(&snapshot, &chain, &target) {
            return Ok(answer);
        }
        let downstream = Downstream {
            listener,
            chain,
            peer: source.into(),
            local: destination.into(),
            passed_on_by: None,
            original_dst: None,
            machine: None,
            scheme: if target.tls { Scheme::Https } else { Scheme::Http },
            server_name: Some(target.server_name().into()).filter(|_| target.tls),
            client_cert: None,
            connection_id: 1,
        };
        let mut head = RequestHead::new(&self.method, &target.authority, &target.path);
        for (name, value) in &self.headers {
            head.headers.append(name, value.as_bytes());
        }
        let mut observer = Explain::default();
        let answer = match prepare(&downstream, &mut head, 0) {
            Ok(()) => {
                let decision = decide_with(&snapshot, &downstream, &head, fastrand_seed(), &mut observer);
                describe(&snapshot, decision)
            }
            Err(answer) => respond(&answer),
        };
        let (verdict, forwarded, effects) = answer;
        Ok(Answer {
            verdict,
            forwarded,
            steps: observer.steps.into_iter().map(Looked::from).collect(),
            effects,
        })
    }

    /// The node that would ask: the registered workload of that name, or one with the given labels.
    fn node(&self, world: &World) -> NodeInfo {
        let (namespace, workload) = self.from.split_once('/').unwrap_or(("default", self.from.as_str()));
        let mut labels = world.workload_labels(namespace, workload).map(|l| (*l).clone()).unwrap_or_default();
        labels.extend(self.labels.clone());
        let mut metadata = BTreeMap::from([
            ("NAMESPACE".to_owned(), json!(namespace)),
            ("LABELS".to_owned(), json!(labels)),
            ("INTERCEPTION_MODE".to_owned(), json!("NONE")),
        ]);
        let role = if self.gateway.is_empty() {
            metadata.insert("OUTBOUND".to_owned(), json!(OUTBOUND.to_string()));
            "sidecar"
        } else {
            let name = self.gateway.split_once(':').map_or(self.gateway.as_str(), |(_, name)| name);
            let namespace = name.split_once('/').map_or("default", |(namespace, _)| namespace);
            metadata.insert("NAMESPACE".to_owned(), json!(namespace));
            metadata.insert("GATEWAY".to_owned(), json!(self.gateway));
            metadata.insert("BIND".to_owned(), json!(OUTBOUND.ip().to_string()));
            "router"
        };
        NodeInfo {
            id: format!("{role}~127.0.0.1~{workload}.{namespace}~{namespace}.svc.cluster.local"),
            cluster: String::new(),
            user_agent: "heddle".to_owned(),
            metadata,
            locality: Default::default(),
            kind: ClientKind::Heddle,
        }
    }

    fn listener(&self, snapshot: &Snapshot, target: &Target) -> Result<Arc<Listener>, String> {
        let port = if self.gateway.is_empty() { OUTBOUND.port() } else { target.port };
        let takes = |l: &&Arc<Listener>| l.bind_to_port && l.addresses.iter().any(|a| a.port() == Some(port));
        if let Some(listener) = snapshot.listeners.values().find(takes) {
            return Ok(listener.clone());
        }
        let open: Vec<String> = snapshot
            .listeners
            .values()
            .flat_map(|l| {
                l.addresses.iter().map(|a| a.port().map_or_else(|| a.to_string(), |port| port.to_string()))
            })
            .collect();
        Err(match (self.gateway.as_str(), open.is_empty()) {
            ("", _) => "the workload has no outbound listener: is its namespace right?".to_owned(),
            (gateway, true) => {
                format!("gateway {gateway} listens on no port: does it exist, and has it servers?")
            }
            (gateway, false) => {
                format!("gateway {gateway} does not listen on {port}, only on {}", open.join(", "))
            }
        })
    }
}

/// Why nothing serves such a connection.
fn no_chain(listener: &Listener, target: &Target) -> Answer {
    let name = listener.name.as_str();
    let mut chains = listener.chains.iter().chain(&listener.default_chain);
    closed(match target.tls {
        true => format!("no server of {name} takes TLS for {:?}", target.server_name()),
        false if chains.any(|chain| chain.tls.is_some()) => {
            format!("no server of {name} takes what is not TLS: ask with https://")
        }
        false => format!("{name} has no filter chain for it"),
    })
}

fn closed(why: String) -> Answer {
    Answer {
        verdict: format!("the connection is closed: {why}"),
        forwarded: false,
        steps: Vec::new(),
        effects: Vec::new(),
    }
}

/// The answer where no request is read.
fn before_http(snapshot: &Snapshot, chain: &FilterChain, target: &Target) -> Option<Answer> {
    match (&chain.filter, &chain.tls) {
        (NetworkFilter::Close, _) => Some(closed(format!("{} cannot be served", chain.name))),
        (NetworkFilter::Tcp(proxy), tls) => {
            let names: Vec<&str> = proxy.clusters.iter().map(|(name, _)| name.as_str()).collect();
            if names == [BLACK_HOLE] {
                return Some(closed(format!(
                    "{} cannot be served; the status of its Gateway says why",
                    chain.name
                )));
            }
            let what = match (target.tls, tls) {
                (true, None) => "TLS as it comes",
                (true, Some(_)) => "what is in TLS",
                (false, _) => "bytes",
            };
            let origin = proxy.provenance.as_ref().map(|of| format!("{} {}", of.object, of.field));
            Some(Answer {
                verdict: format!("{what} to {}", names.join(" or ")),
                forwarded: !names.is_empty(),
                steps: vec![Looked {
                    what: "filter chain".to_owned(),
                    name: chain.name.to_string(),
                    outcome: "passes bytes on".to_owned(),
                    taken: true,
                    origin,
                }],
                effects: Vec::new(),
            })
        }
        (NetworkFilter::Http(_), Some(tls)) => {
            let missing = tls.common.certificates.iter().find_map(|given| match given {
                Given::Secret(name) if !snapshot.secrets.contains_key(name) => Some(name),
                _ => None,
            });
            missing.map(|name| closed(format!("its certificate, secret {}, is missing", name.as_str())))
        }
        (NetworkFilter::Http(_), None) => {
            target.tls.then(|| closed(format!("{} does not take TLS", chain.name)))
        }
    }
}

/// Time-independent randomness is enough: a weighted route shows one possible draw.
fn fastrand_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

impl From<Step> for Looked {
    fn from(step: Step) -> Self {
        let origin = step.origin.map(|(object, field)| format!("{object} {field}"));
        Self { what: step.what.to_owned(), name: step.name, outcome: step.outcome, taken: step.taken, origin }
    }
}

/// What the proxy would build from a view.
fn snapshot(view: &View) -> Result<Arc<Snapshot>, String> {
    let mut builder = SnapshotBuilder::new();
    let kinds = [
        ResourceType::Secret,
        ResourceType::Cluster,
        ResourceType::Endpoint,
        ResourceType::Listener,
        ResourceType::Route,
    ];
    for kind in kinds {
        for resource in view.iter(kind) {
            builder.apply(kind, &resource.name, &resource.body).map_err(|nack| {
                format!("the proxy would refuse {nack}; this is a fault of heddle's, please report it")
            })?;
        }
    }
    // Nothing more will come: what is still missing stays missing.
    let now = Instant::now();
    builder.publish(now);
    builder.publish(now + Duration::from_secs(60));
    Ok(builder.current().clone())
}

/// The answer as lines for a person.
pub(crate) fn lines(answer: &Answer) -> Vec<String> {
    let mut lines: Vec<String> = answer
        .steps
        .iter()
        .map(|step| {
            let mark = if step.taken { "+" } else { "-" };
            let origin = step.origin.as_ref().map(|o| format!("   [{o}]")).unwrap_or_default();
            format!("{mark} {} {}: {}{origin}", step.what, step.name, step.outcome)
        })
        .collect();
    lines.push(format!("= {}", answer.verdict));
    lines.extend(answer.effects.iter().map(|(name, value)| format!("  {name}: {value}")));
    lines
}

/// The question as the API takes it.
pub(crate) fn question(value: Value) -> Result<Question, String> {
    serde_json::from_value(value)
        .map_err(|e| format!("not a question: {e}; expected method, url, headers, from"))
}

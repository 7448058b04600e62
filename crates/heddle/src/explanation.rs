//! Where a request would go and why: the control plane's own compile and the proxy's own decision, without a wire
//! between them. `heddle explain -f`, the API's `/debug/explain` and the demo all ask here.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use heddle_control::{Scope, World, compile};
use heddle_proxy::{
    decide::{
        Connection, Decision, Downstream, Explain, Forward, Names, Respond, Step, decide_with,
        match_filter_chain, prepare,
    },
    http::head::{RequestHead, Scheme},
    snapshot::{Listener, RetryOn, Snapshot, SnapshotBuilder},
};
use heddle_xds::{ClientKind, NodeInfo, ResourceType, View};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The outbound address of a workload that is only imagined.
const OUTBOUND: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15001);

/// A request that is not sent.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Question {
    pub(crate) method: String,
    /// `http://HOST[:PORT]/PATH`
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
        let scope = Scope::of(&self.node(world), |key| world.reads_label(key))?;
        let snapshot = snapshot(&compile(world, &scope).view)?;
        let listener = self.listener(&snapshot, &target)?;
        let destination =
            if self.gateway.is_empty() { OUTBOUND } else { SocketAddr::new(OUTBOUND.ip(), target.port) };
        let source = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let connection = Connection {
            destination,
            source,
            direct_source: source.ip(),
            server_name: "",
            transport_protocol: "raw_buffer",
            application_protocols: &["http/1.1"],
        };
        let chain = match_filter_chain(&listener, &connection)
            .ok_or_else(|| {
                format!("listener {} has no filter chain for such a connection", listener.name.as_str())
            })?
            .clone();
        let downstream = Downstream {
            listener,
            chain,
            peer: source,
            local: destination,
            passed_on_by: None,
            original_dst: None,
            machine: None,
            scheme: Scheme::Http,
            server_name: None,
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
        let takes = |l: &&Arc<Listener>| l.bind_to_port && l.addresses.iter().any(|a| a.port() == port);
        if let Some(listener) = snapshot.listeners.values().find(takes) {
            return Ok(listener.clone());
        }
        let open: Vec<String> = snapshot
            .listeners
            .values()
            .flat_map(|l| l.addresses.iter().map(|a| a.port().to_string()))
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
    for kind in [ResourceType::Cluster, ResourceType::Endpoint, ResourceType::Listener, ResourceType::Route] {
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

type Described = (String, bool, Vec<(String, String)>);

fn describe(snapshot: &Snapshot, decision: Decision<'_>) -> Described {
    match decision {
        Decision::Forward(forward) => forwarded(snapshot, &forward),
        Decision::Respond(answer) => respond(&answer),
        Decision::Need(Names::Routes(name)) => {
            (format!("route configuration {} is missing", name.as_str()), false, Vec::new())
        }
        Decision::Need(Names::VirtualHost(_, host)) => {
            (format!("no virtual host for {host}"), false, Vec::new())
        }
    }
}

fn forwarded(snapshot: &Snapshot, forward: &Forward<'_>) -> Described {
    let mut effects = Vec::new();
    let mut say = |name: &str, value: String| effects.push((name.to_owned(), value));
    say("timeout", forward.timeout.map_or("none (default)".to_owned(), |t| format!("{t:?}")));
    say("retries", retries(forward.max_retries, forward.retry_on));
    if let Some(fault) = &forward.fault {
        if let Some(delay) = fault.delay {
            say("fault", format!("delayed by {delay:?}"));
        }
        if let Some(abort) = &fault.abort {
            say("fault", format!("answered {} in place of the service", abort.status));
        }
    }
    for mirror in &forward.mirrors {
        say("mirrored to", mirror.cluster.name.as_str().to_owned());
    }
    if let Some(set) = snapshot.endpoints(forward.cluster) {
        say("endpoints", set.endpoints.len().to_string());
    }
    let aborted = forward.fault.as_ref().and_then(|f| f.abort.as_ref()).map(|a| a.status);
    match aborted {
        Some(status) => (
            format!("answered {status} by a fault, before {}", forward.cluster.name.as_str()),
            false,
            effects,
        ),
        None => (format!("to {}", forward.cluster.name.as_str()), true, effects),
    }
}

/// `2 on connect-failure,unavailable`
fn retries(most: u32, on: RetryOn) -> String {
    if most == 0 || on.is_empty() { "none".to_owned() } else { format!("{most} on {on}") }
}

fn respond(answer: &Respond<'_>) -> Described {
    let mut effects: Vec<(String, String)> = answer
        .headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    if !answer.flag.is_empty() {
        effects.push(("response flag".to_owned(), answer.flag.to_owned()));
    }
    if !answer.body.is_empty() {
        effects.push(("body".to_owned(), String::from_utf8_lossy(&answer.body).into_owned()));
    }
    (format!("answered {} by the proxy", answer.status), false, effects)
}

/// The parts of a URL that a proxy sees.
struct Target {
    authority: String,
    port: u16,
    path: String,
}

impl Target {
    fn parse(url: &str) -> Result<Self, String> {
        let wrong = || format!("`{url}` is no URL: expected http://HOST[:PORT]/PATH");
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.scheme_str() == Some("https") {
            return Err("https cannot be explained: TLS is not built yet; ask with http://".to_owned());
        }
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        Ok(Self {
            authority: authority.to_string(),
            port: authority.port_u16().unwrap_or(80),
            path: path.to_owned(),
        })
    }
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

//! Which part of the mesh a node sees, and as whom.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use heddle_xds::{ClientKind, NodeInfo};
use serde_json::Value;

/// What a node does in the mesh: the first part of its id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Role {
    /// Beside one workload.
    Sidecar,
    /// A gateway: Istio's name for it in node ids.
    Router,
    /// For several workloads of one machine; see [`Outbound`].
    Node,
}

/// How connections reach the proxy: metadata `INTERCEPTION_MODE`, as Istio's. Default `REDIRECT`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum Interception {
    #[default]
    Redirect,
    Tproxy,
    /// Nothing is captured: the workload dials the proxy.
    None,
}

/// An address that takes a workload's outbound connections.
///
/// Metadata `OUTBOUND`: `ADDR`, or a list of these. A node proxy, which carries several workload
/// scopes, says for each whose it is: `NAMESPACE[/KEY=VALUE,...]=ADDR`; the resources of such a scope
/// carry `~NAMESPACE[/KEY=VALUE,...]` at the end of their names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Outbound {
    pub address: SocketAddr,
    /// The workload scope, if it is not the node's own: as written before the address.
    pub of: Option<Arc<str>>,
}

/// An address that takes connections for the workload: metadata `INBOUND`, a list of
/// `APPPORT=IP:PORT`; without `APPPORT=` the workload's only service port is meant.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Inbound {
    pub address: SocketAddr,
    /// Where the workload listens, on 127.0.0.1.
    pub port: Option<u16>,
}

/// Metadata `GATEWAY`: `[istio:|k8s:]NAMESPACE/NAME`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct GatewayRef {
    /// `None` when either kind will do.
    pub family: Option<GatewayFamily>,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

/// Which API a Gateway belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum GatewayFamily {
    Istio,
    GatewayApi,
}

/// What tells one node's configuration from another's. Equal nodes have an equal scope, and share what
/// is compiled for it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    pub role: Role,
    pub client: ClientKind,
    pub namespace: Arc<str>,
    /// Only the labels that the selector of some rule reads.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Further labels that the selector of some service reads: they decide about inbound traffic alone.
    pub own_labels: BTreeMap<Arc<str>, Arc<str>>,
    pub outbound: Vec<Outbound>,
    pub inbound: Vec<Inbound>,
    pub gateway: Option<GatewayRef>,
    /// The address a gateway serves on; `0.0.0.0` unless told.
    pub bind: Option<IpAddr>,
    pub interception: Interception,
    /// Ends the names of this scope's resources, where one proxy carries several scopes.
    pub suffix: Option<Arc<str>>,
}

/// One thing about a scope that compilation may read.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Attribute {
    Role,
    Client,
    Namespace,
    Label(Arc<str>),
    Outbound,
    Inbound,
    Gateway,
    Bind,
    Interception,
    Suffix,
}

impl Scope {
    /// The scope of somebody who is in no namespace.
    pub(crate) fn outside() -> Self {
        Self {
            role: Role::Sidecar,
            client: ClientKind::Heddle,
            namespace: "".into(),
            labels: BTreeMap::new(),
            own_labels: BTreeMap::new(),
            outbound: Vec::new(),
            inbound: Vec::new(),
            gateway: None,
            bind: None,
            interception: Interception::None,
            suffix: None,
        }
    }

    /// The scope of a node by its id and metadata alone; `reads` says which label keys matter.
    /// [`World::scope`](crate::World::scope) also knows the workload.
    ///
    /// # Errors
    /// When metadata cannot be understood: what, and what is expected.
    pub fn of(node: &NodeInfo, reads: impl Fn(&str) -> bool) -> Result<Self, String> {
        Self::reading(node, reads, |_| false)
    }

    /// The same with the labels that only services read kept apart.
    pub(crate) fn reading(
        node: &NodeInfo,
        rule_reads: impl Fn(&str) -> bool,
        service_reads: impl Fn(&str) -> bool,
    ) -> Result<Self, String> {
        let identity = Identity::parse(&node.id);
        let text = |key: &str| node.metadata.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        let role = match (identity.role, text("ROLE")) {
            ("router" | "gateway", _) | (_, Some("router" | "gateway")) => Role::Router,
            ("node", _) | (_, Some("node")) => Role::Node,
            _ => Role::Sidecar,
        };
        let namespace = text("NAMESPACE").or(identity.namespace).unwrap_or("default");
        let interception = match text("INTERCEPTION_MODE") {
            None | Some("REDIRECT") => Interception::Redirect,
            Some("TPROXY") => Interception::Tproxy,
            Some("NONE") => Interception::None,
            Some(other) => {
                return Err(format!("INTERCEPTION_MODE {other:?} is none of REDIRECT, TPROXY, NONE"));
            }
        };
        let told = node.metadata.get("LABELS");
        Ok(Self {
            role,
            client: node.kind,
            namespace: namespace.into(),
            labels: labels(told, &rule_reads),
            own_labels: labels(told, |key| service_reads(key) && !rule_reads(key)),
            outbound: entries(node.metadata.get("OUTBOUND"), parse_outbound)?,
            inbound: entries(node.metadata.get("INBOUND"), parse_inbound)?,
            gateway: text("GATEWAY").map(|text| parse_gateway(text, namespace)).transpose()?,
            bind: text("BIND")
                .map(|ip| ip.parse().map_err(|_| format!("BIND {ip:?} is not an IP address")))
                .transpose()?,
            interception,
            suffix: None,
        })
    }

    /// The scopes for which this node's configuration is compiled: itself, and one for each workload
    /// scope that it carries.
    pub(crate) fn members(&self) -> Vec<Arc<Scope>> {
        let mut own = self.clone();
        own.outbound.retain(|outbound| outbound.of.is_none());
        let mut of: BTreeMap<Arc<str>, Vec<Outbound>> = BTreeMap::new();
        for outbound in &self.outbound {
            if let Some(name) = &outbound.of {
                of.entry(name.clone()).or_default().push(Outbound { of: None, ..outbound.clone() });
            }
        }
        let alone = of.is_empty();
        let mut members: Vec<_> = of
            .into_iter()
            .map(|(name, outbound)| {
                let (namespace, rest) = name.split_once('/').unwrap_or((&name, ""));
                Arc::new(Scope {
                    role: Role::Sidecar,
                    namespace: namespace.into(),
                    labels: rest
                        .split(',')
                        .filter_map(|pair| pair.split_once('='))
                        .map(|(key, value)| (key.into(), value.into()))
                        .collect(),
                    own_labels: BTreeMap::new(),
                    outbound,
                    inbound: Vec::new(),
                    gateway: None,
                    suffix: Some(name.clone()),
                    ..self.clone()
                })
            })
            .collect();
        if alone || !own.outbound.is_empty() || !own.inbound.is_empty() {
            members.insert(0, Arc::new(own));
        }
        members
    }

    /// The value of an attribute, for comparing scopes.
    pub(crate) fn attribute(&self, attribute: &Attribute) -> Option<Arc<str>> {
        Some(match attribute {
            Attribute::Namespace => self.namespace.clone(),
            Attribute::Label(key) => self.label(key)?.clone(),
            Attribute::Suffix => self.suffix.clone()?,
            Attribute::Role => debug(&self.role),
            Attribute::Client => debug(&self.client),
            Attribute::Outbound => debug(&self.outbound),
            Attribute::Inbound => debug(&self.inbound),
            Attribute::Gateway => debug(&self.gateway),
            Attribute::Bind => debug(&self.bind),
            Attribute::Interception => debug(&self.interception),
        })
    }

    pub(crate) fn label(&self, key: &str) -> Option<&Arc<str>> {
        self.labels.get(key).or_else(|| self.own_labels.get(key))
    }

    /// The part that nodes share which differ only in what is theirs alone: their addresses, and what
    /// they serve. `None` where there is nothing of the kind.
    pub(crate) fn shared(&self) -> Option<Scope> {
        let sidecar = self.role != Role::Router && self.client != ClientKind::Grpc;
        sidecar.then(|| Scope {
            outbound: Vec::new(),
            inbound: Vec::new(),
            own_labels: BTreeMap::new(),
            gateway: None,
            bind: None,
            ..self.clone()
        })
    }

    /// Where a sidecar takes outbound connections, 127.0.0.1:15001 unless told; and at which other addresses.
    pub(crate) fn outbound_addresses(&self) -> (SocketAddr, impl Iterator<Item = SocketAddr>) {
        let mut told = self.outbound.iter().map(|outbound| outbound.address);
        let first = told.next().unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15001));
        (first, told)
    }
}

fn debug(value: &impl fmt::Debug) -> Arc<str> {
    format!("{value:?}").into()
}

/// `sidecar default app=x (heddle)`: for messages.
impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.role, self.namespace)?;
        for (key, value) in &self.labels {
            write!(f, " {key}={value}")?;
        }
        write!(f, " ({:?})", self.client)
    }
}

/// The parts of `ROLE~IP~NAME.NAMESPACE~NAMESPACE.svc.DOMAIN`.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    pub role: &'a str,
    /// Name of the workload, without its namespace.
    pub name: &'a str,
    pub namespace: Option<&'a str>,
}

impl<'a> Identity<'a> {
    pub fn parse(id: &'a str) -> Self {
        let mut parts = id.split('~');
        let role = parts.next().unwrap_or_default();
        let full = parts.nth(1).unwrap_or_default();
        let domain = parts.next().unwrap_or_default();
        let (name, after) = full.rsplit_once('.').unwrap_or((full, ""));
        let namespace = if after.is_empty() { domain.split('.').next().unwrap_or_default() } else { after };
        Self { role, name, namespace: Some(namespace).filter(|namespace| !namespace.is_empty()) }
    }
}

fn labels(value: Option<&Value>, reads: impl Fn(&str) -> bool) -> BTreeMap<Arc<str>, Arc<str>> {
    let Some(Value::Object(labels)) = value else { return BTreeMap::new() };
    labels
        .iter()
        .filter(|(key, _)| reads(key))
        .filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into())))
        .collect()
}

/// A list in metadata: a JSON list of strings, or one string with commas or spaces between.
fn entries<T>(value: Option<&Value>, parse: fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => {
            text.split([';', ' ']).filter(|part| !part.is_empty()).map(parse).collect()
        }
        Some(Value::Array(list)) => list
            .iter()
            .map(|item| item.as_str().ok_or_else(|| format!("{item} is not a string")).and_then(parse))
            .collect(),
        Some(other) => Err(format!("{other} is neither a string nor a list of strings")),
    }
}

fn parse_outbound(text: &str) -> Result<Outbound, String> {
    let (of, address) = match text.rsplit_once('=') {
        Some((of, address)) => (Some(of.into()), address),
        None => (None, text),
    };
    let address = address
        .parse()
        .map_err(|_| format!("OUTBOUND {text:?} is not IP:PORT or NAMESPACE[/KEY=VALUE,...]=IP:PORT"))?;
    Ok(Outbound { address, of })
}

fn parse_inbound(text: &str) -> Result<Inbound, String> {
    let fault = || format!("INBOUND {text:?} is not [APPPORT=]IP:PORT");
    let (port, address) = match text.split_once('=') {
        Some((port, address)) => (Some(port.parse().map_err(|_| fault())?), address),
        None => (None, text),
    };
    Ok(Inbound { address: address.parse().map_err(|_| fault())?, port })
}

fn parse_gateway(text: &str, namespace: &str) -> Result<GatewayRef, String> {
    let (family, rest) = match text.split_once(':') {
        Some(("istio", rest)) => (Some(GatewayFamily::Istio), rest),
        Some(("k8s", rest)) => (Some(GatewayFamily::GatewayApi), rest),
        Some((other, _)) => return Err(format!("GATEWAY {text:?}: {other:?} is neither istio nor k8s")),
        None => (None, text),
    };
    let (namespace, name) = rest.split_once('/').unwrap_or((namespace, rest));
    if namespace.is_empty() || name.is_empty() {
        return Err(format!("GATEWAY {text:?} is not [istio:|k8s:]NAMESPACE/NAME"));
    }
    Ok(GatewayRef { family, namespace: namespace.into(), name: name.into() })
}

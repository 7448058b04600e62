//! What a workload scope may see: exportTo, and the `Sidecar` that applies to it.

use std::{collections::BTreeMap, sync::Arc};

use heddle_resource::{
    Key, Spec,
    istio::{ConnectionPoolSettings, OutboundMode, ServerTlsSettings, Sidecar, WorkloadSelector},
};

use super::{cx::Cx, unit::Value};
use crate::{
    scope::Role,
    world::{Protocol, Service, VirtualServiceEntry, host},
};

/// The services of a scope by host, one for each.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Visible {
    services: BTreeMap<Arc<str>, Imported>,
}

/// What the scope's `Sidecar` says.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Policy {
    egress: Option<Vec<Egress>>,
    /// Requests to unknown hosts pass (`ALLOW_ANY`).
    pub(crate) allow_any: bool,
    /// The Sidecar that applies.
    pub(crate) sidecar: Option<Key>,
    /// It has a selector: Secrets that it names are for the workloads that it selects.
    pub(crate) selects: bool,
    /// What it takes for the workload, instead of the ports of the services that select it.
    pub(crate) ingress: Vec<Ingress>,
    /// Limits and times of the connections to the workload, where an ingress listener has none.
    pub(crate) pool: Option<ConnectionPoolSettings>,
}

/// One ingress listener of a Sidecar.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Ingress {
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    /// `defaultEndpoint`: `127.0.0.1:PORT`, `0.0.0.0:PORT` or `unix:///PATH`; none: the same port.
    pub(crate) endpoint: Option<Arc<str>>,
    /// Limits and times of the connections to the workload.
    pub(crate) pool: Option<ConnectionPoolSettings>,
    /// Its connections are TLS, which is ended here.
    pub(crate) tls: Option<ServerTlsSettings>,
}

#[derive(Clone, PartialEq, Debug)]
struct Imported {
    service: Arc<Service>,
    /// `None`: all of them.
    ports: Option<Vec<u16>>,
}

/// One `hosts` entry of a Sidecar's egress listener.
#[derive(Clone, PartialEq, Debug)]
struct Egress {
    /// `None`: any.
    namespace: Option<Arc<str>>,
    host: Arc<str>,
    /// Of the listener; `None`: every port.
    port: Option<u16>,
}

impl Egress {
    fn of(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}

impl Policy {
    /// Whether a VirtualService takes part.
    pub(crate) fn imports(&self, entry: &VirtualServiceEntry) -> bool {
        let Some(egress) = &self.egress else { return true };
        egress.iter().any(|egress| {
            egress.of(&entry.object.meta.namespace)
                && entry.hosts.iter().any(|host| host::overlap(&egress.host, host))
        })
    }
}

impl Visible {
    /// The service of a host.
    pub(crate) fn service(&self, host: &str) -> Option<&Arc<Service>> {
        self.services.get(host).map(|imported| &imported.service)
    }

    /// Every service with the ports that are imported.
    pub(crate) fn services(&self) -> impl Iterator<Item = (&Arc<Service>, impl Fn(u16) -> bool)> {
        self.services.values().map(|imported| {
            let ports = imported.ports.as_deref();
            (&imported.service, move |port: u16| ports.is_none_or(|ports| ports.contains(&port)))
        })
    }

    fn import(&mut self, service: &Arc<Service>, port: Option<u16>) {
        let ports = port.map(|port| vec![port]);
        match self.services.get_mut(&service.host) {
            None => {
                let imported = Imported { service: service.clone(), ports };
                self.services.insert(service.host.clone(), imported);
            }
            Some(imported) if imported.service.namespace == service.namespace => {
                match (&mut imported.ports, port) {
                    (Some(ports), Some(port)) if !ports.contains(&port) => ports.push(port),
                    (Some(_), Some(_)) | (None, _) => {}
                    (Some(_), None) => imported.ports = None,
                }
            }
            Some(_) => {}
        }
    }
}

pub(super) fn policy(cx: &Cx<'_>) -> Value {
    let sidecar = (cx.role() != Role::Router).then(|| sidecar(cx)).flatten();
    let mut policy = Policy { allow_any: cx.config().allow_any, ..Policy::default() };
    if let Some((key, spec)) = sidecar {
        let outbound = spec.outbound_traffic_policy.as_ref();
        if let Some(outbound) = outbound {
            policy.allow_any = outbound.mode == OutboundMode::AllowAny;
        }
        if !spec.egress.is_empty() {
            policy.egress = Some(egress(&spec, cx.namespace()));
        }
        for listener in &spec.ingress {
            let Some(port) = &listener.port else { continue };
            let protocol = Protocol::parse(&port.protocol)
                .unwrap_or_else(|| Protocol::of_port("TCP", None, &port.name, port.number));
            policy.ingress.push(Ingress {
                port: port.number,
                protocol: match (&listener.tls, protocol) {
                    // What is said inside of the TLS that is ended here.
                    (Some(_), Protocol::Https) => Protocol::Http,
                    (Some(_), Protocol::Tls | Protocol::Detect) => Protocol::Tcp,
                    _ => protocol,
                },
                endpoint: Some(&*listener.default_endpoint).filter(|text| !text.is_empty()).map(Into::into),
                pool: listener.connection_pool.clone(),
                tls: listener.tls.clone(),
            });
        }
        policy.selects = spec.workload_selector.as_ref().is_some_and(|selector| !selector.is_empty());
        policy.pool.clone_from(&spec.inbound_connection_pool);
        policy.sidecar = Some(key);
    }
    Value::Policy(Arc::new(policy))
}

pub(super) fn compile(cx: &Cx<'_>) -> Value {
    let namespace = cx.namespace();
    let policy = cx.policy();
    let mut visible = Visible::default();
    // Of several services with one host, the scope's own namespace goes first.
    let mut services: Vec<_> =
        cx.services().filter(|service| service.export_to.visible_to(namespace)).collect();
    services.sort_by_key(|service| service.namespace != *namespace);
    match &policy.egress {
        None => {
            for service in services {
                visible.import(service, None);
            }
        }
        Some(egress) => {
            for entry in egress {
                let matching =
                    services.iter().filter(|s| entry.of(&s.namespace) && host::covers(&entry.host, &s.host));
                for service in matching {
                    visible.import(service, entry.port);
                }
            }
            for host in destinations(cx, &policy) {
                if let Some(service) = services.iter().find(|service| service.host == host) {
                    visible.import(service, None);
                }
            }
        }
    }
    Value::Visible(Arc::new(visible))
}

/// The hosts to which imported VirtualServices send: they are seen without being listed, as in Istio.
fn destinations(cx: &Cx<'_>, policy: &Policy) -> Vec<Arc<str>> {
    let mut found = Vec::new();
    let namespace = cx.namespace();
    for pattern in cx.mesh_hosts() {
        for entry in cx.mesh_routes(pattern) {
            if entry.export_to.visible_to(namespace) && policy.imports(entry) {
                let of = &entry.object.meta.namespace;
                let hosts = super::route::destination_hosts(&entry.spec);
                found.extend(hosts.map(|host| host::resolve(host, of, &cx.config().cluster_domain)));
                for key in super::route::delegates(entry) {
                    let Some(object) = cx.object(&key) else { continue };
                    let Spec::VirtualService(spec) = &object.spec else { continue };
                    let hosts = super::route::destination_hosts(spec);
                    let domain = &cx.config().cluster_domain;
                    found.extend(hosts.map(|host| host::resolve(host, &key.namespace, domain)));
                }
            }
        }
    }
    found
}

/// The Sidecar that applies: of the namespace, one that selects the workload before one for all; else
/// the root namespace's one for all.
fn sidecar(cx: &Cx<'_>) -> Option<(Key, Arc<Sidecar>)> {
    let own = cx.sidecars(cx.namespace());
    let selecting = own.iter().find(|entry| {
        entry
            .spec
            .workload_selector
            .as_ref()
            .is_some_and(|selector| !selector.is_empty() && cx.has_labels(selector.all()))
    });
    let for_all = |entry: &&Arc<crate::world::SidecarEntry>| {
        entry.spec.workload_selector.as_ref().is_none_or(WorkloadSelector::is_empty)
    };
    let found = selecting
        .or_else(|| own.iter().find(for_all))
        .or_else(|| cx.sidecars(&cx.config().root_namespace).iter().find(for_all))?;
    Some((found.object.key(), found.spec.clone()))
}

fn egress(spec: &Sidecar, namespace: &Arc<str>) -> Vec<Egress> {
    let mut found = Vec::new();
    for listener in &spec.egress {
        let port = listener.port.as_ref().map(|port| port.number).filter(|port| *port != 0);
        for host in &listener.hosts {
            let (of, host) = host.split_once('/').unwrap_or(("*", host));
            let of = match of {
                "*" => None,
                "." => Some(namespace.clone()),
                "~" => continue,
                other => Some(other.into()),
            };
            found.push(Egress { namespace: of, host: host.to_ascii_lowercase().into(), port });
        }
    }
    found
}

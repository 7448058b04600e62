//! From resources to services and endpoints.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use heddle_resource::{
    Object, Spec, core,
    istio::{self, ServiceEntry, WorkloadEntry},
    value::IntOrString,
};
use serde_json::Value;

use super::{
    MeshConfig,
    host::{ExportTo, resolve},
    protocol::Protocol,
    service::{Endpoint, Health, Port, Resolution, Service, Target, Workload},
};

/// A workload that serves on one address: a WorkloadEntry or a Pod.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Instance {
    pub(super) address: Arc<str>,
    pub(super) labels: Arc<BTreeMap<String, String>>,
    /// Port names to numbers: a WorkloadEntry's `ports`, a Pod's container ports.
    pub(super) ports: BTreeMap<String, u16>,
    pub(super) pod: bool,
    pub(super) weight: Option<u32>,
    pub(super) locality: Arc<str>,
    pub(super) health: Health,
    pub(super) workload: Workload,
}

/// The services that an object declares.
pub(super) fn services(object: &Object, config: &MeshConfig) -> Vec<Service> {
    match &object.spec {
        Spec::Service(spec) => vec![core_service(object, spec, config)],
        Spec::ServiceEntry(spec) => {
            spec.hosts.iter().map(|host| entry_service(object, spec, host, config)).collect()
        }
        _ => Vec::new(),
    }
}

/// Several declarations of one service: the older one's word counts, the others add ports.
pub(super) fn merge(services: impl Iterator<Item = Service>) -> Option<Service> {
    let mut services: Vec<_> = services.collect();
    services.sort_by(|a, b| {
        let rank = |s: &Service| (!s.kubernetes, s.created.clone(), s.name.clone());
        rank(a).cmp(&rank(b))
    });
    let mut services = services.into_iter();
    let mut merged = services.next()?;
    for service in services {
        for port in service.ports {
            if merged.port(port.number).is_none() {
                merged.ports.push(port);
            }
        }
    }
    Some(merged)
}

fn export_to(object: &Object, spec: &[String]) -> ExportTo {
    let namespace = &object.meta.namespace;
    if !spec.is_empty() {
        return ExportTo::parse(spec.iter().map(String::as_str), namespace);
    }
    let annotation = object.meta.annotations.get("networking.istio.io/exportTo");
    ExportTo::parse(annotation.into_iter().flat_map(|list| list.split(',')), namespace)
}

fn core_service(object: &Object, spec: &core::Service, config: &MeshConfig) -> Service {
    let spec = &spec.spec;
    let external = spec.type_ == "ExternalName" && !spec.external_name.is_empty();
    let mut ips: Vec<&str> = spec.cluster_ips.iter().map(String::as_str).collect();
    if ips.is_empty() {
        ips.push(&spec.cluster_ip);
    }
    let ports = spec.ports.iter().map(|port| Port {
        number: port.port,
        name: port.name.as_str().into(),
        protocol: Protocol::of_port(&port.protocol, port.app_protocol.as_deref(), &port.name, port.port),
        target: target(port.target_port.as_ref(), port.port),
    });
    Service {
        host: resolve(&object.meta.name, &object.meta.namespace, &config.cluster_domain),
        namespace: object.meta.namespace.clone(),
        name: object.meta.name.clone(),
        object: object.key(),
        created: object.meta.creation_timestamp.clone(),
        addresses: ips.iter().filter_map(|ip| ip.parse().ok()).collect(),
        ranges: Vec::new(),
        ports: ports.collect(),
        resolution: if external { Resolution::Dns } else { Resolution::Static },
        headless: ips.contains(&"None"),
        external,
        export_to: export_to(object, &[]),
        selector: spec.selector.clone(),
        kubernetes: true,
    }
}

fn target(target: Option<&IntOrString>, number: u16) -> Target {
    match target {
        None | Some(IntOrString::Int(0)) => Target::Number(number),
        Some(IntOrString::Int(port)) => Target::Number(u16::try_from(*port).unwrap_or(number)),
        Some(IntOrString::String(text)) => match text.parse() {
            Ok(port) => Target::Number(port),
            Err(_) => Target::Name(text.as_str().into()),
        },
    }
}

fn entry_service(object: &Object, spec: &ServiceEntry, host: &str, config: &MeshConfig) -> Service {
    let mut addresses = Vec::new();
    let mut ranges = Vec::new();
    for text in &spec.addresses {
        if let Ok(ip) = text.parse::<IpAddr>() {
            addresses.push(ip);
        } else if let Ok(range) = text.parse::<ipnet::IpNet>() {
            if range.prefix_len() == range.max_prefix_len() {
                addresses.push(range.addr());
            } else {
                ranges.push(range);
            }
        }
    }
    let ports = spec.ports.iter().map(|port| Port {
        number: port.number,
        name: port.name.as_str().into(),
        protocol: Protocol::parse(&port.protocol)
            .unwrap_or_else(|| Protocol::of_port("TCP", None, &port.name, port.number)),
        target: Target::Number(port.target_port.filter(|port| *port != 0).unwrap_or(port.number)),
    });
    Service {
        host: resolve(host, &object.meta.namespace, &config.cluster_domain),
        namespace: object.meta.namespace.clone(),
        name: object.meta.name.clone(),
        object: object.key(),
        created: object.meta.creation_timestamp.clone(),
        addresses,
        ranges,
        ports: ports.collect(),
        resolution: resolution(spec),
        headless: false,
        external: spec.location != Some(istio::Location::MeshInternal),
        export_to: export_to(object, &spec.export_to),
        selector: spec
            .workload_selector
            .iter()
            .flat_map(istio::WorkloadSelector::all)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        kubernetes: false,
    }
}

fn resolution(spec: &ServiceEntry) -> Resolution {
    match spec.resolution {
        istio::Resolution::Static => Resolution::Static,
        istio::Resolution::Dns => Resolution::Dns,
        istio::Resolution::DnsRoundRobin => Resolution::DnsRoundRobin,
        istio::Resolution::None | istio::Resolution::DynamicDns => Resolution::Original,
    }
}

/// The endpoints that a declaration itself lists; the host itself for DNS without any.
pub(super) fn declared_endpoints(object: &Object, service: &Service) -> Vec<Endpoint> {
    match &object.spec {
        Spec::Service(spec) if service.external => vec![named(&spec.spec.external_name, service)],
        Spec::ServiceEntry(spec) if service.resolution != Resolution::Original => {
            let listed = spec.endpoints.iter().enumerate().filter_map(|(n, entry)| {
                let name = format!("{}-{n}", object.meta.name);
                let workload = Workload {
                    name: name.as_str().into(),
                    namespace: object.meta.namespace.clone(),
                    uid: object.meta.uid.as_str().into(),
                    service_account: entry.service_account.as_str().into(),
                    hostname: "".into(),
                };
                instance_endpoint(&entry_instance(entry, entry.labels.clone(), workload), service)
            });
            let mut found: Vec<_> = listed.collect();
            let by_name = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
            if found.is_empty()
                && by_name
                && spec.workload_selector.is_none()
                && !service.host.starts_with('*')
            {
                found.push(named(&service.host, service));
            }
            found
        }
        _ => Vec::new(),
    }
}

/// An endpoint that a name stands for.
fn named(name: &str, service: &Service) -> Endpoint {
    let ports = service.tcp_ports().map(|port| match port.target {
        Target::Number(target) => (port.number, target),
        Target::Name(_) => (port.number, port.number),
    });
    Endpoint {
        address: name.into(),
        ports: ports.collect(),
        labels: Arc::default(),
        locality: "".into(),
        weight: None,
        health: Health::Healthy,
        workload: Workload::default(),
    }
}

fn entry_instance(entry: &WorkloadEntry, labels: BTreeMap<String, String>, workload: Workload) -> Instance {
    Instance {
        address: entry.address.as_str().into(),
        labels: Arc::new(labels),
        ports: entry.ports.clone(),
        pod: false,
        weight: Some(entry.weight).filter(|weight| *weight > 0),
        locality: entry.locality.as_str().into(),
        health: Health::Healthy,
        workload,
    }
}

/// A WorkloadEntry or Pod, if it can serve.
pub(super) fn instance(object: &Object) -> Option<Instance> {
    let mut workload = Workload {
        name: object.meta.name.clone(),
        namespace: object.meta.namespace.clone(),
        uid: object.meta.uid.as_str().into(),
        ..Workload::default()
    };
    match &object.spec {
        Spec::WorkloadEntry(entry) => {
            let mut labels = object.meta.labels.clone();
            labels.extend(entry.labels.clone());
            workload.service_account = entry.service_account.as_str().into();
            let mut instance = entry_instance(entry, labels, workload);
            instance.health = health(object);
            Some(instance)
        }
        Spec::Pod(pod) => {
            if pod.status.pod_ip.is_empty() || matches!(&*pod.status.phase, "Succeeded" | "Failed") {
                return None;
            }
            let account = Some(&*pod.spec.service_account_name).filter(|name| !name.is_empty());
            workload.service_account = account.unwrap_or("default").into();
            let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
            let ports = ports.filter(|port| !port.name.is_empty());
            let ports = ports.map(|port| (port.name.clone(), port.container_port));
            Some(Instance {
                address: pod.status.pod_ip.as_str().into(),
                labels: Arc::new(object.meta.labels.clone()),
                ports: ports.collect(),
                pod: true,
                weight: None,
                locality: "".into(),
                health: if condition(object, "Ready") == Some(false) {
                    Health::Unhealthy
                } else {
                    health(object)
                },
                workload,
            })
        }
        _ => None,
    }
}

/// From deletion and the conditions `Draining` and `Healthy`, which a health check writes.
fn health(object: &Object) -> Health {
    if object.meta.deletion_timestamp.is_some() || condition(object, "Draining") == Some(true) {
        Health::Draining
    } else if condition(object, "Healthy") == Some(false) {
        Health::Unhealthy
    } else {
        Health::Healthy
    }
}

fn condition(object: &Object, kind: &str) -> Option<bool> {
    let conditions = object.json.get("status")?.get("conditions")?.as_array()?;
    let found = conditions.iter().find(|c| c.get("type").and_then(Value::as_str) == Some(kind))?;
    match found.get("status").and_then(Value::as_str) {
        Some("True") => Some(true),
        Some("False") => Some(false),
        _ => None,
    }
}

/// An instance as an endpoint of a service; `None` where it has no address or none of the ports.
pub(super) fn instance_endpoint(instance: &Instance, service: &Service) -> Option<Endpoint> {
    let unix = instance.address.starts_with("unix://");
    if instance.address.is_empty() {
        return None;
    }
    // Registered for certain ports only.
    let only_named = instance.labels.contains_key("heddle.dev/service") && !instance.ports.is_empty();
    let ports = service.tcp_ports().filter_map(|port| {
        if unix {
            return Some((port.number, 0));
        }
        if !instance.pod
            && let Some(own) = instance.ports.get(&*port.name)
        {
            return Some((port.number, *own));
        }
        match &port.target {
            Target::Name(name) => instance.ports.get(&**name).map(|own| (port.number, *own)),
            Target::Number(_) if only_named && !instance.pod => None,
            Target::Number(number) => Some((port.number, *number)),
        }
    });
    let ports: Vec<_> = ports.collect();
    (!ports.is_empty()).then(|| Endpoint {
        address: instance.address.clone(),
        ports,
        labels: instance.labels.clone(),
        locality: instance.locality.clone(),
        weight: instance.weight,
        health: instance.health,
        workload: instance.workload.clone(),
    })
}

/// The endpoints of a slice. `pod_labels` finds the labels of the Pod an endpoint refers to; without one
/// the slice's own labels count.
pub(super) fn slice_endpoints(
    object: &Object,
    service: &Service,
    pod_labels: impl Fn(&str) -> Option<Arc<BTreeMap<String, String>>>,
) -> Vec<Endpoint> {
    let Spec::EndpointSlice(slice) = &object.spec else { return Vec::new() };
    let ports = service.tcp_ports().filter_map(|port| {
        let same = |name: Option<&str>| name.unwrap_or_default() == &*port.name;
        let own = slice.ports.iter().find(|own| same(own.name.as_deref()))?;
        Some((port.number, own.port?))
    });
    let ports: Vec<_> = ports.collect();
    if ports.is_empty() {
        return Vec::new();
    }
    let own_labels: Arc<BTreeMap<_, _>> = Arc::new(
        object
            .meta
            .labels
            .iter()
            .filter(|(key, _)| !key.starts_with("kubernetes.io/") && !key.contains("kubernetes.io/managed"))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    );
    let mut found = Vec::new();
    for (n, endpoint) in slice.endpoints.iter().enumerate() {
        let target = endpoint.target_ref.as_ref();
        let pod = target.map(|target| target.name.as_str()).filter(|name| !name.is_empty());
        let labels = pod.and_then(&pod_labels).unwrap_or_else(|| own_labels.clone());
        let name = pod.map_or_else(|| format!("{}-{n}", object.meta.name), str::to_owned);
        let workload = Workload {
            name: name.into(),
            namespace: object.meta.namespace.clone(),
            uid: target.map(|target| target.uid.as_str()).unwrap_or_default().into(),
            service_account: "".into(),
            hostname: endpoint.hostname.as_deref().unwrap_or_default().into(),
        };
        let zone = endpoint.zone.as_deref().filter(|zone| !zone.is_empty());
        for address in &endpoint.addresses {
            found.push(Endpoint {
                address: address.as_str().into(),
                ports: ports.clone(),
                labels: labels.clone(),
                locality: zone.map_or_else(|| "".into(), |zone| format!("/{zone}").into()),
                weight: None,
                health: slice_health(&endpoint.conditions, object),
                workload: workload.clone(),
            });
        }
    }
    found
}

fn slice_health(conditions: &core::EndpointConditions, object: &Object) -> Health {
    if object.meta.deletion_timestamp.is_some() || conditions.terminating == Some(true) {
        Health::Draining
    } else if conditions.ready == Some(false) {
        Health::Unhealthy
    } else {
        Health::Healthy
    }
}

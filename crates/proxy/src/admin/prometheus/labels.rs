//! The labels of Istio's standard metrics.

use std::fmt::Write as _;

use crate::config::{ProxyConfig, Role};
use crate::snapshot::{Direction, Workload};
use crate::telemetry::metrics::{Outcome, Target, TcpSeries};

const UNKNOWN: &str = "unknown";

/// Of requests.
pub(super) fn http(config: &ProxyConfig, outcome: &Outcome, target: &Target) -> String {
    let protocol = if outcome.grpc { "grpc" } else { "http" };
    let mut labels = common(config, outcome.direction, target, protocol);
    let _ = write!(labels, ",response_code=\"{}\",response_flags=\"{}\"", outcome.code, outcome.flags);
    let grpc_status = outcome.grpc_status.map(|status| status.to_string()).unwrap_or_default();
    let _ = write!(labels, ",grpc_response_status=\"{grpc_status}\"");
    labels
}

/// Of TCP connections.
pub(super) fn tcp(config: &ProxyConfig, series: &TcpSeries) -> String {
    let mut labels = common(config, series.direction, &series.target, "tcp");
    let _ = write!(labels, ",response_flags=\"{}\"", series.flags);
    labels
}

/// One end of a request: workload, namespace, app, version, canonical name and revision.
struct Peer<'p> {
    workload: &'p str,
    namespace: &'p str,
    app: &'p str,
    version: &'p str,
    service: &'p str,
    revision: &'p str,
    cluster: &'p str,
}

impl<'p> Peer<'p> {
    const UNKNOWN: Peer<'static> = Peer {
        workload: UNKNOWN,
        namespace: UNKNOWN,
        app: UNKNOWN,
        version: UNKNOWN,
        service: UNKNOWN,
        revision: UNKNOWN,
        cluster: UNKNOWN,
    };

    fn new(
        workload: &'p str,
        namespace: &'p str,
        cluster: &'p str,
        label: impl Fn(&str) -> Option<&'p str>,
    ) -> Self {
        let first = |names: &[&str]| names.iter().find_map(|name| label(name)).unwrap_or(UNKNOWN);
        Self {
            workload,
            namespace,
            app: first(&["app"]),
            version: first(&["version"]),
            service: first(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]),
            revision: label("service.istio.io/canonical-revision")
                .or_else(|| label("app.kubernetes.io/version"))
                .or_else(|| label("version"))
                .unwrap_or("latest"),
            cluster,
        }
    }

    fn own(config: &'p ProxyConfig) -> Self {
        Self::new(&config.name, &config.namespace, &config.cluster_id, |name| {
            config.labels.get(name).map(String::as_str)
        })
    }

    fn of(workload: &'p Workload, cluster: &'p str) -> Self {
        Self::new(&workload.name, &workload.namespace, cluster, |name| {
            workload.labels.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
        })
    }

    fn write(&self, out: &mut String, side: &str) {
        for (label, value) in [
            ("workload", self.workload),
            ("workload_namespace", self.namespace),
            ("principal", UNKNOWN),
            ("app", self.app),
            ("version", self.version),
            ("cluster", self.cluster),
            ("canonical_service", self.service),
            ("canonical_revision", self.revision),
        ] {
            let _ = write!(out, ",{side}_{label}=\"{}\"", escape(value));
        }
    }
}

fn common(config: &ProxyConfig, direction: Direction, target: &Target, protocol: &str) -> String {
    let inbound = direction == Direction::Inbound && config.role != Role::Gateway;
    let own = Peer::own(config);
    let other =
        target.workload.as_deref().map_or(Peer::UNKNOWN, |workload| Peer::of(workload, &config.cluster_id));
    let (source, destination) = if inbound { (Peer::UNKNOWN, own) } else { (own, other) };
    let mut out = format!("reporter=\"{}\"", if inbound { "destination" } else { "source" });
    source.write(&mut out, "source");
    destination.write(&mut out, "destination");
    let (service, name, namespace) = service(target, &destination, inbound);
    let _ = write!(
        out,
        ",destination_service=\"{}\",destination_service_name=\"{}\",destination_service_namespace=\"{}\"",
        escape(&service),
        escape(&name),
        escape(&namespace)
    );
    let security = if inbound { "none" } else { UNKNOWN };
    let _ = write!(out, ",request_protocol=\"{protocol}\",connection_security_policy=\"{security}\"");
    out
}

/// Host, name and namespace of the service that a cluster stands for (`outbound|PORT|SUBSET|HOST`).
fn service(target: &Target, destination: &Peer<'_>, inbound: bool) -> (String, String, String) {
    let cluster = target.cluster.as_ref().map_or("", |cluster| cluster.as_str());
    let host = cluster.splitn(4, '|').nth(3).unwrap_or_default();
    if inbound || host.is_empty() {
        let name = if inbound { destination.service } else { UNKNOWN };
        let passthrough = matches!(cluster, "PassthroughCluster" | "BlackHoleCluster");
        let name = if passthrough { cluster } else { name };
        let service = if inbound && name != UNKNOWN {
            format!("{name}.{}.svc.cluster.local", destination.namespace)
        } else {
            name.to_owned()
        };
        return (service, name.to_owned(), destination.namespace.to_owned());
    }
    let mut parts = host.split('.');
    let first = parts.next().unwrap_or(host);
    match (parts.next(), parts.next()) {
        (Some(namespace), Some("svc")) => (host.to_owned(), first.to_owned(), namespace.to_owned()),
        _ => (host.to_owned(), host.to_owned(), destination.namespace.to_owned()),
    }
}

pub(super) fn escape(value: &str) -> std::borrow::Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into()
    } else {
        value.into()
    }
}

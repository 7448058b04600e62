//! `/stats/prometheus`: Istio's standard metrics and some of Envoy's, in the text format.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::config::{ProxyConfig, Role};
use crate::run::Plane;
use crate::snapshot::{Direction, Workload};
use crate::telemetry::metrics::{BOUNDS, Histogram, Outcome, Series, Target};

const UNKNOWN: &str = "unknown";

/// Requests with the same labels, of all workers.
#[derive(Default)]
struct Sum {
    requests: u64,
    duration: Histogram,
    request_bytes: Histogram,
    response_bytes: Histogram,
}

pub(super) async fn render(plane: &Plane) -> String {
    let collected = plane.collect().await;
    let config = &plane.config;
    let mut http: BTreeMap<String, Sum> = BTreeMap::new();
    let mut tcp: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    let mut clusters: BTreeMap<(String, &'static str), u64> = BTreeMap::new();
    let (mut connections, mut connections_total) = (0, 0);
    let mut tls: BTreeMap<&'static str, u64> = BTreeMap::new();
    for worker in &collected {
        connections += worker.connections;
        for (name, value) in worker.tls {
            *tls.entry(name).or_default() += value;
        }
        connections_total += worker.connections_total;
        for series in &worker.http {
            merge(http.entry(http_labels(config, &series.outcome, &series.target)).or_default(), series);
        }
        for series in &worker.tcp {
            let labels = common_labels(config, series.direction, &series.target, "tcp")
                + &format!(",response_flags=\"{}\"", series.flags);
            let sums = tcp.entry(labels).or_default();
            for (sum, value) in
                sums.iter_mut().zip([series.sent, series.received, series.opened, series.closed])
            {
                *sum += value;
            }
        }
        for cluster in &worker.clusters {
            for (counter, value) in &cluster.counters {
                *clusters.entry((cluster.name.clone(), counter)).or_default() += value;
            }
            *clusters.entry((cluster.name.clone(), "upstream_cx_active")).or_default() += cluster.connections;
        }
    }
    let mut out = String::new();
    counter(&mut out, "istio_requests_total", http.iter().map(|(labels, sum)| (labels, sum.requests)));
    type Pick = fn(&Sum) -> &Histogram;
    let histograms: [(&str, Pick); 3] = [
        ("istio_request_duration_milliseconds", |sum| &sum.duration),
        ("istio_request_bytes", |sum| &sum.request_bytes),
        ("istio_response_bytes", |sum| &sum.response_bytes),
    ];
    for (name, pick) in histograms {
        let _ = writeln!(out, "# TYPE {name} histogram");
        for (labels, sum) in &http {
            histogram(&mut out, name, labels, pick(sum));
        }
    }
    for (index, name) in [
        "istio_tcp_sent_bytes_total",
        "istio_tcp_received_bytes_total",
        "istio_tcp_connections_opened_total",
        "istio_tcp_connections_closed_total",
    ]
    .into_iter()
    .enumerate()
    {
        counter(&mut out, name, tcp.iter().map(|(labels, sums)| (labels, sums[index])));
    }
    let _ = writeln!(out, "# TYPE istio_build gauge");
    let _ = writeln!(out, "istio_build{{component=\"proxy\",tag=\"{}\"}} 1", escape(&config.version));
    let names: std::collections::BTreeSet<&str> = clusters.keys().map(|(_, counter)| *counter).collect();
    for name in names {
        let kind = if name.ends_with("_active") { "gauge" } else { "counter" };
        let _ = writeln!(out, "# TYPE envoy_cluster_{name} {kind}");
        for ((cluster, _), value) in clusters.iter().filter(|((_, counter), _)| *counter == name) {
            let _ =
                writeln!(out, "envoy_cluster_{name}{{envoy_cluster_name=\"{}\"}} {value}", escape(cluster));
        }
    }
    for (name, value) in tls {
        let _ = writeln!(out, "# TYPE envoy_listener_{name} counter\nenvoy_listener_{name} {value}");
    }
    let uptime = plane.started.elapsed().as_secs();
    let _ = writeln!(out, "# TYPE envoy_server_uptime gauge\nenvoy_server_uptime {uptime}");
    let _ = writeln!(
        out,
        "# TYPE envoy_listener_downstream_cx_active gauge\nenvoy_listener_downstream_cx_active {connections}"
    );
    let _ = writeln!(
        out,
        "# TYPE envoy_listener_downstream_cx_total counter\nenvoy_listener_downstream_cx_total {connections_total}"
    );
    out
}

fn merge(sum: &mut Sum, series: &Series) {
    sum.requests += series.requests;
    sum.duration.merge(&series.duration_ms);
    sum.request_bytes.merge(&series.request_bytes);
    sum.response_bytes.merge(&series.response_bytes);
}

fn counter<'l>(out: &mut String, name: &str, values: impl Iterator<Item = (&'l String, u64)>) {
    let _ = writeln!(out, "# TYPE {name} counter");
    for (labels, value) in values {
        let _ = writeln!(out, "{name}{{{labels}}} {value}");
    }
}

fn histogram(out: &mut String, name: &str, labels: &str, histogram: &Histogram) {
    let mut all = 0;
    for (index, count) in histogram.cumulative().enumerate() {
        match BOUNDS.get(index) {
            Some(bound) => {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            None => {
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
            }
        }
        all = count;
    }
    let _ = writeln!(out, "{name}_sum{{{labels}}} {}", histogram.sum());
    let _ = writeln!(out, "{name}_count{{{labels}}} {all}");
}

fn http_labels(config: &ProxyConfig, outcome: &Outcome, target: &Target) -> String {
    let protocol = if outcome.grpc { "grpc" } else { "http" };
    let mut labels = common_labels(config, outcome.direction, target, protocol);
    let _ = write!(labels, ",response_code=\"{}\",response_flags=\"{}\"", outcome.code, outcome.flags);
    let grpc_status = outcome.grpc_status.map(|status| status.to_string()).unwrap_or_default();
    let _ = write!(labels, ",grpc_response_status=\"{grpc_status}\"");
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

fn common_labels(config: &ProxyConfig, direction: Direction, target: &Target, protocol: &str) -> String {
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

fn escape(value: &str) -> std::borrow::Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n").into()
    } else {
        value.into()
    }
}

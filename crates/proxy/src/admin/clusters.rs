//! `/clusters` and `/stats`: what the workers counted, added up.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::json;

use super::{Answer, Query, json_answer, text};
use crate::run::Plane;
use crate::snapshot::{Address, Cluster, Health, Snapshot};
use crate::telemetry::collect::Collected;

#[derive(Default)]
struct Host {
    health: Health,
    weight: u32,
    locality: String,
    hostname: String,
    active: u64,
    idle: u64,
    requests: u64,
    failures: u64,
    connect_failures: u64,
    ejected: bool,
}

pub(super) async fn clusters(plane: &Plane, as_json: bool) -> Answer {
    let snapshot = plane.published.load();
    let collected = plane.collect().await;
    let mut clusters: Vec<&Cluster> = snapshot.clusters.values().map(|cluster| &**cluster).collect();
    clusters.sort_by(|one, other| one.name.cmp(&other.name));
    if as_json {
        let list: Vec<_> = clusters
            .iter()
            .map(|cluster| {
                let hosts = hosts(&snapshot, cluster, &collected);
                let hosts: Vec<_> = hosts.iter().map(|(address, host)| host_json(*address, host)).collect();
                json!({
                    "name": cluster.name.as_str(),
                    "added_via_api": true,
                    "host_statuses": hosts,
                    "observability_name": cluster.name.as_str(),
                })
            })
            .collect();
        return json_answer(&json!({ "cluster_statuses": list }));
    }
    let mut out = String::new();
    for cluster in clusters {
        let name = &cluster.name;
        out.push_str(&format!("{name}::observability_name::{name}\n{name}::added_via_api::true\n"));
        for (address, host) in hosts(&snapshot, cluster, &collected) {
            let Host { active, idle, requests, failures, connect_failures, weight, .. } = host;
            let health = match (host.ejected, host.health) {
                (true, Health::Healthy) => "/failed_outlier_check".to_owned(),
                (true, health) => format!("/failed_outlier_check{}", flags(health)),
                (false, health) => flags(health).to_owned(),
            };
            out.push_str(&format!(
                "{name}::{address}::cx_active::{}\n{name}::{address}::cx_connect_fail::{connect_failures}\n\
                 {name}::{address}::rq_active::{active}\n{name}::{address}::rq_error::{failures}\n\
                 {name}::{address}::rq_total::{requests}\n{name}::{address}::hostname::{}\n\
                 {name}::{address}::health_flags::{health}\n{name}::{address}::weight::{weight}\n\
                 {name}::{address}::region::{}\n",
                active + idle,
                host.hostname,
                host.locality,
            ));
        }
    }
    text(StatusCode::OK, out)
}

fn hosts(snapshot: &Snapshot, cluster: &Cluster, collected: &[Collected]) -> BTreeMap<Address, Host> {
    let mut hosts = BTreeMap::new();
    let set = snapshot.endpoints(cluster);
    if let Some(set) = set {
        for endpoint in &set.endpoints {
            let locality = set.localities.get(endpoint.locality as usize);
            let host = Host {
                health: endpoint.health,
                weight: endpoint.weight,
                locality: locality.map(|locality| locality.region.to_string()).unwrap_or_default(),
                hostname: endpoint.hostname.as_deref().unwrap_or_default().to_owned(),
                ..Host::default()
            };
            hosts.insert(endpoint.address, host);
        }
    }
    for counts in
        collected.iter().flat_map(|worker| &worker.clusters).filter(|counts| counts.name == cluster.name)
    {
        for member in &counts.members {
            // A worker forgets who left the set with its next request or sweep; only without a set (ORIGINAL_DST) it
            // knows more than the configuration.
            if set.is_some() && !hosts.contains_key(&member.address) {
                continue;
            }
            let host = hosts.entry(member.address).or_default();
            host.active += member.active;
            host.idle += member.idle;
            host.requests += member.requests;
            host.failures += member.failures;
            host.connect_failures += member.connect_failures;
            host.ejected |= member.ejected;
        }
    }
    hosts
}

/// Envoy's flags of a host's health.
fn flags(health: Health) -> &'static str {
    match health {
        Health::Healthy => "healthy",
        Health::Degraded => "/degraded_eds_health",
        Health::Unhealthy => "/failed_eds_health",
        Health::Draining => "/eds_status_draining",
    }
}

fn host_json(address: Address, host: &Host) -> serde_json::Value {
    let health = match host.health {
        Health::Healthy => "HEALTHY",
        Health::Degraded => "DEGRADED",
        Health::Unhealthy => "UNHEALTHY",
        Health::Draining => "DRAINING",
    };
    let counter = |name: &str, value: u64| json!({ "name": name, "value": value.to_string() });
    let gauge = |name: &str, value: u64| json!({ "name": name, "value": value.to_string(), "type": "GAUGE" });
    json!({
        "address": address_json(address),
        "stats": [
            counter("cx_connect_fail", host.connect_failures),
            gauge("cx_active", host.active + host.idle),
            gauge("rq_active", host.active),
            counter("rq_error", host.failures),
            counter("rq_total", host.requests),
        ],
        "health_status": { "eds_health_status": health, "failed_outlier_check": host.ejected },
        "weight": host.weight,
        "hostname": host.hostname,
        "locality": { "region": host.locality },
    })
}

/// As Envoy writes a `core.v3.Address`.
pub(super) fn address_json(address: Address) -> serde_json::Value {
    match address {
        Address::Ip(at) => {
            json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
        }
        Address::Pipe(path) => json!({ "pipe": { "path": path } }),
    }
}

/// What became of the lines of access logs in the workers.
pub(super) const LOG_LINES: [&str; 2] = ["filesystem.write_buffered", "access_log.lines_dropped"];

pub(super) async fn stats(plane: &Plane, query: &Query, as_json: bool) -> Answer {
    let mut stats: BTreeMap<String, u64> = BTreeMap::new();
    let mut add = |name: String, value: u64| *stats.entry(name).or_default() += value;
    for (index, worker) in plane.collect().await.into_iter().enumerate() {
        add(format!("listener.worker_{index}.downstream_cx_active"), worker.connections);
        add(format!("listener.worker_{index}.downstream_cx_total"), worker.connections_total);
        for cluster in &worker.clusters {
            let name = &cluster.name;
            for (counter, value) in &cluster.counters {
                add(format!("cluster.{name}.{counter}"), *value);
            }
            add(format!("cluster.{name}.upstream_rq_active"), cluster.active);
            add(format!("cluster.{name}.upstream_cx_active"), cluster.connections);
        }
        add("http.downstream_cx_active".to_owned(), worker.connections);
        add("http.downstream_cx_total".to_owned(), worker.connections_total);
        add("http.downstream_cx_protocol_error".to_owned(), worker.protocol_errors);
        add("listener.downstream_cx_accept_error".to_owned(), worker.accept_errors);
        for (name, value) in LOG_LINES.iter().zip(worker.log_lines) {
            add((*name).to_owned(), value);
        }
        for (name, value) in worker.sent_away {
            add(name, value);
        }
        for series in &worker.http {
            add("http.downstream_rq_total".to_owned(), series.sums.requests);
            add(format!("http.downstream_rq_{}xx", series.outcome.code / 100), series.sums.requests);
        }
    }
    for (name, value) in plane.published.overload.gauges() {
        add(name, value);
    }
    for (name, value) in plane.published.logs.counts.all() {
        add(name.to_owned(), value);
    }
    add("server.uptime".to_owned(), plane.started.elapsed().as_secs());
    add("server.live".to_owned(), u64::from(plane.readiness.waiting_for().is_empty()));
    add("control_plane.connected_state".to_owned(), u64::from(plane.xds.borrow().connected));
    let filter = query.get("filter").and_then(|filter| regex_automata::meta::Regex::new(filter).ok());
    let used = query.get("usedonly").is_some();
    stats.retain(|name, value| {
        (!used || *value > 0) && filter.as_ref().is_none_or(|filter| filter.is_match(name.as_str()))
    });
    if as_json {
        let list: Vec<_> =
            stats.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        return json_answer(&json!({ "stats": list }));
    }
    text(StatusCode::OK, stats.iter().map(|(name, value)| format!("{name}: {value}\n")).collect())
}

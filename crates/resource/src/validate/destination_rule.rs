//! `DestinationRule`.

use super::{
    Judge,
    syntax::{is_fqdn, is_label, is_wildcard_host},
};
use crate::istio::{
    ClientTlsSettings, ConnectionPoolSettings, ConsistentHash, DestinationRule, H2UpgradePolicy,
    HttpSettings, LoadBalancerSettings, LocalityLbSetting, OutlierDetection, PortTrafficPolicy, TcpSettings,
    TlsMode, TrafficPolicy,
};

pub(super) fn check(spec: &DestinationRule, at: &mut Judge<'_>) {
    if spec.host.is_empty() {
        at.field("host").missing("the host of a service");
    } else if !is_wildcard_host(&spec.host) {
        at.field("host").error("HDL0102", "not a host", &spec.host, "the host of a service");
    }
    if let Some(policy) = &spec.traffic_policy {
        traffic_policy(policy, &mut at.field("trafficPolicy"));
    }
    for (index, subset) in spec.subsets.iter().enumerate() {
        let mut at = at.item("subsets", index);
        if subset.name.is_empty() {
            at.field("name").missing("the subset's name");
        } else if !is_label(&subset.name) {
            at.field("name").error("HDL0102", "not a name", &subset.name, "letters, digits and -");
        }
        at.field("labels").labels(&subset.labels);
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy(policy, &mut at.field("trafficPolicy"));
        }
    }
    at.field("subsets").unique(spec.subsets.iter().map(|s| s.name.as_str()));
    if let Some(selector) = &spec.workload_selector {
        if selector.is_empty() {
            at.field("workloadSelector").warn("HDL0204", "it selects every workload", "", "labels");
        }
        at.field("workloadSelector.labels").labels(&selector.labels);
        at.field("workloadSelector.matchLabels").labels(&selector.match_labels);
    }
    at.export_to(&spec.export_to);
}

fn traffic_policy(policy: &TrafficPolicy, at: &mut Judge<'_>) {
    if *policy == TrafficPolicy::default() {
        at.missing("at least one setting");
    }
    parts(
        policy.load_balancer.as_ref(),
        policy.connection_pool.as_ref(),
        policy.outlier_detection.as_ref(),
        policy.tls.as_ref(),
        at,
    );
    for (index, port) in policy.port_level_settings.iter().enumerate() {
        port_policy(port, &mut at.item("portLevelSettings", index));
    }
    if let Some(tunnel) = &policy.tunnel {
        let mut at = at.field("tunnel");
        if !is_fqdn(&tunnel.target_host) {
            at.field("targetHost").error("HDL0102", "not a host", &tunnel.target_host, "a name");
        }
        at.field("targetPort").port(tunnel.target_port);
        if !matches!(tunnel.protocol.as_str(), "" | "CONNECT" | "POST") {
            at.field("protocol").error(
                "HDL0109",
                "not a tunnel's protocol",
                &tunnel.protocol,
                "CONNECT or POST",
            );
        }
    }
    if let Some(percent) = policy.retry_budget.as_ref().and_then(|budget| budget.percent) {
        at.field("retryBudget.percent").percent(percent);
    }
}

fn port_policy(policy: &PortTrafficPolicy, at: &mut Judge<'_>) {
    match &policy.port {
        Some(port) => at.field("port.number").port(port.number),
        None => at.field("port").missing("the port's number"),
    }
    parts(
        policy.load_balancer.as_ref(),
        policy.connection_pool.as_ref(),
        policy.outlier_detection.as_ref(),
        policy.tls.as_ref(),
        at,
    );
}

fn parts(
    balancer: Option<&LoadBalancerSettings>,
    pool: Option<&ConnectionPoolSettings>,
    outliers: Option<&OutlierDetection>,
    tls: Option<&ClientTlsSettings>,
    at: &mut Judge<'_>,
) {
    if let Some(balancer) = balancer {
        load_balancer(balancer, &mut at.field("loadBalancer"));
    }
    if let Some(pool) = pool {
        connection_pool(pool, &mut at.field("connectionPool"));
    }
    if let Some(outliers) = outliers {
        outlier_detection(outliers, &mut at.field("outlierDetection"));
    }
    if let Some(tls) = tls {
        client_tls(tls, &mut at.field("tls"));
    }
}

fn load_balancer(settings: &LoadBalancerSettings, at: &mut Judge<'_>) {
    if settings.simple.is_some() && settings.consistent_hash.is_some() {
        at.conflict("simple and consistentHash exclude each other");
    }
    if let Some(hash) = &settings.consistent_hash {
        consistent_hash(hash, &mut at.field("consistentHash"));
    }
    if let Some(locality) = &settings.locality_lb_setting {
        if settings.zone_aware_lb_setting.is_some() {
            at.conflict("localityLbSetting and zoneAwareLbSetting exclude each other");
        }
        locality_setting(locality, &mut at.field("localityLbSetting"));
    }
    if let Some(warmup) = &settings.warmup {
        let mut at = at.field("warmup");
        if let Some(percent) = warmup.minimum_percent {
            at.field("minimumPercent").percent(percent);
        }
        if let Some(aggression) = warmup.aggression.filter(|a| *a < 1.0) {
            at.field("aggression").error("HDL0109", "it is too little", aggression, "1 or more");
        }
        if settings.warmup_duration_secs.is_some() {
            at.conflict("warmup and warmupDurationSecs exclude each other");
        }
    }
}

fn consistent_hash(hash: &ConsistentHash, at: &mut Judge<'_>) {
    let keys = [
        !hash.http_header_name.as_deref().unwrap_or_default().is_empty(),
        hash.http_cookie.is_some(),
        hash.use_source_ip.is_some(),
        !hash.http_query_parameter_name.as_deref().unwrap_or_default().is_empty(),
    ];
    match keys.iter().filter(|k| **k).count() {
        0 => at.missing("httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName"),
        1 => {}
        _ => at.conflict("the properties that are hashed exclude each other"),
    }
    if let Some(cookie) = &hash.http_cookie {
        if cookie.name.is_empty() {
            at.field("httpCookie.name").missing("the cookie's name");
        }
        let names: Vec<String> = cookie.attributes.iter().map(|a| a.name.to_lowercase()).collect();
        at.field("httpCookie.attributes").unique(names.iter().map(String::as_str));
    }
    if hash.ring_hash.is_some() && hash.maglev.is_some() {
        at.conflict("ringHash and maglev exclude each other");
    }
    if let Some(size) = hash.maglev.as_ref().map(|m| m.table_size).filter(|size| *size != 0)
        && (size > 5_000_011 || !is_prime(size))
    {
        at.field("maglev.tableSize").error("HDL0109", "not a table's size", size, "a prime up to 5000011");
    }
}

fn is_prime(number: u64) -> bool {
    number > 1 && (2..).take_while(|d| d * d <= number).all(|d| !number.is_multiple_of(d))
}

fn locality_setting(setting: &LocalityLbSetting, at: &mut Judge<'_>) {
    let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    if !setting.distribute.is_empty() && fails_over {
        at.conflict("distribute and failover exclude each other");
    }
    for (index, distribute) in setting.distribute.iter().enumerate() {
        let total: u64 = distribute.to.values().map(|share| u64::from(*share)).sum();
        if total != 100 {
            at.item("distribute", index).field("to").error("HDL0104", "the shares miss 100", total, "100");
        }
    }
    for (index, failover) in setting.failover.iter().enumerate() {
        if failover.from == failover.to {
            let mut at = at.item("failover", index);
            at.error("HDL0109", "it fails over to itself", &failover.from, "another region");
        }
    }
}

fn connection_pool(pool: &ConnectionPoolSettings, at: &mut Judge<'_>) {
    if pool.tcp.is_none() && pool.http.is_none() {
        at.missing("tcp or http");
    }
    if let Some(tcp) = &pool.tcp {
        tcp_settings(tcp, &mut at.field("tcp"));
    }
    if let Some(http) = &pool.http {
        http_settings(http, &mut at.field("http"));
    }
}

/// The rules that a `Sidecar`'s pools share.
pub(super) fn pool(pool: &ConnectionPoolSettings, at: &mut Judge<'_>) {
    connection_pool(pool, at);
}

fn tcp_settings(tcp: &TcpSettings, at: &mut Judge<'_>) {
    at.field("maxConnections").not_negative(tcp.max_connections);
    at.field("connectTimeout").duration(tcp.connect_timeout);
    at.field("maxConnectionDuration").duration(tcp.max_connection_duration);
    at.field("idleTimeout").duration_or_zero(tcp.idle_timeout);
}

fn http_settings(http: &HttpSettings, at: &mut Judge<'_>) {
    at.field("http1MaxPendingRequests").not_negative(http.http1_max_pending_requests);
    at.field("http2MaxRequests").not_negative(http.http2_max_requests);
    at.field("maxRequestsPerConnection").not_negative(http.max_requests_per_connection);
    at.field("maxRetries").not_negative(http.max_retries);
    at.field("maxConcurrentStreams").not_negative(http.max_concurrent_streams);
    at.field("idleTimeout").duration_or_zero(http.idle_timeout);
    if http.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade) && http.use_client_protocol == Some(true) {
        at.conflict("h2UpgradePolicy UPGRADE and useClientProtocol exclude each other");
    }
    if let Some(keep_alive) = &http.http2_keep_alive {
        let mut at = at.field("http2KeepAlive");
        for (name, value) in [("interval", keep_alive.interval), ("timeout", keep_alive.timeout)] {
            let mut at = at.field(name);
            if value.is_none() {
                at.missing("both interval and timeout");
            }
            at.duration(value);
        }
    }
}

fn outlier_detection(outliers: &OutlierDetection, at: &mut Judge<'_>) {
    at.field("interval").duration(outliers.interval);
    at.field("baseEjectionTime").duration(outliers.base_ejection_time);
    for (name, percent) in [
        ("maxEjectionPercent", outliers.max_ejection_percent),
        ("minHealthPercent", outliers.min_health_percent),
    ] {
        if let Some(percent) = percent {
            at.field(name).percent(percent);
        }
    }
    if !outliers.split_external_local_origin_errors
        && outliers.consecutive_local_origin_failures.is_some_and(|n| n > 0)
    {
        at.conflict("consecutiveLocalOriginFailures acts with splitExternalLocalOriginErrors only");
    }
}

fn client_tls(tls: &ClientTlsSettings, at: &mut Judge<'_>) {
    let files = [&tls.client_certificate, &tls.private_key, &tls.ca_certificates];
    let by_file = files.iter().any(|f| !f.is_empty());
    if !tls.credential_name.is_empty() && matches!(tls.mode, TlsMode::Simple | TlsMode::Mutual) && by_file {
        at.error("HDL0113", "credentialName and files exclude each other", "", "one of them");
    }
    match tls.mode {
        TlsMode::Mutual if tls.credential_name.is_empty() => {
            if tls.client_certificate.is_empty() {
                at.field("clientCertificate").missing("the client's certificate");
            }
            if tls.private_key.is_empty() {
                at.field("privateKey").missing("the certificate's key");
            }
        }
        TlsMode::IstioMutual if by_file || !tls.credential_name.is_empty() => {
            at.error("HDL0113", "ISTIO_MUTUAL takes the mesh's own certificates", "", "none of the user's");
        }
        _ => {}
    }
    if tls.insecure_skip_verify == Some(true) {
        let simple_secret = tls.mode == TlsMode::Simple && !tls.credential_name.is_empty();
        if !tls.ca_certificates.is_empty() || !tls.subject_alt_names.is_empty() || simple_secret {
            let message = "insecureSkipVerify excludes whatever says how to verify";
            at.field("insecureSkipVerify").error("HDL0113", message, "true", "false");
        }
    }
}

//! `/config_dump`: the resources in force in the shape of Envoy's dump, with the fields that people look for.

use envoy_types::pb::envoy::config::cluster::v3::{self as cluster, Cluster};
use envoy_types::pb::envoy::config::core::v3::{
    Address, DataSource, address, data_source::Specifier, socket_address,
};
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint};
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteConfiguration, VirtualHost, header_matcher, query_parameter_matcher, redirect_action, route,
    route_action, route_match,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret::Type};
use envoy_types::pb::google::protobuf::Duration;
use heddle_xds::ResourceType;
use prost::Message as _;
use serde_json::{Map, Value, json};

use crate::feed::Dump;

pub(super) fn render(dump: Dump) -> Value {
    let mut lists: [Vec<Value>; ResourceType::COUNT] = Default::default();
    for (kind, name, version, body) in &dump.resources {
        let body = body.as_slice();
        let shown = match kind {
            ResourceType::Cluster => Cluster::decode(body).ok().map(|it| clusters(&it)),
            ResourceType::Endpoint => ClusterLoadAssignment::decode(body).ok().map(|it| endpoints(&it)),
            ResourceType::Listener => Listener::decode(body).ok().map(|it| listener(&it)),
            ResourceType::Route => RouteConfiguration::decode(body).ok().map(|it| routes(&it)),
            ResourceType::VirtualHost => VirtualHost::decode(body).ok().map(|it| virtual_host(&it)),
            ResourceType::Secret => Secret::decode(body).ok().map(|it| secret(&it)),
            ResourceType::NameTable => None,
        };
        let Some(shown) = shown else { continue };
        lists[kind.index()].push(match kind {
            ResourceType::Cluster => json!({ "version_info": version, "cluster": shown }),
            ResourceType::Endpoint => json!({ "version_info": version, "endpoint_config": shown }),
            ResourceType::Listener => {
                json!({ "name": name, "active_state": { "version_info": version, "listener": shown } })
            }
            ResourceType::Secret => json!({ "name": name, "version_info": version, "secret": shown }),
            _ => json!({ "version_info": version, "route_config": shown }),
        });
    }
    let mut take = |kind: ResourceType| Value::Array(std::mem::take(&mut lists[kind.index()]));
    let url = |name: &str| format!("type.googleapis.com/envoy.admin.v3.{name}");
    json!({
        "configs": [
            { "@type": url("ClustersConfigDump"), "dynamic_active_clusters": take(ResourceType::Cluster) },
            { "@type": url("EndpointsConfigDump"), "dynamic_endpoint_configs": take(ResourceType::Endpoint) },
            { "@type": url("ListenersConfigDump"), "dynamic_listeners": take(ResourceType::Listener) },
            { "@type": url("RoutesConfigDump"), "dynamic_route_configs": take(ResourceType::Route) },
            { "@type": url("SecretsConfigDump"), "dynamic_active_secrets": take(ResourceType::Secret) },
        ],
        "waiting": dump.waiting,
    })
}

/// Certificates and authorities as they are; of a private key, that there is one.
fn secret(it: &Secret) -> Value {
    let text =
        |source: &Option<DataSource>| match source.as_ref().and_then(|source| source.specifier.as_ref()) {
            Some(Specifier::InlineBytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
            Some(Specifier::InlineString(text)) => text.clone(),
            _ => String::new(),
        };
    match &it.r#type {
        Some(Type::TlsCertificate(pair)) => json!({ "name": it.name, "tls_certificate": {
            "certificate_chain": { "inline_string": text(&pair.certificate_chain) },
            "private_key": { "inline_string": "[redacted]" },
        }}),
        Some(Type::ValidationContext(context)) => json!({ "name": it.name, "validation_context": {
            "trusted_ca": { "inline_string": text(&context.trusted_ca) },
        }}),
        _ => json!({ "name": it.name }),
    }
}

fn clusters(it: &Cluster) -> Value {
    let kind = match it.cluster_discovery_type {
        Some(cluster::cluster::ClusterDiscoveryType::Type(kind)) => {
            cluster::cluster::DiscoveryType::try_from(kind).map_or("", |kind| kind.as_str_name())
        }
        _ => "",
    };
    let policy = cluster::cluster::LbPolicy::try_from(it.lb_policy).map_or("", |policy| policy.as_str_name());
    let mut out = json!({
        "name": it.name,
        "type": kind,
        "lb_policy": policy,
        "connect_timeout": it.connect_timeout.as_ref().map(duration),
    });
    if let Some(assignment) = &it.load_assignment {
        out["load_assignment"] = endpoints(assignment);
    }
    if let Some(eds) = &it.eds_cluster_config {
        out["eds_cluster_config"] = json!({ "service_name": eds.service_name });
    }
    out
}

fn endpoints(it: &ClusterLoadAssignment) -> Value {
    let localities = it.endpoints.iter().map(|locality| {
        let list = locality.lb_endpoints.iter().map(|endpoint| {
            let at = match &endpoint.host_identifier {
                Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)) => {
                    endpoint.address.as_ref().map(socket).unwrap_or_default()
                }
                _ => Value::Null,
            };
            json!({
                "endpoint": { "address": at },
                "health_status": endpoint.health_status().as_str_name(),
                "load_balancing_weight": endpoint.load_balancing_weight.as_ref().map_or(1, |weight| weight.value),
            })
        });
        let at = locality.locality.as_ref();
        json!({
            "locality": at.map(|at| json!({ "region": at.region, "zone": at.zone, "sub_zone": at.sub_zone })),
            "priority": locality.priority,
            "lb_endpoints": list.collect::<Vec<_>>(),
        })
    });
    json!({ "cluster_name": it.cluster_name, "endpoints": localities.collect::<Vec<_>>() })
}

fn listener(it: &Listener) -> Value {
    let chains = it.filter_chains.iter().chain(&it.default_filter_chain).map(|chain| {
        let filters = chain.filters.iter().map(|filter| {
            let url = match &filter.config_type {
                Some(filter::ConfigType::TypedConfig(config)) => config.type_url.as_str(),
                _ => "",
            };
            json!({ "name": filter.name, "typed_config": { "@type": url } })
        });
        let port = chain.filter_chain_match.as_ref().and_then(|m| Some(m.destination_port.as_ref()?.value));
        json!({
            "name": chain.name,
            "filter_chain_match": { "destination_port": port },
            "filters": filters.collect::<Vec<_>>(),
        })
    });
    json!({
        "name": it.name,
        "address": it.address.as_ref().map(socket),
        "traffic_direction": it.traffic_direction().as_str_name(),
        "filter_chains": chains.collect::<Vec<_>>(),
        "bind_to_port": it.bind_to_port.as_ref().map(|bind| bind.value),
        "use_original_dst": it.use_original_dst.as_ref().map(|hand_over| hand_over.value),
    })
}

fn routes(it: &RouteConfiguration) -> Value {
    json!({
        "name": it.name,
        "virtual_hosts": it.virtual_hosts.iter().map(virtual_host).collect::<Vec<_>>(),
    })
}

fn virtual_host(it: &VirtualHost) -> Value {
    json!({
        "name": it.name,
        "domains": it.domains,
        "routes": it.routes.iter().map(one_route).collect::<Vec<_>>(),
    })
}

fn one_route(it: &Route) -> Value {
    let mut out = Map::new();
    if !it.name.is_empty() {
        out.insert("name".to_owned(), it.name.as_str().into());
    }
    out.insert("match".to_owned(), it.r#match.as_ref().map(matches).unwrap_or_default());
    let (name, action) = match &it.action {
        Some(route::Action::Route(action)) => ("route", forward(action)),
        Some(route::Action::Redirect(redirect)) => {
            let path = match &redirect.path_rewrite_specifier {
                Some(redirect_action::PathRewriteSpecifier::PathRedirect(path)) => Some(path),
                _ => None,
            };
            let code = redirect.response_code().as_str_name();
            (
                "redirect",
                json!({ "host_redirect": redirect.host_redirect, "path_redirect": path, "response_code": code }),
            )
        }
        Some(route::Action::DirectResponse(direct)) => {
            ("direct_response", json!({ "status": direct.status }))
        }
        _ => ("non_forwarding_action", json!({})),
    };
    out.insert(name.to_owned(), action);
    Value::Object(out)
}

fn matches(it: &envoy_types::pb::envoy::config::route::v3::RouteMatch) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value| out.insert(name.to_owned(), value);
    match &it.path_specifier {
        Some(route_match::PathSpecifier::Prefix(prefix)) => put("prefix", prefix.as_str().into()),
        Some(route_match::PathSpecifier::Path(path)) => put("path", path.as_str().into()),
        Some(route_match::PathSpecifier::SafeRegex(regex)) => {
            put("safe_regex", json!({ "regex": regex.regex }))
        }
        Some(route_match::PathSpecifier::PathSeparatedPrefix(prefix)) => {
            put("path_separated_prefix", prefix.as_str().into())
        }
        Some(route_match::PathSpecifier::ConnectMatcher(_)) => put("connect_matcher", json!({})),
        _ => None,
    };
    if !it.headers.is_empty() {
        let headers = it.headers.iter().map(|header| {
            let value = match &header.header_match_specifier {
                Some(header_matcher::HeaderMatchSpecifier::StringMatch(text)) => string_match(text),
                Some(header_matcher::HeaderMatchSpecifier::PresentMatch(present)) => {
                    json!({ "present": present })
                }
                _ => Value::Null,
            };
            json!({ "name": header.name, "string_match": value, "invert_match": header.invert_match })
        });
        put("headers", headers.collect());
    }
    if !it.query_parameters.is_empty() {
        let parameters = it.query_parameters.iter().map(|parameter| {
            let value = match &parameter.query_parameter_match_specifier {
                Some(query_parameter_matcher::QueryParameterMatchSpecifier::StringMatch(text)) => {
                    string_match(text)
                }
                _ => Value::Null,
            };
            json!({ "name": parameter.name, "string_match": value })
        });
        put("query_parameters", parameters.collect());
    }
    Value::Object(out)
}

fn string_match(it: &envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher) -> Value {
    use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
    match &it.match_pattern {
        Some(MatchPattern::Exact(text)) => json!({ "exact": text }),
        Some(MatchPattern::Prefix(text)) => json!({ "prefix": text }),
        Some(MatchPattern::Suffix(text)) => json!({ "suffix": text }),
        Some(MatchPattern::Contains(text)) => json!({ "contains": text }),
        Some(MatchPattern::SafeRegex(regex)) => json!({ "safe_regex": { "regex": regex.regex } }),
        _ => Value::Null,
    }
}

fn forward(it: &envoy_types::pb::envoy::config::route::v3::RouteAction) -> Value {
    let mut out = Map::new();
    match &it.cluster_specifier {
        Some(route_action::ClusterSpecifier::Cluster(cluster)) => {
            out.insert("cluster".to_owned(), cluster.as_str().into());
        }
        Some(route_action::ClusterSpecifier::WeightedClusters(weighted)) => {
            let clusters = weighted.clusters.iter().map(|cluster| {
                let weight = cluster.weight.as_ref().map(|weight| weight.value);
                json!({ "name": cluster.name, "weight": weight })
            });
            out.insert("weighted_clusters".to_owned(), json!({ "clusters": clusters.collect::<Vec<_>>() }));
        }
        _ => {}
    }
    out.insert("timeout".to_owned(), it.timeout.as_ref().map(duration).into());
    if let Some(retry) = &it.retry_policy {
        let count = retry.num_retries.as_ref().map(|count| count.value);
        out.insert("retry_policy".to_owned(), json!({ "retry_on": retry.retry_on, "num_retries": count }));
    }
    if !it.prefix_rewrite.is_empty() {
        out.insert("prefix_rewrite".to_owned(), it.prefix_rewrite.as_str().into());
    }
    Value::Object(out)
}

fn socket(it: &Address) -> Value {
    match &it.address {
        Some(address::Address::SocketAddress(socket)) => {
            let port = match socket.port_specifier {
                Some(socket_address::PortSpecifier::PortValue(port)) => port,
                _ => 0,
            };
            json!({ "socket_address": { "address": socket.address, "port_value": port } })
        }
        Some(address::Address::Pipe(pipe)) => json!({ "pipe": { "path": pipe.path, "mode": pipe.mode } }),
        _ => Value::Null,
    }
}

fn duration(it: &Duration) -> String {
    let text = format!("{}.{:09}", it.seconds, it.nanos);
    format!("{}s", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::TlsCertificate;

    use super::*;

    /// What whoever may ask the admin port must not learn.
    #[test]
    fn a_private_key_is_not_shown() {
        let source = |text: &str| {
            Some(DataSource {
                specifier: Some(Specifier::InlineBytes(text.as_bytes().to_vec())),
                ..Default::default()
            })
        };
        let pair = TlsCertificate {
            certificate_chain: source("chain"),
            private_key: source("the key"),
            password: source("the password"),
            ..Default::default()
        };
        let message = Secret { name: "a".to_owned(), r#type: Some(Type::TlsCertificate(pair)) };
        let resources = vec![(ResourceType::Secret, "a".to_owned(), "1".to_owned(), message.encode_to_vec())];
        let shown = render(Dump { resources, waiting: Vec::new(), file: Vec::new() }).to_string();
        assert!(shown.contains("chain") && shown.contains("[redacted]"), "{shown}");
        assert!(!shown.contains("the key") && !shown.contains("the password"), "{shown}");
    }
}

//! `HttpConnectionManager` to [`HttpConnectionManager`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3::FilterConfig;
use envoy_types::pb::envoy::extensions::filters::http as filters;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as proto;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as kinds;
use envoy_types::pb::google::protobuf::Any;

use super::judge::{Compiled, Listed, Refusal, judge};
use super::{access_log, filter, options, route, value};
use crate::snapshot::{
    ClientCert, Codec, EscapedSlashes, FilterOverrides, ForwardClientCert, Http2Settings,
    HttpConnectionManager, HttpFilter, Name, RouteSource, RouterOptions, ServerHeader, StripPort,
    Underscores,
};

judge!(manager, envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager
    as "HttpConnectionManager",
    acts: [codec_type, stat_prefix, http_filters, common_http_protocol_options, http_protocol_options,
        http2_protocol_options, server_name, server_header_transformation, scheme_header_transformation,
        max_request_headers_kb, stream_idle_timeout, request_timeout, request_headers_timeout,
        use_remote_address, xff_num_trusted_hops, skip_xff_append, via, generate_request_id, preserve_external_request_id,
        always_set_request_id_in_response, proxy_100_continue, upgrade_configs, normalize_path, merge_slashes,
        path_with_escaped_slashes_action, strip_matching_host_port,
        strip_trailing_host_dot, append_x_forwarded_port, route_specifier, strip_port_mode, forward_client_cert_details,
        set_current_client_cert_details, access_log],
    listed: [stream_error_on_invalid_http_message, add_user_agent, tracing, http1_safe_max_connection_duration, http3_protocol_options, stream_flush_timeout,
        drain_timeout, drain_timeout_jitter, delayed_close_timeout, access_log_flush_interval,
        flush_access_log_on_new_request, access_log_options, internal_address_config,
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6, proxy_status_config, append_local_overload,
        request_id_extension, add_proxy_protocol_connection_state],
    refused: [original_ip_detection_extensions, early_header_mutation_extensions, forward_client_cert_matcher,
        local_reply_config, path_normalization_options, typed_header_validation_config, forward_proto_config]);
judge!(router, envoy_types::pb::envoy::extensions::filters::http::router::v3::Router as "Router",
    acts: [suppress_envoy_headers, respect_expected_rq_timeout],
    listed: [dynamic_stats, start_child_span, upstream_log, upstream_log_options, suppress_grpc_request_failure_code_stats,
        reject_connect_request_early_data],
    refused: [strict_check_headers, upstream_http_filters]);

const ROUTER: &str = "envoy.extensions.filters.http.router.v3.Router";
const CORS: &str = "envoy.extensions.filters.http.cors.v3.Cors";
const CORS_POLICY: &str = "envoy.extensions.filters.http.cors.v3.CorsPolicy";
const FAULT: &str = "envoy.extensions.filters.http.fault.v3.HTTPFault";
const GRPC_WEB: &str = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb";
const FILTER_CONFIG: &str = "envoy.config.route.v3.FilterConfig";

/// Filters that only observe.
const HARMLESS: [&str; 1] = ["envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"];

/// A connection manager.
pub(crate) fn compile(
    value: &proto::HttpConnectionManager,
    seen: &mut Listed,
) -> Compiled<HttpConnectionManager> {
    manager::judge(value, seen)?;
    let (http_filters, router) = http_filters(&value.http_filters, seen)?;
    let common = value.common_http_protocol_options.unwrap_or_default();
    options::common::judge(&common, seen).map_err(|error| error.within("common_http_protocol_options"))?;
    let http1 = value.http_protocol_options.clone().unwrap_or_default();
    if !value::flag(http1.allow_absolute_url.as_ref(), true) {
        let reason = "false is not built: a server has to take absolute form (RFC 9112, 3.2.2)";
        return Err(Refusal::new("http_protocol_options.allow_absolute_url", reason));
    }
    let time = |given, field, default| value::limit(given, field, default);
    let minutes = |count: u64| Some(Duration::from_secs(60 * count));
    Ok(HttpConnectionManager {
        codec: codec(value.codec_type)?,
        stat_prefix: value.stat_prefix.as_str().into(),
        routes: routes(value.route_specifier.as_ref(), seen)?,
        filters: http_filters,
        router,
        server_name: if value.server_name.is_empty() {
            "envoy".into()
        } else {
            value.server_name.as_str().into()
        },
        server_header: match value.server_header_transformation {
            1 => ServerHeader::AppendIfAbsent,
            2 => ServerHeader::PassThrough,
            _ => ServerHeader::Overwrite,
        },
        use_remote_address: value::flag(value.use_remote_address.as_ref(), false),
        xff_num_trusted_hops: value.xff_num_trusted_hops,
        skip_xff_append: value.skip_xff_append,
        append_x_forwarded_port: value.append_x_forwarded_port,
        client_cert: client_cert(value)?,
        via: text(&value.via, "via")?,
        generate_request_id: value::flag(value.generate_request_id.as_ref(), true),
        preserve_external_request_id: value.preserve_external_request_id,
        always_set_request_id_in_response: value.always_set_request_id_in_response,
        upgrades: upgrades(&value.upgrade_configs)?,
        normalize_path: value::flag(value.normalize_path.as_ref(), false),
        merge_slashes: value.merge_slashes,
        escaped_slashes: escaped(value.path_with_escaped_slashes_action),
        strip_port: strip_port(value),
        strip_trailing_host_dot: value.strip_trailing_host_dot,
        max_request_headers: value.max_request_headers_kb.as_ref().map_or(60, |kb| kb.value.clamp(1, 8192))
            * 1024,
        max_headers_count: common.max_headers_count.as_ref().map_or(100, |count| count.value.max(1)),
        stream_idle_timeout: time(value.stream_idle_timeout.as_ref(), "stream_idle_timeout", minutes(5))?,
        request_timeout: time(value.request_timeout.as_ref(), "request_timeout", None)?,
        request_headers_timeout: time(
            value.request_headers_timeout.as_ref(),
            "request_headers_timeout",
            None,
        )?,
        idle_timeout: time(
            common.idle_timeout.as_ref(),
            "common_http_protocol_options.idle_timeout",
            minutes(60),
        )?,
        max_connection_duration: time(
            common.max_connection_duration.as_ref(),
            "max_connection_duration",
            None,
        )?,
        max_stream_duration: time(common.max_stream_duration.as_ref(), "max_stream_duration", None)?,
        max_requests_per_connection: common.max_requests_per_connection.as_ref().map_or(0, |most| most.value),
        underscores: match common.headers_with_underscores_action {
            1 => Underscores::Reject,
            2 => Underscores::Drop,
            _ => Underscores::Allow,
        },
        preserve_case: options::http1_preserves_case(value.http_protocol_options.as_ref(), seen)
            .map_err(|error| error.within("http_protocol_options"))?,
        accept_http_10: http1.accept_http_10,
        default_host_for_http_10: text(&http1.default_host_for_http_10, "default_host_for_http_10")?,
        http2: http2(value, seen).map_err(|error| error.within("http2_protocol_options"))?,
        proxy_100_continue: value.proxy_100_continue,
        scheme_override: scheme(value.scheme_header_transformation.as_ref())?,
        access_log: access_log::compile(&value.access_log, seen)?,
    })
}

fn http2(value: &proto::HttpConnectionManager, seen: &mut Listed) -> Compiled<Http2Settings> {
    let given = value.http2_protocol_options.as_ref();
    Ok(given.map(|given| options::http2_settings(given, seen)).transpose()?.unwrap_or_default())
}

fn text(value: &str, field: &str) -> Compiled<Box<str>> {
    value::header_value(value).map_err(|error| error.within(field))?;
    Ok(value.into())
}

fn codec(value: i32) -> Compiled<Codec> {
    match value {
        0 => Ok(Codec::Auto),
        1 => Ok(Codec::Http1),
        2 => Ok(Codec::Http2),
        _ => Err(Refusal::new("codec_type", "HTTP/3 is not built")),
    }
}

fn escaped(value: i32) -> EscapedSlashes {
    match value {
        2 => EscapedSlashes::Reject,
        3 => EscapedSlashes::UnescapeAndRedirect,
        4 => EscapedSlashes::UnescapeAndForward,
        _ => EscapedSlashes::Keep,
    }
}

fn strip_port(value: &proto::HttpConnectionManager) -> StripPort {
    match value.strip_port_mode {
        Some(kinds::StripPortMode::StripAnyHostPort(true)) => StripPort::Any,
        _ if value.strip_matching_host_port => StripPort::Matching,
        _ => StripPort::Keep,
    }
}

fn client_cert(value: &proto::HttpConnectionManager) -> Compiled<ClientCert> {
    let none = Default::default();
    let details = value.set_current_client_cert_details.as_ref().unwrap_or(&none);
    if details.issuer || details.format != 0 {
        let reason = "issuer and other formats than the default are not built";
        return Err(Refusal::new("set_current_client_cert_details", reason));
    }
    Ok(ClientCert {
        forward: match value.forward_client_cert_details {
            0 => ForwardClientCert::Sanitize,
            1 => ForwardClientCert::Forward,
            2 => ForwardClientCert::Append,
            3 => ForwardClientCert::Set,
            4 => ForwardClientCert::Always,
            other => {
                let reason = format!("{other} is unknown");
                return Err(Refusal::new("forward_client_cert_details", reason));
            }
        },
        subject: value::flag(details.subject.as_ref(), false),
        cert: details.cert,
        chain: details.chain,
        dns: details.dns,
        uri: details.uri,
    })
}

fn scheme(value: Option<&core::SchemeHeaderTransformation>) -> Compiled<Option<Box<str>>> {
    let Some(value) = value else { return Ok(None) };
    if value.match_upstream {
        return Err(Refusal::new("scheme_header_transformation.match_upstream", "is not built"));
    }
    use core::scheme_header_transformation::Transformation;
    match value.transformation.as_ref() {
        Some(Transformation::SchemeToOverwrite(scheme)) if ["http", "https"].contains(&scheme.as_str()) => {
            Ok(Some(scheme.as_str().into()))
        }
        Some(Transformation::SchemeToOverwrite(scheme)) => {
            let reason = format!("{scheme:?} is neither http nor https");
            Err(Refusal::new("scheme_header_transformation.scheme_to_overwrite", reason))
        }
        None => Ok(None),
    }
}

fn routes(value: Option<&kinds::RouteSpecifier>, seen: &mut Listed) -> Compiled<RouteSource> {
    match value {
        Some(kinds::RouteSpecifier::Rds(rds)) if rds.route_config_name.is_empty() => {
            Err(Refusal::new("rds.route_config_name", "is required"))
        }
        Some(kinds::RouteSpecifier::Rds(rds)) => Ok(RouteSource::Rds(Name::new(&rds.route_config_name))),
        Some(kinds::RouteSpecifier::RouteConfig(config)) => {
            let config = route::compile_inline(config, seen).map_err(|error| error.within("route_config"))?;
            Ok(RouteSource::Inline(Arc::new(config)))
        }
        Some(kinds::RouteSpecifier::ScopedRoutes(_)) => Err(Refusal::new("scoped_routes", "is not built")),
        None => Err(Refusal::new("route_specifier", "rds or route_config is required")),
    }
}

/// Lowercased type, and whether it is on by default.
type Upgrades = Box<[(Box<str>, bool)]>;

fn upgrades(value: &[kinds::UpgradeConfig]) -> Compiled<Upgrades> {
    let one = |(index, config): (usize, &kinds::UpgradeConfig)| {
        if !config.filters.is_empty() {
            return Err(Refusal::new(&format!("upgrade_configs[{index}].filters"), "is not built"));
        }
        let enabled = value::flag(config.enabled.as_ref(), true);
        Ok((config.upgrade_type.to_ascii_lowercase().into(), enabled))
    };
    value.iter().enumerate().map(one).collect()
}

fn http_filters(
    list: &[proto::HttpFilter],
    seen: &mut Listed,
) -> Compiled<(Box<[HttpFilter]>, RouterOptions)> {
    let mut out = Vec::new();
    let mut found = None;
    for (index, given) in list.iter().enumerate() {
        let place = |error: Refusal| error.within(format!("http_filters[{index}]"));
        if found.is_some() {
            return Err(place(Refusal::new("", "stands behind the router")));
        }
        let any = match given.config_type.as_ref() {
            Some(proto::http_filter::ConfigType::TypedConfig(any)) => any,
            _ if given.is_optional => {
                seen.insert("HttpFilter.is_optional");
                continue;
            }
            _ => return Err(place(Refusal::new("typed_config", format!("{:?} needs one", given.name)))),
        };
        match value::type_name(&any.type_url) {
            ROUTER => {
                let options: filters::router::v3::Router = value::unpack(any).map_err(place)?;
                router::judge(&options, seen).map_err(place)?;
                found = Some(RouterOptions {
                    suppress_envoy_headers: options.suppress_envoy_headers,
                    respect_expected_rq_timeout: options.respect_expected_rq_timeout,
                });
            }
            CORS if !given.disabled => out.push(HttpFilter::Cors),
            FAULT if !given.disabled => {
                let policy: filters::fault::v3::HttpFault = value::unpack(any).map_err(place)?;
                let policy = filter::fault(&policy, seen).map_err(place)?;
                let states = policy.delay.is_some() || policy.abort.is_some();
                out.push(HttpFilter::Fault(states.then(|| Arc::new(policy))));
            }
            GRPC_WEB => out.push(HttpFilter::GrpcWeb { disabled: given.disabled }),
            CORS | FAULT => {
                let reason = "a filter that is off until a route switches it on is not built";
                return Err(place(Refusal::new("disabled", reason)));
            }
            other if HARMLESS.contains(&other) || given.is_optional => {
                seen.insert("HttpConnectionManager.http_filters");
            }
            other => {
                let reason =
                    format!("filter {:?} ({other}) is not built and not marked optional", given.name);
                return Err(place(Refusal::new("", reason)));
            }
        }
    }
    let router = found.ok_or_else(|| Refusal::new("http_filters", "the router is missing at the end"))?;
    Ok((out.into(), router))
}

/// `typed_per_filter_config` of a route configuration, virtual host, route or weighted cluster.
pub(crate) fn overrides(map: &HashMap<String, Any>, seen: &mut Listed) -> Compiled<FilterOverrides> {
    let mut out = FilterOverrides::default();
    for (name, any) in map {
        let place = |error: Refusal| error.within(format!("typed_per_filter_config[{name}]"));
        per_filter(name, any, false, &mut out, seen).map_err(place)?;
    }
    Ok(out)
}

fn per_filter(
    name: &str,
    any: &Any,
    optional: bool,
    out: &mut FilterOverrides,
    seen: &mut Listed,
) -> Compiled<()> {
    match value::type_name(&any.type_url) {
        CORS_POLICY => out.cors = Some(Arc::new(filter::cors(&value::unpack(any)?, seen)?)),
        CORS => {}
        FAULT => out.fault = Some(Arc::new(filter::fault(&value::unpack(any)?, seen)?)),
        FILTER_CONFIG => {
            let config: FilterConfig = value::unpack(any)?;
            match name {
                _ if name.contains("cors") => out.cors_disabled = Some(config.disabled),
                _ if name.contains("fault") => out.fault_disabled = Some(config.disabled),
                _ if name.contains("grpc_web") => out.grpc_web_disabled = Some(config.disabled),
                _ => {}
            }
            // An empty one is how a filter without settings is switched on.
            if let Some(inner) = config.config.as_ref().filter(|inner| !inner.type_url.is_empty()) {
                return per_filter(name, inner, config.is_optional, out, seen);
            }
        }
        other if optional || HARMLESS.contains(&other) => {
            seen.insert("Route.typed_per_filter_config");
        }
        other => return Err(Refusal::new("", format!("{other} is not built and not marked optional"))),
    }
    Ok(())
}

//! HTTP connection managers and the listener filters before them.

use std::{collections::HashMap, time::Duration};

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{Http2ProtocolOptions, HttpProtocolOptions},
            listener::v3::{Filter, FilterChain, FilterChainMatch, ListenerFilter, filter, listener_filter},
            route::v3::{FilterConfig, RouteConfiguration},
        },
        extensions::filters::{
            http::{cors::v3::Cors, fault::v3::HttpFault, grpc_web::v3::GrpcWeb, router::v3::Router},
            listener::{
                http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
                tls_inspector::v3::TlsInspector,
            },
            network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds,
                http_connection_manager::{
                    CodecType, ForwardClientCertDetails, RouteSpecifier, ServerHeaderTransformation,
                    UpgradeConfig,
                },
                http_filter,
            },
        },
    },
    google::protobuf::Any,
};
use heddle_xds::ClientKind;
use prost::{Message, Name};

use super::{
    access_log,
    build::{ads, any, boolean, duration, http1_keeping_case},
    cx::Cx,
};
use crate::world::Protocol;

/// Where a connection manager stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// From the workload into the mesh.
    Outbound,
    /// To the workload.
    Inbound,
    /// Where traffic enters.
    Gateway,
}

/// Routes by name or in place.
pub(crate) enum Routes {
    Named(String),
    Inline(Box<RouteConfiguration>),
}

/// `envoy.filters.network.http_connection_manager` as Istio's sidecars and gateways have it.
pub(crate) fn connection_manager(
    cx: &Cx<'_>,
    side: Side,
    stat_prefix: &str,
    routes: Routes,
) -> HttpConnectionManager {
    let gateway = side == Side::Gateway;
    let route_specifier = match routes {
        Routes::Named(route_config_name) => {
            RouteSpecifier::Rds(Rds { config_source: Some(ads()), route_config_name })
        }
        Routes::Inline(config) => RouteSpecifier::RouteConfig(*config),
    };
    HttpConnectionManager {
        codec_type: CodecType::Auto as i32,
        stat_prefix: stat_prefix.to_owned(),
        route_specifier: Some(route_specifier),
        http_filters: vec![
            http_filter("envoy.filters.http.cors", &Cors {}),
            http_filter("envoy.filters.http.fault", &HttpFault::default()),
            http_filter("envoy.filters.http.router", &Router::default()),
        ],
        common_http_protocol_options: Some(HttpProtocolOptions {
            idle_timeout: Some(duration(Duration::from_secs(3600))),
            ..Default::default()
        }),
        http_protocol_options: Some(http1_keeping_case()),
        http2_protocol_options: extended_connect(cx, side)
            .then(|| Http2ProtocolOptions { allow_connect: true, ..Default::default() }),
        server_name: if gateway { "heddle".to_owned() } else { String::new() },
        server_header_transformation: if gateway {
            ServerHeaderTransformation::Overwrite as i32
        } else {
            ServerHeaderTransformation::PassThrough as i32
        },
        use_remote_address: boolean(gateway),
        skip_xff_append: false,
        generate_request_id: boolean(true),
        preserve_external_request_id: true,
        forward_client_cert_details: match side {
            Side::Inbound => ForwardClientCertDetails::ForwardOnly as i32,
            Side::Outbound | Side::Gateway => ForwardClientCertDetails::Sanitize as i32,
        },
        stream_idle_timeout: Some(duration(Duration::from_secs(300))),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned(), ..Default::default() }],
        normalize_path: boolean(true),
        access_log: access_log::logs(cx.config()),
        ..Default::default()
    }
}

/// Whether clients of HTTP/2 may ask for a WebSocket over it (RFC 8441). Browsers do where they may, and name no key: Envoy
/// passes that on to servers of HTTP/1.1, which refuse it. Without the offer browsers come by HTTP/1.1. At a workload it is
/// proxies that ask, and they name their client's key.
fn extended_connect(cx: &Cx<'_>, side: Side) -> bool {
    side == Side::Inbound || cx.client() == ClientKind::Heddle
}

fn http_filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any(config))),
        ..Default::default()
    }
}

/// The filter that has calls of gRPC-Web go on as gRPC.
const GRPC_WEB: &str = "envoy.filters.http.grpc_web";

/// Where a port is said to speak gRPC-Web, its calls go on as gRPC.
pub(crate) fn speaking(protocol: Protocol, mut manager: HttpConnectionManager) -> HttpConnectionManager {
    if protocol == Protocol::GrpcWeb {
        manager.http_filters.insert(0, http_filter(GRPC_WEB, &GrpcWeb {}));
    }
    manager
}

/// Calls of gRPC-Web go on as gRPC where a virtual host has [`told`] so.
pub(crate) fn speaking_where_told(mut manager: HttpConnectionManager) -> HttpConnectionManager {
    let filter = HttpFilter { disabled: true, ..http_filter(GRPC_WEB, &GrpcWeb {}) };
    manager.http_filters.insert(0, filter);
    manager
}

/// `typed_per_filter_config` of a virtual host whose service speaks gRPC-Web. Without settings, the filter is on there.
pub(crate) fn told() -> HashMap<String, Any> {
    let on = FilterConfig { config: Some(Any::default()), ..Default::default() };
    HashMap::from([(GRPC_WEB.to_owned(), any(&on))])
}

/// Also takes CONNECT.
pub(crate) fn with_connect(mut manager: HttpConnectionManager) -> HttpConnectionManager {
    manager.upgrade_configs.push(UpgradeConfig { upgrade_type: "CONNECT".to_owned(), ..Default::default() });
    manager
}

pub(crate) fn http_connection_filter(manager: &HttpConnectionManager) -> Filter {
    Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(any(manager))),
    }
}

/// What is plain HTTP, seen by its first bytes.
pub(crate) fn plain_http() -> FilterChainMatch {
    FilterChainMatch {
        transport_protocol: "raw_buffer".to_owned(),
        application_protocols: vec!["http/1.1".to_owned(), "h2c".to_owned()],
        ..Default::default()
    }
}

pub(crate) fn chain(name: &str, matched: Option<FilterChainMatch>, filter: Filter) -> FilterChain {
    FilterChain {
        name: name.to_owned(),
        filter_chain_match: matched,
        filters: vec![filter],
        ..Default::default()
    }
}

/// Tells what redirected connections were on their way to.
pub(crate) fn original_dst() -> ListenerFilter {
    listener_filter("envoy.filters.listener.original_dst", &OriginalDst::default())
}

/// Tells HTTP from the rest.
pub(crate) fn http_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.http_inspector", &HttpInspector::default())
}

/// Tells TLS from the rest, and its SNI.
pub(crate) fn tls_inspector() -> ListenerFilter {
    listener_filter("envoy.filters.listener.tls_inspector", &TlsInspector::default())
}

fn listener_filter<M: Message + Name>(name: &str, config: &M) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any(config))),
        ..Default::default()
    }
}

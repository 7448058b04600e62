//! How Envoy is told to join a control plane.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// A bootstrap that asks for everything over delta ADS.
pub(crate) fn bootstrap(xds: SocketAddr, name: &str, id: &str, metadata: &Value) -> Value {
    let grpc = json!({"envoy_grpc": {"cluster_name": "xds"}});
    let http2 = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}});
    let endpoint = json!({"endpoint": {"address": {"socket_address":
        {"address": xds.ip().to_string(), "port_value": xds.port()}}}});
    json!({
        "node": {"id": id, "cluster": name, "metadata": metadata},
        "dynamic_resources": {
            "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [grpc]},
            "lds_config": {"ads": {}, "resource_api_version": "V3"},
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [{
            "name": "xds", "type": "STATIC", "connect_timeout": "5s",
            "typed_extension_protocol_options": http2,
            "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [endpoint]}]},
        }]},
    })
}

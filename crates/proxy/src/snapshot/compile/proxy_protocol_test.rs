use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::core::v3::{Http2ProtocolOptions, TransportSocket};
use envoy_types::pb::google::protobuf::{Any, BoolValue};
use prost::Message;

use super::*;
use crate::snapshot::compile::cluster;

fn socket(url: &str, message: &impl Message) -> TransportSocket {
    let any = Any { type_url: format!("type.googleapis.com/{url}"), value: message.encode_to_vec() };
    TransportSocket { name: "socket".into(), config_type: Some(ConfigType::TypedConfig(any)) }
}

fn refused(transport: &ProxyProtocolUpstreamTransport, change: impl Fn(&mut Cluster)) -> String {
    let transport_socket = Some(socket(UPSTREAM, transport));
    let mut made = Cluster { name: "up".into(), transport_socket, ..Default::default() };
    change(&mut made);
    cluster::compile(&made, &mut Listed::new()).map_or_else(|refusal| refusal.to_string(), |_| String::new())
}

#[test]
#[expect(deprecated, reason = "still sent by old control planes")]
fn what_cannot_be_told_or_protected_is_refused() {
    let plain = ProxyProtocolUpstreamTransport::default();
    assert_eq!(refused(&plain, |_| {}), "");
    let http2 =
        |cluster: &mut Cluster| cluster.http2_protocol_options = Some(Http2ProtocolOptions::default());
    assert!(refused(&plain, http2).contains("with HTTP/2 upstream it is not built"));
    let unknown = socket("some.transport_sockets.Unheard", &plain);
    let unknown = ProxyProtocolUpstreamTransport { transport_socket: Some(unknown), ..Default::default() };
    assert!(refused(&unknown, |_| {}).starts_with("transport_socket.transport_socket: some."));
    let version = core::ProxyProtocolConfig { version: 7, ..Default::default() };
    let version = ProxyProtocolUpstreamTransport { config: Some(version), ..Default::default() };
    assert!(refused(&version, |_| {}).contains("config.version: 7 is no version"));
}

#[test]
fn a_listener_reads_headers_from_all_or_none() {
    let filter = proto::ProxyProtocol { disallowed_versions: vec![0, 1], ..Default::default() };
    assert!(downstream(&filter, &mut Listed::new()).unwrap_err().to_string().contains("leaves no version"));
    #[expect(deprecated, reason = "still sent by old control planes")]
    let chain = |value| FilterChain { use_proxy_proto: Some(BoolValue { value }), ..Default::default() };
    assert_eq!(of_chains([chain(true), chain(true)].iter()).unwrap(), Some(ALWAYS));
    assert_eq!(of_chains([chain(false), FilterChain::default()].iter()).unwrap(), None);
    assert!(of_chains([chain(true), FilterChain::default()].iter()).is_err());
}

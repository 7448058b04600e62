//! The PROXY protocol of listeners and clusters.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3::FilterChain;
use envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3 as proto;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;

use super::judge::{Compiled, Listed, Refusal, judge};
use super::value;
use crate::conn::proxy_protocol::Version;
use crate::snapshot::ProxyProtocol;

judge!(filter, envoy_types::pb::envoy::extensions::filters::listener::proxy_protocol::v3::ProxyProtocol as "ProxyProtocol",
    acts: [allow_requests_without_proxy_protocol, disallowed_versions],
    listed: [stat_prefix, tlv_location], refused: [rules, pass_through_tlvs]);
judge!(transport, envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport as "ProxyProtocolUpstreamTransport",
    acts: [config, transport_socket],
    listed: [allow_unspecified_address, tlv_as_pool_key], refused: []);
judge!(config, envoy_types::pb::envoy::config::core::v3::ProxyProtocolConfig as "ProxyProtocolConfig",
    acts: [version], listed: [], refused: [pass_through_tlvs, added_tlvs]);

const UPSTREAM: &str = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport";

/// What `use_proxy_proto` of the filter chains asks for, and what a filter without settings does.
const ALWAYS: ProxyProtocol = ProxyProtocol { optional: false, v1: true, v2: true };

fn version(number: i32) -> Compiled<Version> {
    match number {
        0 => Ok(Version::V1),
        1 => Ok(Version::V2),
        other => Err(Refusal::new("version", format!("{other} is no version of the PROXY protocol"))),
    }
}

/// The listener filter.
pub(super) fn downstream(value: &proto::ProxyProtocol, seen: &mut Listed) -> Compiled<ProxyProtocol> {
    filter::judge(value, seen)?;
    let mut out = ProxyProtocol { optional: value.allow_requests_without_proxy_protocol, ..ALWAYS };
    for number in &value.disallowed_versions {
        match version(*number).map_err(|error| error.within("disallowed_versions"))? {
            Version::V1 => out.v1 = false,
            Version::V2 => out.v2 = false,
        }
    }
    if !out.v1 && !out.v2 {
        return Err(Refusal::new("disallowed_versions", "leaves no version: remove the filter instead"));
    }
    Ok(out)
}

/// `use_proxy_proto`, which is one setting of the whole listener: the header comes before a chain is chosen.
pub(super) fn of_chains<'c>(
    mut chains: impl Iterator<Item = &'c FilterChain>,
) -> Compiled<Option<ProxyProtocol>> {
    #[expect(deprecated, reason = "still sent by old control planes")]
    let wanted = |chain: &FilterChain| value::flag(chain.use_proxy_proto.as_ref(), false);
    let Some(first) = chains.next().map(wanted) else { return Ok(None) };
    if chains.any(|chain| wanted(chain) != first) {
        let reason = "use_proxy_proto of all chains is the same, or the listener filter is used instead";
        return Err(Refusal::new("filter_chains", reason));
    }
    Ok(first.then_some(ALWAYS))
}

/// A cluster's transport socket: the header that comes first, and the socket behind it.
pub(super) fn upstream(
    socket: Option<&core::TransportSocket>,
    seen: &mut Listed,
) -> Compiled<(Option<Version>, Option<core::TransportSocket>)> {
    let config = socket.and_then(|socket| socket.config_type.as_ref());
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) =
        config.filter(|core::transport_socket::ConfigType::TypedConfig(any)| {
            value::type_name(&any.type_url) == UPSTREAM
        })
    else {
        return Ok((None, socket.cloned()));
    };
    let given: ProxyProtocolUpstreamTransport = value::unpack(any)?;
    transport::judge(&given, seen)?;
    let Some(settings) = &given.config else { return Ok((Some(Version::V1), given.transport_socket)) };
    let version = config::judge(settings, seen).and_then(|()| version(settings.version));
    Ok((Some(version.map_err(|e| e.within("config"))?), given.transport_socket))
}

#[cfg(test)]
#[path = "proxy_protocol_test.rs"]
mod proxy_protocol_test;

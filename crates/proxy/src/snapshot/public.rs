//! What of a resource may be shown to whoever asks: all but private keys.

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{
    AggregatedConfigSource, ConfigSource, TransportSocket, config_source::ConfigSourceSpecifier,
    transport_socket::ConfigType,
};
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::extensions::transport_sockets::proxy_protocol::v3::ProxyProtocolUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::google::protobuf::Any;
use heddle_xds::ResourceType;
use prost::{Message, Name};

/// Every encoded private key has these words.
const MARK: &[u8] = b"PRIVATE KEY";

/// A resource without private keys. A certificate that has one is named instead, as one that comes by itself would be.
/// Nothing for a resource that is nothing else.
pub(super) fn shown(kind: ResourceType, body: &Bytes) -> Option<Bytes> {
    if kind == ResourceType::Secret {
        return None;
    }
    if memchr::memmem::find(body, MARK).is_none() {
        return Some(body.clone());
    }
    match kind {
        ResourceType::Listener => rewritten(body, |listener: &mut Listener| {
            let chains = listener.filter_chains.iter_mut().chain(&mut listener.default_filter_chain);
            chains.filter_map(|chain| chain.transport_socket.as_mut()).for_each(hide);
        }),
        ResourceType::Cluster => rewritten(body, |cluster: &mut Cluster| {
            let matches = cluster.transport_socket_matches.iter_mut();
            let sockets = matches.filter_map(|one| one.transport_socket.as_mut());
            sockets.chain(&mut cluster.transport_socket).for_each(hide);
        }),
        _ => None,
    }
    // Words are found anywhere, as in a comment: what still has them is not shown.
    .filter(|body| memchr::memmem::find(body, MARK).is_none())
}

fn rewritten<M: Message + Default>(body: &[u8], change: impl FnOnce(&mut M)) -> Option<Bytes> {
    let mut message = M::decode(body).ok()?;
    change(&mut message);
    Some(message.encode_to_vec().into())
}

fn hide(socket: &mut TransportSocket) {
    let Some(ConfigType::TypedConfig(any)) = &mut socket.config_type else { return };
    within(any, |context: &mut tls::DownstreamTlsContext| name_instead(&mut context.common_tls_context));
    within(any, |context: &mut tls::UpstreamTlsContext| name_instead(&mut context.common_tls_context));
    within(any, |outer: &mut ProxyProtocolUpstreamTransport| {
        outer.transport_socket.iter_mut().for_each(hide);
    });
}

fn within<M: Message + Default + Name>(any: &mut Any, change: impl FnOnce(&mut M)) {
    if any.type_url.rsplit('/').next() == Some(M::full_name().as_str())
        && let Some(body) = rewritten(&any.value, change)
    {
        any.value = body.to_vec();
    }
}

fn name_instead(common: &mut Option<tls::CommonTlsContext>) {
    let Some(common) = common else { return };
    let source = || ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource::default())),
        ..ConfigSource::default()
    };
    for index in 0..std::mem::take(&mut common.tls_certificates).len() {
        common.tls_certificate_sds_secret_configs.push(tls::SdsSecretConfig {
            name: format!("inline certificate {index}, not shown"),
            sds_config: Some(source()),
        });
    }
}

#[cfg(test)]
mod public_test {
    use super::*;
    use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source::Specifier};
    use envoy_types::pb::envoy::config::listener::v3::FilterChain;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----\n";

    fn common() -> Option<tls::CommonTlsContext> {
        let key = DataSource { specifier: Some(Specifier::InlineString(KEY.into())), ..Default::default() };
        let pair = tls::TlsCertificate { private_key: Some(key), ..Default::default() };
        Some(tls::CommonTlsContext { tls_certificates: vec![pair], ..Default::default() })
    }

    fn socket<M: Message + Name>(context: &M) -> Option<TransportSocket> {
        let any = Any {
            type_url: format!("type.googleapis.com/{}", M::full_name()),
            value: context.encode_to_vec(),
        };
        let config_type = Some(ConfigType::TypedConfig(any));
        Some(TransportSocket { name: "tls".into(), config_type })
    }

    #[test]
    fn no_resource_shows_a_private_key() {
        let front = socket(&tls::DownstreamTlsContext { common_tls_context: common(), ..Default::default() });
        let chain = FilterChain { transport_socket: front, ..Default::default() };
        let listener = Listener {
            filter_chains: vec![chain.clone()],
            default_filter_chain: Some(chain),
            ..Default::default()
        };
        let back = socket(&tls::UpstreamTlsContext { common_tls_context: common(), ..Default::default() });
        let outer = ProxyProtocolUpstreamTransport { transport_socket: back, ..Default::default() };
        let cluster = Cluster { transport_socket: socket(&outer), ..Default::default() };
        for (kind, body) in [
            (ResourceType::Listener, listener.encode_to_vec()),
            (ResourceType::Cluster, cluster.encode_to_vec()),
        ] {
            let shown = shown(kind, &body.clone().into()).unwrap();
            let has = |body: &[u8], text: &str| memchr::memmem::find(body, text.as_bytes()).is_some();
            assert!(has(&body, "secret") && !has(&shown, "secret"));
            assert!(has(&shown, "inline certificate 0, not shown"));
        }
        assert_eq!(shown(ResourceType::Route, &Bytes::from_static(b"PRIVATE KEY")), None);
        assert_eq!(shown(ResourceType::Secret, &Bytes::new()), None);
        let plain = Bytes::from_static(b"anything");
        assert_eq!(shown(ResourceType::Listener, &plain), Some(plain.clone()));
    }
}

//! `DownstreamTlsContext` and `UpstreamTlsContext` to what [`crate::tls`] works with.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as proto;
use proto::downstream_tls_context::SessionTicketKeysType;
use proto::tls_parameters::TlsProtocol;
use rustls::{ProtocolVersion, SupportedCipherSuite};

use super::credentials::{Content, tls_certificate, validations};
use super::judge::{Compiled, Listed, Refusal, judge};
use super::value;
use crate::snapshot::{CommonTls, DownstreamTls, Given, Name, Resumption, UpstreamTls};
use crate::tls::certificate::{hex, sha256};
use crate::tls::provider;

judge!(downstream, envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::DownstreamTlsContext as "DownstreamTlsContext",
    acts: [common_tls_context, require_client_certificate, require_sni, disable_stateful_session_resumption,
        session_timeout, prefer_client_ciphers, session_ticket_keys_type],
    listed: [full_scan_certs_on_sni_mismatch], refused: [ocsp_staple_policy]);
judge!(upstream, envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext as "UpstreamTlsContext",
    acts: [common_tls_context, sni, auto_host_sni, auto_sni_san_validation, max_session_keys],
    listed: [enforce_rsa_key_usage], refused: [allow_renegotiation]);
judge!(common, envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::CommonTlsContext as "CommonTlsContext",
    acts: [tls_params, tls_certificates, tls_certificate_sds_secret_configs, alpn_protocols, validation_context_type],
    listed: [],
    refused: [tls_certificate_provider_instance, custom_tls_certificate_selector, tls_certificate_certificate_provider,
        tls_certificate_certificate_provider_instance, custom_handshaker, key_log]);
judge!(params, envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::TlsParameters as "TlsParameters",
    acts: [tls_minimum_protocol_version, tls_maximum_protocol_version, cipher_suites, ecdh_curves],
    listed: [], refused: [signature_algorithms, compliance_policies]);

/// Type of the server's side.
pub(super) const DOWNSTREAM: &str = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";

/// Type of the client's side.
pub(super) const UPSTREAM: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";

/// The server's side of a filter chain.
pub(super) fn downstream_tls(
    value: &proto::DownstreamTlsContext,
    seen: &mut Listed,
) -> Compiled<DownstreamTls> {
    downstream::judge(value, seen)?;
    let mut content = Content(prost::Message::encode_to_vec(value));
    let given = value.common_tls_context.as_ref();
    let given = given.ok_or_else(|| Refusal::new("common_tls_context", "is required"))?;
    let common = common_tls(given, seen, &mut content).map_err(|error| error.within("common_tls_context"))?;
    if common.certificates.is_empty() {
        return Err(Refusal::new(
            "common_tls_context.tls_certificates",
            "a certificate is required: tls_certificates or tls_certificate_sds_secret_configs",
        ));
    }
    let require_client_certificate = value::flag(value.require_client_certificate.as_ref(), false);
    if require_client_certificate && common.validation.is_empty() {
        let reason = "nothing says which certificates to believe: give a validation context with trusted_ca";
        return Err(Refusal::new("require_client_certificate", reason));
    }
    let stateless = match &value.session_ticket_keys_type {
        None => true,
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(disabled)) => !disabled,
        Some(_) => {
            let reason = "is not built: keys are made and rotated by the proxy; leave it out, or disable_stateless_session_resumption";
            return Err(Refusal::new("session_ticket_keys", reason));
        }
    };
    let timeout = value::duration_of(value.session_timeout.as_ref(), "session_timeout")?;
    Ok(DownstreamTls {
        key: Name::new(&hex(&sha256(&content.0))),
        common,
        require_client_certificate,
        require_sni: value::flag(value.require_sni.as_ref(), false),
        prefer_client_ciphers: value.prefer_client_ciphers,
        resumption: match (stateless, value.disable_stateful_session_resumption) {
            (true, _) => Resumption::Tickets,
            (false, false) => Resumption::Memory,
            (false, true) => Resumption::Never,
        },
        session_timeout: timeout.unwrap_or(Duration::from_secs(7200)),
    })
}

/// The client's side of a cluster; the names that its HTTP options ask for and check belong to it.
pub(super) fn upstream_tls(
    value: &proto::UpstreamTlsContext,
    (auto_sni, auto_san): (bool, bool),
    seen: &mut Listed,
) -> Compiled<UpstreamTls> {
    upstream::judge(value, seen)?;
    let mut content = Content(prost::Message::encode_to_vec(value));
    content.0.extend([u8::from(auto_sni), u8::from(auto_san)]);
    let empty = proto::CommonTlsContext::default();
    let given = value.common_tls_context.as_ref().unwrap_or(&empty);
    let common = common_tls(given, seen, &mut content).map_err(|error| error.within("common_tls_context"))?;
    let sni = Some(value.sni.as_str()).filter(|name| !name.is_empty());
    if let Some(bad) = sni.filter(|name| rustls::pki_types::ServerName::try_from(*name).is_err()) {
        return Err(Refusal::new("sni", format!("{bad:?} is no name of a server")));
    }
    let own_name = value.auto_sni_san_validation || auto_san;
    if common.validation.is_empty() {
        if own_name {
            let reason = "a name proves nothing without a trusted_ca that vouches for it";
            return Err(Refusal::new("auto_sni_san_validation", reason));
        }
        seen.insert(
            "CommonTlsContext.validation_context_type (absent: the server's certificate is not verified)",
        );
    }
    Ok(UpstreamTls {
        key: Name::new(&hex(&sha256(&content.0))),
        common,
        sni: sni.map(Into::into),
        auto_host_sni: value.auto_host_sni,
        auto_sni,
        own_name,
        max_sessions: value.max_session_keys.as_ref().map_or(1, |most| most.value.min(64) as usize),
    })
}

fn common_tls(
    value: &proto::CommonTlsContext,
    seen: &mut Listed,
    content: &mut Content,
) -> Compiled<CommonTls> {
    common::judge(value, seen)?;
    let mut certificates = Vec::new();
    for (index, given) in value.tls_certificates.iter().enumerate() {
        let read = tls_certificate(given, seen, content);
        let read = read.map_err(|error| error.within(format!("tls_certificates[{index}]")))?;
        certificates.push(Given::Here(Arc::new(read)));
    }
    for (index, given) in value.tls_certificate_sds_secret_configs.iter().enumerate() {
        let name = secret_name(given);
        let name =
            name.map_err(|error| error.within(format!("tls_certificate_sds_secret_configs[{index}]")))?;
        certificates.push(Given::Secret(name));
    }
    let empty = proto::TlsParameters::default();
    let params = value.tls_params.as_ref().unwrap_or(&empty);
    let within = |error: Refusal| error.within("tls_params");
    params::judge(params, seen).map_err(within)?;
    let versions = versions(params, seen).map_err(within)?;
    let protocols: Vec<Box<[u8]>> = value.alpn_protocols.iter().map(|name| name.as_bytes().into()).collect();
    if let Some(bad) = protocols.iter().position(|name| name.is_empty() || name.len() > 255) {
        return Err(Refusal::new(&format!("alpn_protocols[{bad}]"), "a protocol has 1 to 255 bytes"));
    }
    Ok(CommonTls {
        versions,
        suites: suites(&params.cipher_suites).map_err(within)?,
        groups: groups(&params.ecdh_curves).map_err(within)?,
        certificates: certificates.into(),
        validation: validations(value.validation_context_type.as_ref(), seen, content)?,
        protocols: protocols.into(),
    })
}

/// TLS 1.0 and 1.1 do not exist here: as a lower bound they mean 1.2, as an upper one nothing is left.
fn versions(params: &proto::TlsParameters, seen: &mut Listed) -> Compiled<[bool; 2]> {
    let named = |number: i32, field: &str| {
        TlsProtocol::try_from(number)
            .map_err(|_| Refusal::new(field, format!("{number} is no version of TLS")))
    };
    let least = named(params.tls_minimum_protocol_version, "tls_minimum_protocol_version")?;
    let most = named(params.tls_maximum_protocol_version, "tls_maximum_protocol_version")?;
    if matches!(least, TlsProtocol::TlSv10 | TlsProtocol::TlSv11) {
        seen.insert(
            "TlsParameters.tls_minimum_protocol_version (TLS 1.0 and 1.1 are not spoken; 1.2 is the least)",
        );
    }
    if matches!(most, TlsProtocol::TlSv10 | TlsProtocol::TlSv11) {
        let reason = "TLS 1.0 and 1.1 are not spoken; allow TLSv1_2 or TLSv1_3";
        return Err(Refusal::new("tls_maximum_protocol_version", reason));
    }
    let allowed = [least != TlsProtocol::TlSv13, most != TlsProtocol::TlSv12];
    if allowed == [false, false] {
        return Err(Refusal::new("tls_maximum_protocol_version", "is below tls_minimum_protocol_version"));
    }
    Ok(allowed)
}

/// Suites of TLS 1.2 by the names that OpenSSL and BoringSSL have; those of 1.3 are not chosen.
fn suites(names: &[String]) -> Compiled<Box<[SupportedCipherSuite]>> {
    if names.is_empty() {
        return Ok(Box::default());
    }
    let all = &provider().cipher_suites;
    let mut out: Vec<SupportedCipherSuite> =
        all.iter().filter(|suite| suite.version().version == ProtocolVersion::TLSv1_3).copied().collect();
    for (index, given) in names.iter().enumerate() {
        // [A|B] are equal; the order stands here.
        for name in given.trim_start_matches('[').trim_end_matches(']').split('|') {
            let known = suite_name(name)
                .and_then(|wanted| all.iter().find(|suite| suite.suite().as_str() == Some(wanted)).copied());
            let Some(suite) = known else {
                let reason = format!(
                    "{name:?} is not spoken: ECDHE-ECDSA or ECDHE-RSA with AES128-GCM-SHA256, AES256-GCM-SHA384 or CHACHA20-POLY1305 are"
                );
                return Err(Refusal::new(&format!("cipher_suites[{index}]"), reason));
            };
            if !out.contains(&suite) {
                out.push(suite);
            }
        }
    }
    Ok(out.into())
}

fn suite_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "ECDHE-ECDSA-AES128-GCM-SHA256" => "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384" => "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305" => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256" => "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
        "ECDHE-RSA-AES256-GCM-SHA384" => "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
        "ECDHE-RSA-CHACHA20-POLY1305" => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        _ => return None,
    })
}

fn groups(names: &[String]) -> Compiled<Box<[&'static dyn rustls::crypto::SupportedKxGroup]>> {
    use rustls::crypto::aws_lc_rs::kx_group;
    let mut out = Vec::new();
    for (index, name) in names.iter().enumerate() {
        out.push(match name.as_str() {
            "X25519MLKEM768" => kx_group::X25519MLKEM768,
            "X25519" => kx_group::X25519,
            "P-256" | "prime256v1" | "secp256r1" => kx_group::SECP256R1,
            "P-384" | "secp384r1" => kx_group::SECP384R1,
            other => {
                let reason = format!("{other:?} is not spoken: X25519MLKEM768, X25519, P-256 and P-384 are");
                return Err(Refusal::new(&format!("ecdh_curves[{index}]"), reason));
            }
        });
    }
    Ok(out.into())
}

/// The secret of a name, which has to come by the stream that everything else comes by.
pub(super) fn secret_name(value: &proto::SdsSecretConfig) -> Compiled<Name> {
    if value.name.is_empty() {
        return Err(Refusal::new("name", "is required"));
    }
    let source = value.sds_config.as_ref().and_then(|source| source.config_source_specifier.as_ref());
    match source {
        Some(
            core::config_source::ConfigSourceSpecifier::Ads(_)
            | core::config_source::ConfigSourceSpecifier::Self_(_),
        ) => Ok(Name::new(&value.name)),
        Some(_) => Err(Refusal::new("sds_config", "only ads is built: send the secret by the same stream")),
        None => Err(Refusal::new("sds_config", "is required: ads (there are no secrets in a bootstrap)")),
    }
}

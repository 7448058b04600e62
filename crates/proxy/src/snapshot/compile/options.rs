//! Options of HTTP by version, for clients and for endpoints.

use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::http1_protocol_options::header_key_format::HeaderFormat;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::UpstreamProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;

use super::judge::{Compiled, Listed, Refusal, judge};
use super::value;
use crate::snapshot::{Http2Settings, UpstreamProtocol};

judge!(common, envoy_types::pb::envoy::config::core::v3::HttpProtocolOptions as "HttpProtocolOptions",
    acts: [idle_timeout, max_connection_duration, max_headers_count, max_stream_duration, headers_with_underscores_action,
        max_requests_per_connection],
    listed: [max_connection_duration_jitter, max_response_headers_kb],
    refused: []);
judge!(protocols, envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions as "upstreams.HttpProtocolOptions",
    acts: [common_http_protocol_options, upstream_protocol_options, upstream_http_protocol_options],
    listed: [header_validation_config, outlier_detection],
    refused: [http_filters, request_mirror_policies, hash_policy, retry_policy]);
// Trailers are passed on with or without `enable_trailers`, every method is, and two lengths are refused always.
judge!(http1, envoy_types::pb::envoy::config::core::v3::Http1ProtocolOptions as "Http1ProtocolOptions",
    acts: [allow_absolute_url, accept_http_10, default_host_for_http_10, header_key_format, enable_trailers,
        allow_custom_methods],
    listed: [allow_chunked_length, override_stream_error_on_invalid_http_message, use_balsa_parser],
    refused: [send_fully_qualified_url, ignore_http_11_upgrade]);
judge!(http2, envoy_types::pb::envoy::config::core::v3::Http2ProtocolOptions as "Http2ProtocolOptions",
    acts: [max_concurrent_streams, initial_stream_window_size, initial_connection_window_size, allow_connect,
        connection_keepalive],
    listed: [hpack_table_size, allow_metadata, max_outbound_frames, max_outbound_control_frames,
        max_consecutive_inbound_frames_with_empty_payload, max_inbound_priority_frames_per_stream,
        max_inbound_window_update_frames_per_data_frame_sent, stream_error_on_invalid_http_messaging,
        override_stream_error_on_invalid_http_message, custom_settings_parameters, use_oghttp2_codec, max_metadata_size,
        enable_huffman_encoding, max_header_field_size_kb, stream_reset_burst, stream_reset_rate],
    refused: [disallow_obs_text]);

/// The case of header names is kept.
pub(crate) fn http1_preserves_case(
    value: Option<&core::Http1ProtocolOptions>,
    seen: &mut Listed,
) -> Compiled<bool> {
    let Some(value) = value else { return Ok(false) };
    http1::judge(value, seen)?;
    let format = value.header_key_format.as_ref();
    match format.and_then(|format| format.header_format.as_ref()) {
        None => Ok(false),
        Some(HeaderFormat::StatefulFormatter(formatter)) => {
            let any = formatter.typed_config.as_ref().map_or("", |any| value::type_name(&any.type_url));
            if any == "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig" {
                return Ok(true);
            }
            Err(Refusal::new("header_key_format.stateful_formatter", format!("{any} is not built")))
        }
        Some(HeaderFormat::ProperCaseWords(_)) => {
            Err(Refusal::new("header_key_format.proper_case_words", "is not built"))
        }
    }
}

pub(crate) fn http2_settings(
    value: &core::Http2ProtocolOptions,
    seen: &mut Listed,
) -> Compiled<Http2Settings> {
    http2::judge(value, seen)?;
    let keepalive = value.connection_keepalive.as_ref();
    let time = |given, field| value::duration_of(given, field);
    Ok(Http2Settings {
        max_concurrent_streams: value.max_concurrent_streams.as_ref().map(|v| v.value),
        stream_window: value.initial_stream_window_size.as_ref().map(|v| v.value),
        connection_window: value.initial_connection_window_size.as_ref().map(|v| v.value),
        allow_connect: value.allow_connect,
        keepalive_interval: time(
            keepalive.and_then(|k| k.interval.as_ref()),
            "connection_keepalive.interval",
        )?,
        keepalive_timeout: time(keepalive.and_then(|k| k.timeout.as_ref()), "connection_keepalive.timeout")?,
    })
}

/// HTTP settings towards endpoints.
pub(super) struct HttpOptions {
    pub(super) protocol: UpstreamProtocol,
    pub(super) preserve_case: bool,
    pub(super) max_requests: u32,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) max_connection_duration: Option<Duration>,
    pub(super) max_stream_duration: Option<Duration>,
    pub(super) http2: Http2Settings,
    /// `auto_sni`, `auto_san_validation`.
    pub(super) names: (bool, bool),
}

pub(super) fn http_options(value: &Cluster, seen: &mut Listed) -> Compiled<HttpOptions> {
    let mut out = HttpOptions {
        protocol: UpstreamProtocol::Http1,
        preserve_case: http1_preserves_case(value.http_protocol_options.as_ref(), seen)?,
        max_requests: value.max_requests_per_connection.as_ref().map_or(0, |most| most.value),
        idle_timeout: Some(Duration::from_secs(3600)),
        max_connection_duration: None,
        max_stream_duration: None,
        http2: Http2Settings::default(),
        names: (false, false),
    };
    if let Some(http2) = &value.http2_protocol_options {
        out.protocol = UpstreamProtocol::Http2;
        out.http2 = http2_settings(http2, seen)?;
    }
    common_http(value.common_http_protocol_options.as_ref(), seen, &mut out)?;
    for (name, any) in &value.typed_extension_protocol_options {
        if name != "envoy.extensions.upstreams.http.v3.HttpProtocolOptions" {
            seen.insert("Cluster.typed_extension_protocol_options");
            continue;
        }
        let within = |error: Refusal| error.within(format!("typed_extension_protocol_options[{name}]"));
        let options: upstream::HttpProtocolOptions = value::unpack(any).map_err(within)?;
        protocol_options(&options, seen, &mut out).map_err(within)?;
    }
    Ok(out)
}

fn protocol_options(
    options: &upstream::HttpProtocolOptions,
    seen: &mut Listed,
    out: &mut HttpOptions,
) -> Compiled<()> {
    protocols::judge(options, seen)?;
    common_http(options.common_http_protocol_options.as_ref(), seen, out)?;
    if let Some(names) = &options.upstream_http_protocol_options {
        if !names.override_auto_sni_header.is_empty() {
            let field = "upstream_http_protocol_options.override_auto_sni_header";
            return Err(Refusal::new(field, "is not built"));
        }
        out.names = (names.auto_sni, names.auto_san_validation);
    }
    let (http1, http2) = match options.upstream_protocol_options.as_ref() {
        None => (None, None),
        Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) => {
            match explicit.protocol_config.as_ref() {
                Some(ProtocolConfig::HttpProtocolOptions(http1)) => (Some(http1), None),
                Some(ProtocolConfig::Http2ProtocolOptions(http2)) => {
                    out.protocol = UpstreamProtocol::Http2;
                    (None, Some(http2))
                }
                Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                    return Err(Refusal::new("explicit_http_config.http3_protocol_options", "is not built"));
                }
                None => (None, None),
            }
        }
        Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(config)) => {
            out.protocol = UpstreamProtocol::Downstream;
            (config.http_protocol_options.as_ref(), config.http2_protocol_options.as_ref())
        }
        Some(UpstreamProtocolOptions::AutoConfig(config)) => {
            out.protocol = UpstreamProtocol::Auto;
            if config.http3_protocol_options.is_some() {
                return Err(Refusal::new("auto_config.http3_protocol_options", "is not built"));
            }
            (config.http_protocol_options.as_ref(), config.http2_protocol_options.as_ref())
        }
    };
    out.preserve_case |= http1_preserves_case(http1, seen)?;
    if let Some(http2) = http2 {
        out.http2 = http2_settings(http2, seen)?;
    }
    Ok(())
}

fn common_http(
    value: Option<&core::HttpProtocolOptions>,
    seen: &mut Listed,
    out: &mut HttpOptions,
) -> Compiled<()> {
    let Some(value) = value else { return Ok(()) };
    let within = |error: Refusal| error.within("common_http_protocol_options");
    common::judge(value, seen).map_err(within)?;
    out.idle_timeout =
        value::limit(value.idle_timeout.as_ref(), "idle_timeout", out.idle_timeout).map_err(within)?;
    let longest = value::limit(value.max_connection_duration.as_ref(), "max_connection_duration", None);
    out.max_connection_duration = longest.map_err(within)?;
    let stream = value::limit(value.max_stream_duration.as_ref(), "max_stream_duration", None);
    out.max_stream_duration = stream.map_err(within)?;
    if let Some(most) = &value.max_requests_per_connection {
        out.max_requests = most.value;
    }
    Ok(())
}

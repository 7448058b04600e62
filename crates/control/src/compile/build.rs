//! Small constructors for Envoy's messages.

use std::{net::SocketAddr, time::Duration};

use envoy_types::pb::{
    envoy::{
        config::core::v3::{
            Address, AggregatedConfigSource, ApiVersion, ConfigSource, DataSource, HeaderValue,
            HeaderValueOption, Http1ProtocolOptions, Pipe, RuntimeFractionalPercent, SocketAddress,
            TypedExtensionConfig, address, config_source::ConfigSourceSpecifier, data_source,
            header_value_option::HeaderAppendAction, http1_protocol_options, socket_address::PortSpecifier,
        },
        extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig,
        r#type::{
            matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
            v3::{FractionalPercent, fractional_percent::DenominatorType},
        },
    },
    google::protobuf::{self, Any, BoolValue, UInt32Value},
};
use prost::{Message, Name};

/// Packs a message.
pub(crate) fn any<M: Message + Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: message.encode_to_vec() }
}

pub(crate) fn duration(value: Duration) -> protobuf::Duration {
    protobuf::Duration {
        seconds: i64::try_from(value.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(value.subsec_nanos()).unwrap_or_default(),
    }
}

pub(crate) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

pub(crate) fn uint(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// A Unix socket; `@NAME` is abstract.
pub(crate) fn pipe_address(path: &str) -> Address {
    let pipe = Pipe { path: path.to_owned(), ..Default::default() };
    Address { address: Some(address::Address::Pipe(pipe)) }
}

pub(crate) fn socket_address(address: SocketAddr) -> Address {
    host_address(&address.ip().to_string(), address.port())
}

/// An address by IP or by name.
pub(crate) fn host_address(host: &str, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(u32::from(port))),
            ..Default::default()
        })),
    }
}

/// "Ask on the stream that brought this": ADS, without a limit on the first answer, as Istio.
pub(crate) fn ads() -> ConfigSource {
    ConfigSource {
        initial_fetch_timeout: Some(duration(Duration::ZERO)),
        resource_api_version: ApiVersion::V3 as i32,
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

/// HTTP/1.1 with header names in the case they came in.
pub(crate) fn http1_keeping_case() -> Http1ProtocolOptions {
    use http1_protocol_options::{HeaderKeyFormat, header_key_format::HeaderFormat};
    Http1ProtocolOptions {
        header_key_format: Some(HeaderKeyFormat {
            header_format: Some(HeaderFormat::StatefulFormatter(TypedExtensionConfig {
                name: "preserve_case".to_owned(),
                typed_config: Some(any(&PreserveCaseFormatterConfig::default())),
            })),
        }),
        ..Default::default()
    }
}

pub(crate) fn inline_string(text: impl Into<String>) -> DataSource {
    DataSource { specifier: Some(data_source::Specifier::InlineString(text.into())), ..Default::default() }
}

/// A header to set (in place of what is there) or to add (beside it).
pub(crate) fn header(name: &str, value: &str, action: HeaderAppendAction) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), ..Default::default() }),
        append_action: action as i32,
        ..Default::default()
    }
}

/// `percent` of 100, in millionths as Istio writes it.
pub(crate) fn fraction(percent: f64) -> FractionalPercent {
    let millionths = (percent.clamp(0.0, 100.0) * 10_000.0).round();
    FractionalPercent {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000,000")]
        numerator: millionths as u32,
        denominator: DenominatorType::Million as i32,
    }
}

pub(crate) fn runtime_fraction(percent: f64) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent { default_value: Some(fraction(percent)), ..Default::default() }
}

pub(crate) fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher { regex: pattern.to_owned(), ..Default::default() }
}

pub(crate) fn string(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { ignore_case: false, match_pattern: Some(pattern) }
}

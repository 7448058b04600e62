//! Small values that many messages share.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::address::Address as AddressKind;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::google::protobuf;
use ipnet::IpNet;
use prost::Message;

use super::judge::{Compiled, Refusal};
use crate::decide::matching::{Fraction, Pattern, RegexRewrite, StringMatcher};
use crate::snapshot::{Address, Provenance, SocketCriteria, TcpKeepalive};

pub(crate) fn duration(value: &protobuf::Duration) -> Compiled<Duration> {
    let seconds = u64::try_from(value.seconds).map_err(|_| Refusal::new("", "a duration is not negative"))?;
    let nanos = u32::try_from(value.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    let nanos = nanos.ok_or_else(|| Refusal::new("", "nanos of a duration are 0 to 999999999"))?;
    if seconds > 315_576_000_000 {
        return Err(Refusal::new("", "a duration is at most 10000 years"));
    }
    Ok(Duration::new(seconds, nanos))
}

/// An optional duration; the field's name goes into the refusal.
pub(crate) fn duration_of(value: Option<&protobuf::Duration>, field: &str) -> Compiled<Option<Duration>> {
    value.map(duration).transpose().map_err(|error| error.within(field))
}

/// A duration with a default, for which zero means "unlimited".
pub(crate) fn limit(
    value: Option<&protobuf::Duration>,
    field: &str,
    default: Option<Duration>,
) -> Compiled<Option<Duration>> {
    Ok(match duration_of(value, field)? {
        None => default,
        Some(given) => (!given.is_zero()).then_some(given),
    })
}

pub(crate) fn flag(value: Option<&protobuf::BoolValue>, default: bool) -> bool {
    value.map_or(default, |value| value.value)
}

pub(crate) fn fraction(value: &FractionalPercent) -> Compiled<Fraction> {
    let scale = match value.denominator {
        0 => 10_000u64,
        1 => 100,
        2 => 1,
        other => return Err(Refusal::new("denominator", format!("{other} is no denominator"))),
    };
    Ok(Fraction(u32::try_from((u64::from(value.numerator) * scale).min(1_000_000)).unwrap_or(1_000_000)))
}

/// A runtime fraction: there is no runtime layer, so its default counts.
pub(crate) fn runtime_fraction(value: &core::RuntimeFractionalPercent) -> Compiled<Fraction> {
    value.default_value.as_ref().map_or(Ok(Fraction(0)), fraction)
}

pub(crate) fn pattern(value: &matcher::RegexMatcher) -> Compiled<Pattern> {
    Pattern::new(&value.regex).map_err(|reason| Refusal::new("regex", reason))
}

pub(crate) fn regex_rewrite(value: &matcher::RegexMatchAndSubstitute) -> Compiled<RegexRewrite> {
    let pattern = value.pattern.as_ref().ok_or_else(|| Refusal::new("pattern", "is required"))?;
    header_value(&value.substitution).map_err(|error| error.within("substitution"))?;
    RegexRewrite::new(&pattern.regex, &value.substitution).map_err(|reason| Refusal::new("", reason))
}

pub(crate) fn string_matcher(value: &matcher::StringMatcher) -> Compiled<StringMatcher> {
    use matcher::string_matcher::MatchPattern;
    let case = value.ignore_case;
    Ok(match value.match_pattern.as_ref() {
        None => return Err(Refusal::new("match_pattern", "is required")),
        Some(MatchPattern::Exact(text)) => StringMatcher::exact(text, case),
        Some(MatchPattern::Prefix(text)) => StringMatcher::prefix(text, case),
        Some(MatchPattern::Suffix(text)) => StringMatcher::suffix(text, case),
        Some(MatchPattern::Contains(text)) => StringMatcher::contains(text, case),
        Some(MatchPattern::SafeRegex(_)) if case => {
            return Err(Refusal::new("ignore_case", "has no meaning for a regex; write (?i)"));
        }
        Some(MatchPattern::SafeRegex(regex)) => {
            StringMatcher::regex(pattern(regex).map_err(|error| error.within("safe_regex"))?)
        }
        Some(MatchPattern::Custom(_)) => return Err(Refusal::new("custom", "is not built")),
    })
}

/// A header's name, lowercased. What may not stand in a name is refused.
pub(crate) fn header_name(text: &str) -> Compiled<Box<str>> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let bare = text.strip_prefix(':').unwrap_or(text);
    if bare.is_empty() || !bare.bytes().all(token) {
        return Err(Refusal::new("", format!("{text:?} is no header name")));
    }
    Ok(text.to_ascii_lowercase().into())
}

/// Text that may stand in a header.
pub(crate) fn header_value(text: &str) -> Compiled<()> {
    match text.bytes().find(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
        Some(byte) => Err(Refusal::new("", format!("byte {byte:#04x} may not stand in a header"))),
        None => Ok(()),
    }
}

/// An address of either kind. Who listens asks for the mode of a socket's file, too ([`pipe_mode`]).
pub(crate) fn address(value: &core::Address) -> Compiled<Address> {
    match value.address.as_ref() {
        Some(AddressKind::Pipe(pipe)) => {
            Address::pipe(&pipe.path).map_err(|reason| Refusal::new("pipe.path", reason))
        }
        _ => socket_address(value).map(Address::Ip),
    }
}

pub(crate) fn socket_address(value: &core::Address) -> Compiled<SocketAddr> {
    let (host, port) = named_address(value)?;
    let ip: IpAddr = host
        .parse()
        .map_err(|_| Refusal::new("socket_address.address", format!("{host:?} is no IP address")))?;
    Ok(SocketAddr::new(ip, port))
}

/// An address whose host may be a name.
pub(crate) fn named_address(value: &core::Address) -> Compiled<(&str, u16)> {
    let socket = match value.address.as_ref() {
        Some(AddressKind::SocketAddress(socket)) => socket,
        Some(AddressKind::Pipe(_)) => {
            return Err(Refusal::new(
                "pipe",
                "is no IP address and no name: a Unix socket stands in a STATIC cluster or an endpoint set",
            ));
        }
        Some(AddressKind::EnvoyInternalAddress(_)) => {
            return Err(Refusal::new("envoy_internal_address", "is not built"));
        }
        None => return Err(Refusal::new("", "an address is required")),
    };
    if socket.protocol != 0 {
        return Err(Refusal::new("socket_address.protocol", "only TCP is built"));
    }
    if !socket.resolver_name.is_empty() || !socket.network_namespace_filepath.is_empty() {
        return Err(Refusal::new(
            "socket_address",
            "resolver_name and network_namespace_filepath are not built",
        ));
    }
    let port = match socket.port_specifier.as_ref() {
        Some(PortSpecifier::PortValue(port)) => *port,
        Some(PortSpecifier::NamedPort(_)) => {
            return Err(Refusal::new("socket_address.named_port", "is not built"));
        }
        None => 0,
    };
    let port = u16::try_from(port)
        .map_err(|_| Refusal::new("socket_address.port_value", format!("{port} is no port, 0 to 65535")))?;
    Ok((&socket.address, port))
}

pub(crate) fn range(value: &core::CidrRange) -> Compiled<IpNet> {
    let ip: IpAddr = value.address_prefix.parse().map_err(|_| {
        Refusal::new("address_prefix", format!("{:?} is no IP address", value.address_prefix))
    })?;
    let length = value.prefix_len.as_ref().map_or(0, |length| length.value);
    let net = u8::try_from(length).ok().and_then(|length| IpNet::new(ip, length).ok());
    net.ok_or_else(|| Refusal::new("prefix_len", format!("{length} does not fit {ip}")))
}

pub(crate) fn port(value: u32, field: &str) -> Compiled<u16> {
    u16::try_from(value).map_err(|_| Refusal::new(field, format!("{value} is no port, 0 to 65535")))
}

pub(crate) fn keepalive(value: &core::TcpKeepalive) -> TcpKeepalive {
    TcpKeepalive {
        probes: value.keepalive_probes.as_ref().map(|v| v.value),
        time: value.keepalive_time.as_ref().map(|v| v.value),
        interval: value.keepalive_interval.as_ref().map(|v| v.value),
    }
}

/// The message of an `Any` whose type is known.
pub(crate) fn unpack<T: Message + Default>(any: &protobuf::Any) -> Compiled<T> {
    T::decode(any.value.as_slice())
        .map_err(|error| Refusal::new("", format!("{} does not decode: {error}", type_name(&any.type_url))))
}

/// `envoy.config.route.v3.Route` of `type.googleapis.com/envoy.config.route.v3.Route`.
pub(crate) fn type_name(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or(url)
}

/// A text field of heddle's own metadata.
pub(crate) fn own_field<'m>(
    metadata: Option<&'m core::Metadata>,
    field: &str,
) -> Option<&'m protobuf::Value> {
    metadata?.filter_metadata.get("heddle.dev")?.fields.get(field)
}

/// Names and texts of a flat struct, sorted.
pub(crate) fn criteria(given: &protobuf::Struct) -> Compiled<SocketCriteria> {
    let mut all = Vec::new();
    for (name, value) in &given.fields {
        let text = text_of(Some(value)).ok_or_else(|| Refusal::new(name, "only texts are built"))?;
        all.push((name.as_str().into(), text.into()));
    }
    all.sort();
    Ok(all.into())
}

pub(crate) fn text_of(value: Option<&protobuf::Value>) -> Option<&str> {
    match value?.kind.as_ref()? {
        protobuf::value::Kind::StringValue(text) => Some(text),
        _ => None,
    }
}

pub(crate) fn provenance(metadata: Option<&core::Metadata>) -> Option<Provenance> {
    let object = text_of(own_field(metadata, "object"))?;
    let field = text_of(own_field(metadata, "field")).unwrap_or_default();
    Some(Provenance { object: object.into(), field: field.into() })
}

//! Which filter chain of a listener takes a connection (`FilterChainMatch`).

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::snapshot::{Address, ChainMatch, FilterChain, Listener, SourceType};

/// What is known of a connection before its filter chain is chosen.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'c> {
    /// Where it was going: the original destination if it was redirected, else our end.
    pub destination: Address,
    /// The other end (after the PROXY protocol).
    pub source: Address,
    /// The other end of the socket, if it has an IP address.
    pub direct_source: Option<IpAddr>,
    /// SNI; empty when there is none.
    pub server_name: &'c str,
    /// `tls`, `raw_buffer`, or empty when nothing looked.
    pub transport_protocol: &'c str,
    /// ALPN, or what the HTTP inspector saw (`http/1.0`, `http/1.1`, `h2c`).
    pub application_protocols: &'c [&'c str],
}

/// The filter chain for a connection, `None` when it is to be closed.
///
/// As Envoy does, criteria are looked at one after the other, each keeping the chains with the best match: destination
/// port, destination address, server name, transport protocol, application protocols, direct source address, source type,
/// source address, source port.
pub fn match_filter_chain<'l>(
    listener: &'l Listener,
    connection: &Connection<'_>,
) -> Option<&'l Arc<FilterChain>> {
    let mut left: Vec<&Arc<FilterChain>> = listener.chains.iter().collect();
    let mut step = |score: &dyn Fn(&ChainMatch) -> Option<u32>| {
        let best = left.iter().filter_map(|chain| score(&chain.matches)).max();
        left.retain(|chain| best.is_some() && score(&chain.matches) == best);
    };
    step(&|m| match m.destination_port {
        Some(port) => (Some(port) == connection.destination.port()).then_some(1),
        None => Some(0),
    });
    step(&|m| range_score(&m.destinations, connection.destination.ip()));
    let server_name = connection.server_name.to_ascii_lowercase();
    step(&|m| name_score(&m.server_names, &server_name));
    step(&|m| text_score(&m.transport_protocol, connection.transport_protocol));
    step(&|m| {
        if m.application_protocols.is_empty() {
            return Some(0);
        }
        // What the client names first counts most.
        let wanted = |offer: &&str| m.application_protocols.iter().any(|wanted| **wanted == **offer);
        let place = connection.application_protocols.iter().position(wanted)?;
        Some(u32::MAX - u32::try_from(place).unwrap_or(u32::MAX - 1))
    });
    step(&|m| range_score(&m.direct_sources, connection.direct_source));
    // Who comes by a Unix socket is on this machine.
    let own = |ip: IpAddr| ip.is_loopback() || Some(ip) == connection.destination.ip();
    let local = connection.source.ip().is_none_or(own);
    step(&|m| match m.source_type {
        SourceType::Any => Some(0),
        SourceType::SameIpOrLoopback => local.then_some(1),
        SourceType::External => (!local).then_some(1),
    });
    step(&|m| range_score(&m.sources, connection.source.ip()));
    step(&|m| {
        if m.source_ports.is_empty() {
            return Some(0);
        }
        connection.source.port().filter(|port| m.source_ports.contains(port)).map(|_| 1)
    });
    left.first().copied().or(listener.default_chain.as_ref())
}

/// Longest prefix that contains the address; no range at all is the worst match.
/// What has no IP address is in none.
fn range_score(ranges: &[IpNet], address: Option<IpAddr>) -> Option<u32> {
    if ranges.is_empty() {
        return Some(0);
    }
    let address = address?.to_canonical();
    ranges.iter().filter(|net| net.contains(&address)).map(|net| 1 + u32::from(net.prefix_len())).max()
}

/// Exact beats the longest `*.suffix`; `*` or no name at all is the worst match. `name` is in lower case.
fn name_score(names: &[Box<str>], name: &str) -> Option<u32> {
    if names.is_empty() {
        return Some(0);
    }
    let score = |pattern: &str| match pattern.strip_prefix('*') {
        Some("") => Some(0),
        Some(suffix) => (name.len() > suffix.len() && name.ends_with(suffix)).then_some(suffix.len() as u32),
        None => (!name.is_empty() && pattern == name).then_some(u32::MAX),
    };
    names.iter().filter_map(|pattern| score(pattern)).max()
}

fn text_score(wanted: &str, found: &str) -> Option<u32> {
    if wanted.is_empty() {
        return Some(0);
    }
    (wanted == found).then_some(1)
}

#[cfg(test)]
#[path = "chain_test.rs"]
mod chain_test;

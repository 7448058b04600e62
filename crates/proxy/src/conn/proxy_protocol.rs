//! The PROXY protocol: who is at the far end of a connection that somebody else has passed on.
//!
//! Versions 1 and 2 of the specification at haproxy.org (2020), both read and written. Only what it allows is accepted.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::snapshot::Address;

/// The first bytes of version 2.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The first bytes of version 1.
const WORD: &[u8; 6] = b"PROXY ";
/// The longest line of version 1, with its end.
const LINE: usize = 107;
/// The longest header of version 2 that is read, with its additions (TLVs).
pub(crate) const LONGEST: usize = 8192;

/// `core.v3.ProxyProtocolConfig.version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The two ends of a connection that was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// Who opened it.
    pub(crate) source: SocketAddr,
    /// Where it came in.
    pub(crate) destination: SocketAddr,
}

impl Ends {
    /// The ends of a connection whose ends have IP addresses. Of others the next proxy is not told: the connection is said to
    /// be our own.
    pub(crate) fn of(source: Address, destination: Address) -> Option<Self> {
        Some(Self { source: source.socket()?, destination: destination.socket()? })
    }
}

/// How far the header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    More,
    /// Not begun like a header.
    Absent,
    /// Begun like one, and not one.
    Malformed,
    /// So many bytes; without ends where the sender speaks for itself or does not know them.
    Whole {
        len: usize,
        version: Version,
        ends: Option<Ends>,
    },
}

/// Looks at the first bytes of a connection for a header of the versions that are allowed.
pub(crate) fn read(data: &[u8], v1: bool, v2: bool) -> Header {
    let begins = |with: &[u8]| data.iter().zip(with).all(|(one, other)| one == other);
    if v2 && begins(SIGNATURE) {
        return if data.len() < SIGNATURE.len() { Header::More } else { binary(data) };
    }
    if v1 && begins(WORD) {
        return line(data);
    }
    // Without a byte nothing can be told.
    if data.is_empty() { Header::More } else { Header::Absent }
}

fn line(data: &[u8]) -> Header {
    let part = &data[..data.len().min(LINE)];
    let Some(end) = part.iter().position(|byte| *byte == b'\n') else {
        return if part.len() < LINE { Header::More } else { Header::Malformed };
    };
    let text = part[..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let Some(words) = text.and_then(|text| text.strip_prefix("PROXY ")) else { return Header::Malformed };
    let whole = |ends| Header::Whole { len: end + 1, version: Version::V1, ends };
    if words == "UNKNOWN" || words.starts_with("UNKNOWN ") {
        return whole(None);
    }
    named_ends(words).map_or(Header::Malformed, |ends| whole(Some(ends)))
}

/// `TCP4 SOURCE DESTINATION PORT PORT`.
fn named_ends(words: &str) -> Option<Ends> {
    let mut words = words.split(' ');
    let family = words.next()?;
    let mut ip = || -> Option<IpAddr> {
        let text = words.next()?;
        match family {
            "TCP4" => Some(text.parse::<Ipv4Addr>().ok()?.into()),
            "TCP6" => Some(text.parse::<Ipv6Addr>().ok()?.into()),
            _ => None,
        }
    };
    let (source, destination) = (ip()?, ip()?);
    let mut port = || -> Option<u16> {
        let text = words.next()?;
        let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse().ok().filter(|_| plain)
    };
    let (from, to) = (port()?, port()?);
    words.next().is_none().then(|| Ends {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

fn binary(data: &[u8]) -> Header {
    let Some(&[command, family, high, low]) = data.get(12..16) else { return Header::More };
    let len = 16 + usize::from(u16::from_be_bytes([high, low]));
    if command >> 4 != 2 || command & 15 > 1 || len > LONGEST {
        return Header::Malformed;
    }
    let Some(body) = data.get(16..len) else { return Header::More };
    let whole = |ends| Header::Whole { len, version: Version::V2, ends };
    // LOCAL: the sender's own connection, such as a health check.
    if command & 15 == 0 {
        return whole(None);
    }
    // The size of the addresses, for streams; who speaks of datagrams cannot mean us.
    let size = match family {
        0x00 => return whole(None),
        0x11 => 12,
        0x21 => 36,
        0x31 => 216,
        _ => return Header::Malformed,
    };
    let Some((addresses, additions)) = body.split_at_checked(size) else { return Header::Malformed };
    if !are_additions(additions) {
        return Header::Malformed;
    }
    whole(binary_ends(addresses))
}

fn binary_ends(addresses: &[u8]) -> Option<Ends> {
    let port = |at: usize| Some(u16::from_be_bytes([*addresses.get(at)?, *addresses.get(at + 1)?]));
    let (ips, size): ([IpAddr; 2], usize) = match addresses.len() {
        12 => {
            let ip = |at: usize| <[u8; 4]>::try_from(addresses.get(at..at + 4)?).ok();
            ([IpAddr::from(ip(0)?), IpAddr::from(ip(4)?)], 4)
        }
        36 => {
            let ip = |at: usize| <[u8; 16]>::try_from(addresses.get(at..at + 16)?).ok();
            ([IpAddr::from(ip(0)?), IpAddr::from(ip(16)?)], 16)
        }
        // Paths of Unix sockets: no address that anything here compares with.
        _ => return None,
    };
    Some(Ends {
        source: SocketAddr::new(ips[0], port(2 * size)?),
        destination: SocketAddr::new(ips[1], port(2 * size + 2)?),
    })
}

/// Type, length and value, one after the other to the very end.
fn are_additions(mut rest: &[u8]) -> bool {
    while let [_, high, low, values @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(behind) = values.get(len..) else { return false };
        rest = behind;
    }
    rest.is_empty()
}

/// Writes a header. Without ends the connection is our own.
pub(crate) fn write(out: &mut Vec<u8>, version: Version, ends: Option<Ends>) {
    let ends = ends.map(same_family);
    match version {
        Version::V1 => write_line(out, ends),
        Version::V2 => write_binary(out, ends),
    }
}

/// Both ends in one family: IPv4 where both are, else IPv6.
fn same_family(ends: Ends) -> Ends {
    let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
    let (source, destination) = (canonical(ends.source), canonical(ends.destination));
    if source.is_ipv4() == destination.is_ipv4() {
        return Ends { source, destination };
    }
    let wide = |at: SocketAddr| match at.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), at.port()),
        IpAddr::V6(_) => at,
    };
    Ends { source: wide(source), destination: wide(destination) }
}

fn write_line(out: &mut Vec<u8>, ends: Option<Ends>) {
    let text = match ends {
        None => "PROXY UNKNOWN\r\n".to_owned(),
        Some(Ends { source, destination }) => format!(
            "PROXY TCP{} {} {} {} {}\r\n",
            if source.is_ipv4() { 4 } else { 6 },
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        ),
    };
    out.extend_from_slice(text.as_bytes());
}

fn write_binary(out: &mut Vec<u8>, ends: Option<Ends>) {
    out.extend_from_slice(SIGNATURE);
    let Some(Ends { source, destination }) = ends else {
        out.extend_from_slice(&[0x20, 0, 0, 0]);
        return;
    };
    out.extend_from_slice(if source.is_ipv4() { &[0x21, 0x11, 0, 12] } else { &[0x21, 0x21, 0, 36] });
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(ip) => out.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => out.extend_from_slice(&ip.octets()),
        }
    }
    out.extend_from_slice(&source.port().to_be_bytes());
    out.extend_from_slice(&destination.port().to_be_bytes());
}

#[cfg(test)]
#[path = "proxy_protocol_test.rs"]
mod proxy_protocol_test;

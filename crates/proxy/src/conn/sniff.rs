//! What the first bytes of a connection are.

/// The preface of HTTP/2.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The first byte of TLS: a record with a handshake in it.
pub(crate) const HANDSHAKE: u8 = 0x16;
/// The longest first line that is waited for.
const LONGEST: usize = 8192;

/// A guess, final unless it is [`Sniff::More`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sniff {
    /// Nothing speaks against HTTP or TLS yet.
    More,
    /// The preface of HTTP/2.
    H2,
    /// A request line of HTTP/1.0 or HTTP/1.1.
    Http10,
    Http11,
    /// A TLS record with a handshake in it.
    Tls,
    /// Something else.
    Other,
}

impl Sniff {
    /// The name that filter chain matches know it by.
    pub(crate) fn application_protocol(self) -> Option<&'static str> {
        match self {
            Self::H2 => Some("h2c"),
            Self::Http10 => Some("http/1.0"),
            Self::Http11 => Some("http/1.1"),
            Self::More | Self::Tls | Self::Other => None,
        }
    }
}

/// Looks at the first bytes.
pub(crate) fn sniff(data: &[u8]) -> Sniff {
    let Some(first) = data.first() else { return Sniff::More };
    if *first == HANDSHAKE {
        return match data {
            [_, 3, ..] => Sniff::Tls,
            [_] => Sniff::More,
            _ => Sniff::Other,
        };
    }
    let common = data.len().min(PREFACE.len());
    if data[..common] == PREFACE[..common] {
        return if common == PREFACE.len() { Sniff::H2 } else { Sniff::More };
    }
    let line_end = data.iter().position(|byte| *byte == b'\n');
    let line = &data[..line_end.unwrap_or(data.len())];
    let method = line.iter().position(|byte| *byte == b' ').unwrap_or(line.len());
    if method == 0
        || method > 24
        || !line[..method].iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-')
    {
        return Sniff::Other;
    }
    if line.iter().any(|byte| *byte < b' ' && *byte != b'\r') {
        return Sniff::Other;
    }
    if line_end.is_none() {
        return if data.len() < LONGEST { Sniff::More } else { Sniff::Other };
    }
    match line.strip_suffix(b"\r") {
        Some(line) if line.ends_with(b" HTTP/1.1") => Sniff::Http11,
        Some(line) if line.ends_with(b" HTTP/1.0") => Sniff::Http10,
        _ => Sniff::Other,
    }
}

#[cfg(test)]
mod sniff_test {
    use super::*;

    #[test]
    fn tells_protocols_apart() {
        for (data, expected) in [
            (&b""[..], Sniff::More),
            (b"GE", Sniff::More),
            (b"GET /x HTTP/1.1\r\n", Sniff::Http11),
            (b"GET /x HTTP/1.0\r\nA", Sniff::Http10),
            (b"GET /x\r\n", Sniff::Other),
            (b"PRI * HTTP/2.0\r\n\r", Sniff::More),
            (PREFACE, Sniff::H2),
            (b"\x16\x03\x01", Sniff::Tls),
            (b"\x16", Sniff::More),
            (b"\x16\x05", Sniff::Other),
            (b"hello\n", Sniff::Other),
            (b"*1\r\n$4\r\nPING\r\n", Sniff::Other),
            (b"SSH-2.0-x\r\n", Sniff::Other),
            (b"EHLO x\r\n", Sniff::Other),
        ] {
            assert_eq!(sniff(data), expected, "{data:?}");
        }
    }
}

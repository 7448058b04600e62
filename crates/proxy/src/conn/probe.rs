//! What an outsider sends before a protocol is known, from outside, for fuzzers.

use super::hello::{Progress, Reader};
use super::proxy_protocol::{self, Header};

/// Reads a ClientHello at once and byte by byte: both must find the same. True when there was a whole one.
///
/// # Panics
/// When a law is broken.
pub fn tls_hello(data: &[u8]) -> bool {
    let most = 4096;
    let whole = Reader::new(most).read(data);
    let mut reader = Reader::new(most);
    let pieces = (1..=data.len()).map(|end| reader.read(&data[..end]));
    let piecewise = pieces.into_iter().find(|progress| *progress != Progress::More);
    assert_eq!(piecewise.unwrap_or(Progress::More), whole, "how a hello arrives does not change it");
    if let Progress::Whole(hello) = &whole
        && let Some(name) = &hello.server_name
    {
        assert!(!name.is_empty() && !name.bytes().any(|byte| byte <= b' ' || byte.is_ascii_uppercase()));
    }
    matches!(whole, Progress::Whole(_))
}

/// Reads a header of the PROXY protocol at once and byte by byte, and what is written from it again: all must find the same.
/// True when there was a whole one.
///
/// # Panics
/// When a law is broken.
pub fn proxy_protocol(data: &[u8]) -> bool {
    let read = |data: &[u8]| proxy_protocol::read(data, true, true);
    let whole = read(data);
    let first = (1..=data.len()).map(|end| read(&data[..end])).find(|header| *header != Header::More);
    assert_eq!(first.unwrap_or(Header::More), whole, "how a header arrives does not change it");
    let Header::Whole { len, version, ends } = whole else { return false };
    assert!(len <= data.len(), "a header is no longer than its bytes");
    let mut written = Vec::new();
    proxy_protocol::write(&mut written, version, ends);
    let Header::Whole { len, ends: again, .. } = read(&written) else {
        panic!("what was written is no header")
    };
    assert_eq!(len, written.len());
    let text = |ends: Option<proxy_protocol::Ends>| ends.map(|ends| ends.source.ip().to_canonical());
    assert_eq!(text(again), text(ends), "the client is the same");
    true
}

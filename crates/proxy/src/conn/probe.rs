//! What an outsider sends before a protocol is known, from outside, for fuzzers.

use super::hello::{Progress, Reader};

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

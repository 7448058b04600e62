//! The HTTP/1.1 codec from outside, for fuzzers: whatever bytes come, it must not panic and must keep its laws.

use super::h1::encode::{self, Case};
use super::h1::framing::{Decoder, Found, Framing};
use super::h1::parse::{self, Limits, Malformed, Message};
use super::head::{Method, RequestHead, ResponseHead};

/// Reads one request and its body, and checks: a head that is complete is so at its own length and no shorter, and what is
/// written from it is read as the same request. True when there was a whole head.
///
/// # Panics
/// When a law is broken.
pub fn request(data: &[u8]) -> bool {
    let (mut head, mut again) = (RequestHead::default(), RequestHead::default());
    let Ok(Some(message)) = parse::request(data, &mut head, Limits::default()) else { return false };
    assert!(message.len <= data.len(), "a head is no longer than its bytes");
    let shorter = parse::request(&data[..message.len - 1], &mut again, Limits::default());
    assert!(!matches!(shorter, Ok(Some(_))), "a head without its last byte is not complete");
    drain(message, &data[message.len..]);
    // Framing is the encoder's, so what the head says of it is left out, as the connection manager does.
    for name in ["connection", "transfer-encoding", "content-length"] {
        head.headers.remove(name);
    }
    let mut written = Vec::new();
    encode::request(&mut written, &head, Framing::Empty, Case::Kept);
    match parse::request(&written, &mut again, Limits::default()) {
        Ok(Some(second)) => {
            assert_eq!(second.len, written.len(), "what is written is one head");
            assert_eq!(head.method_bytes(), again.method_bytes());
            assert_eq!(head.authority(), again.authority());
            assert_eq!(head.path(), again.path());
            let fields = |head: &RequestHead| {
                let named =
                    head.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case(b"content-length"));
                named.map(|(name, value)| (name.to_vec(), value.to_vec())).collect::<Vec<_>>()
            };
            assert_eq!(fields(&head), fields(&again));
        }
        // One field more, or a longer first line, may cross a limit; HTTP/1.0 needs no host.
        Err(Malformed::TooLarge | Malformed::TooManyFields | Malformed::ManyHosts) => {}
        other => panic!("what was written is not read: {other:?}: {:?}", String::from_utf8_lossy(&written)),
    }
    true
}

/// Reads one response and its body; the first byte chooses the method of its request. True when there was a whole
/// head.
///
/// # Panics
/// When a law is broken.
pub fn response(data: &[u8]) -> bool {
    let [choice, data @ ..] = data else { return false };
    let methods = [Method::Get, Method::Head, Method::Connect, Method::Post];
    let method = methods[usize::from(*choice) % methods.len()];
    let mut head = ResponseHead::default();
    let Ok(Some(message)) = parse::response(data, &mut head, method, Limits::default()) else {
        return false;
    };
    assert!(head.status >= 100, "a status has three digits");
    drain(message, &data[message.len..]);
    let mut written = Vec::new();
    encode::response(&mut written, &head, Framing::Empty, false, Case::Lower);
    true
}

/// Reads a body twice, in one piece and byte by byte: both must find the same.
fn drain(message: Message, body: &[u8]) {
    let whole = read(message.framing, body, body.len().max(1));
    let bytes = read(message.framing, body, 1);
    assert_eq!(whole, bytes, "how a body arrives does not change it");
}

/// The body, how much of the input it took, and whether it ended; `None` when it is broken.
fn read(framing: Framing, input: &[u8], step: usize) -> Option<(Vec<u8>, usize, bool)> {
    let mut decoder = Decoder::new(framing);
    let (mut at, mut out) = (0, Vec::new());
    let mut end = step.min(input.len());
    loop {
        match decoder.look(&input[at..end]).ok()? {
            Found::Data { skip, len } => {
                assert!(len > 0, "data is never empty");
                out.extend_from_slice(&input[at + skip..at + skip + len]);
                at += skip + len;
                decoder.took(len);
            }
            Found::End { skip } => return Some((out, at + skip, true)),
            Found::More { skip } => {
                at += skip;
                if end == input.len() {
                    return Some((out, at, false));
                }
                end = (end + step).min(input.len());
            }
        }
    }
}

#[cfg(test)]
mod probe_test {
    use proptest::prelude::*;

    /// Pieces that requests are made of, good and bad.
    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            Just(b"GET / HTTP/1.1\r\n".to_vec()),
            Just(b"POST http://h/p?q HTTP/1.1\r\n".to_vec()),
            Just(b"CONNECT h:1 HTTP/1.0\r\n".to_vec()),
            Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
            Just(b"Host: a\r\n".to_vec()),
            Just(b"content-length: 5\r\n".to_vec()),
            Just(b"transfer-encoding: chunked\r\n".to_vec()),
            Just(b"connection: close, x\r\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"5\r\nhello\r\n".to_vec()),
            Just(b"0\r\n\r\n".to_vec()),
            Just(b"x: y\r\n".to_vec()),
            proptest::collection::vec(any::<u8>(), 0..8),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_keep_the_laws(data in pieces()) {
            super::request(&data);
            super::response(&[&[0], data.as_slice()].concat());
        }
    }
}

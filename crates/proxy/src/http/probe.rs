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

/// A chunked body that arrives in pieces: their lengths stand in front, closed by a zero. It is compared with the same
/// body in one piece and with a plain reading of the grammar. True when it came to its end.
///
/// # Panics
/// When a law is broken.
pub fn chunked(data: &[u8]) -> bool {
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (pieces, body) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let whole = read(Framing::Chunked, body, [].iter());
    assert_eq!(read(Framing::Chunked, body, pieces.iter()), whole, "how a body arrives does not change it");
    assert_eq!(
        plain(body),
        whole.clone().map(|(text, used, ended)| (text, if ended { used } else { 0 }, ended))
    );
    let Some((text, used, ended)) = whole else { return false };
    assert!(text.len() <= used && used <= body.len(), "a body is never longer than its bytes");
    ended
}

/// RFC 9112, 7.1, read by splitting: the text so far, how many bytes it took when it is whole, and whether it is; `None`
/// for what is no such body.
fn plain(body: &[u8]) -> Option<(Vec<u8>, usize, bool)> {
    let (mut text, mut rest) = (Vec::new(), body);
    // The next line, or an end of the reading: more is to come, or it never can be a line.
    let line = |rest: &mut &[u8], most: usize| -> Result<Vec<u8>, bool> {
        let Some(end) = rest.iter().take(most).position(|byte| *byte == b'\n') else {
            return Err(rest.len() < most);
        };
        let found = rest[..end].strip_suffix(b"\r").ok_or(false)?.to_vec();
        *rest = &rest[end + 1..];
        let visible = |byte: &u8| *byte == b'\t' || (32..127).contains(byte) || *byte >= 128;
        if found.iter().all(visible) { Ok(found) } else { Err(false) }
    };
    loop {
        let found = match line(&mut rest, 4096) {
            Ok(found) => found,
            Err(more) => return more.then_some((text, 0, false)),
        };
        let size = found.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii_end();
        let digits = !size.is_empty() && size.len() < 16 && size.iter().all(u8::is_ascii_hexdigit);
        let size = digits.then(|| u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok())??;
        if size == 0 {
            break;
        }
        let len = rest.len().min(usize::try_from(size).ok()?);
        text.extend_from_slice(&rest[..len]);
        rest = &rest[len..];
        match rest {
            [b'\r', b'\n', behind @ ..] => rest = behind,
            [] | [b'\r'] => return Some((text, 0, false)),
            _ => return None,
        }
    }
    let (mut most, mut fields) = (60 * 1024, 0);
    loop {
        let found = match line(&mut rest, most) {
            Ok(found) => found,
            Err(more) => return more.then_some((text, 0, false)),
        };
        if found.is_empty() {
            return Some((text, body.len() - rest.len(), true));
        }
        most -= found.len() + 2;
        let name = found.split(|byte| *byte == b':').next().filter(|name| name.len() < found.len())?;
        let token = |byte: &u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(byte);
        if name.is_empty() || !name.iter().all(token) {
            return None;
        }
        // Those that the reader leaves out do not count.
        let dropped =
            ["content-length", "transfer-encoding", "host", "connection", "trailer", "te", "upgrade"];
        if fields >= 100 {
            return None;
        }
        fields += usize::from(!dropped.iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes())));
    }
}

/// Reads a body twice, in one piece and byte by byte: both must find the same.
fn drain(message: Message, body: &[u8]) {
    let whole = read(message.framing, body, [].iter());
    let bytes = read(message.framing, body, [1].iter());
    assert_eq!(whole, bytes, "how a body arrives does not change it");
}

/// The body, how much of the input it took, and whether it ended; `None` when it is broken. It arrives in pieces of the
/// given lengths, over and over; at once when there are none.
fn read<'a>(
    framing: Framing,
    input: &[u8],
    pieces: impl Iterator<Item = &'a u8> + Clone,
) -> Option<(Vec<u8>, usize, bool)> {
    let mut pieces = pieces.cycle().map(|len| usize::from(*len));
    let mut decoder = Decoder::new(framing);
    let (mut at, mut end, mut out) = (0, 0, Vec::new());
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
                end = (end + pieces.next().unwrap_or(input.len())).min(input.len());
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
            super::chunked(&[&[3, 1, 0], data.as_slice()].concat());
        }
    }
}

//! What has to be shown before a request may leave HTTP over two versions of it (RFC 6455, 4; RFC 8441, 5).
//!
//! HTTP/1.1 asks by `Upgrade` and is answered 101; a WebSocket proves by a key that its server knows what it does. HTTP/2
//! asks by extended CONNECT, is answered 200 and has no key. Between the two the key and its answer are ours to make, unless
//! the other side is a proxy that only passes on what its own client and server say.

use aws_lc_rs::digest;

use super::grpc_web::base64;
use super::h1::parse::Malformed;
use super::head::{RequestHead, ResponseHead, Version};

/// What is hashed behind every key (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY: &str = "sec-websocket-key";
const ACCEPT: &str = "sec-websocket-accept";

/// What the answer to a request to leave HTTP is held to.
#[derive(Debug)]
pub(crate) struct Switch {
    protocol: Box<[u8]>,
    /// The `Sec-WebSocket-Accept` that belongs to the key.
    accept: Option<Box<[u8]>>,
    /// The client has named no key, so it is not told what becomes of it.
    ours: bool,
    /// The client speaks HTTP/2, where nobody looks at what the endpoint proves.
    judged: bool,
}

/// Whether a request is one for a WebSocket.
pub(super) fn is_websocket(head: &RequestHead) -> bool {
    head.headers.get("upgrade").is_some_and(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
}

/// Makes of an extended CONNECT the upgrade that it is, as Envoy does: routes, filters and logs know one kind.
pub(crate) fn as_upgrade(head: &mut RequestHead) {
    let protocol = head.protocol().to_vec();
    head.set_method(b"GET");
    head.headers.set("connection", b"Upgrade");
    head.headers.set("upgrade", &protocol);
}

/// A key for a request that has none and goes to a server of HTTP/1.1, which wants one; nothing for any other.
pub(crate) fn missing_key(head: &RequestHead, random: impl Fn() -> u64) -> Option<Vec<u8>> {
    if head.version != Version::Http2 || !is_websocket(head) || head.headers.contains(KEY) {
        return None;
    }
    let nonce = [random(), random()].map(u64::to_be_bytes);
    let mut key = Vec::with_capacity(24);
    base64(nonce.as_flattened(), &mut key);
    Some(key)
}

/// The request with a key.
pub(crate) fn with_key(head: &RequestHead, key: &[u8]) -> RequestHead {
    let mut head = head.clone();
    head.headers.set(KEY, key);
    head
}

impl Switch {
    /// `made`: the key that was made for the request.
    pub(crate) fn new(head: &RequestHead, made: Option<&[u8]>) -> Self {
        let key = made.or_else(|| head.headers.get(KEY)).filter(|_| is_websocket(head));
        Self {
            protocol: head.headers.get("upgrade").unwrap_or_default().into(),
            accept: key.map(accept),
            ours: made.is_some(),
            judged: head.version == Version::Http2,
        }
    }

    /// A `101` of an endpoint that speaks HTTP/1.1. A client of HTTP/1.1 judges it itself.
    pub(crate) fn http1(&self, head: &mut ResponseHead) -> Result<(), Malformed> {
        if !self.judged {
            return Ok(());
        }
        let to = head.headers.get("upgrade");
        if !to.is_some_and(|protocol| protocol.eq_ignore_ascii_case(&self.protocol)) {
            return Err(Malformed::Switch);
        }
        if let Some(wanted) = &self.accept {
            let mut all = head.headers.get_all(ACCEPT);
            if all.next() != Some(wanted) || all.next().is_some() {
                return Err(Malformed::Accept);
            }
        }
        if self.ours {
            head.headers.remove(ACCEPT);
        }
        Ok(())
    }

    /// A successful answer to an extended CONNECT becomes a `101`, with what a client that sent a key waits for.
    pub(crate) fn http2(&self, head: &mut ResponseHead) -> Result<(), Malformed> {
        head.status = 101;
        head.headers.remove("content-length");
        head.headers.set("connection", b"Upgrade");
        head.headers.set("upgrade", &self.protocol);
        match (&self.accept, head.headers.get(ACCEPT)) {
            (Some(wanted), Some(said)) if said != &**wanted => Err(Malformed::Accept),
            (Some(wanted), None) => {
                head.headers.append(ACCEPT, wanted);
                Ok(())
            }
            (Some(_), Some(_)) => Ok(()),
            (None, _) => {
                // Some pass on what their own server said, and clients take it for a mistake.
                head.headers.remove(ACCEPT);
                Ok(())
            }
        }
    }
}

fn accept(key: &[u8]) -> Box<[u8]> {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID);
    let mut text = Vec::with_capacity(28);
    base64(hash.finish().as_ref(), &mut text);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(version: Version, key: Option<&str>) -> RequestHead {
        let mut head = RequestHead::new("GET", "h", "/");
        head.version = version;
        head.headers.set("connection", b"Upgrade");
        head.headers.set("upgrade", b"WebSocket");
        if let Some(key) = key {
            head.headers.set(KEY, key.as_bytes());
        }
        head
    }

    fn switching(accept: &[&str]) -> ResponseHead {
        let mut head = ResponseHead::new(101).with("upgrade", "websocket");
        accept.iter().for_each(|value| head.headers.append("Sec-WebSocket-Accept", value.as_bytes()));
        head
    }

    // RFC 6455, 1.3.
    const SAMPLE: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const SAMPLE_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

    #[test]
    fn an_endpoint_of_http1_has_to_know_the_key() {
        let switch = Switch::new(&asked(Version::Http2, Some(SAMPLE)), None);
        let mut good = switching(&[SAMPLE_ACCEPT]);
        assert!(switch.http1(&mut good).is_ok());
        assert!(good.headers.contains(ACCEPT), "who sent a key waits for this");
        for wrong in [&["s3pPLMBiTxaQ9kYGzzhZRbK+xOa="][..], &[], &[SAMPLE_ACCEPT, SAMPLE_ACCEPT]] {
            assert_eq!(switch.http1(&mut switching(wrong)), Err(Malformed::Accept), "{wrong:?}");
        }
        let mut other = switching(&[SAMPLE_ACCEPT]);
        other.headers.set("upgrade", b"chat");
        assert_eq!(switch.http1(&mut other), Err(Malformed::Switch));
    }

    #[test]
    fn a_key_is_made_where_there_is_none() {
        assert_eq!(missing_key(&asked(Version::Http2, Some(SAMPLE)), || 0), None);
        assert_eq!(missing_key(&asked(Version::Http11, None), || 0), None, "it is the client's own affair");
        let head = asked(Version::Http2, None);
        let key = missing_key(&head, || 7).unwrap();
        assert_eq!(key, b"AAAAAAAAAAcAAAAAAAAABw==");
        assert_eq!(with_key(&head, &key).headers.get(KEY), Some(&key[..]));
        let mut answer = switching(&[std::str::from_utf8(&accept(&key)).unwrap()]);
        assert!(Switch::new(&head, Some(&key)).http1(&mut answer).is_ok());
        assert!(!answer.headers.contains(ACCEPT), "HTTP/2 has none (RFC 8441, 5)");
    }

    #[test]
    fn a_success_over_http2_is_a_switch() {
        let switch = Switch::new(&asked(Version::Http11, Some(SAMPLE)), None);
        let mut head = ResponseHead::new(200).with("content-length", "0");
        assert!(switch.http2(&mut head).is_ok());
        assert_eq!(head.status, 101);
        let get = |name| head.headers.get(name).map(|value| String::from_utf8_lossy(value).into_owned());
        assert_eq!(get("upgrade").as_deref(), Some("WebSocket"));
        assert_eq!(get("connection").as_deref(), Some("Upgrade"));
        assert_eq!(get(ACCEPT).as_deref(), Some(SAMPLE_ACCEPT));
        assert_eq!(get("content-length"), None);
        // A proxy between has passed on what its own server said.
        let said = |value| switch.http2(&mut ResponseHead::new(200).with(ACCEPT, value));
        assert!(said(SAMPLE_ACCEPT).is_ok());
        assert_eq!(said("nonsense"), Err(Malformed::Accept));
        let mut keyless = ResponseHead::new(200).with(ACCEPT, SAMPLE_ACCEPT);
        assert!(Switch::new(&asked(Version::Http2, None), None).http2(&mut keyless).is_ok());
        assert!(!keyless.headers.contains(ACCEPT));
    }
}

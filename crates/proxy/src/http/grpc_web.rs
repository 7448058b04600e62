//! gRPC-Web: what programs in browsers send and understand, as gRPC towards the endpoint
//! (`envoy.filters.http.grpc_web`).
//!
//! The messages of both are framed alike. Trailers come as a last frame with flag 0x80, and `-text` is base64 of it all.

use std::task::{Context, Poll, ready};

use super::head::{Headers, RequestHead, ResponseHead};
use super::stream::{Broken, Stream};
use crate::decide::{grpc_status_of, percent_encode};

/// Frames with this flag hold trailers.
const TRAILERS: u8 = 0x80;
/// Bytes that wait for a receiver before more is taken from the sender.
const WAITING: usize = 64 * 1024;

/// A call of gRPC-Web.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Web {
    /// The request's body is base64.
    text: bool,
    /// So is the response's to be.
    text_back: bool,
}

/// A call of gRPC-Web, and whether it is text.
fn kind(value: Option<&[u8]>) -> Option<bool> {
    match value? {
        b"application/grpc-web" | b"application/grpc-web+proto" => Some(false),
        b"application/grpc-web-text" | b"application/grpc-web-text+proto" => Some(true),
        _ => None,
    }
}

impl Web {
    /// The call that a request makes, if it is one.
    pub(crate) fn of(head: &RequestHead) -> Option<Self> {
        let text = kind(head.headers.get("content-type"))?;
        Some(Self { text, text_back: kind(head.headers.get("accept")) == Some(true) })
    }

    /// Makes the request one of gRPC.
    pub(crate) fn edit_request(self, head: &mut RequestHead) {
        let headers = &mut head.headers;
        // That of the text, or of HTTP/1.1's framing.
        headers.remove("content-length");
        headers.set("content-type", b"application/grpc");
        headers.set("te", b"trailers");
        headers.set("grpc-accept-encoding", b"identity");
    }

    /// Makes the head of a response one of gRPC-Web.
    pub(crate) fn edit_response(self, head: &mut ResponseHead) {
        let kind: &[u8] =
            if self.text_back { b"application/grpc-web-text+proto" } else { b"application/grpc-web+proto" };
        head.headers.set("content-type", kind);
    }

    /// Makes an answer of ours one of gRPC-Web, in Envoy's form: its status stays, and its text is the message.
    pub(crate) fn edit_answer(self, head: &mut ResponseHead, text: &[u8]) {
        self.edit_response(head);
        if !text.is_empty() && !head.headers.contains("grpc-status") {
            let status = grpc_status_of(head.status).to_string();
            head.headers.set("grpc-status", status.as_bytes());
            head.headers.set("grpc-message", &percent_encode(text));
        }
    }

    /// What reads the request's body; nothing when it is read as it is.
    pub(crate) fn decoder(self) -> Option<Box<Decoder>> {
        self.text.then(Box::default)
    }

    /// What writes the response's body.
    pub(crate) fn encoder(self) -> Encoder {
        Encoder { text: self.text_back, ..Encoder::default() }
    }
}

/// Base64 that comes in pieces, each with padding of its own or none.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bits: u32,
    /// Digits of an unfinished four.
    have: u8,
    /// `=` of it.
    padding: u8,
    /// Decoded, and not sent.
    out: Outgoing,
}

/// The text is no base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoBase64;

impl Decoder {
    /// Decodes a piece; what was decoded is then in [`Decoder::out`].
    pub(crate) fn take(&mut self, piece: &[u8]) -> Result<(), NoBase64> {
        for byte in piece {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' if self.have >= 2 => {
                    self.padding += 1;
                    0
                }
                _ => return Err(NoBase64),
            };
            if self.padding > 0 && *byte != b'=' {
                return Err(NoBase64);
            }
            self.bits = self.bits << 6 | u32::from(digit);
            self.have += 1;
            if self.have == 4 {
                let [_, bytes @ ..] = self.bits.to_be_bytes();
                self.out.data.extend_from_slice(&bytes[..3 - usize::from(self.padding)]);
                (self.bits, self.have, self.padding) = (0, 0, 0);
            }
        }
        Ok(())
    }

    /// Nothing is missing.
    pub(crate) fn end(&self) -> Result<(), NoBase64> {
        if self.have == 0 { Ok(()) } else { Err(NoBase64) }
    }

    pub(crate) fn out(&mut self) -> &mut Outgoing {
        &mut self.out
    }
}

/// Bytes that wait for their receiver.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    data: Vec<u8>,
    sent: usize,
}

impl Outgoing {
    /// What waits.
    pub(crate) fn waiting(&self) -> &[u8] {
        &self.data[self.sent..]
    }

    pub(crate) fn clear(&mut self) {
        self.data.clear();
        self.sent = 0;
    }

    /// Ready when nothing waits any more.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>, to: &mut Stream) -> Poll<Result<(), Broken>> {
        while self.sent < self.data.len() {
            self.sent += ready!(to.poll_send(cx, &self.data[self.sent..]))?;
        }
        self.clear();
        Poll::Ready(Ok(()))
    }
}

/// Writes a response's body, and its trailers behind it.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    text: bool,
    /// The trailers were written.
    pub(crate) ended: bool,
    out: Outgoing,
}

impl Encoder {
    /// Adds a piece of the body and says how much of it was taken.
    pub(crate) fn take(&mut self, piece: &[u8]) -> usize {
        let len = piece.len().min(WAITING);
        self.put(&piece[..len]);
        len
    }

    /// Adds the frame of the trailers.
    pub(crate) fn end(&mut self, trailers: Option<&Headers>) {
        self.ended = true;
        let Some(trailers) = trailers else { return };
        let mut frame = vec![TRAILERS, 0, 0, 0, 0];
        for (name, value) in trailers.iter() {
            frame.extend(name.iter().map(u8::to_ascii_lowercase));
            frame.push(b':');
            frame.extend_from_slice(value);
            frame.extend_from_slice(b"\r\n");
        }
        // Heads are limited to 60 KiB.
        let len = (frame.len() - 5) as u32;
        frame[1..5].copy_from_slice(&len.to_be_bytes());
        self.put(&frame);
    }

    /// Each piece with padding of its own: what a message consists of is not held back.
    fn put(&mut self, piece: &[u8]) {
        if self.text {
            base64(piece, &mut self.out.data);
        } else {
            self.out.data.extend_from_slice(piece);
        }
    }

    pub(crate) fn out(&mut self) -> &mut Outgoing {
        &mut self.out
    }
}

pub(crate) fn base64(data: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in data.chunks(3) {
        let bits =
            three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for digit in 0..4 {
            let at = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit > three.len() { b'=' } else { DIGITS[at as usize] });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(pieces: &[&[u8]]) -> Result<Vec<u8>, NoBase64> {
        let mut decoder = Decoder::default();
        for piece in pieces {
            decoder.take(piece)?;
        }
        decoder.end()?;
        Ok(decoder.out().waiting().to_vec())
    }

    #[test]
    fn base64_comes_back_whatever_its_pieces() {
        for len in 0..40_u8 {
            let data: Vec<u8> = (0..len).map(|byte| byte.wrapping_mul(77)).collect();
            let mut text = Vec::new();
            base64(&data, &mut text);
            for size in 1..=text.len().max(1) {
                let pieces: Vec<&[u8]> = text.chunks(size).collect();
                assert_eq!(decoded(&pieces).as_ref(), Ok(&data), "{len} by {size}");
            }
        }
        // Several texts behind each other, each with its padding.
        assert_eq!(decoded(&[b"aGk=", b"aGk=aA", b"=="]).unwrap(), b"hihih");
        for wrong in [&b"aGk"[..], b"a=bc", b"aG=k", b"aGk=a", b"====", b"aG k", b"aGk\n"] {
            assert_eq!(decoded(&[wrong]), Err(NoBase64), "{wrong:?}");
        }
    }

    #[test]
    fn trailers_are_the_last_frame() {
        let mut trailers = Headers::new();
        trailers.append("Grpc-Status", b"0");
        trailers.append("x-a", b"b c");
        for (text, expected) in [
            (false, &b"\0\0\0\0\x02hi\x80\0\0\0\x18grpc-status:0\r\nx-a:b c\r\n"[..]),
            (true, b"AAAAAAJoaQ==gAAAABhncnBjLXN0YXR1czowDQp4LWE6YiBjDQo="),
        ] {
            let mut encoder = Encoder { text, ..Encoder::default() };
            assert_eq!(encoder.take(b"\0\0\0\0\x02hi"), 7);
            encoder.end(Some(&trailers));
            assert_eq!(encoder.out().waiting(), expected);
        }
    }

    #[test]
    fn calls_are_known_by_their_type() {
        let call = |kind: &str, accept: &str| {
            let head = RequestHead::new("POST", "test", "/s/m");
            Web::of(&head.with("content-type", kind).with("accept", accept))
        };
        let web = |text, text_back| Some(Web { text, text_back });
        assert_eq!(call("application/grpc-web", "*/*"), web(false, false));
        assert_eq!(call("application/grpc-web+proto", "application/grpc-web-text"), web(false, true));
        assert_eq!(call("application/grpc-web-text", "application/grpc-web-text+proto"), web(true, true));
        assert_eq!(call("application/grpc-web-text+proto", ""), web(true, false));
        assert_eq!(call("application/grpc", ""), None);
        assert_eq!(call("application/grpc-web+json", ""), None);
    }
}

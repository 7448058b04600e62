//! What a session sends: framed from bytes that were encoded once.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{Encoded, ResourceType};

/// A discovery response that has not been encoded; its resources have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Response {
    /// Which of the two protocols it belongs to.
    pub variant: Variant,
    /// Type of the resources; `None` answers for a type that is not known here.
    pub kind: Option<ResourceType>,
    /// Type URL.
    pub type_url: Cow<'static, str>,
    /// `version_info` or `system_version_info`.
    pub version: String,
    /// Identifies the response in the client's answer.
    pub nonce: String,
    /// Resources, shared with every other stream.
    pub resources: Vec<Arc<Encoded>>,
    /// `removed_resources`; always empty in state of the world.
    pub removed: Vec<Arc<str>>,
}

/// The two variants of the xDS protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Variant {
    /// `DiscoveryRequest`, `DiscoveryResponse`.
    StateOfTheWorld,
    /// `DeltaDiscoveryRequest`, `DeltaDiscoveryResponse`.
    Delta,
}

/// Small pieces are gathered into chunks of this size; it is also HTTP/2's default frame.
const CHUNK: usize = 16 * 1024;
/// Bodies from this size on are sent by reference.
const BY_REFERENCE: usize = 8 * 1024;

impl Response {
    /// The message as chunks that are made one at a time: what a slow client has not read yet
    /// costs a reference to shared bytes, not a copy. Begins with the five bytes of gRPC framing.
    /// `None`: longer than gRPC can frame.
    pub fn chunks(self) -> Option<Chunks> {
        let length = u32::try_from(self.encoded_len()).ok()?;
        let mut first = BytesMut::with_capacity(64);
        first.put_u8(0);
        first.put_u32(length);
        Some(Chunks::new(self, first))
    }

    /// The whole message, without gRPC framing.
    pub fn encode(self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.encoded_len());
        for chunk in Chunks::new(self, BytesMut::new()) {
            whole.extend_from_slice(&chunk);
        }
        whole.freeze()
    }

    fn encoded_len(&self) -> usize {
        let head = text_len(&self.version) + text_len(&self.type_url) + text_len(&self.nonce);
        let removed: usize = self.removed.iter().map(|name| 1 + delimited(name.len())).sum();
        let resources: usize = self.resources.iter().map(|r| 1 + delimited(self.resource_len(r))).sum();
        head + removed + resources
    }

    fn resource_len(&self, resource: &Encoded) -> usize {
        let any = any_len(resource);
        match self.variant {
            Variant::StateOfTheWorld => any,
            Variant::Delta => text_len(&resource.name) + text_len(&resource.version) + 1 + delimited(any),
        }
    }

    /// Everything but the resources: version_info = 1, type_url = 4, nonce = 5,
    /// removed_resources = 6.
    fn put_head(&self, to: &mut BytesMut) {
        put_text(to, 1, &self.version);
        put_text(to, 4, &self.type_url);
        put_text(to, 5, &self.nonce);
        for name in &self.removed {
            put_key(to, 6, name.len());
            to.put_slice(name.as_bytes());
        }
    }

    /// One `resources = 2` up to where its body begins. Delta wraps the `Any` in
    /// `Resource { version = 1, resource = 2, name = 3 }`.
    fn put_envelope(&self, resource: &Encoded, to: &mut BytesMut) {
        put_key(to, 2, self.resource_len(resource));
        if self.variant == Variant::Delta {
            put_text(to, 3, &resource.name);
            put_text(to, 1, &resource.version);
            put_key(to, 2, any_len(resource));
        }
        put_text(to, 1, resource.kind.url());
        if !resource.body.is_empty() {
            put_key(to, 2, resource.body.len());
        }
    }
}

/// The chunks of a [`Response`], made as they are asked for.
#[derive(Debug)]
pub struct Chunks {
    response: Response,
    next: usize,
    pending: BytesMut,
    ready: VecDeque<Bytes>,
}

impl Chunks {
    fn new(response: Response, mut first: BytesMut) -> Self {
        response.put_head(&mut first);
        Self { response, next: 0, pending: first, ready: VecDeque::new() }
    }
}

impl Iterator for Chunks {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        while self.ready.is_empty() {
            let Some(resource) = self.response.resources.get(self.next) else {
                break;
            };
            let resource = resource.clone();
            self.next += 1;
            self.response.put_envelope(&resource, &mut self.pending);
            if resource.body.len() >= BY_REFERENCE {
                self.ready.push_back(self.pending.split().freeze());
                self.ready.push_back(resource.body.clone());
            } else {
                self.pending.put_slice(&resource.body);
                if self.pending.len() >= CHUNK {
                    self.ready.push_back(std::mem::take(&mut self.pending).freeze());
                }
            }
        }
        self.ready
            .pop_front()
            .or_else(|| (!self.pending.is_empty()).then(|| std::mem::take(&mut self.pending).freeze()))
    }
}

fn any_len(resource: &Encoded) -> usize {
    let body = if resource.body.is_empty() { 0 } else { 1 + delimited(resource.body.len()) };
    text_len(resource.kind.url()) + body
}

fn text_len(text: &str) -> usize {
    if text.is_empty() { 0 } else { 1 + delimited(text.len()) }
}

/// Length of a payload with its length prefix.
fn delimited(length: usize) -> usize {
    prost::length_delimiter_len(length) + length
}

fn put_text(to: &mut BytesMut, number: u8, text: &str) {
    if !text.is_empty() {
        put_key(to, number, text.len());
        to.put_slice(text.as_bytes());
    }
}

fn put_key(to: &mut BytesMut, number: u8, length: usize) {
    to.put_u8(number << 3 | 2);
    let mut rest = length;
    while rest >= 0x80 {
        to.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    to.put_u8(rest as u8);
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
    use prost::Message;

    use super::*;

    fn response(variant: Variant) -> Response {
        let sizes = [0, 1, 200, 5_000, 9_000, 40_000, 3, 16_384, 127, 128];
        let resources = sizes.into_iter().enumerate().map(|(i, size)| {
            Encoded::from_bytes(ResourceType::Cluster, format!("c{i}"), Bytes::from(vec![i as u8; size]))
        });
        Response {
            variant,
            kind: Some(ResourceType::Cluster),
            type_url: ResourceType::Cluster.url().into(),
            version: "v".into(),
            nonce: "17".into(),
            resources: resources.collect(),
            removed: if variant == Variant::Delta { vec!["gone".into(), "".into()] } else { vec![] },
        }
    }

    #[test]
    fn prost_reads_what_was_framed() {
        let sent = response(Variant::Delta);
        let read = DeltaDiscoveryResponse::decode(sent.clone().encode()).unwrap();
        assert_eq!(read.nonce, "17");
        assert_eq!(read.removed_resources, ["gone", ""]);
        assert_eq!(read.resources.len(), sent.resources.len());
        for (read, sent) in read.resources.iter().zip(&sent.resources) {
            assert_eq!((&*read.name, &*read.version), (&*sent.name, &*sent.version));
            let any = read.resource.as_ref().unwrap();
            assert_eq!((&*any.type_url, &any.value[..]), (sent.kind.url(), &sent.body[..]));
        }
        let sent = response(Variant::StateOfTheWorld);
        let read = DiscoveryResponse::decode(sent.clone().encode()).unwrap();
        assert_eq!((&*read.version_info, &*read.type_url), ("v", &*sent.type_url));
        assert!(read.resources.iter().zip(&sent.resources).all(|(r, s)| r.value[..] == s.body[..]));
    }

    #[test]
    fn chunks_are_bounded_and_framed() {
        let sent = response(Variant::Delta);
        let chunks: Vec<Bytes> = sent.clone().chunks().unwrap().collect();
        let whole = chunks.concat();
        assert_eq!(whole[0], 0);
        assert_eq!(u32::from_be_bytes(whole[1..5].try_into().unwrap()) as usize, whole.len() - 5);
        assert_eq!(whole[5..], sent.encode()[..]);
        assert!(chunks.iter().all(|c| !c.is_empty()));
    }
}

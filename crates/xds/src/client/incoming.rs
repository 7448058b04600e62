//! Responses as they come from a stream, with the bodies of large resources as slices of what was received.

use bytes::{Buf as _, Bytes};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use prost::Message;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

/// `DeltaDiscoveryResponse`: what of it is read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(message, repeated, tag = "2")]
    pub(super) resources: Vec<Resource>,
    #[prost(string, tag = "4")]
    pub(super) type_url: String,
    #[prost(string, tag = "5")]
    pub(super) nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub(super) removed_resources: Vec<String>,
}

/// `Resource`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Resource {
    #[prost(string, tag = "1")]
    pub(super) version: String,
    #[prost(message, optional, tag = "2")]
    pub(super) resource: Option<Any>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

impl Response {
    /// A resource that is most of its response shares the memory of it; others must not hold on to all of it.
    fn taken(message: &Bytes) -> Result<Response, prost::DecodeError> {
        let mut response = Response::decode(message.clone())?;
        for any in response.resources.iter_mut().filter_map(|resource| resource.resource.as_mut()) {
            if any.value.len() < message.len() / 2 {
                any.value = Bytes::copy_from_slice(&any.value);
            }
        }
        Ok(response)
    }
}

/// The codec of a stream.
pub(super) struct Delta;

impl Codec for Delta {
    type Encode = DeltaDiscoveryRequest;
    type Decode = Response;
    type Encoder = ProstEncoder<DeltaDiscoveryRequest>;
    type Decoder = Taking;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::new().encoder()
    }

    fn decoder(&mut self) -> Taking {
        Taking::default()
    }
}

/// Takes messages out of the stream's buffer.
#[derive(Default)]
pub(super) struct Taking {
    /// The last message. As long as it is held the stream cannot use its buffer again, and lets it go when more comes: it
    /// would keep one as large as the largest response for as long as it lives.
    last: Bytes,
}

impl Decoder for Taking {
    type Item = Response;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Response>, tonic::Status> {
        self.last = from.copy_to_bytes(from.remaining());
        let response = Response::taken(&self.last);
        response.map(Some).map_err(|error| tonic::Status::internal(error.to_string()))
    }
}

#[cfg(test)]
mod incoming_test {
    use envoy_types::pb::envoy::service::discovery::v3 as wire;
    use envoy_types::pb::google::protobuf;

    use super::*;

    fn resource(name: &str, len: usize) -> wire::Resource {
        let body = protobuf::Any { type_url: "type".to_owned(), value: vec![7; len] };
        wire::Resource {
            name: name.to_owned(),
            version: "1".to_owned(),
            resource: Some(body),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_most_of_a_response_is_not_copied_and_the_rest_does_not_hold_it() {
        let message = DeltaDiscoveryResponse {
            type_url: "type".to_owned(),
            nonce: "3".to_owned(),
            resources: vec![resource("large", 1000), resource("small", 100)],
            removed_resources: vec!["gone".to_owned()],
            ..Default::default()
        };
        let bytes = Bytes::from(message.encode_to_vec());
        let taken = Response::taken(&bytes).unwrap();
        assert_eq!((&*taken.type_url, &*taken.nonce), ("type", "3"));
        assert_eq!(taken.removed_resources, ["gone"]);
        let body = |index: usize| {
            let Resource { name, version, resource } = &taken.resources[index];
            let Any { type_url, value } = resource.as_ref().unwrap();
            assert_eq!((&**version, &**type_url), ("1", "type"));
            (name.as_str(), value.len(), bytes.as_ptr_range().contains(&value.as_ptr()))
        };
        assert_eq!([body(0), body(1)], [("large", 1000, true), ("small", 100, false)]);
    }
}

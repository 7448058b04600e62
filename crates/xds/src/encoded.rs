use std::sync::Arc;

use bytes::Bytes;
use prost::Message;

use crate::ResourceType;

/// One resource, encoded once; every subscriber is sent these bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encoded {
    /// Name within its type.
    pub name: Arc<str>,
    /// Hash of the content in hexadecimal: equal content has an equal version, on every control
    /// plane and after every restart.
    pub version: Arc<str>,
    /// Type of the resource.
    pub kind: ResourceType,
    /// The message in protobuf encoding: what stands in `Any.value`.
    pub body: Bytes,
}

impl Encoded {
    /// Encodes a message.
    ///
    /// The version is a hash of the bytes, so a message with map fields has to be built with maps
    /// of one order to keep its version; Envoy's configuration messages use maps only inside
    /// metadata, where `prost` writes hash maps in hash order: see [`Encoded::from_bytes`] and
    /// [`Encoded::with_version`] for messages whose author knows a better identity.
    pub fn new(kind: ResourceType, name: impl Into<Arc<str>>, message: &impl Message) -> Arc<Self> {
        Self::from_bytes(kind, name, Bytes::from(message.encode_to_vec()))
    }

    /// Takes a message that is encoded already.
    pub fn from_bytes(kind: ResourceType, name: impl Into<Arc<str>>, body: Bytes) -> Arc<Self> {
        let version = content_version(&body);
        Arc::new(Self { name: name.into(), version, kind, body })
    }

    /// Takes a message that is encoded already, with the version that a server gave it.
    pub fn with_version(
        kind: ResourceType,
        name: impl Into<Arc<str>>,
        version: impl Into<Arc<str>>,
        body: Bytes,
    ) -> Arc<Self> {
        Arc::new(Self { name: name.into(), version: version.into(), kind, body })
    }
}

/// The version of a content: 64 bits of xxh3 in hexadecimal.
pub(crate) fn content_version(body: &[u8]) -> Arc<str> {
    format!("{:016x}", xxhash_rust::xxh3::xxh3_64(body)).into()
}

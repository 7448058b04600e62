use std::{fmt, sync::Arc};

use bytes::Bytes;
use prost::Message;

use crate::ResourceType;
use crate::canonical::sort_maps;

/// One resource, encoded once; every subscriber is sent these bytes.
#[derive(Clone, PartialEq, Eq)]
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

/// Without the content, which may be a private key.
impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, version, kind, body } = self;
        write!(f, "{kind} {name} ({version}, {} bytes)", body.len())
    }
}

impl Encoded {
    /// Encodes a message. Its maps are written in the order of their keys, so that equal messages
    /// have equal bytes and an equal version. (Message types of our own have to use ordered maps.)
    pub fn new(kind: ResourceType, name: impl Into<Arc<str>>, message: &impl Message) -> Arc<Self> {
        let mut body = message.encode_to_vec();
        sort_maps(kind, &mut body);
        Self::from_bytes(kind, name, Bytes::from(body))
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

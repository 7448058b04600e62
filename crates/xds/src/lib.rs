//! The contract between the planes: xDS v3 messages, delta and state-of-the-world sessions
//! without I/O, the gRPC transport that carries them, and the client that a proxy uses.
//!
//! The control plane implements [`ViewSource`] and calls `serve`; a proxy calls
//! [`Client::connect`]. Neither side ever encodes a resource twice: an [`Encoded`] holds the
//! bytes that go on the wire.

mod canonical;
mod client;
mod encoded;
mod node;
mod resource_type;
mod source;
mod view;

pub use client::{Client, ClientConfig, ClientHandle, Received, Reply, Status, Update};
pub use encoded::Encoded;
pub use node::{ClientKind, Locality, NodeInfo};
pub use resource_type::{ResourceType, type_url};
pub use source::{Attached, Event, Outcome, Refusal, ViewSource, Want};
pub use view::{Change, View};

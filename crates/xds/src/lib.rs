//! The contract between the planes: xDS v3 messages, delta and state-of-the-world sessions
//! without I/O, the gRPC transport that carries them, and the client that a proxy uses.
//!
//! The control plane implements [`ViewSource`] and calls `serve`; a proxy calls
//! [`Client::connect`]. Neither side ever encodes a resource twice: an [`Encoded`] holds the
//! bytes that go on the wire.

mod canonical;
mod client;
mod encoded;
pub mod fuzz;
mod metrics;
mod names;
mod node;
mod resource_type;
mod response;
mod server;
mod session;
mod source;
mod view;

pub use client::{Client, ClientConfig, ClientHandle, Received, Reply, Status, Update};
pub use encoded::Encoded;
pub use metrics::{Metrics, TypeMetrics};
pub use names::Interner;
pub use node::{ClientKind, Locality, NodeInfo};
pub use resource_type::{ResourceType, type_url};
pub use response::{Chunks, Response, Variant};
pub use server::{Server, ServerConfig, serve};
pub use session::{DeltaSession, SessionConfig, SotwSession};
pub use source::{Attached, Event, Outcome, Refusal, ViewSource, Want};
pub use view::{Change, View};

//! Resources and registries in, xDS per node out: feed, world, scope, compile, push, status.

pub mod compile;
mod control;
mod feed;
pub mod finding;
#[cfg(test)]
mod kit;
mod push;
pub mod registry;
mod scope;
pub mod status;
pub mod world;

pub use compile::{Compiled, Compiler, compile, public_names};
pub use control::{Control, ControlConfig};
pub use finding::Finding;
pub use push::{Convergence, NodeStatus, Quiet, Refused};
pub use scope::{GatewayFamily, GatewayRef, Identity, Inbound, Interception, Outbound, Role, Scope};
pub use world::{AccessLogConfig, AccessLogFormat, Change, Dirty, MeshConfig, World};

//! Resources and registries in, xDS per node out: feed, world, scope, compile, push, status.

pub mod compile;
pub mod finding;
mod scope;
pub mod world;

pub use compile::{Compiled, Compiler, compile};
pub use finding::Finding;
pub use scope::{GatewayFamily, GatewayRef, Identity, Inbound, Interception, Outbound, Role, Scope};
pub use world::{Change, Dirty, MeshConfig, World};

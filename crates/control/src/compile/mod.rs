//! From the world to xDS, per scope.
//!
//! [`compile`] is the definition: a pure function of world and scope. [`Compiler`] gives the same result
//! at the cost of what changed.

pub(crate) mod access_log;
mod build;
mod cache;
pub(crate) mod canonical;
mod cluster;
mod cx;
mod endpoint;
mod gateway;
pub(crate) mod gateway_api;
mod gateway_tls;
mod grpc;
pub(crate) mod hcm;
mod inbound;
mod metrics;
mod names;
pub(crate) mod origination;
mod outbound;
mod plan;
mod policy;
pub(crate) mod rds;
pub(crate) mod route;
mod tcp;
mod termination;
pub(crate) mod tls;
mod traffic;
pub(crate) mod unit;
mod view;
mod visible;

pub use metrics::Counters;
pub use view::{Compiled, Compiler};

use crate::{scope::Scope, world::World};

/// Everything a scope gets, from scratch.
pub fn compile(world: &World, scope: &Scope) -> Compiled {
    let mut compiler = Compiler::default();
    compiler.attach(world, scope);
    compiler.compiled(scope).unwrap_or_default()
}

/// The names that askers outside the mesh may have answered: of services that every namespace sees, and
/// in full only, as such an asker has no namespace. From scratch: for a server of names, not for proxies.
pub fn public_names(world: &World) -> heddle_dns::NameTable {
    let cache = cache::Cache::default();
    names::table(&cx::Cx::new(&cache, world, &Scope::outside()))
}

#[cfg(test)]
mod compile_test;
#[cfg(test)]
mod incremental_test;
#[cfg(test)]
pub(crate) mod tls_test;

//! Gateway API: which routes attach to which listeners, and what becomes of them.
//!
//! [`attachment::attach`] is the one judgement. [`table`] and [`mesh`] make routing from it, and
//! `crate::status` the statuses, so that a status never says what the routing does not do.

pub(crate) mod around;
pub(crate) mod attachment;
pub(crate) mod backend;
pub(crate) mod backend_tls;
pub(crate) mod certificate;
mod conflict;
mod filter;
#[cfg(test)]
mod fixture;
pub(crate) mod hostname;
pub(crate) mod listener;
pub(crate) mod listener_set;
pub(crate) mod mesh;
pub(crate) mod model;
mod precedence;
pub(crate) mod read;
mod rule;
pub(crate) mod secure;
pub(crate) mod table;
mod units;

pub(crate) use attachment::Attachment;
pub(crate) use units::{Unit, compile, has_mesh_routes, mesh_destinations, mesh_routes, plan};

//! What is said back on the objects: computed from what compilation judged, written at a measured pace.
//!
//! [`report`] says what is true, [`pace`] when it is written, [`stamp`] what becomes of what stands there,
//! [`write`] does it. A write of a status comes back from the store as no change
//! ([`differ_in_status_only`]), so that it never enters the world.

mod condition;
mod gateway_api;
mod pace;
mod report;
mod stamp;
mod write;

pub(crate) use condition::Condition;
pub(crate) use write::{Writer, differ_in_status_only};

/// `controllerName` of our GatewayClasses, and of what is written to the status of routes.
pub const CONTROLLER: &str = "heddle.dev/gateway-controller";

//! What is said back on the objects: computed from what compilation judged, written at a measured pace.

mod condition;
pub(crate) mod gateway_api;
mod pace;
mod stamp;

pub(crate) use condition::{Condition, Status};

/// `controllerName` of our GatewayClasses, and of what is written to the status of routes.
pub const CONTROLLER: &str = "heddle.dev/gateway-controller";

//! Gateway API: the place where its compilation joins in.

use std::sync::Arc;

use heddle_xds::ResourceType;

use super::{canonical::RouteDraft, cx::Cx, unit::Value};
use crate::world::Service;

/// Units of Gateway API configuration.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Unit {}

impl Unit {
    pub(crate) fn resource_type(&self) -> Option<ResourceType> {
        match *self {}
    }
}

/// What a gateway's scope consists of.
pub(crate) fn plan(_cx: &Cx<'_>) -> Vec<super::unit::Unit> {
    Vec::new()
}

pub(crate) fn compile(_cx: &Cx<'_>, unit: &Unit) -> Value {
    match *unit {}
}

/// The routes of a service's port, where Gateway API routes are attached to it.
pub(crate) fn mesh_routes(_cx: &Cx<'_>, _service: &Arc<Service>, _port: u16) -> Option<Vec<RouteDraft>> {
    None
}

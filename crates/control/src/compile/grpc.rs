//! What gRPC clients are told: the place where its compilation joins in.

use heddle_xds::ResourceType;

use super::{cx::Cx, unit::Value};

/// Units for gRPC clients.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) enum Unit {}

impl Unit {
    pub(crate) fn resource_type(&self) -> Option<ResourceType> {
        match *self {}
    }
}

/// What a gRPC client's scope consists of.
pub(crate) fn plan(_cx: &Cx<'_>) -> Vec<super::unit::Unit> {
    Vec::new()
}

pub(crate) fn compile(_cx: &Cx<'_>, unit: &Unit) -> Value {
    match *unit {}
}

//! What the routes of one configuration say alike, kept once.

use std::sync::Arc;

use envoy_types::pb::envoy::config::route::v3 as proto;
use prost::Message as _;
use rustc_hash::{FxHashMap, FxHashSet};

use super::action;
use super::judge::{Compiled, Listed};
use crate::snapshot::{Provenance, RetryPolicy, RouteAction};

/// Values made while one configuration is compiled, by their encoded messages.
#[derive(Default)]
pub(super) struct Alike {
    actions: FxHashMap<Vec<u8>, Arc<RouteAction>>,
    retries: FxHashMap<Vec<u8>, Arc<RetryPolicy>>,
    objects: FxHashSet<Arc<str>>,
}

impl Alike {
    /// What a route does.
    pub(super) fn action(
        &mut self,
        value: &proto::RouteAction,
        seen: &mut Listed,
    ) -> Compiled<Arc<RouteAction>> {
        let message = value.encode_to_vec();
        if let Some(known) = self.actions.get(&message) {
            return Ok(known.clone());
        }
        let made = Arc::new(action::route_action(value, self, seen)?);
        self.actions.insert(message, made.clone());
        Ok(made)
    }

    /// A retry policy.
    pub(super) fn retry(&mut self, value: &proto::RetryPolicy) -> Compiled<Arc<RetryPolicy>> {
        let message = value.encode_to_vec();
        if let Some(known) = self.retries.get(&message) {
            return Ok(known.clone());
        }
        let made = Arc::new(action::retry_policy(value)?);
        self.retries.insert(message, made.clone());
        Ok(made)
    }

    /// The same with the name of its object shared.
    pub(super) fn provenance(&mut self, mut made: Provenance) -> Provenance {
        match self.objects.get(&made.object) {
            Some(known) => made.object = known.clone(),
            None => drop(self.objects.insert(made.object.clone())),
        }
        made
    }
}

//! ListenerSets: listeners that others than its owner add to a Gateway.

use std::sync::Arc;

use heddle_resource::{Key, kind};

use super::{
    around::Facts,
    attachment::{self, ListenerOutcome},
    backend::Surroundings,
    model::{Gateway, Listener},
    read,
};
use crate::{status::Condition, world::ParentId};

/// A ListenerSet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ListenerSet {
    pub(crate) key: Key,
    pub(crate) generation: i64,
    /// RFC 3339; empty where no store has seen it.
    pub(crate) created: String,
    pub(crate) listeners: Vec<Listener>,
}

/// What came of a ListenerSet.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct SetOutcome {
    pub(crate) set: Arc<ListenerSet>,
    pub(crate) accepted: Condition,
    /// Whether its listeners are among the Gateway's.
    pub(crate) joined: bool,
}

/// The ListenerSets that name a Gateway, in order of precedence: the older, then by namespace and name.
pub(super) fn naming<F: Facts>(facts: &F, gateway: &ParentId) -> Vec<Arc<ListenerSet>> {
    let objects = facts.of_kind(&kind::LISTENER_SET).into_iter();
    let named =
        objects.filter(|object| read::parent_of(object) == Some((&*gateway.namespace, &*gateway.name)));
    let mut sets: Vec<_> = named.filter_map(|object| read::listener_set(object)).map(Arc::new).collect();
    sets.sort_by(|a, b| precedence(a).cmp(&precedence(b)));
    sets
}

fn precedence(set: &ListenerSet) -> (&str, &str, &str) {
    (&set.created, &set.key.namespace, &set.key.name)
}

fn is_allowed(gateway: &Gateway, set: &ListenerSet, around: &dyn Surroundings) -> bool {
    attachment::allows(&gateway.allowed_sets, &gateway.key.namespace, &set.key.namespace, around)
}

/// The Gateway with the listeners of those sets that may attach.
pub(super) fn merged(mut gateway: Gateway, sets: &[Arc<ListenerSet>], around: &dyn Surroundings) -> Gateway {
    for set in sets {
        if is_allowed(&gateway, set, around) {
            gateway.listeners.extend_from_slice(&set.listeners);
        }
    }
    gateway
}

/// What comes of the sets, given what came of the Gateway by itself and of every listener.
pub(super) fn judge(
    gateway: &Gateway,
    of_gateway: &Condition,
    listeners: &[ListenerOutcome],
    sets: &[Arc<ListenerSet>],
    around: &dyn Surroundings,
) -> Vec<SetOutcome> {
    let judge = |set: &Arc<ListenerSet>| {
        let joined = is_allowed(gateway, set, around);
        let accepted = accepted(gateway, of_gateway, listeners, set, joined);
        SetOutcome { set: set.clone(), accepted, joined }
    };
    sets.iter().map(judge).collect()
}

/// The condition `Accepted` of a ListenerSet.
fn accepted(
    gateway: &Gateway,
    of_gateway: &Condition,
    listeners: &[ListenerOutcome],
    set: &ListenerSet,
    joined: bool,
) -> Condition {
    if !joined {
        let message = format!(
            "spec.allowedListeners of {} lets no ListenerSet of namespace {} in",
            gateway.key, set.key.namespace
        );
        return Condition::no("Accepted", "NotAllowed", message);
    }
    if !of_gateway.holds() {
        let message = format!("{} is not accepted; see its conditions", gateway.key);
        return Condition::no("Accepted", "ParentNotAccepted", message);
    }
    let own = gateway.listeners.iter().zip(listeners);
    let own = own.filter(|(listener, _)| listener.set.as_ref() == Some(&set.key));
    let bad: Vec<_> =
        own.filter(|(_, outcome)| !outcome.serves()).map(|(listener, _)| listener.name.as_str()).collect();
    let message = format!("not served: listeners {}; see their conditions", bad.join(", "));
    match bad.len() {
        0 => Condition::yes("Accepted", "Accepted"),
        all if all == set.listeners.len() => Condition::no("Accepted", "ListenersNotValid", message),
        _ => Condition::yes("Accepted", "ListenersNotValid").with_message(message),
    }
}

#[cfg(test)]
#[path = "listener_set_test.rs"]
mod listener_set_test;

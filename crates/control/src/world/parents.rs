//! The Gateway API routes, by what they refer to as a parent.

use std::{collections::BTreeSet, sync::Arc};

use heddle_resource::{Key, Kind, Object, kind};
use imbl::HashMap;

use super::{Dirty, Fact};
use crate::compile::gateway_api::{
    mesh::is_entry,
    model::{ParentRef, Route},
    read,
};

/// An object that routes refer to as a parent: a Gateway, a ListenerSet, a Service or a ServiceEntry.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ParentId {
    pub kind: &'static Kind,
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ParentId {
    pub(crate) fn gateway(namespace: &Arc<str>, name: &Arc<str>) -> Self {
        Self { kind: &kind::GATEWAY, namespace: namespace.clone(), name: name.clone() }
    }

    pub(crate) fn listener_set(key: &Key) -> Self {
        Self { kind: &kind::LISTENER_SET, namespace: key.namespace.clone(), name: key.name.clone() }
    }

    /// The object that declares a service.
    pub(crate) fn service(object: &Key) -> Option<Self> {
        let known = [&kind::SERVICE, &kind::SERVICE_ENTRY].contains(&object.kind);
        known.then(|| Self {
            kind: object.kind,
            namespace: object.namespace.clone(),
            name: object.name.clone(),
        })
    }

    /// What a route's reference means; nothing for kinds that are no parents.
    pub(crate) fn of(parent: &ParentRef, route: &Route) -> Option<Self> {
        let kind: &'static Kind = match parent {
            parent if parent.is_gateway() => &kind::GATEWAY,
            parent if parent.is_listener_set() => &kind::LISTENER_SET,
            parent if parent.is_service() => &kind::SERVICE,
            parent if is_entry(parent) => &kind::SERVICE_ENTRY,
            _ => return None,
        };
        Some(Self { kind, namespace: parent.namespace(route).into(), name: parent.name.as_str().into() })
    }

    pub(crate) fn key(&self) -> Key {
        Key::new(self.kind, self.namespace.clone(), self.name.clone())
    }
}

type List = Arc<[Arc<Route>]>;

#[derive(Clone, Debug, Default)]
pub(super) struct Parents {
    routes: HashMap<ParentId, List>,
}

impl Parents {
    pub(super) fn replace(&mut self, old: Option<&Object>, new: Option<&Object>, dirty: &mut Dirty) {
        if let Some(route) = old.and_then(read::route) {
            for parent in parents(&route) {
                let mut list = self.list(&parent);
                list.retain(|other| (other.kind, &other.key) != (route.kind, &route.key));
                self.set(parent, list, dirty);
            }
        }
        if let Some(route) = new.and_then(read::route).map(Arc::new) {
            for parent in parents(&route) {
                let mut list = self.list(&parent);
                list.push(route.clone());
                list.sort_by(|a, b| a.seniority().cmp(&b.seniority()));
                self.set(parent, list, dirty);
            }
        }
    }

    fn list(&self, parent: &ParentId) -> Vec<Arc<Route>> {
        self.of(parent).to_vec()
    }

    fn set(&mut self, parent: ParentId, list: Vec<Arc<Route>>, dirty: &mut Dirty) {
        dirty.mark(Fact::RoutesOf(parent.clone()));
        if list.is_empty() {
            self.routes.remove(&parent);
        } else {
            self.routes.insert(parent, list.into());
        }
    }

    /// In order of seniority.
    pub(super) fn of(&self, parent: &ParentId) -> &[Arc<Route>] {
        self.routes.get(parent).map_or(&[], |routes| routes)
    }
}

fn parents(route: &Route) -> BTreeSet<ParentId> {
    route.parents.iter().filter_map(|parent| ParentId::of(parent, route)).collect()
}

//! What a backend reference leads to.

use std::{collections::BTreeMap, sync::Arc};

use super::model::{Backend, Filter, Path, PathEdit, Reference, Route, RouteKind, Rule};
use crate::{compile::tls::Credential, status::Condition};

/// Everything that judging routes reads besides gateways and routes.
pub(crate) trait Surroundings {
    /// The labels of a namespace (that of its name included); none where it does not exist.
    fn namespace_labels(&self, namespace: &str) -> Option<Arc<BTreeMap<String, String>>>;
    /// A Service by namespace and name.
    fn service(&self, namespace: &str, name: &str) -> Option<Arc<ServiceFacts>>;
    /// A host of the mesh that is visible from a namespace: a ServiceEntry's, or a Service's.
    fn host(&self, namespace: &str, host: &str) -> Option<Arc<ServiceFacts>>;
    /// Whether a ReferenceGrant lets objects of a kind in a namespace refer to `to`.
    fn permits(&self, group: &str, kind: &str, namespace: &str, to: &Reference) -> bool;
    /// The cluster that stands for a destination; an error where something protects the way there that is
    /// not built, so that nothing may be sent.
    fn cluster(&self, to: &Destination) -> Result<String, String>;
    /// Whether a certificate or authorities can be used; the error names object, field and cause.
    fn usable(&self, credential: &Credential) -> Result<(), Arc<str>>;
}

/// What is read of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ServiceFacts {
    /// Full host name, as in cluster names.
    pub(crate) host: Arc<str>,
    /// Number and `appProtocol` of each port.
    pub(crate) ports: Vec<(u16, Option<String>)>,
}

/// Where a resolved backend is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Destination {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

/// Why a reference leads nowhere: a reason of the condition `ResolvedRefs`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Fault {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

impl Fault {
    fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Istio's group of kinds that a backend or a parent may be.
pub(crate) const ISTIO_GROUP: &str = "networking.istio.io";

/// Resolves a backend of a route.
pub(crate) fn resolve(
    around: &dyn Surroundings,
    route: &Route,
    backend: &Backend,
) -> Result<Destination, Fault> {
    let to = &backend.to;
    let is_service = to.group.is_empty() && to.kind == "Service";
    let is_host = to.group == ISTIO_GROUP && to.kind == "Hostname";
    if !is_service && !is_host {
        let group = if to.group.is_empty() { "core" } else { &to.group };
        let message =
            format!("backend {to}: kind {} of group {group} cannot be a backend; use a Service", to.kind);
        return Err(Fault::new("InvalidKind", message));
    }
    if is_service
        && to.namespace != *route.key.namespace
        && !around.permits(super::model::GROUP, route.kind.name(), &route.key.namespace, to)
    {
        let message = format!(
            "backend {to} is in another namespace, where no ReferenceGrant permits a {} of namespace {}",
            route.kind.name(),
            route.key.namespace
        );
        return Err(Fault::new("RefNotPermitted", message));
    }
    let found = if is_service {
        around.service(&to.namespace, &to.name)
    } else {
        around.host(&route.key.namespace, &to.name)
    };
    let Some(service) = found else {
        return Err(Fault::new("BackendNotFound", format!("backend {to} does not exist")));
    };
    let Some(port) = backend.port else {
        return Err(Fault::new("UnsupportedValue", format!("backend {to}: port is required")));
    };
    let Some((_, app_protocol)) = service.ports.iter().find(|(number, _)| *number == port) else {
        let ports: Vec<_> = service.ports.iter().map(|(number, _)| number.to_string()).collect();
        let message = format!("backend {to} has no port {port}; it has {}", ports.join(", "));
        return Err(Fault::new("BackendNotFound", message));
    };
    if matches!(route.kind, RouteKind::Http | RouteKind::Grpc)
        && app_protocol.as_deref().is_some_and(|protocol| protocol == "kubernetes.io/wss")
    {
        let message = format!(
            "backend {to}: appProtocol kubernetes.io/wss needs TLS to backends, which is not built yet"
        );
        return Err(Fault::new("UnsupportedProtocol", message));
    }
    Ok(Destination { host: service.host.clone(), port })
}

/// The condition `ResolvedRefs` of a route.
pub(crate) fn resolved_refs(around: &dyn Surroundings, route: &Route) -> Condition {
    let faults: Vec<_> = route.rules.iter().flat_map(|rule| faults(around, route, rule)).collect();
    match faults.first() {
        None => Condition::yes("ResolvedRefs", "ResolvedRefs"),
        Some(first) => {
            let mut message = first.message.clone();
            if faults.len() > 1 {
                message = format!("{message} (and {} more)", faults.len() - 1);
            }
            Condition::no("ResolvedRefs", first.reason, message)
        }
    }
}

fn faults(around: &dyn Surroundings, route: &Route, rule: &Rule) -> Vec<Fault> {
    let mut faults = Vec::new();
    let filters = rule.filters.iter().chain(rule.backends.iter().flat_map(|backend| &backend.filters));
    for filter in filters {
        match filter {
            Filter::Mirror { backend, .. } => faults.extend(resolve(around, route, backend).err()),
            Filter::Unknown { kind, reference } => {
                let what = reference.as_ref().map_or_else(|| kind.clone(), ToString::to_string);
                faults.push(Fault::new("InvalidKind", format!("filter {what} is not known here")));
            }
            _ => {}
        }
    }
    faults.extend(rule.backends.iter().filter_map(|backend| resolve(around, route, backend).err()));
    faults
}

/// What makes a route unacceptable as a whole: reason and message of `Accepted`.
pub(crate) fn unacceptable(route: &Route) -> Option<(&'static str, String)> {
    route.rules.iter().enumerate().find_map(|(index, rule)| {
        let filters = || rule.filters.iter().chain(rule.backends.iter().flat_map(|backend| &backend.filters));
        let redirects = filters().any(|filter| matches!(filter, Filter::Redirect(_)));
        let rewrites = filters().any(|filter| matches!(filter, Filter::Rewrite { .. }));
        if redirects && rewrites {
            let message =
                format!("spec.rules[{index}].filters: RequestRedirect and URLRewrite exclude each other");
            return Some(("IncompatibleFilters", message));
        }
        let edits_prefix = filters().any(|filter| {
            matches!(
                filter,
                Filter::Redirect(super::model::Redirect { path: Some(PathEdit::Prefix(_)), .. })
                    | Filter::Rewrite { path: Some(PathEdit::Prefix(_)), .. }
            )
        });
        let other_match = rule.matches.iter().any(|matched| !matches!(matched.path, Path::Prefix(_)));
        (edits_prefix && other_match).then(|| {
            let message = format!(
                "spec.rules[{index}]: ReplacePrefixMatch needs every match to have a path of type PathPrefix"
            );
            ("UnsupportedValue", message)
        })
    })
}

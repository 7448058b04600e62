//! What a kind's own rules say of an object whose fields have the right types.
//!
//! The rules are those of the APIs: the checks of Istio's webhook, and the CEL rules of the published CRDs. Where
//! heddle differs, the test `agreement` says why.

mod backend_tls;
mod core;
mod destination_rule;
mod gateway;
mod gateway_filter;
mod gateway_route;
mod http_route;
mod istio_gateway;
mod service_entry;
mod sidecar;
mod syntax;
mod virtual_service;

use std::fmt::Display;

pub(crate) use syntax::overlap;

use crate::{diagnostic, diagnostic::Diagnostic, kind::Spec, object::Object};

/// The longest path of a Unix socket in bytes: `sun_path` of Linux without its end.
const LONGEST_PATH: usize = 107;

/// Adds what is wrong with the object.
pub(crate) fn object(object: &Object, findings: &mut Vec<Diagnostic>) {
    let mut at = Judge { findings, path: String::from("spec") };
    match &object.spec {
        Spec::VirtualService(spec) => virtual_service::check(spec, &mut at),
        Spec::DestinationRule(spec) => destination_rule::check(spec, &mut at),
        Spec::ServiceEntry(spec) => service_entry::entry(spec, object, &mut at),
        Spec::WorkloadEntry(spec) => service_entry::workload(spec, object, &mut at),
        Spec::WorkloadGroup(spec) => service_entry::group(spec, object, &mut at),
        Spec::IstioGateway(spec) => istio_gateway::check(spec, &mut at),
        Spec::Sidecar(spec) => sidecar::check(spec, &mut at),
        Spec::GatewayClass(class) => gateway::class(&class.spec, &mut at),
        Spec::Gateway(gateway) => gateway::gateway(&gateway.spec, &mut at),
        Spec::ListenerSet(set) => gateway::listener_set(&set.spec, &mut at),
        Spec::HttpRoute(route) => gateway_route::http(&route.spec, &mut at),
        Spec::GrpcRoute(route) => gateway_route::grpc(&route.spec, &mut at),
        Spec::TcpRoute(route) => gateway_route::tcp(&route.spec, &mut at),
        Spec::TlsRoute(route) => gateway_route::tls(&route.spec, &mut at),
        Spec::BackendTlsPolicy(policy) => backend_tls::policy(&policy.spec, &mut at),
        Spec::ReferenceGrant(grant) => gateway::grant(&grant.spec, &mut at),
        Spec::Service(service) => core::service(&service.spec, &mut at),
        Spec::EndpointSlice(slice) => core::endpoint_slice(slice, &mut at.root()),
        Spec::Secret(secret) => core::secret(secret, &mut at.root()),
        Spec::ConfigMap(map) => core::config_map(map, &mut at.root()),
        Spec::Namespace(_) | Spec::Pod(_) | Spec::ServiceAccount(_) => {}
    }
}

/// Where the check stands in the document, and where its findings go.
pub(crate) struct Judge<'f> {
    findings: &'f mut Vec<Diagnostic>,
    path: String,
}

impl Judge<'_> {
    fn root(&mut self) -> Judge<'_> {
        Judge { findings: self.findings, path: String::new() }
    }

    /// One step down: a field.
    fn field(&mut self, name: impl Display) -> Judge<'_> {
        let path = if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) };
        Judge { findings: self.findings, path }
    }

    /// One step down: an item of a list field.
    fn item(&mut self, name: &str, index: usize) -> Judge<'_> {
        self.field(format_args!("{name}[{index}]"))
    }

    /// One step down: an entry of a map field.
    fn entry(&mut self, name: &str, key: &str) -> Judge<'_> {
        self.field(format_args!("{name}[{key}]"))
    }

    fn error(&mut self, code: &'static str, message: &str, found: impl Display, expected: &str) {
        let finding = Diagnostic::error(code, message).found(found.to_string(), expected);
        diagnostic::add(self.findings, finding.on("", self.path.as_str()));
    }

    fn warn(&mut self, code: &'static str, message: &str, found: impl Display, expected: &str) {
        let finding = Diagnostic::warning(code, message).found(found.to_string(), expected);
        diagnostic::add(self.findings, finding.on("", self.path.as_str()));
    }

    /// The path of a Unix socket: absolute, or a name in the abstract space; no longer than the system takes.
    fn socket(&mut self, address: &str, path: &str) {
        let named = path.starts_with(['/', '@']) && path.len() > 1 && !path.ends_with('/');
        if !named || path.contains('\0') {
            self.error("HDL0111", "not a socket", address, "unix:///PATH or unix://@NAME");
        } else if path.len() > LONGEST_PATH {
            self.error("HDL0111", "too long for a socket", path.len(), "107 bytes at most");
        }
    }

    fn missing(&mut self, expected: &str) {
        self.error("HDL0101", "something must be there", "", expected);
    }

    fn conflict(&mut self, message: &str) {
        self.error("HDL0107", message, "", "one of them");
    }

    /// Refuses what stands there twice.
    fn unique<'v>(&mut self, values: impl IntoIterator<Item = &'v str>) {
        let mut seen = std::collections::BTreeSet::new();
        for value in values {
            if !seen.insert(value) {
                self.error("HDL0108", "it stands there twice", value, "each once");
            }
        }
    }
}

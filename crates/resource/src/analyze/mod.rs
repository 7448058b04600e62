//! Findings that need more than one object: dangling references, duplicates, what hides something else.

mod certificates;
mod gateway_api;
mod index;
mod istio;

use std::{collections::BTreeMap, fmt::Display};

use crate::{
    diagnostic::{Diagnostic, Severity},
    kind::Spec,
    object::{Key, Object},
};
use index::Index;

/// What is wrong between objects that are each valid by themselves, in the order of the objects.
///
/// Hosts and backends are looked up only if the objects name any service at all; a folder of routes alone gets one
/// finding that says so.
pub fn analyze(objects: &[Object]) -> Vec<Diagnostic> {
    let index = Index::build(objects);
    let mut findings = Vec::new();
    duplicates(objects, &mut findings);
    if !index.has_services() && objects.iter().any(refers_to_services) {
        let message = "no Service or ServiceEntry among the objects: hosts and backends were not looked up";
        findings.push(Diagnostic::new("HDL0300", Severity::Info, message));
    }
    for object in objects {
        let mut report = Report { object, findings: &mut findings };
        match &object.spec {
            Spec::VirtualService(spec) => istio::virtual_service(spec, &index, &mut report),
            Spec::DestinationRule(spec) => istio::destination_rule(spec, &index, &mut report),
            Spec::IstioGateway(spec) => istio::gateway(spec, &index, &mut report),
            Spec::Sidecar(spec) => istio::sidecar(spec, &index, &mut report),
            Spec::Gateway(gateway) => gateway_api::gateway(&gateway.spec, &index, &mut report),
            Spec::ListenerSet(set) => gateway_api::listener_set(&set.spec, &index, &mut report),
            Spec::HttpRoute(route) => gateway_api::http(&route.spec, &index, &mut report),
            Spec::GrpcRoute(route) => gateway_api::grpc(&route.spec, &index, &mut report),
            Spec::Secret(secret) => certificates::secret(secret, &mut report),
            Spec::BackendTlsPolicy(policy) => certificates::policy(&policy.spec, &index, &mut report),
            Spec::TcpRoute(route) => {
                gateway_api::l4(&route.spec.parent_refs, &route.spec.rules, &index, &mut report);
            }
            Spec::TlsRoute(route) => {
                gateway_api::l4(&route.spec.parent_refs, &route.spec.rules, &index, &mut report);
            }
            _ => {}
        }
    }
    findings
}

fn refers_to_services(object: &Object) -> bool {
    matches!(
        object.spec,
        Spec::VirtualService(_)
            | Spec::DestinationRule(_)
            | Spec::HttpRoute(_)
            | Spec::GrpcRoute(_)
            | Spec::TcpRoute(_)
            | Spec::TlsRoute(_)
    )
}

/// Objects that stand twice among the given ones.
fn duplicates(objects: &[Object], findings: &mut Vec<Diagnostic>) {
    let mut first: BTreeMap<Key, &Object> = BTreeMap::new();
    for object in objects {
        if let Some(before) = first.get(&object.key()) {
            let place = before.source.as_ref().map(|s| format!("{}:{}", s.file, s.line)).unwrap_or_default();
            let finding =
                Diagnostic::warning("HDL0312", "the object stands there twice").found(place, "once");
            findings.push(finding.on(object.key(), "").at(object.source.clone()));
        } else {
            first.insert(object.key(), object);
        }
    }
}

/// Where findings about one object go.
struct Report<'r> {
    object: &'r Object,
    findings: &'r mut Vec<Diagnostic>,
}

impl<'r> Report<'r> {
    fn namespace(&self) -> &'r str {
        &self.object.meta.namespace
    }

    fn error(&mut self, code: &'static str, field: &str, message: &str, found: impl Display, expected: &str) {
        self.push(Diagnostic::error(code, message), field, found, expected);
    }

    fn warn(&mut self, code: &'static str, field: &str, message: &str, found: impl Display, expected: &str) {
        self.push(Diagnostic::warning(code, message), field, found, expected);
    }

    fn push(&mut self, finding: Diagnostic, field: &str, found: impl Display, expected: &str) {
        let finding = finding.found(found.to_string(), expected).on(self.object.key(), field);
        self.findings.push(finding.at(self.object.source.clone()));
    }
}

//! The statuses of Gateway API objects, from what the compilation judged.

use std::{collections::BTreeSet, net::IpAddr};

use heddle_resource::Key;
use serde_json::{Value, json};

use super::{CONTROLLER, Condition};
use crate::compile::gateway_api::{
    attachment::{Attachment, ListenerOutcome, ParentOutcome},
    listener::Security,
    listener_set::SetOutcome,
    model::{GROUP, Gateway, ParentRef},
};

/// A proxy that serves a Gateway.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Deployed {
    /// Where it listens, if it said so: metadata `BIND`.
    pub(crate) address: Option<IpAddr>,
    /// Whether it runs everything that is compiled for it.
    pub(crate) current: bool,
    /// What it refused, in its words.
    pub(crate) refused: Option<String>,
}

/// A condition as JSON, but for the time of its last transition.
pub(crate) fn condition(condition: &Condition, generation: i64) -> Value {
    json!({
        "type": condition.kind,
        "status": condition.status.text(),
        "reason": condition.reason,
        "message": condition.message,
        "observedGeneration": generation,
    })
}

fn conditions<'a>(all: impl IntoIterator<Item = &'a Condition>, generation: i64) -> Value {
    all.into_iter().map(|one| condition(one, generation)).collect()
}

/// `GatewayClass.status`.
pub(crate) fn gateway_class(generation: i64, parameters: Option<&str>) -> Value {
    let accepted = match parameters {
        None => Condition::yes("Accepted", "Accepted"),
        Some(parameters) => Condition::no(
            "Accepted",
            "InvalidParameters",
            format!("spec.parametersRef: {parameters} is no kind that is read here"),
        ),
    };
    let features: Vec<_> = FEATURES.iter().map(|name| json!({ "name": name })).collect();
    json!({ "conditions": conditions([&accepted], generation), "supportedFeatures": features })
}

/// Features of the conformance suite that this implementation has, in alphabetical order as asked for.
const FEATURES: &[&str] = &[
    "BackendTLSPolicy",
    "BackendTLSPolicySANValidation",
    "GRPCRoute",
    "GRPCRouteRequestHeaderModifier",
    "Gateway",
    "GatewayAddressEmpty",
    "GatewayBackendClientCertificate",
    "GatewayFrontendClientCertificateValidation",
    "GatewayFrontendClientCertificateValidationInsecureFallback",
    "GatewayHTTPListenerIsolation",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteCORS",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteSchemeRedirect",
    "ListenerSet",
    "Mesh",
    "MeshConsumerRoute",
    "MeshHTTPRouteBackendRequestHeaderModification",
    "MeshHTTPRouteSchemeRedirect",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
];

/// `Gateway.status`, given the proxies that serve it.
pub(crate) fn gateway(attachment: &Attachment, proxies: &[Deployed]) -> Value {
    let gateway = &attachment.gateway;
    let generation = gateway.generation;
    let serves = attachment.accepted.holds();
    let programmed = if serves {
        programmed(gateway, proxies)
    } else {
        Condition::no("Programmed", "Invalid", "the Gateway is not accepted")
    };
    let own = entries(attachment, None, serves.then_some(&programmed), generation);
    let mut of_gateway = vec![attachment.accepted.clone(), programmed];
    of_gateway.extend(attachment.resolved.clone());
    of_gateway.extend(insecure(attachment));
    let addresses: BTreeSet<_> = proxies.iter().filter_map(|proxy| proxy.address).collect();
    let addresses: Vec<_> =
        addresses.into_iter().map(|ip| json!({"type": "IPAddress", "value": ip.to_string()})).collect();
    json!({
        "addresses": addresses,
        "conditions": conditions(&of_gateway, generation),
        "listeners": own,
        "attachedListenerSets": attachment.sets.iter().filter(|outcome| outcome.accepted.holds()).count(),
    })
}

/// `ListenerSet.status`, given the proxies that serve its Gateway.
pub(crate) fn listener_set(attachment: &Attachment, outcome: &SetOutcome, proxies: &[Deployed]) -> Value {
    let (set, accepted) = (&outcome.set, &outcome.accepted);
    let of_gateway = programmed(&attachment.gateway, proxies);
    let programmed = match accepted.holds() {
        true if of_gateway.holds() => of_gateway,
        true => Condition { reason: "ParentNotProgrammed".into(), ..of_gateway },
        false => Condition::no("Programmed", accepted.reason.clone(), accepted.message.clone()),
    };
    let listeners =
        entries(attachment, Some(&set.key), accepted.holds().then_some(&programmed), set.generation);
    json!({ "conditions": conditions([accepted, &programmed], set.generation), "listeners": listeners })
}

/// The status of each listener that the Gateway itself or one of its ListenerSets declares. `programmed`: of the object,
/// if it is served.
fn entries(
    attachment: &Attachment,
    set: Option<&Key>,
    programmed: Option<&Condition>,
    generation: i64,
) -> Value {
    let all = attachment.gateway.listeners.iter().zip(&attachment.listeners);
    all.filter(|(listener, _)| listener.set.as_ref() == set)
        .map(|(listener, outcome)| {
            let programmed = match programmed.filter(|_| outcome.serves()) {
                Some(programmed) => {
                    let reason = if programmed.holds() { "Programmed".into() } else { "Pending".into() };
                    Condition { reason, ..programmed.clone() }
                }
                None if set.is_some() && outcome.conflicted.holds() => {
                    let Condition { reason, message, .. } = outcome.conflicted.clone();
                    Condition::no("Programmed", reason, message)
                }
                None => Condition::no("Programmed", "Invalid", "nothing is served on this listener"),
            };
            json!({
                "name": listener.name,
                "supportedKinds": supported_kinds(outcome),
                "attachedRoutes": outcome.attached.len(),
                "conditions": conditions(
                    [&outcome.accepted, &programmed, &outcome.conflicted, &outcome.resolved], generation),
            })
        })
        .collect()
}

/// What the specification asks for where clients that fail verification are let in all the same.
fn insecure(attachment: &Attachment) -> Option<Condition> {
    let lenient = |outcome: &&ListenerOutcome| {
        matches!(&outcome.security, Security::Ends { clients: Some((_, true)), .. })
    };
    let listeners = attachment.gateway.listeners.iter().zip(&attachment.listeners);
    let names: Vec<_> =
        listeners.filter(|(_, outcome)| lenient(outcome)).map(|(listener, _)| listener.label()).collect();
    let message = format!("clients without a valid certificate are let in on listeners {}", names.join(", "));
    let condition = Condition::yes("InsecureFrontendValidationMode", "ConfigurationChanged");
    (!names.is_empty()).then(|| condition.with_message(message))
}

fn supported_kinds(outcome: &ListenerOutcome) -> Value {
    outcome.kinds.iter().map(|kind| json!({"group": GROUP, "kind": kind.name()})).collect()
}

fn programmed(gateway: &Gateway, proxies: &[Deployed]) -> Condition {
    let asked = gateway.addresses.iter().filter_map(|address| address.value.as_deref());
    let missing =
        |value: &&str| !proxies.iter().any(|proxy| proxy.address.is_some_and(|ip| ip.to_string() == *value));
    if let Some(value) = asked.into_iter().find(missing).filter(|_| !proxies.is_empty()) {
        let message = format!("spec.addresses: no proxy of this Gateway listens on {value}");
        return Condition::no("Programmed", "AddressNotUsable", message);
    }
    if proxies.is_empty() {
        let message = format!(
            "no proxy serves it; start one with --gateway k8s:{}/{}",
            gateway.key.namespace, gateway.key.name
        );
        return Condition::no("Programmed", "AddressNotAssigned", message);
    }
    if let Some(refused) = proxies.iter().find_map(|proxy| proxy.refused.as_ref()) {
        return Condition::no("Programmed", "Invalid", format!("a proxy refused it: {refused}"));
    }
    let current = proxies.iter().filter(|proxy| proxy.current).count();
    let message = format!("{current} of {} proxies serve it", proxies.len());
    if current == proxies.len() {
        Condition::yes("Programmed", "Programmed").with_message(message)
    } else {
        Condition::no("Programmed", "Pending", message)
    }
}

/// `status` of a route: one entry for each parent of ours that it refers to.
pub(crate) fn route<'a>(outcomes: impl IntoIterator<Item = &'a ParentOutcome>, generation: i64) -> Value {
    let parents: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| {
            json!({
                "parentRef": parent_ref(&outcome.parent),
                "controllerName": CONTROLLER,
                "conditions": conditions([&outcome.accepted, &outcome.resolved], generation),
            })
        })
        .collect();
    json!({ "parents": parents })
}

/// `status` of a policy: one entry for each Gateway that it concerns.
pub(crate) fn policy(gateways: &[&Key], all: [&Condition; 2], generation: i64) -> Value {
    let ancestor = |gateway: &&Key| {
        let of =
            json!({"group": GROUP, "kind": "Gateway", "namespace": gateway.namespace, "name": gateway.name});
        json!({
            "ancestorRef": of, "controllerName": CONTROLLER, "conditions": conditions(all, generation),
        })
    };
    // The specification allows for sixteen.
    json!({ "ancestors": gateways.iter().take(16).map(ancestor).collect::<Vec<_>>() })
}

fn parent_ref(parent: &ParentRef) -> Value {
    let mut value = json!({"group": parent.group, "kind": parent.kind, "name": parent.name});
    if let Some(namespace) = &parent.namespace {
        value["namespace"] = json!(namespace);
    }
    if let Some(section) = &parent.section {
        value["sectionName"] = json!(section);
    }
    if let Some(port) = parent.port {
        value["port"] = json!(port);
    }
    value
}

#[cfg(test)]
mod tests {
    /// The specification asks for that order.
    #[test]
    fn features_are_in_alphabetical_order() {
        assert!(super::FEATURES.is_sorted());
    }
}

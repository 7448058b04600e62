use super::super::{attachment::Attachment, fixture::Fixture};

/// The Gateway `apps/edge` with those listeners, and whom it lets in.
fn gateway(allowed: &str, listeners: &str) -> String {
    format!(
        "
---
apiVersion: v1
kind: Namespace
metadata: {{name: blue, labels: {{team: blue}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: blue}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: apps}}
spec: {{gatewayClassName: heddle, allowedListeners: {allowed}, listeners: {listeners}}}
"
    )
}

fn set(namespace: &str, name: &str, listeners: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{parentRef: {{name: edge, namespace: apps}}, listeners: {listeners}}}
"
    )
}

fn route(namespace: &str, parents: &str) -> String {
    format!(
        "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r, namespace: {namespace}}}
spec: {{parentRefs: [{parents}], rules: [{{backendRefs: [{{name: web, port: 80}}]}}]}}
"
    )
}

const OWN: &str = "[{name: http, port: 80, protocol: HTTP, hostname: own.io}]";
const ALL: &str = "{namespaces: {from: All}}";

fn attach(yaml: &str) -> Attachment {
    Fixture::of(yaml).attach("edge")
}

/// Reason of `Accepted` of every ListenerSet, by name.
fn accepted(attachment: &Attachment) -> Vec<(String, String)> {
    let each = attachment.sets.iter();
    each.map(|one| (one.set.key.name.to_string(), one.accepted.reason.to_string())).collect()
}

/// Reasons of `Accepted` and `Conflicted` of a listener, by its label.
fn listener(attachment: &Attachment, label: &str) -> (String, String) {
    let mut all = attachment.gateway.listeners.iter().zip(&attachment.listeners);
    let (_, outcome) = all.find(|(listener, _)| listener.label() == label).expect("a listener of that label");
    (outcome.accepted.reason.to_string(), outcome.conflicted.reason.to_string())
}

#[test]
fn a_gateway_says_whose_sets_attach() {
    let from = |allowed: &str, namespace: &str| {
        let own = "[{name: a, port: 80, protocol: HTTP, hostname: a.io}]";
        let attachment = attach(&(gateway(allowed, OWN) + &set(namespace, "more", own)));
        assert_eq!(attachment.gateway.listeners.len() - 1, usize::from(attachment.sets[0].joined));
        attachment.sets[0].accepted.reason.to_string()
    };
    assert_eq!(from("{}", "apps"), "NotAllowed");
    assert_eq!(from("{namespaces: {}}", "apps"), "NotAllowed");
    assert_eq!(from("{namespaces: {from: None}}", "apps"), "NotAllowed");
    assert_eq!(from("{namespaces: {from: Same}}", "apps"), "Accepted");
    assert_eq!(from("{namespaces: {from: Same}}", "blue"), "NotAllowed");
    assert_eq!(from(ALL, "blue"), "Accepted");
    let selector = "{namespaces: {from: Selector, selector: {matchLabels: {team: blue}}}}";
    assert_eq!(from(selector, "blue"), "Accepted");
    assert_eq!(from(selector, "apps"), "NotAllowed");
}

#[test]
fn a_gateway_that_is_not_accepted_has_no_sets() {
    let own = "[{name: sctp, port: 81, protocol: own.io/SCTP}]";
    let more = set("blue", "more", "[{name: a, port: 80, protocol: HTTP}]");
    let attachment = attach(&(gateway(ALL, own) + &more));
    assert_eq!(accepted(&attachment), [("more".to_owned(), "ParentNotAccepted".to_owned())]);
}

#[test]
fn who_comes_first_keeps_a_name_and_a_port() {
    let pair = |accepted: &str, conflicted: &str| (accepted.to_owned(), conflicted.to_owned());
    let attachment = attach(
        &(gateway(ALL, OWN)
            + &set(
                "blue",
                "b",
                "[{name: same, port: 80, protocol: HTTP, hostname: own.io}, {name: tcp, port: 80, protocol: TCP},
                  {name: good, port: 80, protocol: HTTP, hostname: good.io}]",
            )
            + &set("blue", "c", "[{name: late, port: 80, protocol: HTTP, hostname: good.io}]")),
    );
    let accepted = accepted(&attachment);
    assert_eq!(accepted, [pair("b", "ListenersNotValid"), pair("c", "ListenersNotValid")]);
    assert!(attachment.sets[0].accepted.holds());
    assert!(!attachment.sets[1].accepted.holds());
    assert_eq!(listener(&attachment, "http"), pair("Accepted", "NoConflicts"));
    assert_eq!(listener(&attachment, "blue/b/same"), pair("HostnameConflict", "HostnameConflict"));
    assert_eq!(listener(&attachment, "blue/b/tcp"), pair("ProtocolConflict", "ProtocolConflict"));
    assert_eq!(listener(&attachment, "blue/b/good"), pair("Accepted", "NoConflicts"));
    assert_eq!(listener(&attachment, "blue/c/late"), pair("HostnameConflict", "HostnameConflict"));
}

/// A listener that gives way holds nothing itself.
#[test]
fn what_gives_way_beats_nobody() {
    let attachment = attach(
        &(gateway(ALL, OWN)
            + &set("blue", "b", "[{name: tcp, port: 80, protocol: TCP}]")
            + &set("blue", "c", "[{name: good, port: 80, protocol: HTTP, hostname: c.io}]")),
    );
    assert_eq!(listener(&attachment, "blue/c/good").1, "NoConflicts");
}

#[test]
fn what_other_namespaces_have_is_not_told() {
    let same = "[{name: a, port: 80, protocol: HTTP, hostname: a.io}]";
    let message = |second: &str| {
        let yaml = gateway(ALL, OWN) + &set("blue", "secret", same) + &set(second, "z", same);
        let attachment = attach(&yaml);
        attachment.listeners[2].conflicted.message.clone()
    };
    assert!(message("blue").contains("blue/secret"), "{}", message("blue"));
    assert!(message("green").contains("another ListenerSet"), "{}", message("green"));
}

#[test]
fn routes_attach_to_what_they_name() {
    let more = set(
        "blue",
        "more",
        "[{name: http, port: 80, protocol: HTTP, hostname: a.io}, {name: b, port: 80, protocol: HTTP, hostname: b.io}]",
    );
    let attached = |namespace: &str, parents: &str| {
        let attachment = attach(&(gateway(ALL, OWN) + &more + &route(namespace, parents)));
        let counts: Vec<_> = attachment.listeners.iter().map(|outcome| outcome.attached.len()).collect();
        (Fixture::verdict(&attachment, "r").0, counts)
    };
    let to = "kind: ListenerSet, name: more, namespace: blue";
    assert_eq!(attached("blue", &format!("{{{to}}}")), ("Accepted".into(), vec![0, 1, 1]));
    assert_eq!(attached("blue", &format!("{{{to}, sectionName: b}}")), ("Accepted".into(), vec![0, 0, 1]));
    assert_eq!(attached("blue", &format!("{{{to}, sectionName: c}}")).0, "NoMatchingParent");
    // Its own namespace is that of the ListenerSet.
    assert_eq!(attached("apps", &format!("{{{to}}}")).0, "NotAllowedByListeners");
    // What names the Gateway has the Gateway's own listeners only.
    assert_eq!(attached("apps", "{name: edge}"), ("Accepted".into(), vec![1, 0, 0]));
    let closed = gateway("{}", OWN) + &more + &route("blue", &format!("{{{to}}}"));
    assert_eq!(Fixture::verdict(&attach(&closed), "r").0, "NoMatchingParent");
}

#[test]
fn certificates_are_those_of_the_set() {
    let https = |reference: &str| {
        format!(
            "[{{name: a, port: 443, protocol: HTTPS, hostname: a.io, tls: {{certificateRefs: [{reference}]}}}}]"
        )
    };
    let grant = |kind: &str| {
        format!(
            "
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: g, namespace: other}}
spec: {{from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: blue}}], to: [{{group: '', kind: Secret}}]}}
"
        )
    };
    let resolved = |reference: &str, more: &str| {
        let yaml = gateway(ALL, OWN) + &set("blue", "more", &https(reference)) + more;
        attach(&yaml).listeners[1].resolved.reason.to_string()
    };
    let attachment = attach(&(gateway(ALL, OWN) + &set("blue", "more", &https("{name: c}"))));
    let security = format!("{:?}", attachment.listeners[1].security);
    assert!(security.contains("blue"), "{security}");
    assert_eq!(resolved("{name: c, namespace: other}", ""), "RefNotPermitted");
    assert_eq!(resolved("{name: c, namespace: other}", &grant("Gateway")), "RefNotPermitted");
    assert_eq!(resolved("{name: c, namespace: other}", &grant("ListenerSet")), "ResolvedRefs");
}

//! Gateways and ListenerSets.

use heddle_resource::{Key, Object, Spec, gateway as api};

use super::{
    super::{
        hostname::Hostname,
        listener_set::ListenerSet,
        model::{Address, From, Frontend, GROUP, Gateway, Listener, Reference, Requirement, Tls, Validation},
    },
    text,
};

/// A Gateway; nothing for objects of other kinds.
pub(crate) fn gateway(object: &Object) -> Option<Gateway> {
    let Spec::Gateway(gateway) = &object.spec else { return None };
    let spec = &gateway.spec;
    let addresses = spec.addresses.iter().map(|address| Address {
        kind: text(address.type_.as_ref(), "IPAddress"),
        value: Some(address.value.clone()).filter(|value| !value.is_empty()),
    });
    let parameters = spec.infrastructure.as_ref().and_then(|infrastructure| {
        let reference = infrastructure.get("parametersRef")?;
        let field = |name: &str| reference.get(name).and_then(serde_json::Value::as_str).unwrap_or_default();
        Some(format!("{} {}", field("kind"), field("name")))
    });
    Some(Gateway {
        own: own(object),
        key: object.key(),
        generation: object.meta.generation,
        class: spec.gateway_class_name.clone(),
        listeners: spec.listeners.iter().map(|one| listener(one, &object.meta.namespace, None)).collect(),
        allowed_sets: from(
            spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref()),
            From::None,
        ),
        addresses: addresses.collect(),
        parameters,
        frontend: spec
            .tls
            .as_ref()
            .and_then(|tls| tls.frontend.as_ref())
            .map_or_else(Frontend::default, |all| frontend(all, &object.meta.namespace)),
    })
}

/// The certificate that a Gateway shows to backends; nothing for objects of other kinds.
pub(crate) fn own(object: &Object) -> Option<Reference> {
    let Spec::Gateway(gateway) = &object.spec else { return None };
    let to = gateway.spec.tls.as_ref()?.backend.as_ref()?.client_certificate_ref.as_ref()?;
    Some(secret(to, &object.meta.namespace))
}

/// The Gateway that a ListenerSet names, by namespace and name; nothing for objects of other kinds.
pub(crate) fn parent_of(object: &Object) -> Option<(&str, &str)> {
    let Spec::ListenerSet(set) = &object.spec else { return None };
    let parent = &set.spec.parent_ref;
    Some((parent.namespace.as_deref().unwrap_or(&object.meta.namespace), &parent.name))
}

/// A ListenerSet; nothing for objects of other kinds.
pub(crate) fn listener_set(object: &Object) -> Option<ListenerSet> {
    let Spec::ListenerSet(set) = &object.spec else { return None };
    let (key, namespace) = (object.key(), &object.meta.namespace);
    let read = |one| listener(one, namespace, Some(&key));
    Some(ListenerSet {
        generation: object.meta.generation,
        created: object.meta.creation_timestamp.clone(),
        listeners: set.spec.listeners.iter().map(read).collect(),
        key: key.clone(),
    })
}

fn frontend(all: &api::FrontendTlsConfig, namespace: &str) -> Frontend {
    let one = |tls: Option<&api::FrontendTls>| {
        let validation = tls.and_then(|tls| tls.validation.as_ref())?;
        let authority = |to: &api::ObjectReference| Reference {
            kind: text(to.kind.as_ref(), "ConfigMap"),
            ..secret(to, namespace)
        };
        Some(Validation {
            authorities: validation.ca_certificate_refs.iter().map(authority).collect(),
            insecure: validation.mode.as_deref() == Some("AllowInsecureFallback"),
        })
    };
    Frontend {
        default: one(all.default.as_ref()),
        per_port: all.per_port.iter().map(|port| (port.port, one(port.tls.as_ref()))).collect(),
    }
}

fn listener(listener: &api::Listener, namespace: &str, set: Option<&Key>) -> Listener {
    let allowed = listener.allowed_routes.as_ref();
    let kinds = allowed.map(|allowed| &*allowed.kinds).unwrap_or_default();
    let tls = listener.tls.as_ref().map(|tls| Tls {
        passthrough: tls.mode.as_deref() == Some("Passthrough"),
        certificates: tls.certificate_refs.iter().map(|to| secret(to, namespace)).collect(),
        old_validation: tls.frontend_validation.is_some(),
    });
    Listener {
        name: listener.name.clone(),
        set: set.cloned(),
        port: listener.port,
        protocol: listener.protocol.clone(),
        hostname: listener.hostname.as_deref().map(Hostname::new).unwrap_or_default(),
        from: from(allowed.and_then(|allowed| allowed.namespaces.as_ref()), From::Same),
        kinds: kinds.iter().map(|kind| (text(kind.group.as_ref(), GROUP), kind.kind.clone())).collect(),
        tls,
    }
}

fn from(namespaces: Option<&api::RouteNamespaces>, default: From) -> From {
    match namespaces.and_then(|namespaces| namespaces.from.as_deref()) {
        Some("All") => From::All,
        Some("None") => From::None,
        Some("Same") => From::Same,
        Some("Selector") => {
            let selector = namespaces.and_then(|namespaces| namespaces.selector.as_ref());
            // Without a selector nothing is selected.
            From::Selector(selector.map_or_else(|| vec![Requirement::Never], requirements))
        }
        _ => default,
    }
}

fn secret(to: &api::ObjectReference, namespace: &str) -> Reference {
    Reference {
        group: text(to.group.as_ref(), ""),
        kind: text(to.kind.as_ref(), "Secret"),
        namespace: text(to.namespace.as_ref(), namespace),
        name: to.name.clone(),
    }
}

fn requirements(selector: &api::LabelSelector) -> Vec<Requirement> {
    let labels =
        selector.match_labels.iter().map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()]));
    let expressions = selector.match_expressions.iter().map(|requirement| {
        let key = requirement.key.clone();
        match &*requirement.operator {
            "In" => Requirement::In(key, requirement.values.clone()),
            "NotIn" => Requirement::NotIn(key, requirement.values.clone()),
            "Exists" => Requirement::Exists(key),
            "DoesNotExist" => Requirement::DoesNotExist(key),
            _ => Requirement::Never,
        }
    });
    labels.chain(expressions).collect()
}

//! Certificates that are served outside of their time. Compilation reads no clock, so that this is told beside it.

use std::collections::BTreeSet;

use heddle_resource::{
    Key, ObjectRef, Spec, certificate, gateway::ObjectReference, istio::ServerTlsSettings, kind,
};

use crate::{
    finding::{Finding, code},
    world::World,
};

/// What to tell the Gateways that name such a certificate. `served` are the Secrets that proxies are given, `now`
/// seconds since 1970.
pub(super) fn findings(world: &World, served: &BTreeSet<Key>, now: i64) -> Vec<Finding> {
    let mut found = Vec::new();
    for key in served {
        let Some(Spec::Secret(secret)) = world.object(key).map(|object| &object.spec) else { continue };
        let Ok(pair) = certificate::pair(secret) else { continue };
        let Some(fault) = pair.leaf.untimely(now) else { continue };
        let message = format!("{key}: {fault}");
        let of = namers(world, key).into_iter();
        found.extend(of.map(|of| Finding::new(code::UNTIMELY, of, message.clone())));
    }
    found
}

/// The fields that name a Secret.
fn namers(world: &World, secret: &Key) -> Vec<ObjectRef> {
    let mut found = Vec::new();
    let names = |tls: &ServerTlsSettings| {
        *tls.credential_name == *secret.name || tls.credential_names.iter().any(|name| **name == *secret.name)
    };
    for gateway in world.gateways() {
        let servers = gateway.spec.servers.iter().enumerate();
        let own = servers.filter(|(_, server)| server.tls.as_ref().is_some_and(names));
        found.extend(own.map(|(n, _)| gateway.object.field(format!("spec.servers[{n}].tls.credentialName"))));
    }
    let owners = [&kind::GATEWAY, &kind::LISTENER_SET];
    for object in owners.into_iter().flat_map(|kind| world.objects(kind)) {
        let listeners = match &object.spec {
            Spec::Gateway(gateway) => &gateway.spec.listeners,
            Spec::ListenerSet(set) => &set.spec.listeners,
            _ => continue,
        };
        let names = |to: &ObjectReference| {
            *to.name == *secret.name
                && to.namespace.as_deref().unwrap_or(&object.meta.namespace) == &*secret.namespace
        };
        for (n, listener) in listeners.iter().enumerate() {
            if listener.tls.iter().flat_map(|tls| &tls.certificate_refs).any(names) {
                found.push(object.field(format!("spec.listeners[{n}].tls.certificateRefs")));
            }
        }
        if let Spec::Gateway(gateway) = &object.spec
            && let Some(backend) = gateway.spec.tls.as_ref().and_then(|tls| tls.backend.as_ref())
            && backend.client_certificate_ref.as_ref().is_some_and(names)
        {
            found.push(object.field("spec.tls.backend.clientCertificateRef".to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::findings;
    use crate::kit;

    #[test]
    fn an_expired_certificate_is_told_to_the_gateway_that_serves_it() {
        let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {servers: [{port: \
                       {number: 443, name: https, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: \
                       a}}]}\n---\n";
        let world = kit::world(&format!("{gateway}{}", crate::compile::tls_test::pair("a")));
        let mut compiler = crate::Compiler::default();
        let node = kit::node("router", "default", heddle_xds::ClientKind::Envoy, serde_json::json!({}));
        compiler.attach(&world, &kit::scope(&world, &node));
        let served = compiler.certificates();
        assert_eq!(served.len(), 1);
        // rcgen's certificates are valid from 1975 to 4096.
        assert!(findings(&world, &served, 1_800_000_000).is_empty());
        let told: Vec<_> =
            findings(&world, &served, 99_999_999_999).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 1);
        assert!(
            told[0].starts_with(
                "HDL0408 Gateway default/g spec.servers[0].tls.credentialName: Secret default/a: "
            )
        );
        assert!(told[0].contains("expired"), "{told:?}");
    }
}

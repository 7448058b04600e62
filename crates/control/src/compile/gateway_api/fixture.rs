//! A small world for the tests of this module, read from YAML.

use std::{collections::BTreeMap, sync::Arc};

use heddle_resource::{Admission, AdmitOptions, Object, Spec, admit, parse_documents};

use super::{
    attachment::{self, Attachment, ParentOutcome},
    backend::{Destination, ServiceFacts, Surroundings},
    listener_set::ListenerSet,
    model::{Gateway, Grant, Reference, Route},
    read,
};
use crate::compile::tls::Credential;

#[derive(Default)]
pub(super) struct Fixture {
    pub(super) gateways: Vec<Gateway>,
    sets: Vec<Arc<ListenerSet>>,
    pub(super) routes: Vec<Arc<Route>>,
    grants: Vec<Grant>,
    services: BTreeMap<(String, String), Arc<ServiceFacts>>,
    namespaces: BTreeMap<String, Arc<BTreeMap<String, String>>>,
}

impl Fixture {
    pub(super) fn of(yaml: &str) -> Self {
        let mut fixture = Self::default();
        for document in parse_documents(yaml, "test.yaml") {
            let document = document.unwrap_or_else(|error| panic!("{error}"));
            match admit(&document, &AdmitOptions::default()) {
                Admission::Admitted { object, .. } => fixture.add(&object),
                Admission::Refused(errors) => panic!("{errors:?}"),
                Admission::NotOurs(_) => {}
            }
        }
        fixture
    }

    fn add(&mut self, object: &Object) {
        let (namespace, name) = (object.meta.namespace.to_string(), object.meta.name.to_string());
        self.gateways.extend(read::gateway(object));
        self.sets.extend(read::listener_set(object).map(Arc::new));
        self.routes.extend(read::route(object).map(Arc::new));
        self.grants.extend(read::grant(object));
        match &object.spec {
            Spec::Namespace(_) => {
                self.namespaces.insert(name, Arc::new(object.meta.labels.clone()));
            }
            Spec::Service(service) => {
                let host = format!("{name}.{namespace}.svc.cluster.local").into();
                let ports =
                    service.spec.ports.iter().map(|port| (port.port, port.app_protocol.clone())).collect();
                self.services.insert((namespace, name), Arc::new(ServiceFacts { host, ports }));
            }
            _ => {}
        }
    }

    pub(super) fn attach(&self, gateway: &str) -> Attachment {
        let gateway =
            self.gateways.iter().find(|one| *one.key.name == *gateway).expect("a gateway of that name");
        attachment::attach(gateway.clone(), &self.sets, self.routes.clone(), self)
    }

    /// `Accepted` and `ResolvedRefs` of a route's first parent, by reason.
    pub(super) fn verdict(attachment: &Attachment, route: &str) -> (String, String) {
        let outcome = attachment.routes.iter().find(|outcome| *outcome.route.key.name == *route);
        let ParentOutcome { accepted, resolved, .. } = &outcome.expect("the route refers to it").parents[0];
        let say = |condition: &crate::status::Condition| {
            assert_eq!(
                condition.holds(),
                ["Accepted", "ResolvedRefs"].contains(&&*condition.reason),
                "{condition:?}"
            );
            condition.reason.to_string()
        };
        (say(accepted), say(resolved))
    }
}

impl Surroundings for Fixture {
    fn namespace_labels(&self, namespace: &str) -> Option<Arc<BTreeMap<String, String>>> {
        self.namespaces.get(namespace).cloned()
    }

    fn service(&self, namespace: &str, name: &str) -> Option<Arc<ServiceFacts>> {
        self.services.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn host(&self, _: &str, host: &str) -> Option<Arc<ServiceFacts>> {
        self.services.values().find(|service| *service.host == *host).cloned()
    }

    fn permits(&self, group: &str, kind: &str, namespace: &str, to: &Reference) -> bool {
        self.grants.iter().any(|grant| grant.permits(group, kind, namespace, to))
    }

    fn cluster(&self, to: &Destination) -> Result<String, String> {
        Ok(format!("outbound|{}||{}", to.port, to.host))
    }

    /// What is called `none` is missing.
    fn usable(&self, credential: &Credential) -> Result<(), Arc<str>> {
        let name = credential.resource_name();
        if name.ends_with("/none") { Err(format!("there is no {name}").into()) } else { Ok(()) }
    }
}

//! What the objects hold, by the names under which others refer to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    core::Service,
    gateway, istio,
    kind::Spec,
    object::{Key, Object},
    validate::overlap,
};

/// One VirtualService's claim on a host.
pub(super) struct Claim<'o> {
    pub(super) object: &'o Object,
    /// Resolved gateways, `mesh` among them.
    pub(super) gateways: Vec<String>,
}

#[derive(Default)]
pub(super) struct Index<'o> {
    /// By namespace and name.
    services: BTreeMap<(&'o str, &'o str), &'o Service>,
    entries: Vec<(&'o str, &'o istio::ServiceEntry)>,
    /// By resolved host.
    pub(super) rules: BTreeMap<String, Vec<(&'o Object, &'o istio::DestinationRule)>>,
    /// By `NAMESPACE/NAME`.
    pub(super) istio_gateways: BTreeMap<String, &'o istio::Gateway>,
    pub(super) gateways: BTreeMap<(&'o str, &'o str), &'o gateway::GatewaySpec>,
    pub(super) listener_sets: BTreeMap<(&'o str, &'o str), &'o gateway::ListenerSetSpec>,
    pub(super) classes: BTreeSet<&'o str>,
    /// By resolved host, see [`Index::resolve`].
    pub(super) claims: BTreeMap<String, Vec<Claim<'o>>>,
    pub(super) grants: Vec<(&'o str, &'o gateway::ReferenceGrantSpec)>,
    /// Sidecars without a selector, by namespace.
    pub(super) sidecars: BTreeMap<&'o str, Vec<Key>>,
    secrets: BTreeSet<(&'o str, &'o str)>,
    config_maps: BTreeSet<(&'o str, &'o str)>,
    virtual_services: BTreeSet<(&'o str, &'o str)>,
}

/// What a service says of a port that is asked for.
pub(super) enum PortAnswer {
    Known,
    /// The service has other ports.
    Unknown(String),
    /// No port was named, and the service has several.
    Several(String),
}

impl<'o> Index<'o> {
    pub(super) fn build(objects: &'o [Object]) -> Self {
        let mut index = Self::default();
        for object in objects {
            index.insert(object);
        }
        index
    }

    fn insert(&mut self, object: &'o Object) {
        let (namespace, name) = (&*object.meta.namespace, &*object.meta.name);
        match &object.spec {
            Spec::Service(service) => {
                self.services.insert((namespace, name), service);
            }
            Spec::Secret(_) => {
                self.secrets.insert((namespace, name));
            }
            Spec::ConfigMap(_) => {
                self.config_maps.insert((namespace, name));
            }
            Spec::ServiceEntry(entry) => self.entries.push((namespace, entry)),
            Spec::DestinationRule(rule) => {
                let host = Self::resolve(&rule.host, namespace);
                self.rules.entry(host).or_default().push((object, rule));
            }
            Spec::IstioGateway(gateway) => {
                self.istio_gateways.insert(format!("{namespace}/{name}"), gateway);
            }
            Spec::Gateway(gateway) => {
                self.gateways.insert((namespace, name), &gateway.spec);
            }
            Spec::ListenerSet(set) => {
                self.listener_sets.insert((namespace, name), &set.spec);
            }
            Spec::GatewayClass(_) => {
                self.classes.insert(name);
            }
            Spec::ReferenceGrant(grant) => self.grants.push((namespace, &grant.spec)),
            Spec::VirtualService(spec) => {
                self.virtual_services.insert((namespace, name));
                let gateways = Self::gateways_of(spec, namespace);
                for host in &spec.hosts {
                    let claim = Claim { object, gateways: gateways.clone() };
                    self.claims.entry(Self::resolve(host, namespace)).or_default().push(claim);
                }
            }
            Spec::Sidecar(spec)
                if spec.workload_selector.as_ref().is_none_or(istio::WorkloadSelector::is_empty) =>
            {
                self.sidecars.entry(namespace).or_default().push(object.key());
            }
            _ => {}
        }
    }

    /// The gateways of a VirtualService as `NAMESPACE/NAME` or `mesh`.
    pub(super) fn gateways_of(spec: &istio::VirtualService, namespace: &str) -> Vec<String> {
        if spec.gateways.is_empty() {
            return vec!["mesh".to_owned()];
        }
        spec.gateways.iter().map(|gateway| Self::gateway_key(gateway, namespace)).collect()
    }

    pub(super) fn gateway_key(gateway: &str, namespace: &str) -> String {
        match gateway.split_once('/') {
            _ if gateway == "mesh" => gateway.to_owned(),
            Some((".", name)) => format!("{namespace}/{name}"),
            Some(_) => gateway.to_owned(),
            None => format!("{namespace}/{gateway}"),
        }
    }

    /// The form in which hosts are compared: short names get their namespace, and names of services lose the
    /// cluster's domain, which is not known here: `reviews.default.svc`.
    pub(super) fn resolve(host: &str, namespace: &str) -> String {
        if host == "*" || host.parse::<std::net::IpAddr>().is_ok() {
            host.to_owned()
        } else if !host.contains('.') {
            format!("{host}.{namespace}.svc")
        } else if let Some(end) = host.find(".svc.") {
            host[..end + ".svc".len()].to_owned()
        } else {
            host.to_owned()
        }
    }

    pub(super) fn has_services(&self) -> bool {
        !(self.services.is_empty() && self.entries.is_empty())
    }

    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&'o Service> {
        self.services.get(&(namespace, name)).copied()
    }

    fn service_of(&self, resolved: &str) -> Option<&'o Service> {
        let mut labels = resolved.split('.');
        let (name, namespace) = (labels.next()?, labels.next()?);
        match (labels.next(), labels.next()) {
            (None | Some("svc"), None) => self.service(namespace, name),
            _ => None,
        }
    }

    fn entry_of(&self, resolved: &str) -> Option<&'o istio::ServiceEntry> {
        let matches = |(namespace, entry): &&(&str, &istio::ServiceEntry)| {
            entry.hosts.iter().any(|host| overlap(&Self::resolve(host, namespace), resolved))
        };
        self.entries.iter().find(matches).map(|(_, entry)| *entry)
    }

    /// Whether any service has this resolved host, `*` in front allowed.
    pub(super) fn knows(&self, resolved: &str) -> bool {
        let wild = resolved.strip_prefix('*').is_some_and(|suffix| {
            let suffix = suffix.find(".svc.").map_or(suffix, |end| &suffix[..end + ".svc".len()]);
            self.services.keys().any(|(namespace, name)| format!("{name}.{namespace}.svc").ends_with(suffix))
        });
        wild || self.service_of(resolved).is_some() || self.entry_of(resolved).is_some()
    }

    /// Whether the service behind a resolved host has this port. None where there is no such service.
    pub(super) fn port(&self, resolved: &str, port: Option<u16>) -> Option<PortAnswer> {
        let ports: Vec<u16> = match self.service_of(resolved) {
            Some(service) => service.spec.ports.iter().map(|p| p.port).collect(),
            None => self.entry_of(resolved)?.ports.iter().map(|p| p.number).collect(),
        };
        let told = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        Some(match port {
            Some(port) if ports.contains(&port) => PortAnswer::Known,
            Some(_) => PortAnswer::Unknown(told),
            None if ports.len() > 1 => PortAnswer::Several(told),
            None => PortAnswer::Known,
        })
    }

    pub(super) fn has_secret(&self, namespace: &str, name: &str) -> bool {
        self.secrets.contains(&(namespace, name))
    }

    pub(super) fn has_config_map(&self, namespace: &str, name: &str) -> bool {
        self.config_maps.contains(&(namespace, name))
    }

    pub(super) fn has_virtual_service(&self, namespace: &str, name: &str) -> bool {
        self.virtual_services.contains(&(namespace, name))
    }
}

//! What a compiled resource refers to by name.

use heddle_xds::ResourceType;
use rustc_hash::FxHashSet;

use super::{
    Action, Cluster, ClusterChoice, Discovery, FilterChain, HttpConnectionManager, Listener, Mirror, Name,
    NetworkFilter, RouteConfig, RouteSource, WeightedName,
};

/// Something that has to be there before a resource is used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Reference {
    /// A resource.
    Resource(ResourceType, Name),
    /// An answer of DNS for this cluster.
    Resolved(Name),
}

pub(super) fn of_cluster(cluster: &Cluster) -> Vec<Reference> {
    let secrets: FxHashSet<&Name> = cluster.transports().flat_map(|tls| tls.common.secrets()).collect();
    let secrets = secrets.into_iter().map(|name| Reference::Resource(ResourceType::Secret, name.clone()));
    let mut out: Vec<Reference> = secrets.collect();
    out.extend(match &cluster.discovery {
        Discovery::Eds { service_name } => {
            Some(Reference::Resource(ResourceType::Endpoint, service_name.clone()))
        }
        Discovery::Dns(_) => Some(Reference::Resolved(cluster.name.clone())),
        Discovery::Static(_) | Discovery::OriginalDst { .. } => None,
    });
    out
}

pub(super) fn of_listener(listener: &Listener) -> Vec<Reference> {
    let mut out = FxHashSet::default();
    for chain in listener.chains.iter().chain(&listener.default_chain) {
        of_chain(chain, &mut out);
    }
    out.into_iter().collect()
}

fn of_chain(chain: &FilterChain, out: &mut FxHashSet<Reference>) {
    let secrets = chain.tls.iter().flat_map(|tls| tls.common.secrets());
    out.extend(secrets.map(|name| Reference::Resource(ResourceType::Secret, name.clone())));
    match &chain.filter {
        NetworkFilter::Http(manager) => of_manager(manager, out),
        NetworkFilter::Tcp(proxy) => {
            let names = proxy.clusters.iter().map(|(name, _)| name.clone());
            out.extend(names.map(|name| Reference::Resource(ResourceType::Cluster, name)));
        }
        NetworkFilter::Close => {}
    }
}

fn of_manager(manager: &HttpConnectionManager, out: &mut FxHashSet<Reference>) {
    match &manager.routes {
        RouteSource::Rds(name) => {
            out.insert(Reference::Resource(ResourceType::Route, name.clone()));
        }
        RouteSource::Inline(config) => out.extend(of_routes(config)),
    }
}

pub(super) fn of_routes(config: &RouteConfig) -> Vec<Reference> {
    let mut names: FxHashSet<Name> = FxHashSet::default();
    mirrors(&config.mirrors, &mut names);
    for virtual_host in &config.virtual_hosts {
        mirrors(&virtual_host.mirrors, &mut names);
        for route in &virtual_host.routes {
            let Action::Forward(action) = &route.action else { continue };
            mirrors(&action.mirrors, &mut names);
            match &action.cluster {
                ClusterChoice::One(name) => {
                    names.insert(name.clone());
                }
                ClusterChoice::Weighted(weighted) => {
                    for cluster in &weighted.clusters {
                        if let WeightedName::Name(name) = &cluster.cluster {
                            names.insert(name.clone());
                        }
                    }
                }
                ClusterChoice::Header(_) => {}
            }
        }
    }
    names.into_iter().map(|name| Reference::Resource(ResourceType::Cluster, name)).collect()
}

fn mirrors(list: &[Mirror], out: &mut FxHashSet<Name>) {
    for mirror in list {
        if let WeightedName::Name(name) = &mirror.cluster {
            out.insert(name.clone());
        }
    }
}

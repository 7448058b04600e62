//! TLS contexts in use, made ready with the secrets they name. What changes is made again; the rest is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{
    Cluster, CommonTls, DownstreamTls, FilterChain, Given, Listener, Name, NameMap, Secret, Snapshot,
    UpstreamTls,
};
use crate::tls::accept::{Acceptor, Material};
use crate::tls::originate::Connector;

/// One side's context.
trait Context {
    type Ready;
    fn key(&self) -> &Name;
    fn common(&self) -> &CommonTls;
    fn ready(&self, material: Material, before: Option<&Self::Ready>) -> Result<Self::Ready, String>;
}

impl Context for DownstreamTls {
    type Ready = Acceptor;
    fn key(&self) -> &Name {
        &self.key
    }
    fn common(&self) -> &CommonTls {
        &self.common
    }
    fn ready(&self, material: Material, before: Option<&Acceptor>) -> Result<Acceptor, String> {
        Acceptor::new(self, material, before)
    }
}

impl Context for UpstreamTls {
    type Ready = Connector;
    fn key(&self) -> &Name {
        &self.key
    }
    fn common(&self) -> &CommonTls {
        &self.common
    }
    fn ready(&self, material: Material, _: Option<&Connector>) -> Result<Connector, String> {
        Connector::new(self, material)
    }
}

/// The contexts of one side, by content.
#[derive(Debug)]
struct Side<C> {
    used: BTreeMap<Name, (Arc<C>, usize)>,
    /// To be made again before the next generation.
    stale: BTreeSet<Name>,
    /// Why a context is not ready.
    troubles: BTreeMap<Name, String>,
}

impl<C> Default for Side<C> {
    fn default() -> Self {
        Self { used: BTreeMap::new(), stale: BTreeSet::new(), troubles: BTreeMap::new() }
    }
}

impl<C: Context> Side<C> {
    fn replace<'c>(&mut self, old: impl Iterator<Item = &'c Arc<C>>, new: impl Iterator<Item = &'c Arc<C>>)
    where
        C: 'c,
    {
        for tls in new {
            let (_, users) = self.used.entry(tls.key().clone()).or_insert_with(|| {
                self.stale.insert(tls.key().clone());
                (tls.clone(), 0)
            });
            *users += 1;
        }
        for tls in old {
            let Some((_, users)) = self.used.get_mut(tls.key()) else { continue };
            *users -= 1;
            if *users == 0 {
                self.used.remove(tls.key());
                self.stale.insert(tls.key().clone());
            }
        }
    }

    fn secret(&mut self, name: &Name) {
        for (key, (tls, _)) in &self.used {
            if tls.common().secrets().any(|secret| secret == name) {
                self.stale.insert(key.clone());
            }
        }
    }

    fn refresh(&mut self, secrets: &NameMap<Secret>, ready: &mut NameMap<Arc<C::Ready>>)
    where
        C::Ready: std::fmt::Debug,
    {
        for key in std::mem::take(&mut self.stale) {
            let Some((tls, _)) = self.used.get(&key) else {
                ready.remove(&key);
                self.troubles.remove(&key);
                continue;
            };
            let made = material(tls.common(), secrets)
                .and_then(|material| tls.ready(material, ready.get(&key).map(|before| &**before)));
            match made {
                Ok(made) => {
                    ready.insert(key.clone(), Arc::new(made));
                    self.troubles.remove(&key);
                }
                Err(reason) => {
                    tracing::warn!(%reason, "connections that ask for this TLS context are closed until it is complete");
                    ready.remove(&key);
                    self.troubles.insert(key, reason);
                }
            }
        }
    }
}

/// The contexts of all listeners and clusters.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    downstream: Side<DownstreamTls>,
    upstream: Side<UpstreamTls>,
}

fn of(listener: &Listener) -> impl Iterator<Item = &Arc<DownstreamTls>> {
    let chains = listener.chains.iter().chain(&listener.default_chain);
    chains.filter_map(|chain: &Arc<FilterChain>| chain.tls.as_ref())
}

impl Contexts {
    /// A listener takes the place of another.
    pub(super) fn listener(&mut self, old: Option<&Listener>, new: Option<&Listener>) {
        self.downstream.replace(old.into_iter().flat_map(of), new.into_iter().flat_map(of));
    }

    /// A cluster takes the place of another.
    pub(super) fn cluster(&mut self, old: Option<&Cluster>, new: Option<&Cluster>) {
        let of = Cluster::transports;
        self.upstream.replace(old.into_iter().flat_map(of), new.into_iter().flat_map(of));
    }

    /// A secret came, changed or went.
    pub(super) fn secret(&mut self, name: &Name) {
        self.downstream.secret(name);
        self.upstream.secret(name);
    }

    /// Makes ready what is stale. What cannot be made is absent, and its connections are closed.
    pub(super) fn refresh(&mut self, snapshot: &mut Snapshot) {
        self.downstream.refresh(&snapshot.secrets, &mut snapshot.acceptors);
        self.upstream.refresh(&snapshot.secrets, &mut snapshot.connectors);
    }

    /// Why connections to a filter chain are closed.
    pub(super) fn closed(&self, tls: &DownstreamTls) -> Option<&str> {
        self.downstream.troubles.get(&tls.key).map(String::as_str)
    }

    /// Why endpoints are not reached.
    pub(super) fn unreached(&self, tls: &UpstreamTls) -> Option<&str> {
        self.upstream.troubles.get(&tls.key).map(String::as_str)
    }
}

/// What a context works with, as far as the secrets it names are there.
fn material(common: &CommonTls, secrets: &NameMap<Secret>) -> Result<Material, String> {
    let absent = |name: &Name| format!("the secret {name} has not come");
    let other = |name: &Name, wanted: &str| format!("the secret {name} is no {wanted}");
    let certificates = common.certificates.iter().map(|given| match given {
        Given::Here(certificate) => Ok(certificate.clone()),
        Given::Secret(name) => match secrets.get(name).ok_or_else(|| absent(name))? {
            Secret::Certificate(certificate) => Ok(certificate.clone()),
            Secret::Validation(_) => Err(other(name, "tls_certificate")),
        },
    });
    let validation = common.validation.iter().map(|given| match given {
        Given::Here(validation) => Ok(validation.clone()),
        Given::Secret(name) => match secrets.get(name).ok_or_else(|| absent(name))? {
            Secret::Validation(validation) => Ok(validation.clone()),
            Secret::Certificate(_) => Err(other(name, "validation_context")),
        },
    });
    Ok(Material {
        certificates: certificates.collect::<Result<_, String>>()?,
        validation: validation.collect::<Result<_, String>>()?,
    })
}

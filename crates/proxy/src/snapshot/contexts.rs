//! TLS contexts in use, made ready with the secrets they name. What changes is made again; the rest is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{CommonTls, DownstreamTls, FilterChain, Given, Listener, Name, NameMap, Secret};
use crate::tls::accept::{Acceptor, Material};

/// The contexts of all listeners, by content.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    downstream: BTreeMap<Name, (Arc<DownstreamTls>, usize)>,
    /// To be made again before the next generation.
    stale: BTreeSet<Name>,
    /// Why a context is not ready.
    troubles: BTreeMap<Name, String>,
}

fn of(listener: &Listener) -> impl Iterator<Item = &Arc<DownstreamTls>> {
    let chains = listener.chains.iter().chain(&listener.default_chain);
    chains.filter_map(|chain: &Arc<FilterChain>| chain.tls.as_ref())
}

impl Contexts {
    /// A listener takes the place of another.
    pub(super) fn replace(&mut self, old: Option<&Listener>, new: Option<&Listener>) {
        for tls in new.into_iter().flat_map(of) {
            let (_, users) = self.downstream.entry(tls.key.clone()).or_insert_with(|| {
                self.stale.insert(tls.key.clone());
                (tls.clone(), 0)
            });
            *users += 1;
        }
        for tls in old.into_iter().flat_map(of) {
            let Some((_, users)) = self.downstream.get_mut(&tls.key) else { continue };
            *users -= 1;
            if *users == 0 {
                self.downstream.remove(&tls.key);
                self.stale.insert(tls.key.clone());
            }
        }
    }

    /// A secret came, changed or went.
    pub(super) fn secret(&mut self, name: &Name) {
        for (key, (tls, _)) in &self.downstream {
            if tls.common.secrets().any(|secret| secret == name) {
                self.stale.insert(key.clone());
            }
        }
    }

    /// Makes ready what is stale. What cannot be made is absent, and its connections are closed.
    pub(super) fn refresh(&mut self, secrets: &NameMap<Secret>, acceptors: &mut NameMap<Arc<Acceptor>>) {
        for key in std::mem::take(&mut self.stale) {
            let Some((tls, _)) = self.downstream.get(&key) else {
                acceptors.remove(&key);
                self.troubles.remove(&key);
                continue;
            };
            let made = material(&tls.common, secrets).and_then(|material| {
                Acceptor::new(tls, material, acceptors.get(&key).map(|before| &**before))
            });
            match made {
                Ok(acceptor) => {
                    acceptors.insert(key.clone(), Arc::new(acceptor));
                    self.troubles.remove(&key);
                }
                Err(reason) => {
                    tracing::warn!(%reason, "connections that ask for this TLS context are closed until it is complete");
                    acceptors.remove(&key);
                    self.troubles.insert(key, reason);
                }
            }
        }
    }

    /// Why connections to a listener's filter chain are closed.
    pub(super) fn trouble(&self, tls: &DownstreamTls) -> Option<&str> {
        self.troubles.get(&tls.key).map(String::as_str)
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

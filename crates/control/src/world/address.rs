//! Addresses for services that have none.
//!
//! Each gets one from 240.240.0.0/12 and 2001:2::/48, by a hash of namespace and host, so that it is the
//! same on every control plane and after every restart. Where hashes collide, the lesser name has the
//! slot and the other probes on: the outcome depends on who there is, not on who came first.

use std::net::{IpAddr, Ipv4Addr};

use heddle_dns::Addresses as Pair;
use imbl::{HashMap, OrdSet};

use super::{Dirty, Fact, service::ServiceId};

/// How many choices are tried before a service stays without an address.
const ATTEMPTS: u32 = 64;

#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    slots: HashMap<Ipv4Addr, ServiceId>,
    placed: HashMap<ServiceId, Pair>,
    /// Those that did not get their first choice.
    displaced: OrdSet<ServiceId>,
}

fn candidate(id: &ServiceId, attempt: u32) -> Pair {
    let infix = format!(".{}.svc.", id.namespace);
    let name = id.host.split_once(&infix).map_or(&*id.host, |(name, _)| name);
    Pair::candidate(&id.namespace, name, attempt)
}

impl Addresses {
    /// The IPv4 and IPv6 address of a service.
    pub(super) fn get(&self, id: &ServiceId) -> Option<(IpAddr, IpAddr)> {
        let pair = self.placed.get(id)?;
        Some((pair.v4.into(), pair.v6.into()))
    }

    pub(super) fn set(&mut self, id: &ServiceId, wanted: bool, dirty: &mut Dirty) {
        match (wanted, self.placed.contains_key(id)) {
            (true, false) => self.place(id.clone(), dirty),
            (false, true) => self.remove(id, dirty),
            _ => {}
        }
    }

    fn place(&mut self, id: ServiceId, dirty: &mut Dirty) {
        let mut homeless = id;
        let mut attempt = 0;
        loop {
            // A full range: the rest stays without an address.
            if attempt > ATTEMPTS {
                return;
            }
            let pair = candidate(&homeless, attempt);
            match self.slots.get(&pair.v4).cloned() {
                Some(holder) if holder <= homeless => attempt += 1,
                holder => {
                    if attempt > 0 {
                        self.displaced.insert(homeless.clone());
                    } else {
                        self.displaced.remove(&homeless);
                    }
                    self.slots.insert(pair.v4, homeless.clone());
                    self.placed.insert(homeless.clone(), pair);
                    dirty.mark(Fact::Address(homeless));
                    let Some(holder) = holder else { return };
                    self.placed.remove(&holder);
                    homeless = holder;
                    attempt = 0;
                }
            }
        }
    }

    fn remove(&mut self, id: &ServiceId, dirty: &mut Dirty) {
        if let Some(pair) = self.placed.remove(id) {
            self.slots.remove(&pair.v4);
            dirty.mark(Fact::Address(id.clone()));
        }
        self.displaced.remove(id);
        // Whoever was displaced may now come nearer to its first choice.
        let displaced: Vec<_> = self.displaced.iter().cloned().collect();
        for other in &displaced {
            if let Some(pair) = self.placed.remove(other) {
                self.slots.remove(&pair.v4);
            }
        }
        for other in displaced {
            self.place(other, dirty);
        }
    }
}

#[cfg(test)]
#[path = "address_test.rs"]
mod address_test;

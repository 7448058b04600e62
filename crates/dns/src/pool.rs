//! Addresses for services that have none: by hash of namespace and name, with probing.
//!
//! The hash makes a service's address the same on every control plane and after every restart; only
//! where two services collide does the order matter, and there the recorded address (status) decides.

use std::net::{Ipv4Addr, Ipv6Addr};

use rustc_hash::FxHashMap;
use xxhash_rust::xxh3::xxh3_128;

/// 240.240.0.0/12's first address and prefix length; the range Istio allocates from.
pub const V4_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(240, 240, 0, 0), 12);
/// 2001:2::/48, reserved for benchmarking, Istio's IPv6 range.
pub const V6_RANGE: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48);

/// Half the range: beyond it probing gets long and somebody should be told.
const PROBES: u32 = 1 << 19;

/// The pair of addresses of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Addresses {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

impl Addresses {
    /// The `attempt`-th choice for a service. The same on every machine and release.
    pub fn candidate(namespace: &str, name: &str, attempt: u32) -> Self {
        // A slash is in neither name, so two services never share the hashed text.
        let hash = xxh3_128(format!("{namespace}/{name}").as_bytes());
        // Skips network and broadcast-like last bytes, which some software refuses.
        const USABLE: u32 = (1 << 12) * 254;
        let slot = ((hash >> 96) as u32 % USABLE).wrapping_add(attempt) % USABLE;
        let (block, last) = (slot / 254, slot % 254 + 1);
        let v4 = Ipv4Addr::from(u32::from(V4_RANGE.0) | block << 8 | last);
        let low = (hash & ((1 << 80) - 1)).wrapping_add(u128::from(attempt)) & ((1 << 80) - 1);
        Self { v4, v6: Ipv6Addr::from(u128::from(V6_RANGE.0) | low) }
    }

    /// Whether both are in the ranges that a pool gives out.
    pub fn in_range(&self) -> bool {
        let v4 = u32::from(self.v4) >> 20 == u32::from(V4_RANGE.0) >> 20;
        v4 && u128::from(self.v6) >> 80 == u128::from(V6_RANGE.0) >> 80
    }
}

/// The addresses given out. [`AddressPool::hold`] every recorded pair before the first
/// [`AddressPool::allocate`], and allocate in a fixed order (age, then namespace/name).
#[derive(Clone, Debug, Default)]
pub struct AddressPool {
    by_owner: FxHashMap<(Box<str>, Box<str>), Addresses>,
    v4: FxHashMap<Ipv4Addr, (Box<str>, Box<str>)>,
    v6: FxHashMap<Ipv6Addr, (Box<str>, Box<str>)>,
}

impl AddressPool {
    /// Keeps a recorded pair for its service. False when it is out of range or another's: then allocate.
    pub fn hold(&mut self, namespace: &str, name: &str, addresses: Addresses) -> bool {
        let owner = (Box::from(namespace), Box::from(name));
        let free = |held: Option<&(Box<str>, Box<str>)>| held.is_none_or(|held| *held == owner);
        if !addresses.in_range() || !free(self.v4.get(&addresses.v4)) || !free(self.v6.get(&addresses.v6)) {
            return false;
        }
        self.release(namespace, name);
        self.v4.insert(addresses.v4, owner.clone());
        self.v6.insert(addresses.v6, owner.clone());
        self.by_owner.insert(owner, addresses);
        true
    }

    /// The service's pair: the one it holds, else its first free choice. `None` when the range is so full
    /// that half of it was tried in vain.
    pub fn allocate(&mut self, namespace: &str, name: &str) -> Option<Addresses> {
        if let Some(held) = self.get(namespace, name) {
            return Some(held);
        }
        for attempt in 0..PROBES {
            let addresses = Addresses::candidate(namespace, name, attempt);
            if self.hold(namespace, name, addresses) {
                return Some(addresses);
            }
        }
        None
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Addresses> {
        self.by_owner.get(&(Box::from(namespace), Box::from(name))).copied()
    }

    /// The service is gone; its addresses may go to another.
    pub fn release(&mut self, namespace: &str, name: &str) {
        if let Some(old) = self.by_owner.remove(&(Box::from(namespace), Box::from(name))) {
            self.v4.remove(&old.v4);
            self.v6.remove(&old.v6);
        }
        debug_assert!(self.v4.len() == self.by_owner.len() && self.v6.len() == self.by_owner.len());
    }
}

#[cfg(test)]
#[path = "pool_test.rs"]
mod pool_test;

//! Addresses for services that have none: by hash of namespace and name, so that a service's address is
//! the same on every control plane and after every restart. Whoever gives them out probes on where two
//! services collide.

use std::net::{Ipv4Addr, Ipv6Addr};

use xxhash_rust::xxh3::xxh3_128;

/// 240.240.0.0/12's first address and prefix length; the range Istio allocates from.
pub const V4_RANGE: (Ipv4Addr, u8) = (Ipv4Addr::new(240, 240, 0, 0), 12);
/// 2001:2::/48, reserved for benchmarking, Istio's IPv6 range.
pub const V6_RANGE: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0), 48);

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

#[cfg(test)]
#[path = "addresses_test.rs"]
mod addresses_test;

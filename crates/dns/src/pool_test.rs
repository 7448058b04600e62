use super::*;

#[test]
fn an_address_depends_on_the_name_alone() {
    let first = Addresses::candidate("default", "reviews", 0);
    // Recorded in users' status and resolvers' caches: must never change between releases.
    assert_eq!(first.v4.to_string(), "240.242.215.177");
    assert_eq!(first.v6.to_string(), "2001:2:0:e9aa:59f7:3922:9d3d:9eef");
    let mut pool = AddressPool::default();
    pool.allocate("default", "ratings");
    assert_eq!(pool.allocate("default", "reviews"), Some(first));
    assert_eq!(pool.allocate("default", "reviews"), Some(first));
}

#[test]
fn addresses_are_in_range_and_nobody_shares_one() {
    let mut pool = AddressPool::default();
    let mut seen = std::collections::BTreeSet::new();
    for i in 0..20_000 {
        let pair = pool.allocate("ns", &format!("svc-{i}")).unwrap();
        assert!(pair.in_range(), "{pair:?}");
        let last = pair.v4.octets()[3];
        assert!(last != 0 && last != 255, "{pair:?}");
        assert!(seen.insert(pair.v4), "{pair:?}");
    }
}

#[test]
fn the_last_probe_is_in_range() {
    for attempt in [0, 1, 253, 254, 255, PROBES - 1, u32::MAX] {
        assert!(Addresses::candidate("a", "b", attempt).in_range(), "attempt {attempt}");
    }
}

#[test]
fn a_recorded_address_beats_the_hash() {
    let wanted = Addresses::candidate("default", "reviews", 0);
    let mut pool = AddressPool::default();
    assert!(pool.hold("other", "squatter", wanted));
    assert!(!pool.hold("default", "reviews", wanted));
    let second = pool.allocate("default", "reviews").unwrap();
    assert_eq!(second, Addresses::candidate("default", "reviews", 1));
    pool.release("other", "squatter");
    assert_eq!(pool.allocate("default", "reviews"), Some(second), "a held address does not move");
    let outside = Addresses { v4: Ipv4Addr::new(10, 0, 0, 1), ..wanted };
    assert!(!pool.hold("x", "y", outside));
}

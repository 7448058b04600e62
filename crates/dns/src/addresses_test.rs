use super::*;

#[test]
fn an_address_depends_on_the_name_alone() {
    let first = Addresses::candidate("default", "reviews", 0);
    // Known to users and kept in resolvers' caches: must never change between releases.
    assert_eq!(first.v4.to_string(), "240.242.215.177");
    assert_eq!(first.v6.to_string(), "2001:2:0:e9aa:59f7:3922:9d3d:9eef");
}

#[test]
fn addresses_are_in_range_and_seldom_collide() {
    let mut seen = std::collections::BTreeSet::new();
    for i in 0..20_000 {
        let pair = Addresses::candidate("ns", &format!("svc-{i}"), 0);
        assert!(pair.in_range(), "{pair:?}");
        let last = pair.v4.octets()[3];
        assert!(last != 0 && last != 255, "{pair:?}");
        seen.insert(pair.v4);
    }
    // n^2 / 2m: about 192 of 20,000 among a million.
    assert!(seen.len() > 19_700, "{}", seen.len());
}

#[test]
fn every_attempt_is_in_range_and_another() {
    let mut seen = std::collections::BTreeSet::new();
    for attempt in [0, 1, 2, 253, 254, 255, 1 << 19] {
        let pair = Addresses::candidate("a", "b", attempt);
        assert!(pair.in_range(), "attempt {attempt}");
        assert!(seen.insert(pair.v4), "attempt {attempt}");
    }
    assert!(Addresses::candidate("a", "b", u32::MAX).in_range());
}

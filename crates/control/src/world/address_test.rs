use super::*;

fn id(n: usize) -> ServiceId {
    ServiceId { host: format!("s{n}.default.svc.cluster.local").into(), namespace: "default".into() }
}

#[test]
fn addresses_do_not_depend_on_the_order_of_arrival() {
    let mut dirty = Dirty::default();
    let (mut there, mut back) = (Addresses::default(), Addresses::default());
    for n in 0..5000 {
        there.set(&id(n), true, &mut dirty);
        back.set(&id(4999 - n), true, &mut dirty);
    }
    assert!(!there.displaced.is_empty(), "5000 names in a million slots collide now and then");
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..5000 {
        assert_eq!(there.get(&id(n)), back.get(&id(n)), "{n}");
        assert!(seen.insert(there.get(&id(n)).expect("placed")));
    }
}

#[test]
fn removal_leaves_what_would_be_there_without() {
    let mut dirty = Dirty::default();
    let (mut a, mut b) = (Addresses::default(), Addresses::default());
    for n in 0..5000 {
        a.set(&id(n), true, &mut dirty);
    }
    for n in 0..2500 {
        a.set(&id(n), false, &mut dirty);
    }
    for n in 2500..5000 {
        b.set(&id(n), true, &mut dirty);
        assert!(a.get(&id(n)).is_some());
    }
    for n in 2500..5000 {
        assert_eq!(a.get(&id(n)), b.get(&id(n)), "{n}");
    }
}

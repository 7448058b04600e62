use std::collections::BTreeMap;
use std::time::Instant;

use heddle_xds::ResourceType;
use prost::Message;

use super::*;
use crate::decide::kit;
use crate::snapshot::{Endpoint, Locality, Name, SnapshotBuilder};

/// Active requests, badness and tried, by index.
#[derive(Default)]
struct Known {
    active: BTreeMap<usize, u32>,
    bad: BTreeMap<usize, u32>,
    tried: Vec<usize>,
}

impl Members for Known {
    fn active(&self, index: usize) -> u32 {
        self.active.get(&index).copied().unwrap_or_default()
    }
    fn badness(&self, index: usize) -> u32 {
        self.bad.get(&index).copied().unwrap_or_default()
    }
    fn tried(&self, index: usize) -> bool {
        self.tried.contains(&index)
    }
}

fn cluster(balancer: Balancer) -> Cluster {
    let mut builder = SnapshotBuilder::new();
    builder.apply(ResourceType::Cluster, "a", &kit::cluster("a").encode_to_vec()).unwrap();
    let snapshot = builder.publish(Instant::now()).unwrap();
    let mut cluster = snapshot.cluster_named("a").unwrap().clone();
    cluster.balancer = balancer;
    cluster.panic_threshold = 0;
    cluster
}

const LEAST: Balancer = Balancer::LeastRequest { choices: 2, bias: 1.0 };

/// Weight, health, priority, locality.
fn set(of: &[(u32, Health, u32, u32)], localities: Vec<Locality>) -> EndpointSet {
    let one = |(index, (weight, health, priority, locality)): (usize, &(u32, Health, u32, u32))| {
        let address = format!("10.0.0.{index}:80").parse().unwrap();
        Endpoint {
            id: Name::new(&format!("{address}")),
            address,
            hostname: None,
            weight: *weight,
            health: *health,
            locality: *locality,
            priority: *priority,
            workload: None,
            socket_match: None,
        }
    };
    EndpointSet::new(of.iter().enumerate().map(one).collect(), localities, 140, 0)
}

fn shares(cluster: &Cluster, set: &EndpointSet, known: &Known, rounds: u64) -> Vec<u32> {
    let state = State::default();
    let mut counts = vec![0; set.endpoints.len()];
    for round in 0..rounds {
        let picked = pick(cluster, set, &state, known, roll(round, 7)).unwrap();
        counts[picked.index] += 1;
    }
    counts
}

use Health::{Degraded, Draining, Healthy, Unhealthy};

#[test]
fn equal_endpoints_get_equal_shares() {
    let set = set(&[(1, Healthy, 0, 0); 4], vec![]);
    for balancer in [Balancer::RoundRobin, Balancer::Random, LEAST] {
        let counts = shares(&cluster(balancer), &set, &Known::default(), 8000);
        assert!(counts.iter().all(|count| count.abs_diff(2000) < 150), "{balancer:?} {counts:?}");
    }
    assert_eq!(shares(&cluster(Balancer::RoundRobin), &set, &Known::default(), 8), [2, 2, 2, 2]);
}

#[test]
fn weights_are_respected() {
    let set = set(&[(1, Healthy, 0, 0), (2, Healthy, 0, 0), (5, Healthy, 0, 0)], vec![]);
    for balancer in [Balancer::RoundRobin, Balancer::Random, LEAST] {
        let counts = shares(&cluster(balancer), &set, &Known::default(), 8000);
        let near = |index: usize, expected: u32| counts[index].abs_diff(expected) < 200;
        assert!(near(0, 1000) && near(1, 2000) && near(2, 5000), "{balancer:?} {counts:?}");
    }
}

#[test]
fn weighted_round_robin_is_smooth() {
    let set = set(&[(5, Healthy, 0, 0), (1, Healthy, 0, 0), (1, Healthy, 0, 0)], vec![]);
    let (cluster, state) = (cluster(Balancer::RoundRobin), State::default());
    let picks: Vec<usize> =
        (0..7).map(|_| pick(&cluster, &set, &state, &Known::default(), 0).unwrap().index).collect();
    assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn the_less_loaded_of_two_is_chosen() {
    let set = set(&[(1, Healthy, 0, 0); 2], vec![]);
    let known = Known { active: BTreeMap::from([(0, 5)]), ..Known::default() };
    assert_eq!(shares(&cluster(LEAST), &set, &known, 200), [0, 200]);
}

#[test]
fn load_counts_against_weight() {
    let set = set(&[(2, Healthy, 0, 0), (1, Healthy, 0, 0)], vec![]);
    let known = Known { active: BTreeMap::from([(0, 3)]), ..Known::default() };
    let counts = shares(&cluster(LEAST), &set, &known, 3000);
    assert!(counts[0].abs_diff(1000) < 50, "{counts:?}");
}

#[test]
fn tried_bad_and_draining_endpoints_are_avoided_while_others_exist() {
    let healthy = set(&[(1, Healthy, 0, 0); 3], vec![]);
    for balancer in [Balancer::RoundRobin, Balancer::Random, LEAST] {
        let cluster = cluster(balancer);
        let known = Known { tried: vec![0], bad: BTreeMap::from([(1, 1)]), ..Known::default() };
        assert_eq!(shares(&cluster, &healthy, &known, 50), [0, 0, 50]);
        let all_tried = Known { tried: vec![0, 1, 2], ..Known::default() };
        assert_eq!(shares(&cluster, &healthy, &all_tried, 60).iter().sum::<u32>(), 60);
        let draining = set(&[(1, Draining, 0, 0), (1, Healthy, 0, 0)], vec![]);
        assert_eq!(shares(&cluster, &draining, &Known { tried: vec![1], ..Known::default() }, 9), [0, 9]);
        let last = set(&[(1, Draining, 0, 0)], vec![]);
        assert_eq!(shares(&cluster, &last, &Known::default(), 3), [3]);
    }
}

#[test]
fn when_all_are_bad_the_least_bad_is_used_and_flagged() {
    let cluster = cluster(LEAST);
    let state = State::default();
    let bad = Known { bad: BTreeMap::from([(0, 3), (1, 1), (2, 2)]), ..Known::default() };
    let healthy = set(&[(1, Healthy, 0, 0); 3], vec![]);
    assert_eq!(pick(&cluster, &healthy, &state, &bad, 1), Some(Picked { index: 1, least_bad: true }));
    let unhealthy = set(&[(1, Unhealthy, 0, 0), (1, Draining, 0, 0)], vec![]);
    assert_eq!(
        pick(&cluster, &unhealthy, &state, &Known::default(), 1),
        Some(Picked { index: 0, least_bad: true })
    );
    assert_eq!(pick(&cluster, &set(&[], vec![]), &state, &Known::default(), 1), None);
}

#[test]
fn a_priority_spills_over_when_it_is_not_healthy_enough() {
    let cluster = cluster(Balancer::Random);
    let share_of_second = |healthy: usize| {
        let mut all = vec![(1, Unhealthy, 0, 0); 10];
        all.iter_mut().take(healthy).for_each(|endpoint| endpoint.1 = Healthy);
        all.extend([(1, Healthy, 1, 0); 2]);
        let counts = shares(&cluster, &set(&all, vec![]), &Known::default(), 10_000);
        counts[10..].iter().sum::<u32>()
    };
    assert_eq!(share_of_second(10), 0);
    assert_eq!(share_of_second(8), 0);
    assert!(share_of_second(5).abs_diff(3000) < 200);
    assert_eq!(share_of_second(0), 10_000);
}

#[test]
fn degraded_endpoints_take_what_healthy_ones_cannot() {
    let all = set(&[(1, Healthy, 0, 0), (1, Degraded, 0, 0)], vec![]);
    let counts = shares(&cluster(Balancer::Random), &all, &Known::default(), 10_000);
    assert!(counts[1].abs_diff(3000) < 200, "{counts:?}");
}

#[test]
fn below_the_panic_threshold_health_is_not_looked_at() {
    let mut cluster = cluster(Balancer::RoundRobin);
    let all = set(&[(1, Healthy, 0, 0), (1, Unhealthy, 0, 0), (1, Unhealthy, 0, 0)], vec![]);
    assert_eq!(shares(&cluster, &all, &Known::default(), 9), [9, 0, 0]);
    cluster.panic_threshold = 50;
    assert_eq!(shares(&cluster, &all, &Known::default(), 9), [3, 3, 3]);
}

#[test]
fn localities_share_by_weight() {
    let here = |zone: &str, weight| Locality { zone: zone.into(), weight, ..Locality::default() };
    let all =
        set(&[(1, Healthy, 0, 0), (1, Healthy, 0, 1), (1, Healthy, 0, 1)], vec![here("a", 3), here("b", 1)]);
    let mut cluster = cluster(Balancer::Random);
    let even = shares(&cluster, &all, &Known::default(), 9000);
    assert!(even[0].abs_diff(3000) < 200, "{even:?}");
    cluster.locality_weighted = true;
    let counts = shares(&cluster, &all, &Known::default(), 8000);
    assert!(counts[0].abs_diff(6000) < 200 && counts[1].abs_diff(1000) < 150, "{counts:?}");
}

#[test]
fn overload_drops_are_drops() {
    let mut all = set(&[(1, Healthy, 0, 0)], vec![]);
    all.drop_per_million = 250_000;
    let (cluster, state) = (cluster(LEAST), State::default());
    let dropped =
        (0..10_000u64).filter(|n| pick(&cluster, &all, &state, &Known::default(), roll(*n, 3)).is_none());
    assert!(dropped.count().abs_diff(2500) < 200);
}

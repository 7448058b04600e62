use std::sync::Arc;
use std::time::Instant;

use heddle_xds::ResourceType;
use prost::Message as _;

use super::*;
use crate::decide::kit;
use crate::snapshot::{Health, Name, OutlierDetection, SnapshotBuilder};
use crate::upstream::Upstreams;
use crate::upstream::limits::Ledger;
use crate::upstream::outlier::Told;

fn endpoint(number: u8) -> Endpoint {
    let address = format!("10.0.0.{number}:80").parse().unwrap();
    Endpoint {
        id: Name::new(&format!("{address}")),
        address,
        hostname: None,
        weight: 1,
        health: Health::Healthy,
        locality: 0,
        priority: 0,
        workload: None,
        socket_match: None,
    }
}

/// A snapshot with one cluster of some endpoints.
fn snapshot(endpoints: u8, outlier: Option<OutlierDetection>) -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    builder.apply(ResourceType::Cluster, "a", &kit::cluster("a").encode_to_vec()).unwrap();
    let mut snapshot = (*builder.publish(Instant::now()).unwrap()).clone();
    let mut cluster = snapshot.cluster_named("a").unwrap().clone();
    let set = EndpointSet::new((0..endpoints).map(endpoint).collect(), Vec::new(), 140, 0);
    cluster.discovery = Discovery::Static(Arc::new(set));
    cluster.outlier = outlier;
    snapshot.clusters.insert(cluster.name.clone(), Arc::new(cluster));
    snapshot
}

#[tokio::test]
async fn what_was_never_chosen_is_not_made_and_what_was_is_kept() {
    let (before, after) = (snapshot(100, None), snapshot(101, None));
    let upstreams = Upstreams::new(Arc::default(), None);
    let pick = |snapshot: &Snapshot, tried: &[_]| {
        let cluster = snapshot.cluster_named("a").unwrap();
        let state = upstreams.cluster(cluster);
        let chosen = select(snapshot, cluster, &state, None, 7, tried).unwrap();
        (chosen.member, state)
    };
    let (first, state) = pick(&before, &[]);
    assert_eq!(state.known().len(), 1);
    assert!(state.has_others(&[first.address]));
    let (second, _) = pick(&before, &[first.address]);
    assert_ne!(first.address, second.address);
    pick(&after, &[]);
    assert!(state.known().iter().any(|member| Rc::ptr_eq(member, &first)));
    assert!(state.known().len() <= 3, "{}", state.known().len());
}

#[tokio::test]
async fn what_another_worker_saw_counts_where_it_was_never_chosen() {
    let rules = OutlierDetection {
        consecutive_5xx: 1,
        consecutive_gateway: 0,
        interval: std::time::Duration::from_secs(10),
        base_ejection: std::time::Duration::from_secs(30),
        max_ejection: std::time::Duration::from_secs(300),
        max_ejection_percent: 100,
        split_local_errors: false,
        consecutive_local: 0,
    };
    let snapshot = snapshot(2, Some(rules));
    let cluster = snapshot.cluster_named("a").unwrap();
    let ledger = Arc::new(Ledger::default());
    let workers = [(); 2].map(|()| Upstreams::new(ledger.clone(), None).cluster(cluster));
    let bad = select(&snapshot, cluster, &workers[0], None, 7, &[]).unwrap().member;
    workers[0].tell(cluster, &bad, Told::Status(500));
    for random in 0..32 {
        let chosen = select(&snapshot, cluster, &workers[1], None, random, &[]).unwrap();
        assert_ne!(chosen.member.address, bad.address, "{random}");
    }
}

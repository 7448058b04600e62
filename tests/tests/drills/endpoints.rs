//! Instances come and go by the registry, one after the other.

use crate::{ground::Ground, plane::Kind};

/// How often an instance comes and another goes.
const ROUNDS: usize = 8;

async fn endpoints_come_and_go(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    let (mut ground, mut instances) = Ground::prepare(kind, &["v1", "v1", "v1"]).await;
    let load = ground.load();
    for _ in 0..ROUNDS {
        instances.push(ground.add("v1", &[]).await);
        ground.sends_to(&instances).await;
        load.answered(50).await;
        // The oldest leaves while it works, and ends only when nothing is sent to it any more.
        let mut leaving = instances.remove(0);
        ground.deregister(&leaving);
        ground.sends_to(&instances).await;
        load.answered(50).await;
        leaving.empties().await;
        assert!(leaving.served().await.gets > 0, "{} never answered", leaving.name);
        drop(leaving);
        load.answered(50).await;
    }
    let conclusion = ground.plane.conclude("instances come and go", load).await;
    conclusion.holds();
    conclusion.no_post_failed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_come_and_go_under_load() {
    endpoints_come_and_go(Kind::Heddle).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_come_and_go_under_load_with_envoy() {
    endpoints_come_and_go(Kind::Envoy).await;
}

//! Instances are killed with `kill -9` while they hold requests, and their entries go by lease or by health check.

use heddle_tests::say;

use crate::{
    ground::{Ground, Protocol},
    instance::Instance,
    plane::Kind,
};

/// GETs that at least are under way at an instance when it is killed.
const IN_FLIGHT: u64 = 16;

/// Who notices that an instance is gone.
#[derive(Clone, Copy, Debug)]
enum Notice {
    /// Its lease lapses.
    Lease,
    /// Its health check fails.
    Health,
}

async fn instances_die(kind: Kind, protocol: Protocol) {
    if !kind.is_here() {
        return;
    }
    let (mut ground, mut instances) = Ground::with(kind, &["v1", "v1"], protocol).await;
    let load = ground.load();
    // Constant load: what is answered saves up the retries that a death with many requests in flight costs.
    load.answered(500).await;
    for notice in [Notice::Lease, Notice::Health, Notice::Lease, Notice::Health] {
        let (mut victim, heartbeat) = match notice {
            Notice::Lease => {
                let victim = ground.start("v1").await;
                let heartbeat = ground.register_with_lease(&victim, "1s");
                (victim, Some(heartbeat))
            }
            Notice::Health => (ground.add_checked("v1").await, None),
        };
        let with_victim: Vec<&Instance> = instances.iter().chain([&victim]).collect();
        ground.sends_to(with_victim).await;
        let held = victim.hold(IN_FLIGHT).await;
        assert!(held.gets >= IN_FLIGHT, "{held:?}");
        victim.kill().await;
        // A machine that dies takes the heartbeat with it.
        drop(heartbeat);
        load.answered(200).await;
        ground.sends_to(&instances).await;
        load.answered(100).await;
        say(&format!(
            "{} was killed with {} GETs and {} POSTs under way; noticed by {notice:?}",
            victim.name, held.gets, held.posts
        ));
    }
    // Those that stay are not the same for ever.
    instances.push(ground.add("v1", &[]).await);
    ground.sends_to(&instances).await;
    load.answered(100).await;
    ground.plane.conclude(&format!("instances are killed, {protocol:?}"), load).await.holds();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_killed_under_load() {
    instances_die(Kind::Heddle, Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_of_http2_are_killed_under_load() {
    instances_die(Kind::Heddle, Protocol::Http2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_are_killed_under_load_with_envoy() {
    instances_die(Kind::Envoy, Protocol::Http1).await;
}

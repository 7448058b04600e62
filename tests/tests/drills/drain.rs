//! A proxy is told to drain while it carries the load, and another takes over.

use crate::{
    ground::Ground,
    plane::{Kind, Plane},
};

/// GETs that at least are under way when a proxy is told to drain.
const IN_FLIGHT: u64 = 16;

/// How often a proxy takes over.
const TURNS: usize = 8;

async fn proxies_drain(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    let (mut ground, _instances) = Ground::prepare(kind, &["v1", "v1"]).await;
    let load = ground.load();
    load.answered(200).await;
    for turn in 0..TURNS {
        let next = Plane::start(kind, &ground.mesh, &format!("next-{turn}"));
        next.carries(None).await;
        let in_flight = load.in_flight();
        assert!(in_flight >= IN_FLIGHT, "{in_flight} GETs are under way");
        let mut drained = std::mem::replace(&mut ground.plane, next);
        if turn % 2 == 0 {
            // Who comes back is still served, until the load is moved.
            drained.drain_listeners().await;
            load.answered(200).await;
            load.move_to(ground.plane.outbound);
        } else {
            load.move_to(ground.plane.outbound);
        }
        drained.drain().await;
        load.has_left(drained.outbound).await;
        drained.ends().await;
        load.answered(100).await;
    }
    let conclusion = ground.plane.conclude("proxies drain", load).await;
    conclusion.holds();
    conclusion.no_post_failed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_drain_under_load() {
    proxies_drain(Kind::Heddle).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_drain_under_load_with_envoy() {
    proxies_drain(Kind::Envoy).await;
}

//! The control plane is killed with `kill -9` and starts again from its data.

use crate::{
    ground::Ground,
    load::MANY,
    plane::Kind,
    routes::{Routes, VERSIONS},
};

/// GETs that at least are under way in the mesh when its control plane is killed.
const IN_FLIGHT: u64 = 16;

async fn the_control_plane_dies(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    let (mut ground, mut instances) = Ground::prepare(kind, &VERSIONS).await;
    let mut routes = Routes::prepare(&ground.mesh).await;
    let (load, seen) = routes.load(&ground.plane, &ground.members, MANY).await;
    for _ in 0..3 {
        let before = routes.change().await.unwrap_or_else(|e| panic!("{e}"));
        seen.arrives(before).await;
        // What is acknowledged now may reach the proxy before or after, but is not lost.
        let acknowledged = routes.change().await.unwrap_or_else(|e| panic!("{e}"));
        let in_flight = load.in_flight();
        assert!(in_flight >= IN_FLIGHT, "{in_flight} GETs are under way");
        ground.mesh.control.kill();
        load.answered(300).await;
        ground.mesh.restart_control();
        routes.reconnect(&ground.mesh).await;
        seen.arrives(acknowledged).await;
        let after = routes.change().await.unwrap_or_else(|e| panic!("{e}"));
        seen.arrives(after).await;
        // Instances come as before, too.
        instances.push(ground.add("v1", &[]).await);
        ground.sends_to(&instances).await;
        load.answered(100).await;
    }
    let conclusion = ground.plane.conclude("the control plane dies", load).await;
    conclusion.holds();
    conclusion.no_post_failed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_dies_under_load() {
    the_control_plane_dies(Kind::Heddle).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_dies_under_load_with_envoy() {
    the_control_plane_dies(Kind::Envoy).await;
}

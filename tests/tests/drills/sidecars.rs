//! Instances behind sidecars of their own: a sidecar drains under load, before or after its instance is deregistered.

use std::{collections::BTreeMap, time::Duration};

use heddle_tests::mesh::Role;

use crate::{
    ground::{CLUSTER, Ground, Protocol, SHOP},
    instance::Instance,
    plane::Kind,
};

/// How often an instance comes and another goes, with their sidecars.
const ROUNDS: usize = 6;

/// An instance that is reached through its sidecar only.
struct Guarded {
    instance: Instance,
    sidecar: Role,
}

impl Guarded {
    async fn start(ground: &mut Ground) -> Self {
        let instance = ground.start("v1").await;
        let labels = BTreeMap::from([("app", SHOP), ("version", "v1")]);
        let port = instance.address.port();
        let sidecar = ground.mesh.sidecar(&instance.name, "default", &labels, port);
        let guarded = Self { instance, sidecar };
        let address = guarded.address();
        let args = ["register", "--service", SHOP, "--address", &address, "--labels", "app=shop,version=v1"];
        let (code, out, err) = ground.mesh.heddle(&args);
        assert_eq!(code, 0, "register {address}: {out}{err}");
        guarded
    }

    fn address(&self) -> String {
        self.sidecar.inbound(self.instance.address.port()).to_string()
    }

    fn deregister(&self, ground: &Ground) {
        let args = ["deregister", "--service", SHOP, "--address", &self.address()];
        let (code, out, err) = ground.mesh.heddle(&args);
        assert_eq!(code, 0, "deregister {}: {out}{err}", self.address());
    }
}

async fn sends_to(ground: &Ground, guarded: &[Guarded]) {
    let addresses = guarded.iter().map(|guarded| guarded.address().parse().unwrap()).collect();
    ground.plane.sends_to(CLUSTER, &addresses).await;
}

async fn sidecars_drain(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    let mut ground = Ground::bare(kind, Protocol::Http1);
    let mut guarded = Vec::new();
    for _ in 0..3 {
        guarded.push(Guarded::start(&mut ground).await);
    }
    sends_to(&ground, &guarded).await;
    ground.plane.carries(None).await;
    let load = ground.load();
    for round in 0..ROUNDS {
        guarded.push(Guarded::start(&mut ground).await);
        sends_to(&ground, &guarded).await;
        load.answered(50).await;
        let mut leaving = guarded.remove(0);
        if round % 2 == 0 {
            // Told to go while requests still come.
            leaving.sidecar.terminate();
            load.answered(100).await;
            leaving.deregister(&ground);
        } else {
            leaving.deregister(&ground);
            sends_to(&ground, &guarded).await;
            leaving.sidecar.terminate();
        }
        let status = leaving.sidecar.ended(Duration::from_secs(30)).await;
        assert!(status.success(), "{status}: {}", leaving.sidecar.log());
        sends_to(&ground, &guarded).await;
        load.answered(50).await;
    }
    let conclusion = ground.plane.conclude("sidecars of instances drain", load).await;
    conclusion.holds();
    // A GET is repeated elsewhere when its connection is cut; a POST is not, so it shows that nothing was.
    conclusion.no_post_failed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_of_instances_drain_under_load() {
    sidecars_drain(Kind::Heddle).await;
}

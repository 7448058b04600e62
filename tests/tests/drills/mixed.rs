//! Everything at once, in an order that a seed decides: `HEDDLE_DRILL_SEED` repeats a run.

use std::sync::Arc;

use fastrand::Rng;
use heddle_tests::say;
use tokio::process::Child;

use crate::{
    ground::Ground,
    instance::Instance,
    load::{Load, MANY},
    plane::{Kind, Plane},
    routes::{Routes, Seen, VERSIONS},
};

/// How much happens.
const EVENTS: usize = 30;
/// Instances of each version that are always alive.
const ALIVE: usize = 2;
/// Killed instances whose entries may stand at the same time.
const DEAD: usize = 2;

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Event {
    Join,
    Leave,
    Kill,
    Bury,
    Routes,
    ControlDies,
    ControlReturns,
    Replace,
}

/// What is there more than once happens more often.
const ALL: [Event; 14] = [
    Event::Join,
    Event::Join,
    Event::Join,
    Event::Leave,
    Event::Kill,
    Event::Kill,
    Event::Kill,
    Event::Bury,
    Event::Routes,
    Event::Routes,
    Event::Routes,
    Event::ControlDies,
    Event::ControlReturns,
    Event::Replace,
];

struct Drill {
    rng: Rng,
    ground: Ground,
    routes: Routes,
    load: Load,
    seen: Arc<Seen>,
    alive: Vec<Instance>,
    /// Killed, and still registered.
    dead: Vec<Instance>,
    /// Heartbeats of those that are alive.
    heartbeats: Vec<(String, Child)>,
    control_is_up: bool,
    proxies: usize,
}

impl Drill {
    async fn prepare(kind: Kind, seed: u64) -> Self {
        let versions: Vec<&str> = VERSIONS.iter().flat_map(|version| [*version; ALIVE]).collect();
        let (ground, alive) = Ground::prepare(kind, &versions).await;
        let routes = Routes::prepare(&ground.mesh).await;
        let (load, seen) = routes.load(&ground.plane, &ground.members, MANY).await;
        let (rng, dead, heartbeats) = (Rng::with_seed(seed), Vec::new(), Vec::new());
        Self { rng, ground, routes, load, seen, alive, dead, heartbeats, control_is_up: true, proxies: 0 }
    }

    /// An instance that may go: others of its version remain.
    fn expendable(&mut self) -> Option<usize> {
        let many = |version: &str| self.alive.iter().filter(|i| i.version == version).count() > ALIVE;
        let candidates: Vec<usize> =
            (0..self.alive.len()).filter(|index| many(&self.alive[*index].version)).collect();
        self.rng.choice(candidates)
    }

    fn possible(&mut self, event: Event) -> bool {
        match event {
            Event::Join | Event::Routes | Event::ControlDies | Event::Replace => self.control_is_up,
            Event::Leave => self.control_is_up && self.expendable().is_some(),
            Event::Kill => self.dead.len() < DEAD && self.expendable().is_some(),
            Event::Bury => self.control_is_up && !self.dead.is_empty(),
            Event::ControlReturns => !self.control_is_up,
        }
    }

    async fn happen(&mut self, event: Event) {
        match event {
            Event::Join => self.join().await,
            Event::Leave => {
                let Some(index) = self.expendable() else { return };
                let mut leaving = self.alive.remove(index);
                self.stop_heartbeat(&leaving.name);
                self.ground.deregister(&leaving);
                self.settle().await;
                // What is under way there comes to its end.
                leaving.empties().await;
            }
            Event::Kill => {
                let Some(index) = self.expendable() else { return };
                let mut victim = self.alive.remove(index);
                victim.kill().await;
                self.stop_heartbeat(&victim.name);
                self.dead.push(victim);
            }
            Event::Bury => {
                for dead in std::mem::take(&mut self.dead) {
                    self.ground.deregister(&dead);
                }
                self.settle().await;
            }
            Event::Routes => {
                for _ in 0..self.rng.usize(1..8) {
                    self.routes.change().await.unwrap_or_else(|e| panic!("{e}"));
                }
                if self.rng.bool() {
                    self.seen.arrives(self.routes.number()).await;
                }
            }
            Event::ControlDies => {
                self.ground.mesh.control.kill();
                self.control_is_up = false;
            }
            Event::ControlReturns => {
                self.ground.mesh.restart_control();
                self.routes.reconnect(&self.ground.mesh).await;
                self.control_is_up = true;
            }
            Event::Replace => self.replace().await,
        }
    }

    async fn join(&mut self) {
        let version = VERSIONS[self.rng.usize(0..VERSIONS.len())];
        if self.rng.bool() {
            self.alive.push(self.ground.add(version, &[]).await);
        } else {
            let instance = self.ground.start(version).await;
            let heartbeat = self.ground.register_with_lease(&instance, "30s");
            self.heartbeats.push((instance.name.clone(), heartbeat));
            self.alive.push(instance);
        }
        self.settle().await;
    }

    /// kill -9: nobody deregisters.
    fn stop_heartbeat(&mut self, name: &str) {
        self.heartbeats.retain(|(of, _)| of != name);
    }

    /// Waits until the proxy sends to those that are registered.
    async fn settle(&self) {
        self.ground.sends_to(self.alive.iter().chain(&self.dead)).await;
    }

    /// Another proxy takes over, with all that this one has.
    async fn replace(&mut self) {
        self.seen.arrives(self.routes.number()).await;
        self.proxies += 1;
        let kind = self.ground.plane.kind;
        let next = Plane::start(kind, &self.ground.mesh, &format!("next-{}", self.proxies));
        next.carries(Some(("x-state", &self.routes.number().to_string()))).await;
        let mut drained = std::mem::replace(&mut self.ground.plane, next);
        self.settle().await;
        self.load.move_to(self.ground.plane.outbound);
        drained.drain().await;
        self.load.has_left(drained.outbound).await;
        drained.ends().await;
    }
}

async fn anything_happens(kind: Kind) {
    if !kind.is_here() {
        return;
    }
    let given = std::env::var("HEDDLE_DRILL_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    say(&format!("HEDDLE_DRILL_SEED={seed} repeats what happens now with {kind:?}"));
    let mut drill = Drill::prepare(kind, seed).await;
    let mut story = Vec::new();
    for _ in 0..EVENTS {
        let event = loop {
            let event = ALL[drill.rng.usize(0..ALL.len())];
            if drill.possible(event) {
                break event;
            }
        };
        story.push(event);
        drill.happen(event).await;
        let answers = drill.rng.u64(10..100);
        drill.load.answered(answers).await;
    }
    if !drill.control_is_up {
        drill.happen(Event::ControlReturns).await;
    }
    drill.happen(Event::Bury).await;
    drill.seen.arrives(drill.routes.number()).await;
    say(&format!("with {kind:?} happened {story:?}"));
    let Drill { ground, load, .. } = drill;
    ground.plane.conclude(&format!("anything happens, seed {seed}"), load).await.holds();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anything_happens_under_load() {
    anything_happens(Kind::Heddle).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anything_happens_under_load_with_envoy() {
    anything_happens(Kind::Envoy).await;
}

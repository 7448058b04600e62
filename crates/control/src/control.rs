//! The control plane as others see it.

use std::sync::Arc;

use async_trait::async_trait;
use heddle_resource::Key;
use heddle_store::Store;
use heddle_xds::{Attached, NodeInfo, Outcome, ViewSource};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use crate::{
    compile::{Compiled, Compiler, Counters},
    feed,
    finding::Finding,
    push::{Ask, Convergence, Engine, NodeStatus, Public, PushMetrics, Quiet},
    status,
    world::{MeshConfig, World},
};

/// What a control plane needs to know.
#[derive(Clone, Default)]
pub struct ControlConfig {
    /// Where resources come from, in order of precedence.
    pub stores: Vec<Arc<dyn Store>>,
    pub mesh: MeshConfig,
    pub quiet: Quiet,
}

/// A running control plane. Ends when the last clone is dropped.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    asks: mpsc::Sender<Ask>,
    outcomes: mpsc::Sender<Outcome>,
    world: watch::Receiver<Arc<World>>,
    metrics: watch::Receiver<PushMetrics>,
    progress: watch::Receiver<u64>,
    ready: watch::Receiver<bool>,
    counters: Counters,
    /// Feeds and the engine: aborted with the control plane.
    _tasks: JoinSet<()>,
}

impl Control {
    /// Starts on the current tokio runtime.
    pub fn start(config: ControlConfig) -> Self {
        let world = World::new(config.mesh);
        let compiler = Compiler::default();
        let counters = compiler.counters();
        let (public_world, world_seen) = watch::channel(Arc::new(world.clone()));
        let (public_metrics, metrics) = watch::channel(PushMetrics::default());
        let (public_progress, progress) = watch::channel(0);
        let (public_ready, ready) = watch::channel(false);
        let public = Public {
            world: public_world,
            metrics: public_metrics,
            progress: public_progress,
            ready: public_ready,
        };
        let mut tasks = JoinSet::new();
        let (into, fed) = mpsc::channel(256);
        let missing = feed::start(&config.stores, &into, &mut tasks);
        let (asks, asked) = mpsc::channel(256);
        let (outcomes, heard) = mpsc::channel(4096);
        let engine = Engine::new(world, compiler, config.quiet, public, missing);
        tasks.spawn(engine.run(fed, asked, heard));
        let writer = status::Writer {
            stores: config.stores,
            worlds: world_seen.clone(),
            progress: progress.clone(),
            ready: ready.clone(),
            asks: asks.clone(),
        };
        tasks.spawn(writer.run());
        let inner =
            Inner { asks, outcomes, world: world_seen, metrics, progress, ready, counters, _tasks: tasks };
        Self { inner: Arc::new(inner) }
    }

    /// The world as it is now: everything that was read, whether published yet or not.
    pub fn world(&self) -> Arc<World> {
        self.inner.world.borrow().clone()
    }

    /// Tells of every new world.
    pub fn worlds(&self) -> watch::Receiver<Arc<World>> {
        self.inner.world.clone()
    }

    /// Whether every store has been read once; before that nobody is served.
    pub fn ready(&self) -> bool {
        *self.inner.ready.borrow()
    }

    /// Waits for that.
    pub async fn wait_ready(&self) {
        // The sender lives as long as the engine does.
        let _ = self.inner.ready.clone().wait_for(|ready| *ready).await;
    }

    /// Moves whenever something was published, answered or refused.
    pub fn progress(&self) -> watch::Receiver<u64> {
        self.inner.progress.clone()
    }

    /// How far the last change of an object has come; `None` while it has not been published (or when
    /// there never was such an object).
    pub async fn convergence(&self, key: &Key) -> Option<Convergence> {
        self.ask(|reply| Ask::Convergence { key: key.clone(), reply }).await.flatten()
    }

    /// Every open stream.
    pub async fn nodes(&self) -> Vec<NodeStatus> {
        self.ask(|reply| Ask::Nodes { reply }).await.unwrap_or_default()
    }

    /// What compilation for the connected proxies has to say about resources, and which of them are not
    /// in force.
    pub async fn findings(&self) -> Vec<Finding> {
        self.ask(|reply| Ask::Findings { reply }).await.unwrap_or_default()
    }

    /// What such a node gets.
    ///
    /// # Errors
    /// When its metadata cannot be understood.
    pub async fn compiled(&self, node: NodeInfo) -> Result<Compiled, String> {
        let node = Box::new(node);
        self.ask(|reply| Ask::Compiled { node, reply }).await.unwrap_or_else(|| Err(STOPPED.to_owned()))
    }

    /// Metrics in Prometheus' text format.
    pub fn metrics(&self) -> String {
        let world = self.world();
        self.inner.metrics.borrow().text(&world, &self.inner.counters)
    }

    /// How much was compiled and encoded.
    pub fn counters(&self) -> Counters {
        self.inner.counters.clone()
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.inner.asks.send(ask(reply)).await.ok()?;
        answer.await.ok()
    }
}

const STOPPED: &str = "the control plane has stopped";

#[async_trait]
impl ViewSource for Control {
    async fn attach(&self, node: NodeInfo) -> Result<Attached, String> {
        let node = Box::new(node);
        let seat =
            self.ask(|reply| Ask::Attach { node, reply }).await.unwrap_or_else(|| Err(STOPPED.to_owned()))?;
        let asks = self.inner.asks.clone();
        let stream = seat.stream;
        Ok(Attached::new(stream, seat.views, self.inner.outcomes.clone()).on_detach(move || {
            if let Err(mpsc::error::TrySendError::Full(ask)) = asks.try_send(Ask::Detach { stream }) {
                // The stream's own task ends here: the message finds its way beside it.
                if let Ok(runtime) = tokio::runtime::Handle::try_current() {
                    runtime.spawn(async move { drop(asks.send(ask).await) });
                }
            }
        }))
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Control")
    }
}

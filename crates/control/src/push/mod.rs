//! The one task that owns world, compiler and nodes: changes in, views out.

mod convergence;
mod metrics;
mod untimely;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use heddle_resource::Key;
use heddle_xds::{NodeInfo, Outcome, View};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::{debug, info, warn};

use convergence::Tracker;
pub use convergence::{Convergence, NodeStatus, Refused};
pub(crate) use metrics::PushMetrics;

use crate::{
    compile::{Compiled, Compiler},
    feed::Fed,
    finding::Finding,
    scope::Scope,
    world::{Dirty, World},
};

/// How long configuration is let settle before it is published. Endpoints are not.
#[derive(Clone, Copy, Debug)]
pub struct Quiet {
    /// Since the last change. Default 15 ms.
    pub after: Duration,
    /// Since the first one that waits. Default 100 ms.
    pub at_most: Duration,
}

impl Default for Quiet {
    fn default() -> Self {
        Self { after: Duration::from_millis(15), at_most: Duration::from_millis(100) }
    }
}

/// After how many generations a deletion is no longer asked for.
const FORGET_AFTER: u64 = 1024;

/// What the task is asked.
pub(crate) enum Ask {
    Attach { node: Box<NodeInfo>, reply: oneshot::Sender<Result<Seat, String>> },
    Detach { stream: u64 },
    Convergence { key: Key, reply: oneshot::Sender<Option<Convergence>> },
    Convergences { keys: Vec<Key>, reply: oneshot::Sender<Vec<(Key, Convergence)>> },
    Nodes { reply: oneshot::Sender<Vec<NodeStatus>> },
    Findings { reply: oneshot::Sender<Vec<Finding>> },
    Compiled { node: Box<NodeInfo>, reply: oneshot::Sender<Result<Compiled, String>> },
}

/// A stream's place.
pub(crate) struct Seat {
    pub(crate) stream: u64,
    pub(crate) views: watch::Receiver<Arc<View>>,
}

/// What others may look at while the task works.
#[derive(Clone, Debug)]
pub(crate) struct Public {
    pub(crate) world: watch::Sender<Arc<World>>,
    pub(crate) metrics: watch::Sender<PushMetrics>,
    /// Moves whenever something was published, answered or refused.
    pub(crate) progress: watch::Sender<u64>,
    /// Whether every store was read once.
    pub(crate) ready: watch::Sender<bool>,
}

struct Node {
    info: NodeInfo,
    scope: Scope,
    views: watch::Sender<Arc<View>>,
}

/// Changes that wait for quiet.
struct Waiting {
    dirty: Dirty,
    first: Instant,
    last: Instant,
}

pub(crate) struct Engine {
    world: Arc<World>,
    compiler: Compiler,
    nodes: HashMap<u64, Node>,
    /// Streams by scope.
    seats: HashMap<Scope, HashSet<u64>>,
    tracker: Tracker,
    metrics: PushMetrics,
    public: Public,
    quiet: Quiet,
    waiting: Option<Waiting>,
    /// First lists that are still missing; nobody is served before.
    missing: usize,
    /// Who came before that.
    early: Vec<Ask>,
    next_stream: u64,
}

impl Engine {
    pub(crate) fn new(
        world: World,
        compiler: Compiler,
        quiet: Quiet,
        public: Public,
        missing: usize,
    ) -> Self {
        Self {
            world: Arc::new(world),
            compiler,
            nodes: HashMap::new(),
            seats: HashMap::new(),
            tracker: Tracker::default(),
            metrics: PushMetrics::default(),
            public,
            quiet,
            waiting: None,
            missing,
            early: Vec::new(),
            next_stream: 1,
        }
    }

    /// Works until everybody who could ask or feed is gone.
    pub(crate) async fn run(
        mut self,
        mut fed: mpsc::Receiver<Fed>,
        mut asks: mpsc::Receiver<Ask>,
        mut outcomes: mpsc::Receiver<Outcome>,
    ) {
        if self.missing == 0 {
            self.begin();
        }
        let mut feeding = true;
        loop {
            let due = self.due();
            tokio::select! {
                biased;
                outcome = outcomes.recv() => match outcome {
                    Some(outcome) => self.heard(&outcome),
                    None => return,
                },
                message = fed.recv(), if feeding => match message {
                    Some(message) => {
                        self.take(message);
                        while let Ok(message) = fed.try_recv() {
                            self.take(message);
                        }
                        self.settle();
                    }
                    None => feeding = false,
                },
                ask = asks.recv() => match ask {
                    Some(ask) => self.answer(ask),
                    None => return,
                },
                () = wait_until(due) => self.publish(),
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let waiting = self.waiting.as_ref()?;
        Some((waiting.last + self.quiet.after).min(waiting.first + self.quiet.at_most))
    }

    /// Takes changes into the world; they wait to be published.
    fn take(&mut self, fed: Fed) {
        if !fed.changes.is_empty() {
            let now = Instant::now();
            let (world, dirty) = self.world.apply(&fed.changes);
            self.world = Arc::new(world);
            self.metrics.events += 1;
            match &mut self.waiting {
                Some(waiting) => {
                    waiting.dirty.merge(dirty);
                    waiting.last = now;
                }
                None if dirty.is_empty() => {}
                None => self.waiting = Some(Waiting { dirty, first: now, last: now }),
            }
            self.public.world.send_replace(self.world.clone());
        }
        if fed.listed {
            self.missing = self.missing.saturating_sub(1);
            if self.missing == 0 {
                self.begin();
            }
        }
    }

    /// Everything is read: whoever waits is served.
    fn begin(&mut self) {
        self.publish();
        self.public.ready.send_replace(true);
        info!(services = self.world.services().count(), "resources are read; serving");
        for ask in std::mem::take(&mut self.early) {
            self.answer(ask);
        }
    }

    /// Publishes at once what does not wait for quiet.
    fn settle(&mut self) {
        let at_once = self.waiting.as_ref().is_some_and(|waiting| waiting.dirty.endpoints_only());
        if at_once && self.missing == 0 {
            self.publish();
        }
    }

    /// Compiles what changed and gives it to whom it concerns.
    fn publish(&mut self) {
        if self.missing > 0 {
            if let Some(waiting) = &mut self.waiting {
                // Nobody is served yet.
                waiting.last = Instant::now() + self.quiet.at_most;
                waiting.first = waiting.last;
            }
            return;
        }
        let Some(waiting) = self.waiting.take() else { return };
        let changed = self.compiler.update(&self.world, &waiting.dirty);
        for scope in &changed {
            self.send(scope);
        }
        let mut touched = changed;
        if waiting.dirty.selectors || waiting.dirty.keys.iter().any(is_workload) {
            touched.extend(self.rescope());
        }
        let world = self.world.clone();
        let objects =
            waiting.dirty.keys.iter().map(|key| {
                (key.clone(), world.object(key).map(|object| object.meta.resource_version.clone()))
            });
        self.tracker.commit(objects, world.generation, touched, waiting.first);
        self.tracker.forget(|key, generation| {
            generation + FORGET_AFTER < world.generation && world.object(key).is_none()
        });
        self.show();
    }

    fn send(&mut self, scope: &Scope) {
        let Some(view) = self.compiler.view(scope) else { return };
        for stream in self.seats.get(scope).into_iter().flatten() {
            if let Some(node) = self.nodes.get(stream) {
                node.views.send_replace(view.clone());
                self.metrics.views += 1;
            }
        }
    }

    /// Finds the scope of every node again, and moves those that have another one now.
    fn rescope(&mut self) -> Vec<Scope> {
        let mut moves = Vec::new();
        for (stream, node) in &self.nodes {
            match self.world.scope(&node.info) {
                Ok(scope) if scope != node.scope => moves.push((*stream, scope)),
                Ok(_) => {}
                Err(error) => warn!(node = node.info.id, error, "the node keeps its scope"),
            }
        }
        let mut reached = Vec::new();
        for (stream, scope) in moves {
            self.compiler.attach(&self.world, &scope);
            self.leave(stream);
            self.seats.entry(scope.clone()).or_default().insert(stream);
            self.tracker.moved(stream, scope.clone());
            let view = self.compiler.view(&scope);
            if let (Some(node), Some(view)) = (self.nodes.get_mut(&stream), view) {
                node.scope = scope.clone();
                let mut view = (*view).clone();
                view.generation = self.world.generation;
                node.views.send_replace(Arc::new(view));
            }
            reached.push(scope);
        }
        reached
    }

    /// Frees a stream's seat in its scope, and the scope when it was the last.
    fn leave(&mut self, stream: u64) {
        let Some(scope) = self.nodes.get(&stream).map(|node| node.scope.clone()) else { return };
        let Some(seats) = self.seats.get_mut(&scope) else { return };
        seats.remove(&stream);
        if seats.is_empty() {
            self.seats.remove(&scope);
            self.compiler.detach(&scope);
        }
    }

    fn heard(&mut self, outcome: &Outcome) {
        if let heddle_xds::Event::Nacked { kind, refused, message, .. } = &outcome.event {
            let node = self.nodes.get(&outcome.stream).map_or("", |node| &node.info.id);
            let names: Vec<_> = refused.iter().map(|refusal| &*refusal.name).collect();
            warn!(node, %kind, ?names, message, "refused by the proxy; its last good version stays in force");
        }
        self.tracker.heard(outcome.stream, &outcome.event, Instant::now(), &mut self.metrics);
        self.show();
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            ask @ (Ask::Attach { .. } | Ask::Compiled { .. }) if self.missing > 0 => self.early.push(ask),
            Ask::Attach { node, reply } => {
                let seat = self.attach(*node);
                if let Err(Ok(seat)) = reply.send(seat) {
                    self.detach(seat.stream);
                }
            }
            Ask::Detach { stream } => self.detach(stream),
            // A receiver that went away needs no answer.
            Ask::Convergence { key, reply } => drop(reply.send(self.convergence(&key))),
            Ask::Convergences { keys, reply } => {
                let found = keys.into_iter().filter_map(|key| Some((key.clone(), self.convergence(&key)?)));
                drop(reply.send(found.collect()));
            }
            Ask::Nodes { reply } => drop(reply.send(self.nodes())),
            Ask::Findings { reply } => {
                let mut findings = self.compiler.findings();
                findings.extend(self.world.collisions());
                let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                let now = i64::try_from(now).unwrap_or(i64::MAX);
                findings.extend(untimely::findings(&self.world, &self.compiler.certificates(), now));
                drop(reply.send(findings.into_iter().collect()));
            }
            Ask::Compiled { node, reply } => {
                self.publish();
                let compiled = self.world.scope(&node).map(|scope| match self.compiler.compiled(&scope) {
                    Some(compiled) => compiled,
                    None => crate::compile::compile(&self.world, &scope),
                });
                drop(reply.send(compiled));
            }
        }
    }

    fn attach(&mut self, info: NodeInfo) -> Result<Seat, String> {
        self.publish();
        let scope = self.world.scope(&info)?;
        self.compiler.attach(&self.world, &scope);
        let view = self.compiler.view(&scope).ok_or("no view was compiled")?;
        let stream = self.next_stream;
        self.next_stream += 1;
        debug!(stream, node = info.id, ?scope, "attached");
        let (views, receiver) = watch::channel(view);
        self.seats.entry(scope.clone()).or_default().insert(stream);
        self.tracker.attach(stream, info.id.clone(), scope.clone(), self.world.generation);
        self.nodes.insert(stream, Node { info, scope, views });
        self.show();
        Ok(Seat { stream, views: receiver })
    }

    fn detach(&mut self, stream: u64) {
        self.leave(stream);
        self.nodes.remove(&stream);
        self.tracker.detach(stream);
        self.show();
    }

    /// What waits for quiet has not been published: it counts as not begun.
    fn convergence(&mut self, key: &Key) -> Option<Convergence> {
        if self.waiting.as_ref().is_some_and(|waiting| waiting.dirty.keys.contains(key)) {
            return None;
        }
        self.tracker.of(key)
    }

    /// Every open stream, with the generation of what it is to have.
    fn nodes(&self) -> Vec<NodeStatus> {
        let mut nodes = self.tracker.nodes();
        for node in &mut nodes {
            if let Some(own) = self.nodes.get(&node.stream) {
                node.wanted = own.views.borrow().generation;
            }
        }
        nodes
    }

    /// Lets others see how things stand.
    fn show(&mut self) {
        self.metrics.streams = self.nodes.len();
        self.metrics.scopes = self.seats.len();
        self.metrics.units = self.compiler.kept();
        self.public.metrics.send_replace(self.metrics.clone());
        self.public.progress.send_modify(|count| *count += 1);
    }
}

fn is_workload(key: &Key) -> bool {
    matches!(key.kind.kind, "WorkloadEntry" | "Pod")
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

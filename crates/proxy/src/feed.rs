//! From xDS to the workers: apply, subscribe to what is referred to, publish, acknowledge.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use heddle_runtime::{Gate, Workers};
use heddle_xds::{ClientHandle, Encoded, Reply, ResourceType, Update};
use tokio::sync::{mpsc, oneshot};

use crate::disk::Disk;
use crate::resolve::Resolver;
use crate::snapshot::disk::{Kept, encode, encode_public};
use crate::snapshot::{Snapshot, SnapshotBuilder, WantChange};
use crate::sockets::Sockets;
use crate::worker::Published;
use crate::worker::run::Message;

/// How long the workers have to take up a generation before it is acknowledged without them.
const TAKE_UP: Duration = Duration::from_secs(1);
/// How long after its first configuration a proxy is done with starting up.
const STARTED: Duration = Duration::from_secs(1);

/// How soon an address that could not be listened on is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);

/// An answer that is owed, with the refusals it will carry.
type Owed = (Reply, BTreeMap<Arc<str>, String>);

/// What the admin server shows of the configuration.
#[derive(Debug, Default)]
pub(crate) struct Dump {
    /// Accepted resources: type, name, version, message.
    pub(crate) resources: Vec<(ResourceType, String, String, Vec<u8>)>,
    /// Resources that wait for others: what for.
    pub(crate) waiting: Vec<String>,
    /// All of it as `heddle explain` reads it.
    pub(crate) file: Vec<u8>,
}

/// What may be asked of it.
#[derive(Debug)]
pub(crate) enum Ask {
    /// For the admin server: nothing of secrets but what anybody may see.
    Dump(oneshot::Sender<Dump>),
    /// For a successor: the file with everything in force, secrets included.
    Configuration(oneshot::Sender<Vec<u8>>),
}

/// The management side's view of configuration.
pub(crate) struct Feed {
    pub(crate) builder: SnapshotBuilder,
    pub(crate) published: Arc<Published>,
    pub(crate) workers: Arc<Workers<Message>>,
    pub(crate) sockets: Arc<Mutex<Sockets>>,
    pub(crate) asks: mpsc::Receiver<Ask>,
    pub(crate) disk: Option<Disk>,
    pub(crate) configured: Gate,
    /// Open once there are names.
    pub(crate) named: Option<Gate>,
    pub(crate) names: Option<mpsc::UnboundedSender<bytes::Bytes>>,
    pub(crate) resolver: Resolver,
    pub(crate) owed: Vec<Owed>,
    /// Listeners that were refused because their addresses could not be opened.
    pub(crate) unopened: BTreeSet<Arc<str>>,
}

impl Feed {
    /// Runs until the client ends.
    pub(crate) async fn run(mut self, client: ClientHandle, mut updates: mpsc::Receiver<Update>) {
        client.subscribe_all(ResourceType::Cluster);
        client.subscribe_all(ResourceType::Listener);
        client.subscribe_all(ResourceType::NameTable);
        self.subscribe(&client);
        self.publish().await;
        loop {
            let deadline = self.builder.deadline().map(tokio::time::Instant::from_std);
            let again = self.listens_again().then(|| tokio::time::Instant::now() + LISTEN_AGAIN);
            tokio::select! {
                update = updates.recv() => match update {
                    Some(update) => self.apply(update),
                    None => return,
                },
                Some(ask) = self.asks.recv() => {
                    match ask {
                        Ask::Dump(reply) => drop(reply.send(self.dump())),
                        Ask::Configuration(reply) => drop(reply.send(encode(&self.builder))),
                    }
                    continue;
                }
                Some((cluster, set)) = self.resolver.next() => self.builder.set_resolved(&cluster, set),
                () = until(deadline) => {}
                () = until(again) => self.listen_again(),
            }
            self.subscribe(&client);
            self.publish().await;
            self.opened(&client);
        }
    }

    fn apply(&mut self, update: Update) {
        let kind = update.kind;
        let mut refused = BTreeMap::new();
        if kind == ResourceType::NameTable {
            for resource in &update.added {
                if let Some(names) = &self.names {
                    let _ = names.send(resource.body.clone());
                }
                if let Some(named) = &self.named {
                    named.open();
                }
            }
        }
        for resource in update.added {
            if kind != ResourceType::NameTable
                && let Err(nack) = self.builder.apply_shared(kind, &resource.name, resource.body)
            {
                tracing::warn!(%kind, name = %resource.name, reason = %nack.reason, "configuration refused; the previous version stays in force");
                refused.insert(resource.name, nack.reason);
                continue;
            }
            if kind == ResourceType::Listener
                && let Some(reason) = self.cannot_open(&resource.name)
            {
                self.unopened.insert(resource.name.clone());
                refused.insert(resource.name, reason);
            }
        }
        for name in &update.removed {
            if kind == ResourceType::Listener {
                self.unopened.remove(name);
            }
            self.builder.remove(kind, name);
        }
        if kind == ResourceType::Cluster {
            let clusters: Vec<_> =
                self.builder.dns_clusters().map(|(name, cluster)| (name.clone(), cluster.clone())).collect();
            self.resolver.follow(&clusters);
        }
        self.owed.push((update.reply, refused));
    }

    fn dump(&self) -> Dump {
        let resources = self.builder.resources().map(|(kind, name, raw)| {
            let encoded = Encoded::from_bytes(kind, name.as_str(), raw.body.clone());
            (kind, name.to_string(), encoded.version.to_string(), raw.body.to_vec())
        });
        let mut resources: Vec<_> = resources.collect();
        resources.sort();
        let waiting =
            self.builder.waiting().map(|(kind, name, what)| format!("{kind} {name} waits for {what}"));
        Dump {
            resources,
            waiting: waiting.chain(self.builder.unserved()).collect(),
            file: encode_public(&self.builder),
        }
    }

    /// Subscribes to the endpoint sets and route configurations that are referred to, and to no others.
    fn subscribe(&mut self, client: &ClientHandle) {
        for change in self.builder.take_want_changes() {
            let WantChange { kind, name, wanted } = change;
            if wanted {
                client.subscribe(kind, [name.text().clone()]);
            } else {
                client.unsubscribe(kind, [name.as_str()]);
                self.builder.remove(kind, name.as_str());
            }
        }
    }

    /// Puts the next generation in force if there is one, and acknowledges.
    async fn publish(&mut self) {
        if let Some(snapshot) = self.builder.publish(Instant::now()) {
            self.put_in_force(&snapshot).await;
            self.published.overload.freed();
            if let Some(disk) = &mut self.disk {
                disk.save(Kept::of(&self.builder));
            }
        }
        // Not with a part of the first listeners: what is meant for the others would be taken for unknown.
        let whole = self.builder.waiting().next().is_none() && !self.builder.current().listeners.is_empty();
        if whole && !self.configured.is_open() {
            self.configured.open();
            tokio::spawn(async {
                // What follows the first configuration (its copy on disk, the answers to the control plane) is starting up, too.
                tokio::time::sleep(STARTED).await;
                heddle_runtime::give_back_startup_pages();
            });
        }
        for (reply, refused) in self.owed.drain(..) {
            if refused.is_empty() {
                reply.ack();
            } else {
                reply.nack(refused);
            }
        }
    }

    /// Why a listener that was accepted cannot listen. It may wait for others for a while, but its author hears of
    /// it now.
    fn cannot_open(&self, name: &str) -> Option<String> {
        let listener = self.builder.listener(name)?;
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).obstacle(listener)
    }

    fn listens_again(&self) -> bool {
        !self.sockets.lock().unwrap_or_else(PoisonError::into_inner).failed.is_empty()
    }

    /// Tries the addresses that could not be opened once more.
    fn listen_again(&self) {
        let snapshot = self.published.load();
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).follow(&snapshot, &self.workers);
    }

    /// Asks the server for the listeners again when one came up of which it last heard a refusal.
    fn opened(&mut self, client: &ClientHandle) {
        let before = self.unopened.len();
        if before > 0 {
            let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
            let open: Vec<&Arc<str>> = sockets.serving().map(|(_, name)| name.text()).collect();
            let failed =
                |name: &Arc<str>| sockets.failed.values().any(|failed| failed.listener.text() == name);
            self.unopened.retain(|name| failed(name) || !open.contains(&name));
        }
        if self.unopened.len() < before {
            client.unsubscribe(ResourceType::Listener, ["*"]);
            client.subscribe_all(ResourceType::Listener);
        }
    }

    async fn put_in_force(&mut self, snapshot: &Arc<Snapshot>) {
        self.published.publish(snapshot.clone());
        let mut running = Vec::with_capacity(self.workers.len());
        self.workers.tell_all(|_| {
            let (done, taken_up) = oneshot::channel();
            running.push(taken_up);
            Message::Changed(done)
        });
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).follow(snapshot, &self.workers);
        let all = async {
            for taken_up in running {
                let _ = taken_up.await;
            }
        };
        let _ = tokio::time::timeout(TAKE_UP, all).await;
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::*;

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoint;

/// A source whose one view every stream sees.
struct Source {
    views: watch::Sender<Arc<View>>,
    outcomes: mpsc::Sender<Outcome>,
    next: AtomicU64,
    attached: Arc<AtomicU64>,
    wants: Option<mpsc::Sender<Want>>,
}

impl Source {
    fn new(view: View) -> (Arc<Self>, mpsc::Receiver<Outcome>) {
        let (outcomes, received) = mpsc::channel(1024);
        let (views, _) = watch::channel(Arc::new(view));
        let (next, attached) = Default::default();
        (Arc::new(Self { views, outcomes, next, attached, wants: None }), received)
    }

    fn publish(&self, edit: impl FnOnce(&mut View)) {
        self.views.send_modify(|view| {
            let mut next = View::clone(view);
            next.generation += 1;
            edit(&mut next);
            *view = Arc::new(next);
        });
    }
}

#[async_trait]
impl ViewSource for Source {
    async fn attach(&self, node: NodeInfo) -> Result<Attached, String> {
        if node.id == "stranger" {
            return Err("unknown node stranger; give it a namespace".to_owned());
        }
        self.attached.fetch_add(1, Relaxed);
        let attached = self.attached.clone();
        let id = self.next.fetch_add(1, Relaxed);
        let made = Attached::new(id, self.views.subscribe(), self.outcomes.clone()).on_detach(move || {
            attached.fetch_sub(1, Relaxed);
        });
        Ok(match &self.wants {
            Some(wants) => made.with_wants(wants.clone()),
            None => made,
        })
    }
}

fn resource(kind: ResourceType, name: &str, content: u64) -> Arc<Encoded> {
    Encoded::from_bytes(kind, name, Bytes::from(content.to_string().into_bytes()))
}

fn node(id: &str) -> Node {
    Node { id: id.to_owned(), user_agent_name: "heddle".to_owned(), ..Default::default() }
}

/// A server that can be killed and started again on the same port.
struct Running {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    metrics: Arc<Metrics>,
}

impl Running {
    async fn start(source: Arc<Source>, port: u16) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(([127, 0, 0, 1], port).into()).unwrap();
        let listener: TcpListener = socket.listen(64).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Server::new(source, ServerConfig::default());
        let metrics = server.metrics();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            server.serve(listener, stopped).await.unwrap();
        });
        Self { port, stop: Some(stop), task, metrics }
    }

    fn client(&self, id: &str) -> (ClientHandle, mpsc::Receiver<Update>) {
        let config = ClientConfig {
            backoff_base: Duration::from_millis(5),
            backoff_max: Duration::from_millis(20),
            ..ClientConfig::new(format!("http://127.0.0.1:{}", self.port), node(id))
        };
        Client::connect(config)
    }

    async fn stop(mut self) -> u16 {
        drop(self.stop.take());
        self.task.await.unwrap();
        self.port
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("took too long: {what}"),
    }
}

/// Applies and accepts updates until the condition holds.
async fn until(
    updates: &mut mpsc::Receiver<Update>,
    state: &mut HashMap<(ResourceType, String), String>,
    done: impl Fn(&HashMap<(ResourceType, String), String>) -> bool,
) {
    while !done(state) {
        let update = within("an update", updates.recv()).await.expect("the client runs");
        for added in update.added {
            let content = String::from_utf8(added.body.to_vec()).unwrap();
            state.insert((update.kind, added.name.to_string()), content);
        }
        for removed in update.removed {
            state.remove(&(update.kind, removed.to_string()));
        }
        update.reply.ack();
    }
}

fn view(clusters: u64) -> View {
    (0..clusters).map(|i| resource(CDS, &format!("c{i}"), i)).collect()
}

#[tokio::test]
async fn changes_arrive_and_answers_come_back() {
    let (source, mut outcomes) = Source::new(view(3));
    let server = Running::start(source.clone(), 0).await;
    let (handle, mut updates) = server.client("a");
    handle.subscribe_all(CDS);
    let mut state = HashMap::new();
    until(&mut updates, &mut state, |s| s.len() == 3).await;
    source.publish(|view| {
        view.insert(resource(CDS, "c1", 100));
        view.remove(CDS, "c2");
    });
    until(&mut updates, &mut state, |s| s.len() == 2).await;
    assert_eq!(state[&(CDS, "c1".to_owned())], "100");
    within("synced", async {
        while outcomes.recv().await.unwrap().event != (Event::Synced { generation: 1 }) {}
    })
    .await;
    // One name of two is refused; the control plane learns which and why.
    source.publish(|view| {
        view.insert(resource(CDS, "good", 1));
        view.insert(resource(CDS, "bad", 1));
    });
    let update = within("update", updates.recv()).await.unwrap();
    update.reply.nack(BTreeMap::from([(Arc::from("bad"), "no such balancer".to_owned())]));
    let nacked = within("nack", async {
        loop {
            if let Event::Nacked { refused, accepted, .. } = outcomes.recv().await.unwrap().event {
                return (refused, accepted);
            }
        }
    })
    .await;
    assert_eq!((&*nacked.0[0].name, &*nacked.0[0].reason), ("bad", "no such balancer"));
    assert_eq!((nacked.0.len(), &*nacked.1[0].0), (1, "good"));
    assert_eq!(server.metrics.of(CDS).rejects.load(Relaxed), 1);
    assert_eq!(server.metrics.of(CDS).resources.load(Relaxed), 3 + 1 + 2, "only what changed is sent");
    drop((handle, updates));
    let streams = server.metrics.clone();
    within("detach", async {
        while streams.streams() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(source.attached.load(Relaxed), 0);
}

#[tokio::test]
async fn a_reconnect_brings_what_changed_and_nothing_else() {
    let (source, _outcomes) = Source::new(view(50));
    let server = Running::start(source.clone(), 0).await;
    let (handle, mut updates) = server.client("a");
    handle.subscribe_all(CDS);
    handle.subscribe(EDS, ["nothing"]);
    let mut state = HashMap::new();
    until(&mut updates, &mut state, |s| s.len() == 50).await;
    let update = within("the absent name is answered", updates.recv()).await.unwrap();
    assert_eq!((update.kind, &*update.removed), (EDS, &[Arc::from("nothing")][..]));
    update.reply.ack();
    // The verdicts above have to be in the client's book before it reconnects.
    until_counted(&server.metrics.of(EDS).acks, 1).await;
    let port = server.stop().await;
    let mut status = handle.status();
    within("notices", status.wait_for(|status| !status.connected)).await.unwrap();
    source.publish(|view| {
        view.insert(resource(CDS, "c7", 700));
        view.remove(CDS, "c8");
    });
    let server = Running::start(source.clone(), port).await;
    until(&mut updates, &mut state, |s| s.get(&(CDS, "c7".to_owned())).is_some_and(|v| v == "700")).await;
    until_counted(&server.metrics.of(CDS).acks, 1).await;
    assert_eq!(server.metrics.of(CDS).resources.load(Relaxed), 1, "the 48 others were presented");
    assert!(status.borrow_and_update().connects == 2);
}

async fn until_counted(counter: &AtomicU64, least: u64) {
    within("a counter", async {
        while counter.load(Relaxed) < least {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_was_given_up_and_wanted_again_is_sent_again() {
    let (source, _outcomes) = Source::new([resource(EDS, "x", 1)].into_iter().collect());
    let server = Running::start(source.clone(), 0).await;
    let (handle, mut updates) = server.client("a");
    for _ in 0..5 {
        handle.subscribe(EDS, ["x"]);
        let mut state = HashMap::new();
        until(&mut updates, &mut state, |s| s.len() == 1).await;
        handle.unsubscribe(EDS, ["x"]);
    }
}

#[tokio::test]
async fn names_are_compiled_when_asked_for() {
    let (wants, mut wanted) = mpsc::channel(4);
    let (outcomes, _received) = mpsc::channel(64);
    let (views, _) = watch::channel(Arc::new(View::default()));
    let (next, attached) = Default::default();
    let source = Arc::new(Source { views, outcomes, next, attached, wants: Some(wants) });
    let server = Running::start(source.clone(), 0).await;
    let (handle, mut updates) = server.client("a");
    handle.subscribe(EDS, ["there", "not there"]);
    let want = within("want", wanted.recv()).await.unwrap();
    assert_eq!(want.names.len(), 2);
    source.publish(|view| {
        view.insert(resource(EDS, "there", 1));
    });
    want.done.send(()).unwrap();
    let mut state = HashMap::new();
    let mut removed = Vec::new();
    while state.is_empty() || removed.is_empty() {
        let update = within("update", updates.recv()).await.unwrap();
        state.extend(update.added.into_iter().map(|r| (r.name.to_string(), r.version)));
        removed.extend(update.removed);
        update.reply.ack();
    }
    assert_eq!((state.len(), &*removed), (1, &[Arc::from("not there")][..]));
}

#[tokio::test]
async fn a_refused_node_and_a_dead_server_are_shown_and_tried_again() {
    let (source, _outcomes) = Source::new(view(1));
    let server = Running::start(source, 0).await;
    let (handle, _updates) = server.client("stranger");
    handle.subscribe_all(CDS);
    let mut status = handle.status();
    let refused = within("refusal", status.wait_for(|s| s.failures > 1)).await.unwrap().clone();
    assert!(refused.last_error.unwrap().contains("give it a namespace"));
    server.stop().await;
    let dead =
        within("death", status.wait_for(|s| s.last_error.as_ref().is_some_and(|e| e.contains("refused"))));
    assert!(!dead.await.unwrap().connected);
}

#[tokio::test]
async fn rubbish_is_survived() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (done, mut gone) = oneshot::channel::<()>();
    let rubbish = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let mut bytes = vec![0u8; 4096];
                    fastrand::fill(&mut bytes);
                    let _ = accepted.unwrap().0.write_all(&bytes).await;
                }
                _ = &mut gone => return,
            }
        }
    });
    let config = ClientConfig {
        backoff_base: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        ..ClientConfig::new(format!("http://127.0.0.1:{port}"), node("a"))
    };
    let (handle, mut updates) = Client::connect(config);
    handle.subscribe_all(CDS);
    let mut status = handle.status();
    within("failures", status.wait_for(|s| s.failures >= 5)).await.unwrap();
    drop(done);
    rubbish.await.unwrap();
    let (source, _outcomes) = Source::new(view(2));
    let _server = Running::start(source, port).await;
    until(&mut updates, &mut HashMap::new(), |s| s.len() == 2).await;
    assert_eq!(status.borrow_and_update().failures, 0);
}

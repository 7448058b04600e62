use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::rpc::Status;
use proptest::prelude::*;
use prost::Message;

use super::Session;
use crate::*;

const CDS: ResourceType = ResourceType::Cluster;
const EDS: ResourceType = ResourceType::Endpoint;
const LDS: ResourceType = ResourceType::Listener;
const RDS: ResourceType = ResourceType::Route;

fn resource(kind: ResourceType, name: &str, content: &str) -> Arc<Encoded> {
    Encoded::from_bytes(kind, name, Bytes::from(content.to_owned()))
}

fn text(resource: &Encoded) -> &str {
    std::str::from_utf8(&resource.body).unwrap()
}

/// A client that behaves as Envoy does: asks for the endpoint sets of its clusters and the routes of
/// its listeners, warms a changed cluster until an endpoint set arrives after it, and refuses
/// what begins with "bad".
struct Client {
    variant: Variant,
    session: Session,
    now: Instant,
    started: bool,
    state: BTreeMap<(ResourceType, String), Arc<Encoded>>,
    /// Clusters that can carry traffic.
    warm: BTreeSet<String>,
    warming: BTreeSet<String>,
    watched: HashMap<ResourceType, BTreeSet<String>>,
    inbox: VecDeque<Response>,
    last: HashMap<ResourceType, (String, String)>,
    received: usize,
}

impl Client {
    fn new(variant: Variant, kind: ClientKind, view: Arc<View>) -> Self {
        let now = Instant::now();
        Self {
            variant,
            session: Session::new(SessionConfig::new(kind), variant, view, now),
            now,
            started: false,
            state: BTreeMap::new(),
            warm: BTreeSet::new(),
            warming: BTreeSet::new(),
            watched: HashMap::new(),
            inbox: VecDeque::new(),
            last: HashMap::new(),
            received: 0,
        }
    }

    fn request(
        &mut self,
        kind: ResourceType,
        add: &[&str],
        drop: &[&str],
        answer: Option<(&str, Option<String>)>,
    ) {
        let watched = self.watched.entry(kind).or_default();
        watched.extend(add.iter().map(|name| name.to_string()));
        watched.retain(|name| !drop.contains(&&**name));
        let strings = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        let error_detail = answer
            .as_ref()
            .and_then(|(_, error)| error.clone())
            .map(|message| Status { message, ..Default::default() });
        match self.variant {
            Variant::Delta => self.delta(DeltaDiscoveryRequest {
                type_url: kind.url().into(),
                resource_names_subscribe: strings(add),
                resource_names_unsubscribe: strings(drop),
                response_nonce: answer.map(|(nonce, _)| nonce.to_owned()).unwrap_or_default(),
                error_detail,
                ..Default::default()
            }),
            Variant::StateOfTheWorld => {
                let (version_info, response_nonce) = self.last.get(&kind).cloned().unwrap_or_default();
                let resource_names = watched.iter().cloned().collect();
                self.sotw(DiscoveryRequest {
                    type_url: kind.url().into(),
                    version_info,
                    response_nonce,
                    resource_names,
                    error_detail,
                    ..Default::default()
                });
            }
        }
    }

    fn delta(&mut self, request: DeltaDiscoveryRequest) {
        let fresh =
            Session::new(SessionConfig::new(ClientKind::Envoy), self.variant, Arc::default(), self.now);
        let mut session = DeltaSession(std::mem::replace(&mut self.session, fresh));
        session.on_request(request);
        self.session = session.0;
    }

    fn sotw(&mut self, request: DiscoveryRequest) {
        let fresh =
            Session::new(SessionConfig::new(ClientKind::Envoy), self.variant, Arc::default(), self.now);
        let mut session = SotwSession(std::mem::replace(&mut self.session, fresh));
        session.on_request(request);
        self.session = session.0;
    }

    /// The server sends one response, if it has one.
    fn server_sends(&mut self) -> bool {
        match self.session.poll_send() {
            Some(response) => {
                self.inbox.push_back(response);
                self.received += 1;
                true
            }
            None => false,
        }
    }

    /// The client takes one response in; the names that it refuses keep what they had.
    fn process(&mut self) -> bool {
        let Some(response) = self.inbox.pop_front() else {
            return false;
        };
        let kind = response.kind.unwrap();
        let bad: Vec<&Arc<Encoded>> =
            response.resources.iter().filter(|r| r.body.starts_with(b"bad")).collect();
        let error = bad.iter().map(|r| format!("{}: refused", r.name)).collect::<Vec<_>>().join("\n");
        let error = (!bad.is_empty()).then_some(error);
        let mut removed: Vec<String> = response.removed.iter().map(|name| name.to_string()).collect();
        if self.variant == Variant::StateOfTheWorld && (kind == CDS || kind == LDS) {
            let listed: BTreeSet<&str> = response.resources.iter().map(|r| &*r.name).collect();
            let mine = self.state.keys().filter(|(k, name)| *k == kind && !listed.contains(&**name));
            removed.extend(mine.map(|(_, name)| name.clone()));
        }
        let mut changed = Vec::new();
        for put in response.resources.iter().filter(|r| !r.body.starts_with(b"bad")) {
            let key = (kind, put.name.to_string());
            let watched = &self.watched[&kind];
            if !watched.contains("*") && !watched.contains(&*put.name) {
                continue; // given up meanwhile
            }
            if is_empty_assignment(put) {
                self.state.remove(&key);
                self.warmed(&put.name);
            } else if self.state.insert(key, put.clone()).is_none_or(|old| old.version != put.version) {
                changed.push(put.name.to_string());
            }
            if kind == EDS {
                self.warmed(&put.name);
            }
        }
        for name in &removed {
            self.state.remove(&(kind, name.clone()));
            if kind == EDS {
                self.warmed(name);
            }
        }
        let known = self.last.get(&kind).map(|(version, _)| version.clone()).unwrap_or_default();
        let version = if error.is_none() { response.version.clone() } else { known };
        self.last.insert(kind, (version, response.nonce.clone()));
        self.follow(kind, &changed, &removed);
        self.request(kind, &[], &[], Some((&response.nonce, error)));
        if !self.started && self.warming.is_empty() && self.last.contains_key(&CDS) {
            self.started = true;
            self.request(LDS, &["*"], &[], None);
        }
        true
    }

    fn warmed(&mut self, name: &str) {
        if self.warming.remove(name) {
            self.warm.insert(name.to_owned());
        }
    }

    /// Clusters lead to endpoint sets, listeners to routes.
    fn follow(&mut self, kind: ResourceType, changed: &[String], removed: &[String]) {
        if kind == CDS {
            self.warming.extend(changed.iter().cloned());
            for name in removed {
                self.warming.remove(name);
                self.warm.remove(name);
            }
            let watched = self.watched.entry(EDS).or_default().clone();
            let new: Vec<&str> = changed.iter().map(|n| &**n).filter(|n| !watched.contains(*n)).collect();
            let gone: Vec<&str> = removed.iter().map(|n| &**n).filter(|n| watched.contains(*n)).collect();
            for name in &gone {
                self.state.remove(&(EDS, name.to_string()));
            }
            let again = self.variant == Variant::StateOfTheWorld && !changed.is_empty();
            if !new.is_empty() || !gone.is_empty() || again {
                self.request(EDS, &new, &gone, None);
            }
        }
        if kind == LDS {
            let listeners = self.state.iter().filter(|((kind, _), _)| *kind == LDS);
            let wanted: BTreeSet<String> =
                listeners.flat_map(|(_, r)| text(r).split(' ').skip(1).map(str::to_owned)).collect();
            let watched = self.watched.entry(RDS).or_default().clone();
            let new: Vec<&str> = wanted.difference(&watched).map(|n| &**n).collect();
            let gone: Vec<&str> = watched.difference(&wanted).map(|n| &**n).collect();
            for name in &gone {
                self.state.remove(&(RDS, name.to_string()));
            }
            if !new.is_empty() || !gone.is_empty() {
                self.request(RDS, &new, &gone, None);
            }
        }
    }

    /// A new stream: everything is asked for anew, in the order of the types.
    fn reconnect(&mut self, view: Arc<View>) {
        let kind = self.session.config.client;
        self.session = Session::new(SessionConfig::new(kind), self.variant, view, self.now);
        self.inbox.clear();
        for kind in [CDS, EDS, LDS, RDS] {
            let Some(watched) = self.watched.get(&kind).cloned() else {
                continue;
            };
            if let Some((_, nonce)) = self.last.get_mut(&kind) {
                nonce.clear();
            }
            if watched.is_empty() {
                continue;
            }
            match self.variant {
                Variant::Delta => {
                    let mine = self.state.iter().filter(|((k, _), _)| *k == kind);
                    let request = DeltaDiscoveryRequest {
                        type_url: kind.url().into(),
                        resource_names_subscribe: watched.into_iter().collect(),
                        initial_resource_versions: mine
                            .map(|((_, name), r)| (name.clone(), r.version.to_string()))
                            .collect(),
                        ..Default::default()
                    };
                    self.delta(request);
                }
                Variant::StateOfTheWorld => self.request(kind, &[], &[], None),
            }
        }
        self.warming.clear();
        self.warm = self.names(CDS);
    }

    fn names(&self, kind: ResourceType) -> BTreeSet<String> {
        self.state.keys().filter(|(k, _)| *k == kind).map(|(_, name)| name.clone()).collect()
    }

    /// Until neither side has anything to say.
    fn settle(&mut self) {
        for _ in 0..1000 {
            if !self.server_sends() && !self.process() {
                return;
            }
        }
        panic!("the two sides never come to rest");
    }

    fn tick(&mut self, by: Duration) {
        self.now += by;
        self.session.on_tick(self.now);
    }

    /// Nothing that carries traffic leads to what is not there.
    fn assert_intact(&self) {
        for ((kind, name), route) in &self.state {
            if *kind == RDS {
                for cluster in text(route).split(' ').skip(1) {
                    let there =
                        self.warm.contains(cluster) && self.state.contains_key(&(CDS, cluster.into()));
                    assert!(there, "route {name} leads to {cluster}, which is not ready");
                    let endpoints = self.state.contains_key(&(EDS, cluster.into()));
                    assert!(endpoints, "cluster {cluster} has no endpoint set");
                }
            }
        }
    }

    /// The client has what the view holds of what it watches; refused versions excepted.
    fn assert_equal(&self, view: &View) {
        for kind in [CDS, EDS, LDS, RDS] {
            let none = BTreeSet::new();
            let watched = self.watched.get(&kind).unwrap_or(&none);
            let covers = |name: &str| watched.contains("*") || watched.contains(name);
            for resource in view.iter(kind).filter(|r| covers(&r.name)) {
                let mine = self.state.get(&(kind, resource.name.to_string()));
                if resource.body.starts_with(b"bad") {
                    assert!(mine.is_none_or(|r| !r.body.starts_with(b"bad")));
                } else {
                    let version = mine.map(|r| &r.version);
                    assert_eq!(version, Some(&resource.version), "{kind} {}", resource.name);
                }
            }
            for name in self.names(kind) {
                assert!(view.get(kind, &name).is_some(), "{kind} {name} should be gone");
            }
        }
    }
}

fn is_empty_assignment(resource: &Encoded) -> bool {
    let empty = ClusterLoadAssignment { cluster_name: resource.name.to_string(), ..Default::default() };
    resource.kind == EDS && resource.body == empty.encode_to_vec()
}

/// The configuration that the test changes; always consistent in itself.
#[derive(Default)]
struct World {
    generation: u64,
    clusters: BTreeMap<u8, u8>,
    endpoints: BTreeMap<u8, u8>,
    /// Clusters that each route leads to.
    routes: BTreeMap<u8, BTreeSet<u8>>,
    listener: BTreeSet<u8>,
    bad: BTreeSet<(ResourceType, String)>,
}

impl World {
    fn view(&mut self) -> Arc<View> {
        self.generation += 1;
        let mut view = View::new(self.generation);
        let mut put = |kind: ResourceType, name: String, content: String| {
            let bad = if self.bad.contains(&(kind, name.clone())) { "bad" } else { "" };
            view.insert(resource(kind, &name, &format!("{bad}{content}")));
        };
        for (c, content) in &self.clusters {
            put(CDS, format!("c{c}"), format!("cluster {content}"));
            let endpoints = self.endpoints.get(c).unwrap_or(&0);
            put(EDS, format!("c{c}"), format!("endpoints {endpoints}"));
        }
        let list = |prefix: &str, items: &BTreeSet<u8>| -> String {
            items.iter().map(|i| format!(" {prefix}{i}")).collect()
        };
        for (r, clusters) in &self.routes {
            put(RDS, format!("r{r}"), format!("route{}", list("c", clusters)));
        }
        put(LDS, "l".to_owned(), format!("listener{}", list("r", &self.listener)));
        Arc::new(view)
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Cluster(c, content) => {
                self.clusters.insert(c, content);
            }
            Op::DropCluster(c) => {
                self.clusters.remove(&c);
                self.routes.values_mut().for_each(|clusters| {
                    clusters.remove(&c);
                });
            }
            Op::Endpoints(c, content) => {
                self.endpoints.insert(c, content);
            }
            Op::Route(r, mask) => {
                let clusters = self.clusters.keys().filter(|c| mask & (1 << **c) != 0).copied().collect();
                self.routes.insert(r, clusters);
                self.listener.insert(r);
            }
            Op::DropRoute(r) => {
                self.routes.remove(&r);
                self.listener.remove(&r);
            }
            Op::Bad(kind, i) => {
                let (kind, prefix) = [(CDS, "c"), (EDS, "c"), (RDS, "r")][kind as usize % 3];
                let name = format!("{prefix}{i}");
                if !self.bad.remove(&(kind, name.clone())) {
                    self.bad.insert((kind, name));
                }
            }
            _ => {}
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Cluster(u8, u8),
    DropCluster(u8),
    Endpoints(u8, u8),
    Route(u8, u8),
    DropRoute(u8),
    Bad(u8, u8),
    Send,
    Process,
    Reconnect,
    Tick(u8),
}

fn changes() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..5u8, 0..3u8).prop_map(|(c, v)| Op::Cluster(c, v)),
        1 => (0..5u8).prop_map(Op::DropCluster),
        2 => (0..5u8, 0..3u8).prop_map(|(c, v)| Op::Endpoints(c, v)),
        3 => (0..3u8, any::<u8>()).prop_map(|(r, mask)| Op::Route(r, mask)),
        1 => (0..3u8).prop_map(Op::DropRoute),
        8 => Just(Op::Send),
        8 => Just(Op::Process),
    ]
}

fn everything() -> impl Strategy<Value = Op> {
    prop_oneof![
        20 => changes(),
        1 => (0..3u8, 0..5u8).prop_map(|(k, i)| Op::Bad(k, i)),
        1 => Just(Op::Reconnect),
        1 => (0..7u8).prop_map(Op::Tick),
    ]
}

fn run(variant: Variant, kind: ClientKind, ops: &[Op], strict: bool) {
    let mut world = World::default();
    world.clusters.insert(0, 0);
    world.apply(&Op::Route(0, 1));
    let mut view = world.view();
    let mut client = Client::new(variant, kind, view.clone());
    client.request(CDS, &["*"], &[], None);
    for op in ops {
        match op {
            Op::Send => {
                client.server_sends();
            }
            Op::Process => {
                client.process();
            }
            Op::Reconnect => client.reconnect(view.clone()),
            Op::Tick(seconds) => client.tick(Duration::from_secs(u64::from(*seconds))),
            change => {
                world.apply(change);
                view = world.view();
                client.session.on_view(view.clone());
            }
        }
        if strict {
            client.assert_intact();
        }
    }
    if strict {
        while client.server_sends() || client.process() {
            client.assert_intact();
        }
    }
    client.settle();
    // Removals after a reconnect, and whatever a client left unanswered, wait for the clock.
    for _ in 0..4 {
        client.tick(Session::WAIT);
        client.settle();
    }
    client.assert_equal(&view);
    if strict {
        assert!(client.warming.is_empty(), "clusters wait for endpoint sets: {:?}", client.warming);
    }
    let mut synced = None;
    while let Some(event) = client.session.poll_event() {
        if let Event::Synced { generation } = event {
            synced = Some(generation);
        }
    }
    assert_eq!(synced, Some(view.generation), "the end is reported");
    // Nothing is left to say, now or after a reconnect with everything in hand.
    let before = client.received;
    client.session.on_view(view.clone());
    client.settle();
    assert_eq!(client.received, before);
    if variant == Variant::Delta && world.bad.is_empty() && !world.clusters.is_empty() {
        client.reconnect(view);
        client.settle();
        assert_eq!(client.received, before, "an unchanged client that presents its versions hears nothing");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn delta_clients_never_see_a_gap(ops in prop::collection::vec(changes(), 0..60)) {
        run(Variant::Delta, ClientKind::Envoy, &ops, true);
    }

    #[test]
    fn state_of_the_world_clients_never_see_a_gap(ops in prop::collection::vec(changes(), 0..60)) {
        run(Variant::StateOfTheWorld, ClientKind::Envoy, &ops, true);
    }

    #[test]
    fn delta_clients_end_with_the_view(ops in prop::collection::vec(everything(), 0..80)) {
        run(Variant::Delta, ClientKind::Envoy, &ops, false);
        run(Variant::Delta, ClientKind::Heddle, &ops, false);
    }

    #[test]
    fn state_of_the_world_clients_end_with_the_view(ops in prop::collection::vec(everything(), 0..80)) {
        run(Variant::StateOfTheWorld, ClientKind::Envoy, &ops, false);
        run(Variant::StateOfTheWorld, ClientKind::Grpc, &ops, false);
    }
}

fn client(variant: Variant, resources: &[Arc<Encoded>]) -> (Client, View) {
    let view: View = resources.iter().cloned().collect();
    (Client::new(variant, ClientKind::Heddle, Arc::new(view.clone())), view)
}

fn publish(client: &mut Client, view: &mut View, edit: impl FnOnce(&mut View)) {
    view.generation += 1;
    edit(view);
    client.session.on_view(Arc::new(view.clone()));
}

fn put(view: &mut View, resource: Arc<Encoded>) {
    view.insert(resource);
}

fn names(response: &Response) -> Vec<String> {
    response.resources.iter().map(|r| format!("{}={}", r.name, String::from_utf8_lossy(&r.body))).collect()
}

#[test]
fn the_last_good_version_of_a_refused_resource_is_repeated() {
    let resources = [resource(CDS, "a", "1"), resource(CDS, "b", "1")];
    let (mut client, mut view) = client(Variant::StateOfTheWorld, &resources);
    client.request(CDS, &["*"], &[], None);
    client.settle();
    publish(&mut client, &mut view, |v| put(v, resource(CDS, "a", "bad")));
    client.settle();
    publish(&mut client, &mut view, |v| put(v, resource(CDS, "b", "2")));
    assert!(client.server_sends());
    assert_eq!(names(&client.inbox[0]), ["a=1", "b=2"]);
    client.settle();
    publish(&mut client, &mut view, |v| put(v, resource(CDS, "a", "3")));
    assert!(client.server_sends());
    assert_eq!(names(&client.inbox[0]), ["a=3", "b=2"]);
}

#[test]
fn a_refused_resource_is_not_sent_again_by_delta_until_it_changes() {
    let (mut client, mut view) = client(Variant::Delta, &[resource(CDS, "a", "bad")]);
    client.request(CDS, &["*"], &[], None);
    client.settle();
    publish(&mut client, &mut view, |v| put(v, resource(CDS, "b", "1")));
    assert!(client.server_sends());
    assert_eq!(names(&client.inbox[0]), ["b=1"]);
    client.settle();
    publish(&mut client, &mut view, |v| put(v, resource(CDS, "a", "2")));
    assert!(client.server_sends());
    assert_eq!(names(&client.inbox[0]), ["a=2"]);
}

#[test]
fn a_silent_client_holds_nothing_up_for_ever() {
    let resources = [resource(CDS, "a", "1"), resource(LDS, "l", "listener r"), resource(RDS, "r", "route")];
    let (mut client, mut view) = client(Variant::Delta, &resources);
    client.request(CDS, &["*"], &[], None);
    client.settle();
    // A new cluster, whose endpoint set the client never asks for, and a route to it.
    publish(&mut client, &mut view, |v| {
        v.insert(resource(CDS, "b", "1"));
        v.insert(resource(EDS, "b", "1"));
        v.insert(resource(RDS, "r", "route b"));
    });
    assert!(client.server_sends());
    assert!(!client.server_sends(), "the route waits for the cluster");
    let deadline = client.session.next_deadline().unwrap();
    client.tick(deadline - client.now);
    assert!(client.server_sends());
    assert_eq!(names(client.inbox.back().unwrap()), ["r=route b"]);
}

#[test]
fn endpoint_changes_do_not_wait_for_clusters() {
    let resources = [resource(CDS, "a", "1"), resource(EDS, "a", "1")];
    let (mut client, mut view) = client(Variant::Delta, &resources);
    client.request(CDS, &["*"], &[], None);
    client.settle();
    publish(&mut client, &mut view, |v| put(v, resource(CDS, "b", "1")));
    assert!(client.server_sends());
    publish(&mut client, &mut view, |v| put(v, resource(EDS, "a", "2")));
    assert!(client.server_sends(), "although the cluster is not answered yet");
    assert_eq!(names(client.inbox.back().unwrap()), ["a=2"]);
    // A second change merges with a third while the first is unanswered.
    publish(&mut client, &mut view, |v| put(v, resource(EDS, "a", "3")));
    assert!(!client.server_sends());
    publish(&mut client, &mut view, |v| put(v, resource(EDS, "a", "4")));
    client.settle();
    assert_eq!(client.state[&(EDS, "a".to_owned())].body, "4");
    assert_eq!(
        client.received, 7,
        "clusters, endpoints, listeners; cluster b, its endpoints; endpoints 2 and 4"
    );
}

#[test]
fn absent_names_are_answered_at_once() {
    for (variant, kind) in [(Variant::Delta, EDS), (Variant::Delta, RDS), (Variant::StateOfTheWorld, EDS)] {
        let (mut client, _) = client(variant, &[]);
        client.request(kind, &["x"], &[], None);
        assert!(client.server_sends());
        let answer = &client.inbox[0];
        match variant {
            Variant::Delta => assert_eq!(&*answer.removed, [Arc::from("x")]),
            Variant::StateOfTheWorld => assert!(is_empty_assignment(&answer.resources[0])),
        }
    }
    for kind in [CDS, LDS, RDS] {
        let (mut client, _) = client(Variant::StateOfTheWorld, &[]);
        client.request(kind, &["x"], &[], None);
        assert!(client.server_sends());
        assert!(client.inbox[0].resources.is_empty());
    }
}

#[test]
fn wildcards_old_and_new() {
    let resources = [resource(LDS, "a", "1"), resource(LDS, "b", "1")];
    // No names: everything.
    let (mut c, _) = client(Variant::StateOfTheWorld, &resources);
    c.request(LDS, &[], &[], None);
    assert!(c.server_sends());
    assert_eq!(c.inbox[0].resources.len(), 2);
    // Names, as gRPC asks: those only; and none once there were some means none.
    let (mut c, _) = client(Variant::StateOfTheWorld, &resources);
    c.request(LDS, &["a"], &[], None);
    c.settle();
    assert_eq!(c.names(LDS).len(), 1);
    c.request(LDS, &["b"], &[], None);
    c.settle();
    assert_eq!(c.names(LDS).len(), 2, "a full set at each change");
    c.request(LDS, &[], &["a", "b"], None);
    assert!(!c.server_sends());
    // Delta: a wildcard beside names outlives them.
    let (mut c, _) = client(Variant::Delta, &resources);
    c.request(LDS, &["a", "*"], &[], None);
    c.settle();
    c.request(LDS, &[], &["a"], None);
    c.settle();
    assert_eq!(c.names(LDS).len(), 2);
    // An empty world is an answer too: Envoy waits for it.
    let (mut c, _) = client(Variant::Delta, &[]);
    c.request(CDS, &[], &[], None);
    assert!(c.server_sends());
}

#[test]
fn envoy_asks_again_and_is_answered() {
    let (mut client, _) = client(Variant::StateOfTheWorld, &[resource(EDS, "a", "1")]);
    client.request(EDS, &["a"], &[], None);
    client.settle();
    let before = client.received;
    client.request(EDS, &[], &[], None);
    client.settle();
    assert_eq!(client.received, before + 1, "once");
}

#[test]
fn unknown_types_are_answered_and_rubbish_is_survived() {
    let (mut c, _) = client(Variant::Delta, &[resource(CDS, "a", "1")]);
    c.delta(DeltaDiscoveryRequest {
        type_url: "type.googleapis.com/envoy.service.runtime.v3.Runtime".into(),
        resource_names_subscribe: vec!["rtds".into()],
        ..Default::default()
    });
    let answer = c.session.poll_send().unwrap();
    assert_eq!((answer.kind, &*answer.removed), (None, &[Arc::from("rtds")][..]));
    let mut random = fastrand::Rng::with_seed(3);
    let word = |random: &mut fastrand::Rng| {
        ["", "*", "a", "b", "1", "2", "999999999999999999999"][random.usize(..7)].to_owned()
    };
    for variant in [Variant::Delta, Variant::StateOfTheWorld] {
        let (mut c, mut view) = client(variant, &[resource(CDS, "a", "1"), resource(EDS, "a", "1")]);
        for i in 0..2_000 {
            let type_url = ResourceType::ALL[random.usize(..ResourceType::COUNT)].url().to_owned();
            let mut words = || (0..random.usize(..3)).map(|_| word(&mut random)).collect::<Vec<_>>();
            let (add, drop, versions, rest) = (words(), words(), words(), [words(), words()].concat());
            let first = |i: usize| rest.get(i).cloned().unwrap_or_default();
            let error = (i % 5 == 0).then(|| Status { message: first(1), ..Default::default() });
            match variant {
                Variant::Delta => c.delta(DeltaDiscoveryRequest {
                    type_url,
                    resource_names_subscribe: add,
                    resource_names_unsubscribe: drop,
                    initial_resource_versions: versions.into_iter().map(|v| (v.clone(), v)).collect(),
                    response_nonce: first(0),
                    error_detail: error,
                    ..Default::default()
                }),
                Variant::StateOfTheWorld => c.sotw(DiscoveryRequest {
                    type_url,
                    resource_names: add,
                    version_info: first(2),
                    response_nonce: first(0),
                    error_detail: error,
                    ..Default::default()
                }),
            }
            if i % 7 == 0 {
                publish(&mut c, &mut view, |v| put(v, resource(CDS, "b", &i.to_string())));
            }
            c.now += Duration::from_millis(300);
            c.session.on_tick(c.now);
            for _ in 0..3 {
                c.session.poll_send();
            }
            while c.session.poll_event().is_some() {}
        }
    }
}

//! Routes change under load: every state of them has a number, which its answers carry, and a set of right answers.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use heddle_tests::{
    client::{Answer, Connection},
    mesh::Mesh,
};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    ground::{Ground, Members},
    load::{Ask, Asked, Clients, Judge, Load, SOME},
    plane::{Kind, Plane},
};

const PLAIN: Ask = Ask { host: "shop", path: "/", headers: &[] };
const JASON: Ask = Ask { host: "shop", path: "/", headers: &[("x-user", "jason")] };
const DEEP: Ask = Ask { host: "shop", path: "/deep/down", headers: &[] };
/// Goes to v1 in every state.
const MARKER: Ask = Ask { host: "shop", path: "/", headers: &[("x-marker", "yes")] };

/// Every kind of request that the states tell apart.
pub(crate) const ASKS: [Ask; 4] = [PLAIN, JASON, DEEP, MARKER];
/// The versions that the states send to.
pub(crate) const VERSIONS: [&str; 3] = ["v1", "v2", "v3"];

/// Where a kind of request goes: subsets with weights.
type Split = Vec<(String, u32)>;

fn all(subset: &str) -> Split {
    vec![(subset.to_owned(), 100)]
}

/// What one state says.
struct State {
    number: u64,
    plain: Split,
    jason: Option<Split>,
    deep: Option<Split>,
    /// A subset that this state alone has: its cluster comes and goes with it.
    own: Option<String>,
}

impl State {
    fn new(number: u64) -> Self {
        let plain = |plain| Self { number, plain, jason: None, deep: None, own: None };
        match number % 10 {
            0 | 5 => Self { jason: Some(all("v2")), ..plain(all("v1")) },
            1 | 6 => Self { jason: Some(all("v1")), ..plain(all("v2")) },
            2 | 7 => plain(vec![("v1".into(), 50), ("v2".into(), 50)]),
            3 | 8 => Self {
                jason: Some(all("v1")),
                deep: Some(all("v2")),
                ..plain(vec![("v1".into(), 90), ("v2".into(), 10)])
            },
            9 => Self { jason: Some(all("v3")), deep: Some(all("v1")), ..plain(all("v2")) },
            _ => {
                let own = format!("own-{number}");
                Self { jason: Some(all("v2")), own: Some(own.clone()), ..plain(all(&own)) }
            }
        }
    }

    fn split(&self, ask: &Ask) -> Split {
        let special = match (ask.path, ask.headers) {
            (_, [("x-marker", _)]) => Some(all("v1")),
            (_, [("x-user", _)]) => self.jason.clone(),
            ("/deep/down", _) => self.deep.clone(),
            _ => None,
        };
        special.unwrap_or_else(|| self.plain.clone())
    }

    /// Whether this version may answer.
    fn allows(&self, ask: &Ask, version: &str) -> bool {
        let own = |subset: &str| if subset.starts_with("own-") { "v3" } else { subset }.to_owned();
        self.split(ask).iter().any(|(subset, _)| own(subset) == version)
    }

    fn virtual_service(&self) -> Value {
        let rule = |matching: Option<Value>, split: &Split| {
            let routes: Vec<Value> = split
                .iter()
                .map(|(subset, weight)| json!({"destination": {"host": "shop", "subset": subset}, "weight": weight}))
                .collect();
            let headers = json!({"response": {"set": {"x-state": self.number.to_string()}}});
            let mut rule = json!({"route": routes, "headers": headers});
            if let Some(matching) = matching {
                rule["match"] = json!([matching]);
            }
            rule
        };
        let header = |name: &str, value: &str| json!({"headers": {name: {"exact": value}}});
        let mut rules = Vec::new();
        rules.extend(self.jason.as_ref().map(|split| rule(Some(header("x-user", "jason")), split)));
        rules.extend(self.deep.as_ref().map(|split| rule(Some(json!({"uri": {"prefix": "/deep"}})), split)));
        // The marker's place changes; nothing else is right for it.
        let place = usize::try_from(self.number).unwrap_or(0) % (rules.len() + 1);
        rules.insert(place, rule(Some(header("x-marker", "yes")), &all("v1")));
        rules.push(rule(None, &self.plain));
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "shop"},
            "spec": {"hosts": ["shop"], "http": rules},
        })
    }

    fn destination_rule(&self) -> Value {
        let subset = |name: &str, version: &str| json!({"name": name, "labels": {"version": version}});
        let mut subsets: Vec<Value> = VERSIONS.map(|version| subset(version, version)).into();
        subsets.extend(self.own.iter().map(|name| subset(name, "v3")));
        json!({
            "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": {"name": "shop"},
            "spec": {"host": "shop", "subsets": subsets},
        })
    }
}

/// What one proxy's answers have shown of the states.
pub(crate) struct Seen {
    /// The last state that was asked for.
    asked: Arc<AtomicU64>,
    /// The newest that was met.
    newest: watch::Sender<u64>,
    all: Mutex<BTreeSet<u64>>,
    members: Arc<Members>,
}

impl Judge for Seen {
    fn before(&self) -> u64 {
        *self.newest.borrow()
    }

    fn judge(&self, asked: &Asked<'_>, answer: &Answer) -> Result<(), String> {
        let number = answer.headers.get("x-state").and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
        let number: u64 = number.ok_or("no state")?;
        self.newest.send_if_modified(|newest| {
            let newer = number > *newest;
            *newest = number.max(*newest);
            newer
        });
        self.all.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
        let (oldest, newest) = (asked.before, self.asked.load(Relaxed));
        if number < oldest || number > newest {
            return Err(format!("state {number}; {oldest} was in force and {newest} the last asked for"));
        }
        let version = answer.json()["version"].as_str().unwrap_or_default().to_owned();
        if State::new(number).allows(asked.ask, &version) {
            return self.members.judge(asked, answer);
        }
        Err(format!("{version} answered {:?} in state {number}", asked.ask))
    }
}

impl Seen {
    /// How many states were met.
    fn met(&self) -> usize {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until a request was answered by that state or a later one.
    pub(crate) async fn arrives(&self, number: u64) {
        let most = Duration::from_secs(30);
        let mut newest = self.newest.subscribe();
        let arrived = tokio::time::timeout(most, newest.wait_for(|newest| *newest >= number)).await.is_ok();
        assert!(
            arrived,
            "state {number} has not arrived after {most:?}; {} is in force",
            *self.newest.borrow()
        );
    }
}

/// The routes of `shop`, changed through the API.
pub(crate) struct Routes {
    api: Connection,
    state: State,
    asked: Arc<AtomicU64>,
}

impl Routes {
    /// Asks for the first state.
    pub(crate) async fn prepare(mesh: &Mesh) -> Self {
        let mut routes = Self { api: connect(mesh).await, state: State::new(0), asked: Arc::default() };
        for (plural, object) in [
            ("destinationrules", routes.state.destination_rule()),
            ("virtualservices", routes.state.virtual_service()),
        ] {
            routes.apply(plural, &object).await.unwrap_or_else(|e| panic!("{e}"));
        }
        routes
    }

    /// Load through a proxy, begun when the first state is in force there.
    pub(crate) async fn load(
        &self,
        plane: &Plane,
        members: &Arc<Members>,
        clients: Clients,
    ) -> (Load, Arc<Seen>) {
        plane.carries(Some(("x-state", "0"))).await;
        let seen = Arc::new(Seen {
            asked: self.asked.clone(),
            newest: watch::Sender::new(0),
            all: Mutex::default(),
            members: members.clone(),
        });
        (Load::start(plane.outbound, clients, &ASKS, seen.clone()), seen)
    }

    /// The number of the last state that was asked for.
    pub(crate) fn number(&self) -> u64 {
        self.state.number
    }

    /// The control plane is another one now.
    pub(crate) async fn reconnect(&mut self, mesh: &Mesh) {
        self.api = connect(mesh).await;
    }

    async fn apply(&mut self, plural: &str, object: &Value) -> Result<(), String> {
        let path = format!(
            "/apis/networking.istio.io/v1/namespaces/default/{plural}/shop?fieldManager=drill&force=true"
        );
        let headers = [("content-type", "application/apply-patch+yaml")];
        let answer =
            self.api.send("PATCH", "localhost", &path, &headers, object.to_string().as_bytes()).await?;
        if matches!(answer.status, 200 | 201) { Ok(()) } else { Err(format!("{plural}: {answer:?}")) }
    }

    /// The next state: what it needs first, then the routes, then away with what only the last one needed.
    ///
    /// # Errors
    /// When the control plane does not acknowledge.
    pub(crate) async fn change(&mut self) -> Result<u64, String> {
        let number = self.state.number + 1;
        let last = std::mem::replace(&mut self.state, State::new(number));
        self.asked.store(number, Relaxed);
        if self.state.own.is_some() {
            self.apply("destinationrules", &self.state.destination_rule()).await?;
        }
        self.apply("virtualservices", &self.state.virtual_service()).await?;
        if last.own.is_some() {
            self.apply("destinationrules", &self.state.destination_rule()).await?;
        }
        Ok(number)
    }
}

async fn connect(mesh: &Mesh) -> Connection {
    Connection::open(mesh.control.address("api")).await.unwrap_or_else(|e| panic!("API: {e}"))
}

/// How often the routes change.
const CHANGES: u64 = 1_000;
/// Of each ten states these are waited for, the one with a cluster of its own among them; the others come in bursts.
const WAITED_FOR: [u64; 2] = [4, 6];

/// Both proxies follow the same changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_change_a_thousand_times_under_load() {
    let (ground, _instances) = Ground::prepare(Kind::Heddle, &VERSIONS).await;
    let envoys: Vec<Plane> = [Kind::Envoy, Kind::EnvoySotw]
        .into_iter()
        .filter(|kind| kind.is_here())
        .map(|kind| Plane::start(kind, &ground.mesh, &format!("{kind:?}")))
        .collect();
    let mut routes = Routes::prepare(&ground.mesh).await;
    let mut loads = Vec::new();
    for plane in [&ground.plane].into_iter().chain(&envoys) {
        let (load, seen) = routes.load(plane, &ground.members, SOME).await;
        loads.push((plane, load, seen));
    }
    for n in 1..=CHANGES {
        let number = routes.change().await.unwrap_or_else(|e| panic!("change {n}: {e}"));
        if WAITED_FOR.contains(&(n % 10)) {
            for (_, _, seen) in &loads {
                seen.arrives(number).await;
            }
        }
    }
    let mut conclusions = Vec::new();
    for (plane, load, seen) in loads {
        load.answered(100).await;
        let drill = format!("{CHANGES} changes of routes, {} states met", seen.met());
        conclusions.push(plane.conclude(&drill, load).await);
    }
    for conclusion in conclusions {
        conclusion.holds();
        conclusion.no_post_failed();
    }
}

//! A client's stream as a state machine: no I/O, no clock.
//!
//! The caller feeds requests, views and the time, and takes responses and events out. Changes reach
//! the client make-before-break in two stages:
//!
//! 1. *Foundation*: secrets and clusters of the newest view go out, endpoint sets after them. When
//!    the client has answered these, and the endpoint sets of new clusters, the view is *safe*.
//! 2. *Traffic*: listeners, then routes, then virtual hosts of a safe view. When these are answered
//!    the view is *settled*, and clusters that no view from there on holds are removed.
//!
//! Endpoint changes of clusters that the client has never wait for a stage. What the client asks
//! for is answered at once. Nothing waits longer than [`Session::WAIT`] for a client that does not
//! answer.

mod delta;
mod lane;
mod send;
mod sotw;
mod stage;
pub(crate) mod verdict;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use delta::DeltaSession;
pub use sotw::SotwSession;

use crate::names::Interner;
use crate::{ClientKind, Event, ResourceType, Response, Variant, View};
use lane::{Asking, Due, Had, Held, Lane};
use stage::Candidate;

/// How a session is to behave.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// What sort of client it is: Envoy warms a changed cluster only when its endpoint set is sent
    /// again.
    pub client: ClientKind,
    /// Whether the source compiles names when they are asked for ([`crate::Want`]).
    pub on_demand: bool,
    /// Shares the sets of names between sessions.
    pub interner: Arc<Interner>,
}

impl SessionConfig {
    /// For a client of that kind, with a complete view and names of its own.
    pub fn new(client: ClientKind) -> Self {
        Self { client, on_demand: false, interner: Arc::default() }
    }
}

/// What both variants share.
#[derive(Debug)]
pub(crate) struct Session {
    config: SessionConfig,
    variant: Variant,
    now: Instant,
    started: Instant,
    /// Newest view of the source.
    latest: Arc<View>,
    /// Newest view whose foundation the client has.
    safe: Arc<View>,
    /// The view whose listeners and routes are being sent.
    applying: Arc<View>,
    /// Newest view that the client has in full.
    settled: Arc<View>,
    candidate: Option<Candidate>,
    /// The client let endpoint sets go unasked for: they are not waited for any more.
    ignores_endpoints: bool,
    lanes: [Lane; ResourceType::COUNT],
    last_nonce: u64,
    events: VecDeque<Event>,
    wants: Vec<(ResourceType, Vec<Arc<str>>)>,
    /// Answers to requests for types that are unknown here.
    unknown: VecDeque<Response>,
    synced: Option<u64>,
}

impl Session {
    /// How long a client may leave something unanswered before the rest goes on without it.
    pub(crate) const WAIT: Duration = Duration::from_secs(5);
    /// More requests than this unanswered: stop reading.
    const BACKLOG: usize = 64;

    pub(crate) fn new(config: SessionConfig, variant: Variant, view: Arc<View>, now: Instant) -> Self {
        Self {
            config,
            variant,
            now,
            started: now,
            lanes: ResourceType::ALL.map(|kind| Lane::new(kind, view.clone())),
            safe: view.clone(),
            applying: view.clone(),
            settled: view.clone(),
            latest: view,
            candidate: None,
            ignores_endpoints: false,
            last_nonce: 0,
            events: VecDeque::new(),
            wants: Vec::new(),
            unknown: VecDeque::new(),
            synced: None,
        }
    }

    pub(crate) fn on_view(&mut self, view: Arc<View>) {
        self.latest = view;
    }

    pub(crate) fn on_tick(&mut self, now: Instant) {
        self.now = self.now.max(now);
        let now = self.now;
        for lane in &mut self.lanes {
            let late = |since: Instant| now.saturating_duration_since(since) >= Self::WAIT;
            if lane.in_flight.first().is_some_and(|first| late(first.sent)) {
                lane.silent = true;
            }
            let given_up: Vec<Arc<str>> = lane
                .asking
                .iter()
                .filter(|(_, asking)| late(asking.since))
                .map(|(name, _)| name.clone())
                .collect();
            for name in given_up {
                lane.answer_unresolved(&name);
            }
        }
    }

    /// The source has done what it can about these names.
    pub(crate) fn on_resolved(&mut self, kind: ResourceType, names: &[Arc<str>]) {
        // What it compiled is in the latest view, which reaches the lane by its stage.
        let latest = self.latest.clone();
        let lane = &mut self.lanes[kind.index()];
        for name in names {
            if latest.get(kind, name).is_none() {
                lane.answer_unresolved(name);
            }
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.lanes.iter().flat_map(|lane| {
            let sent = lane.in_flight.first().filter(|_| !lane.silent).map(|first| first.sent);
            let gated = lane.due.values().any(|due| due.gated).then_some(self.started);
            lane.asking.values().map(|asking| asking.since).chain(sent).chain(gated)
        });
        let candidate = self.candidate.as_ref().map(|candidate| candidate.since);
        let passed = |since: &Instant| *since + Self::WAIT > self.now;
        waiting.chain(candidate).filter(passed).min().map(|since| since + Self::WAIT)
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    pub(crate) fn poll_want(&mut self) -> Option<(ResourceType, Vec<Arc<str>>)> {
        self.wants.pop()
    }

    pub(crate) fn backlogged(&self) -> bool {
        self.unknown.len() + self.wants.len() + self.events.len() > Self::BACKLOG
    }

    fn lane(&mut self, kind: ResourceType) -> &mut Lane {
        &mut self.lanes[kind.index()]
    }

    /// The client watches these names from now on, and wants an answer for each.
    fn subscribe(&mut self, kind: ResourceType, names: &[String]) {
        let (now, latest) = (self.now, self.latest.clone());
        let on_demand = self.config.on_demand;
        let lane = &mut self.lanes[kind.index()];
        let mut wanted = Vec::new();
        let mut added = Vec::new();
        for name in names.iter().filter(|name| *name != "*") {
            let known = latest.get(kind, name).or(lane.current(name)).map(|r| r.name.clone());
            let shared = known.clone().unwrap_or_else(|| Arc::from(name.as_str()));
            if on_demand && known.is_none() {
                lane.asking.entry(shared.clone()).or_insert(Asking { since: now, presented: None });
                wanted.push(shared.clone());
            } else {
                let had = if lane.covers(name) { lane.believed(name) } else { Had::Nothing };
                lane.ask(shared.clone(), had);
            }
            added.push(shared);
        }
        lane.names = self.config.interner.edit(&lane.names, added, &[]);
        if names.iter().any(|name| name == "*") {
            self.subscribe_all(kind);
        }
        if !wanted.is_empty() {
            self.wants.push((kind, wanted));
        }
    }

    fn subscribe_all(&mut self, kind: ResourceType) {
        let lane = self.lane(kind);
        let fresh = !lane.wildcard;
        lane.wildcard = true;
        lane.owed = true;
        lane.ask_all(fresh);
    }

    /// The client came back and has this already.
    fn present(&mut self, kind: ResourceType, name: &str, version: &str) {
        let lane = self.lane(kind);
        if !lane.covers(name) {
            return;
        }
        if let Some(asking) = lane.asking.get_mut(name) {
            asking.presented = Some(version.into());
            return;
        }
        match lane.current(name) {
            Some(current) if *current.version == *version => {
                lane.due.remove(name);
            }
            Some(current) => {
                let name = current.name.clone();
                lane.due.insert(name, Due { had: Had::Unknown, asked: true, gated: true });
            }
            None => {
                let due = Due { had: Had::Unknown, asked: false, gated: true };
                lane.due.insert(name.into(), due);
            }
        }
    }

    fn unsubscribe(&mut self, kind: ResourceType, names: &[&str]) {
        let interner = self.config.interner.clone();
        self.lane(kind).unsubscribe(names, &interner);
        if kind == ResourceType::Endpoint {
            self.forget_awaited(names);
        }
    }

    /// Answers a request for a type of which nothing exists.
    fn answer_unknown(&mut self, type_url: String, names: impl Iterator<Item = String>) {
        self.last_nonce += 1;
        self.unknown.push_back(Response {
            variant: self.variant,
            kind: None,
            type_url: type_url.into(),
            version: self.latest.generation.to_string(),
            nonce: self.last_nonce.to_string(),
            resources: Vec::new(),
            removed: names.map(Arc::from).collect(),
        });
    }

    /// A nonce of ours came back, with or without a complaint.
    fn answered(&mut self, kind: ResourceType, nonce: u64, error: Option<&str>) {
        let hold = self.variant == Variant::StateOfTheWorld;
        let lane = self.lane(kind);
        let Some(at) = lane.in_flight.iter().position(|response| response.nonce == nonce) else {
            return;
        };
        lane.silent = false;
        // Answers come in order: earlier ones that were not answered never will be.
        let response = lane.in_flight.drain(..=at).next_back();
        let Some(response) = response else { return };
        let pair = |r: &Arc<crate::Encoded>| (r.name.clone(), r.version.clone());
        let event = match error {
            None => Event::Acked {
                kind,
                generation: response.generation,
                resources: response.puts.iter().map(|put| pair(&put.new)).collect(),
                removed: response.removed.clone(),
            },
            Some(message) => {
                let sent: Vec<_> = response.puts.iter().map(|put| put.new.clone()).collect();
                let refused = verdict::refused(message, &sent, response.full.as_deref().unwrap_or(&sent));
                let is_refused = |name: &str| refused.iter().any(|r| *r.name == *name);
                let accepted =
                    response.puts.iter().filter(|put| !is_refused(&put.new.name)).map(|put| pair(&put.new));
                let accepted = accepted.collect();
                if hold {
                    for put in response.puts.iter().filter(|put| is_refused(&put.new.name)) {
                        let held = Held { refused: put.new.version.clone(), good: put.had.clone() };
                        lane.held.insert(put.new.name.clone(), held);
                    }
                }
                let message = verdict::clip(message).to_owned();
                Event::Nacked { kind, generation: response.generation, refused, accepted, message }
            }
        };
        if let (ResourceType::Cluster, Event::Nacked { refused, .. }) = (kind, &event) {
            let names: Vec<&str> = refused.iter().map(|refusal| &*refusal.name).collect();
            self.forget_awaited(&names);
        }
        self.events.push_back(event);
    }
}

impl Lane {
    /// A name of which nothing is known by now does not exist.
    fn answer_unresolved(&mut self, name: &Arc<str>) {
        if let Some(asking) = self.asking.remove(name) {
            let had = if asking.presented.is_some() { Had::Unknown } else { Had::Nothing };
            self.ask(name.clone(), had);
        }
    }
}

#[cfg(test)]
#[path = "../session_test.rs"]
mod session_test;

//! Make before break: which view each type may follow.

use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashSet;

use super::{Lane, Session};
use crate::{ClientKind, Encoded, Event, ResourceType, View};

/// Types that others refer to.
const FOUNDATION: [ResourceType; 2] = [ResourceType::Secret, ResourceType::Cluster];
/// Types that refer to clusters.
const TRAFFIC: [ResourceType; 4] =
    [ResourceType::Listener, ResourceType::Route, ResourceType::VirtualHost, ResourceType::NameTable];

/// A view whose clusters and endpoint sets are on their way.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) view: Arc<View>,
    pub(super) since: Instant,
    /// Endpoint sets that the client has to answer.
    awaits: FxHashSet<Arc<str>>,
}

impl Session {
    pub(super) fn is_traffic(kind: ResourceType) -> bool {
        TRAFFIC.contains(&kind)
    }

    /// Moves every lane as far as the client's answers allow.
    pub(super) fn advance(&mut self) {
        // A round per stage; each either changes something or ends the loop.
        for _ in 0..4 {
            let endpoints = &mut self.lanes[ResourceType::Endpoint.index()];
            endpoints.advance(&self.latest);
            if self.candidate.is_none() && !Arc::ptr_eq(&self.latest, &self.safe) {
                self.begin_candidate();
            }
            let safe = self.resolve_candidate();
            let applied = self.apply();
            if !safe && !applied {
                break;
            }
        }
    }

    fn begin_candidate(&mut self) {
        let view = self.latest.clone();
        for kind in FOUNDATION {
            self.lanes[kind.index()].advance(&view);
        }
        let endpoints = &self.lanes[ResourceType::Endpoint.index()];
        let present = |name: &&Arc<str>| view.get(ResourceType::Endpoint, name).is_some();
        let awaits = endpoints.due.keys().filter(present).cloned().collect();
        self.candidate = Some(Candidate { view, since: self.now, awaits });
    }

    /// A client that came back differs in its foundation: what it has of the rest must wait.
    pub(super) fn begin_stage(&mut self, kind: ResourceType) {
        let foundation = FOUNDATION.contains(&kind) || kind == ResourceType::Endpoint;
        let due = &self.lanes[kind.index()].due;
        if foundation && self.candidate.is_none() && !due.is_empty() {
            self.begin_candidate();
        }
    }

    /// Whether the candidate became safe.
    fn resolve_candidate(&mut self) -> bool {
        let Some(candidate) = &mut self.candidate else {
            return false;
        };
        let endpoints = &self.lanes[ResourceType::Endpoint.index()];
        let (latest, view) = (&self.latest, &candidate.view);
        let exists = |name: &Arc<str>| {
            [latest, view].into_iter().any(|view| view.get(ResourceType::Endpoint, name).is_some())
        };
        candidate.awaits.retain(|name| exists(name) && !endpoints.has_answered(name));
        let sent =
            |lane: &Lane| !lane.waits() && !lane.due.keys().any(|name| view.get(lane.kind, name).is_some());
        let ready =
            candidate.awaits.is_empty() && FOUNDATION.iter().all(|kind| sent(&self.lanes[kind.index()]));
        let late = self.now.saturating_duration_since(candidate.since) >= Self::WAIT;
        if !ready && !late {
            return false;
        }
        if late && !self.lanes[ResourceType::Endpoint.index()].requested {
            self.ignores_endpoints = true;
        }
        if let Some(candidate) = self.candidate.take() {
            self.safe = candidate.view;
        }
        true
    }

    /// Lets listeners and routes follow the safe view; whether something moved.
    fn apply(&mut self) -> bool {
        if !TRAFFIC.iter().all(|kind| self.lanes[kind.index()].quiet(&self.latest)) {
            return false;
        }
        self.settled = self.applying.clone();
        if Arc::ptr_eq(&self.applying, &self.safe) {
            return false;
        }
        self.applying = self.safe.clone();
        for kind in TRAFFIC {
            self.lanes[kind.index()].advance(&self.applying);
        }
        true
    }

    /// A cluster goes out: its endpoint set has to follow before routes may lead there.
    pub(super) fn await_endpoints(&mut self, name: &Arc<str>) {
        if self.latest.get(ResourceType::Endpoint, name).is_none()
            && self.still_used(ResourceType::Endpoint, name).is_none()
        {
            return;
        }
        let endpoints = &mut self.lanes[ResourceType::Endpoint.index()];
        let watched = endpoints.covers(name);
        if watched && self.config.client == ClientKind::Envoy {
            // Envoy warms a cluster that changed only with an endpoint set that arrives after it.
            let had = endpoints.believed(name);
            endpoints.ask(name.clone(), had);
        }
        let has_it = endpoints.has_answered(name);
        if let Some(candidate) = &mut self.candidate
            && !has_it
            && (watched || !self.ignores_endpoints)
        {
            candidate.awaits.insert(name.clone());
        }
    }

    /// The client will not ask for these endpoint sets.
    pub(super) fn forget_awaited(&mut self, names: &[&str]) {
        if let Some(candidate) = &mut self.candidate {
            candidate.awaits.retain(|name| !names.contains(&&**name));
        }
    }

    /// What the newest view is without, but the client may still be led to by listeners and routes
    /// that it has or is about to get.
    pub(super) fn still_used(&self, kind: ResourceType, name: &str) -> Option<Arc<Encoded>> {
        if Self::is_traffic(kind) {
            return None;
        }
        let candidate = self.candidate.as_ref().map(|candidate| &candidate.view);
        let views = [&self.settled, &self.applying, &self.safe].into_iter().chain(candidate);
        views.into_iter().find_map(|view| view.get(kind, name)).cloned()
    }

    /// Whether a client that came back with something unknown has had time to follow.
    pub(super) fn may_remove_unseen(&self, kind: ResourceType) -> bool {
        let came = self.now.saturating_duration_since(self.started);
        let settled = || TRAFFIC.iter().all(|kind| self.lanes[kind.index()].quiet(&self.latest));
        self.candidate.is_none() && (Self::is_traffic(kind) || (came >= Self::WAIT && settled()))
    }

    /// Reports once per view that the client has everything.
    pub(super) fn note_synced(&mut self) {
        let quiet = |lane: &Lane| {
            lane.due.is_empty() && lane.in_flight.is_empty() && lane.asking.is_empty() && !lane.owed
        };
        let done = self.candidate.is_none()
            && Arc::ptr_eq(&self.settled, &self.latest)
            && self.lanes.iter().all(quiet)
            && self.lanes.iter().any(|lane| lane.requested);
        let generation = self.latest.generation;
        if done && self.synced != Some(generation) {
            self.synced = Some(generation);
            self.events.push_back(Event::Synced { generation });
        }
    }
}

//! Chooses what goes out next.

use std::sync::Arc;

use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;

use super::Session;
use super::lane::{Due, Had, Held, InFlight, Lane, Put};
use crate::{Encoded, ResourceType, Response, Variant};

/// What a due name calls for.
enum Step {
    Put(Arc<Encoded>),
    /// Still used by what the client has, though the newest view is without it.
    Lend(Arc<Encoded>),
    Remove,
    /// Not yet.
    Wait,
    /// Nothing can or need be said.
    Drop,
}

/// Unanswered responses beyond which not even an answer to a request goes out.
const MOST_UNANSWERED: usize = 8;

impl Session {
    /// The next response, if one may be sent now.
    pub(crate) fn poll_send(&mut self) -> Option<Response> {
        if let Some(response) = self.unknown.pop_front() {
            return Some(response);
        }
        self.advance();
        for kind in ResourceType::ALL {
            if let Some(response) = self.send_lane(kind) {
                return Some(response);
            }
        }
        // What was dropped without a word may have been the last thing in the way.
        self.advance();
        self.note_synced();
        None
    }

    fn send_lane(&mut self, kind: ResourceType) -> Option<Response> {
        let lane = &self.lanes[kind.index()];
        if (lane.due.is_empty() && !lane.owed) || (lane.in_flight.len() >= MOST_UNANSWERED && !lane.silent) {
            return None;
        }
        let steps: Vec<(Arc<str>, Step)> =
            lane.due.keys().map(|name| (name.clone(), self.step(kind, name))).collect();
        let blocked = |(name, step): &(Arc<str>, Step)| {
            matches!(step, Step::Wait) && lane.due.get(name).is_some_and(|due| due.gated)
        };
        if self.full_sets(kind) && Self::is_traffic(kind) && steps.iter().any(blocked) {
            return None; // all or nothing
        }
        let (mut puts, mut removed, mut unsaid) = (Vec::new(), Vec::new(), false);
        let lane = &mut self.lanes[kind.index()];
        for (name, step) in steps {
            match step {
                Step::Wait => continue,
                Step::Put(new) => puts.push(lane.put(&name, new)),
                Step::Lend(used) => {
                    puts.push(lane.put(&name, used.clone()));
                    lane.due.insert(name, Due { had: Had::Known(used), asked: false, gated: false });
                }
                Step::Remove => {
                    lane.due.remove(&name);
                    lane.held.remove(&name);
                    removed.push(name);
                }
                Step::Drop => unsaid |= lane.due.remove(&name).is_some_and(|due| due.asked),
            }
        }
        let owed = std::mem::take(&mut lane.owed);
        if puts.is_empty() && removed.is_empty() && !owed && !unsaid {
            return None;
        }
        if kind == ResourceType::Cluster {
            for put in &puts {
                self.await_endpoints(&put.new.name);
            }
        }
        Some(self.respond(kind, puts, removed))
    }

    /// What may be done now about a due name.
    fn step(&self, kind: ResourceType, name: &Arc<str>) -> Step {
        let lane = &self.lanes[kind.index()];
        let Some(due) = lane.due.get(name) else {
            return Step::Drop;
        };
        if !due.asked && lane.waits() {
            return Step::Wait;
        }
        let Some(new) = lane.current(name) else {
            if self.latest.get(kind, name).is_some() {
                return Step::Wait; // its stage is under way
            }
            let holds = !matches!(due.had, Had::Nothing);
            return match self.still_used(kind, name) {
                Some(used) if due.asked => Step::Lend(used),
                Some(_) if holds => Step::Wait,
                _ if due.gated && !due.asked && !self.may_remove_unseen(kind) => Step::Wait,
                _ if due.asked || holds => self.absent(kind, name),
                _ => Step::Drop,
            };
        };
        if !due.asked
            && let Had::Known(had) = &due.had
            && had.version == new.version
        {
            return Step::Drop;
        }
        if due.gated && Self::is_traffic(kind) && self.candidate.is_some() {
            return Step::Wait;
        }
        if !due.asked && !self.follows(kind, name) {
            return Step::Wait;
        }
        self.unless_held(kind, due.asked, new)
    }

    /// Whether what has to go out before a changed resource has gone out.
    fn follows(&self, kind: ResourceType, name: &str) -> bool {
        let due = |kind: ResourceType| &self.lanes[kind.index()].due;
        match kind {
            ResourceType::Endpoint => {
                let cluster = due(ResourceType::Cluster).contains_key(name);
                !(cluster && self.lanes[ResourceType::Cluster.index()].current(name).is_some())
            }
            ResourceType::Route => due(ResourceType::Listener).is_empty(),
            ResourceType::VirtualHost => due(ResourceType::Route).is_empty(),
            _ => true,
        }
    }

    /// A refused resource is not sent again until it changes; who asks for it by name gets the last
    /// good one.
    fn unless_held(&self, kind: ResourceType, asked: bool, new: &Arc<Encoded>) -> Step {
        match self.lanes[kind.index()].held.get(&new.name) {
            Some(Held { refused, good }) if *refused == new.version => match good {
                _ if self.full_sets(kind) || !asked => Step::Drop,
                Some(good) => Step::Put(good.clone()),
                None => Step::Put(new.clone()),
            },
            _ => Step::Put(new.clone()),
        }
    }

    /// How to say that something is not there.
    fn absent(&self, kind: ResourceType, name: &Arc<str>) -> Step {
        match (self.variant, kind) {
            (Variant::Delta, _) => Step::Remove,
            (Variant::StateOfTheWorld, ResourceType::Endpoint) => {
                let empty = ClusterLoadAssignment { cluster_name: name.to_string(), ..Default::default() };
                Step::Put(Encoded::new(kind, name.clone(), &empty))
            }
            (Variant::StateOfTheWorld, _) if self.full_sets(kind) => Step::Remove,
            (Variant::StateOfTheWorld, _) => Step::Drop,
        }
    }

    /// Whether each response has to repeat everything, since what is left out is deleted.
    pub(super) fn full_sets(&self, kind: ResourceType) -> bool {
        self.variant == Variant::StateOfTheWorld
            && matches!(kind, ResourceType::Cluster | ResourceType::Listener)
    }

    fn respond(&mut self, kind: ResourceType, puts: Vec<Put>, removed: Vec<Arc<str>>) -> Response {
        self.last_nonce += 1;
        let nonce = self.last_nonce;
        let full = self.full_sets(kind);
        let resources =
            if full { self.full_set(kind) } else { puts.iter().map(|put| put.new.clone()).collect() };
        let version = match self.variant {
            Variant::Delta => self.latest.generation.to_string(),
            Variant::StateOfTheWorld => set_version(&resources),
        };
        let now = self.now;
        let lane = self.lane(kind);
        lane.last_nonce = nonce;
        let generation = lane.base.generation;
        let names = removed.clone();
        let all = (full && resources.len() > puts.len()).then(|| resources.clone());
        lane.in_flight.push(InFlight { nonce, sent: now, generation, puts, full: all, removed });
        lane.bound_in_flight();
        Response {
            variant: self.variant,
            kind: Some(kind),
            type_url: kind.url().into(),
            version,
            nonce: nonce.to_string(),
            resources,
            removed: if self.variant == Variant::Delta { names } else { Vec::new() },
        }
    }

    /// Everything that the client watches and should have now: the new, the unchanged, what may
    /// not go yet, and the last good version of what it refused.
    fn full_set(&self, kind: ResourceType) -> Vec<Arc<Encoded>> {
        let lane = &self.lanes[kind.index()];
        let good = |resource: &Arc<Encoded>| match lane.held.get(&resource.name) {
            Some(held) if held.refused == resource.version => held.good.clone(),
            _ => Some(resource.clone()),
        };
        let pick = |name: &Arc<str>| match lane.due.get(name).map(|due| &due.had) {
            Some(Had::Known(had)) => good(had),
            Some(Had::Nothing) => None,
            Some(Had::Unknown) | None => good(lane.current(name)?),
        };
        if lane.wildcard {
            let waiting = lane.due.keys().filter(|name| lane.current(name).is_none());
            let names = lane.base.iter(kind).map(|r| &r.name);
            let mut all: Vec<_> = names.chain(waiting).filter_map(pick).collect();
            all.sort_by(|a, b| a.name.cmp(&b.name));
            all
        } else {
            lane.names.as_slice().iter().filter_map(pick).collect()
        }
    }

    /// The version that a full response would have now.
    pub(super) fn full_version(&self, kind: ResourceType) -> String {
        let lane = &self.lanes[kind.index()];
        let all: Vec<_> = lane.base.iter(kind).filter(|r| lane.covers(&r.name)).cloned().collect();
        set_version(&all)
    }
}

impl Lane {
    /// Takes a resource as sent. After a refusal the client still has the last good one.
    fn put(&mut self, name: &Arc<str>, new: Arc<Encoded>) -> Put {
        let due = self.due.remove(name);
        let had = match (self.held.get(name), due.map(|due| due.had)) {
            (Some(held), _) => held.good.clone(),
            (None, Some(Had::Known(had))) => Some(had),
            (None, _) => None,
        };
        if self.current(name).is_none_or(|current| current.version == new.version) {
            self.held.remove(name);
        }
        Put { new, had }
    }
}

/// One version for a set: equal sets have equal versions.
fn set_version(resources: &[Arc<Encoded>]) -> String {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for resource in resources {
        hash.update(resource.name.as_bytes());
        hash.update(&[0]);
        hash.update(resource.version.as_bytes());
        hash.update(&[0]);
    }
    format!("{:016x}", hash.digest())
}

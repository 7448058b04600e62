use std::sync::Arc;
use std::time::Instant;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;

use super::lane::Had;
use super::{Session, SessionConfig};
use crate::{Event, ResourceType, Response, Variant, View};

/// The server's side of one state-of-the-world stream.
#[derive(Debug)]
pub struct SotwSession(pub(crate) Session);

impl SotwSession {
    /// A session for a client that just opened its stream.
    pub fn new(config: SessionConfig, view: Arc<View>, now: Instant) -> Self {
        Self(Session::new(config, Variant::StateOfTheWorld, view, now))
    }

    /// Takes a request of the client.
    pub fn on_request(&mut self, request: DiscoveryRequest) {
        let Some(kind) = ResourceType::from_url(&request.type_url) else {
            if request.response_nonce.is_empty() {
                self.0.answer_unknown(request.type_url, std::iter::empty());
            }
            return;
        };
        let session = &mut self.0;
        let last = session.lane(kind).last_nonce;
        let nonce = request.response_nonce.parse::<u64>().ok();
        let mut answer = false;
        if let Some(nonce) = nonce {
            answer = session.lane(kind).in_flight.iter().any(|response| response.nonce == nonce);
            let error = request.error_detail.as_ref().map(|status| status.message.as_str());
            session.answered(kind, nonce, error);
            if last != 0 && nonce != last {
                return; // stale: another request follows that has seen the last response
            }
        }
        let first = !std::mem::replace(&mut session.lane(kind).requested, true);
        let mut names = request.resource_names;
        names.extend(request.resource_locators.into_iter().map(|locator| locator.name));
        let changed = session.watch_exactly(kind, names);
        if first && !request.version_info.is_empty() {
            session.came_back(kind, &request.version_info);
        } else if !first && !changed && !answer && nonce == Some(last) {
            // Neither an answer nor a change: Envoy asks again for the endpoint sets of clusters
            // that it is warming.
            let lane = session.lane(kind);
            lane.owed = true;
            lane.ask_all(false);
        }
    }

    /// Takes the newest view of the source.
    pub fn on_view(&mut self, view: Arc<View>) {
        self.0.on_view(view);
    }

    /// Takes the time. To be called before other calls, and at [`Self::next_deadline`].
    pub fn on_tick(&mut self, now: Instant) {
        self.0.on_tick(now);
    }

    /// The source has done what it can about names that it was asked for.
    pub fn on_resolved(&mut self, kind: ResourceType, names: &[Arc<str>]) {
        self.0.on_resolved(kind, names);
    }

    /// When [`Self::on_tick`] has to be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.0.next_deadline()
    }

    /// The next response, if one may be sent now.
    pub fn poll_send(&mut self) -> Option<Response> {
        self.0.poll_send()
    }

    /// What the client did with what it was sent.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.0.poll_event()
    }

    /// Names that the source has to be asked for.
    pub fn poll_want(&mut self) -> Option<(ResourceType, Vec<Arc<str>>)> {
        self.0.poll_want()
    }
}

impl Session {
    /// The client watches these names and no others; whether that is a change.
    fn watch_exactly(&mut self, kind: ResourceType, names: Vec<String>) -> bool {
        let lane = self.lane(kind);
        // No names mean everything, until some were given for the first time.
        let everything = names.iter().any(|name| name == "*")
            || names.is_empty() && kind.has_wildcard() && lane.names.is_empty() && !lane.named;
        lane.named |= !names.is_empty();
        let mut listed: Vec<&str> = names.iter().map(String::as_str).collect();
        listed.sort_unstable();
        let gone: Vec<Arc<str>> = lane
            .names
            .as_slice()
            .iter()
            .filter(|name| listed.binary_search(&&***name).is_err())
            .cloned()
            .collect();
        let mut gone: Vec<&str> = gone.iter().map(|name| &**name).collect();
        if lane.wildcard && !everything {
            gone.push("*");
        }
        let mut added: Vec<String> =
            names.iter().filter(|name| *name != "*" && !lane.names.contains(name)).cloned().collect();
        if everything && !lane.wildcard {
            added.push("*".to_owned());
        }
        let changed = !added.is_empty() || !gone.is_empty();
        if !gone.is_empty() {
            self.unsubscribe(kind, &gone);
        }
        if !added.is_empty() {
            self.subscribe(kind, &added);
        }
        changed
    }

    /// The client was connected before and has something already.
    fn came_back(&mut self, kind: ResourceType, version: &str) {
        let same = self.full_sets(kind) && self.full_version(kind) == version;
        let lane = self.lane(kind);
        if same {
            lane.due.clear();
            lane.owed = false;
            return;
        }
        for due in lane.due.values_mut() {
            due.gated = true;
            due.had = Had::Unknown;
        }
        self.begin_stage(kind);
    }
}

use std::sync::Arc;
use std::time::Instant;

use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;

use super::{Session, SessionConfig};
use crate::{Event, ResourceType, Response, Variant, View};

/// The server's side of one delta stream.
#[derive(Debug)]
pub struct DeltaSession(pub(crate) Session);

impl DeltaSession {
    /// A session for a client that just opened its stream.
    pub fn new(config: SessionConfig, view: Arc<View>, now: Instant) -> Self {
        Self(Session::new(config, Variant::Delta, view, now))
    }

    /// Takes a request of the client.
    pub fn on_request(&mut self, request: DeltaDiscoveryRequest) {
        let Some(kind) = ResourceType::from_url(&request.type_url) else {
            return self.refuse_unknown(request);
        };
        let session = &mut self.0;
        if let Ok(nonce) = request.response_nonce.parse() {
            let error = request.error_detail.as_ref().map(|status| status.message.as_str());
            session.answered(kind, nonce, error);
        }
        let lane = session.lane(kind);
        let first = !std::mem::replace(&mut lane.requested, true);
        let mut names = request.resource_names_subscribe;
        names.extend(request.resource_locators_subscribe.into_iter().map(|locator| locator.name));
        if first && names.is_empty() && kind.has_wildcard() {
            names.push("*".to_owned());
        }
        session.subscribe(kind, &names);
        let gone = request.resource_names_unsubscribe.iter().map(String::as_str);
        let gone = gone.chain(request.resource_locators_unsubscribe.iter().map(|locator| &*locator.name));
        session.unsubscribe(kind, &gone.collect::<Vec<_>>());
        if first && !request.initial_resource_versions.is_empty() {
            for (name, version) in &request.initial_resource_versions {
                session.present(kind, name, version);
            }
            session.lane(kind).owed = false;
            session.begin_stage(kind);
        }
    }

    /// A type that is unknown here: nothing of it exists, and the client is told so.
    fn refuse_unknown(&mut self, request: DeltaDiscoveryRequest) {
        if request.response_nonce.is_empty() {
            let names = request.resource_names_subscribe;
            self.0.answer_unknown(request.type_url, names.into_iter().filter(|n| n != "*"));
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

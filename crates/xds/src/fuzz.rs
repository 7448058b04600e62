//! What a client can send to a server, as plain functions over bytes. They must not panic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use prost::Message;

use crate::{ClientKind, DeltaSession, Encoded, NodeInfo, ResourceType, SessionConfig, SotwSession, View};

/// Reads requests (two bytes of length, little-endian, before each), feeds them to a session of either
/// variant, and lets views change and time pass between them. True when something was
/// answered.
pub fn session(data: &[u8]) -> bool {
    let [mode, data @ ..] = data else { return false };
    let mut answered = false;
    let kinds = [ClientKind::Envoy, ClientKind::Heddle, ClientKind::Grpc];
    let mut config = SessionConfig::new(kinds[usize::from(*mode) % kinds.len()]);
    config.on_demand = mode & 0x40 != 0;
    let mut now = Instant::now();
    let mut view = view(0);
    let mut delta = DeltaSession::new(config.clone(), view.clone(), now);
    let mut sotw = SotwSession::new(config, view.clone(), now);
    for (round, request) in requests(data).enumerate() {
        if let Ok(request) = DeltaDiscoveryRequest::decode(request) {
            let _ = request.node.as_ref().map(NodeInfo::from);
            delta.on_request(request);
        }
        if let Ok(request) = DiscoveryRequest::decode(request) {
            sotw.on_request(request);
        }
        view = changed(&view, round, request.len());
        now += Duration::from_millis(700);
        delta.on_tick(now);
        sotw.on_tick(now);
        delta.on_view(view.clone());
        sotw.on_view(view.clone());
        for _ in 0..8 {
            for response in delta.poll_send().into_iter().chain(sotw.poll_send()) {
                drop(response.encode());
                answered = true;
            }
        }
        while delta.poll_event().is_some() || sotw.poll_event().is_some() {}
        while let Some((kind, names)) = delta.poll_want() {
            delta.on_resolved(kind, &names);
        }
        while let Some((kind, names)) = sotw.poll_want() {
            sotw.on_resolved(kind, &names);
        }
    }
    answered
}

fn requests(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let [low, high, rest @ ..] = data else { return None };
        let length = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (request, behind) = rest.split_at(length);
        data = behind;
        Some(request)
    })
    .take(64)
}

fn resource(kind: ResourceType, name: usize, content: usize) -> Arc<Encoded> {
    let name = ["a", "b", "c"][name % 3];
    Encoded::from_bytes(kind, name, Bytes::from(content.to_string()))
}

fn view(content: usize) -> Arc<View> {
    let all = ResourceType::ALL
        .into_iter()
        .flat_map(|kind| [resource(kind, 0, content), resource(kind, 1, content)]);
    Arc::new(all.collect())
}

fn changed(view: &View, round: usize, seed: usize) -> Arc<View> {
    let mut view = view.clone();
    view.generation += 1;
    let kind = ResourceType::ALL[seed % ResourceType::COUNT];
    if round.is_multiple_of(3) {
        view.remove(kind, ["a", "b", "c"][round % 9 / 3]);
    } else {
        view.insert(resource(kind, seed + round, round));
    }
    Arc::new(view)
}

/// Good input: a subscription, its answers, a refusal.
pub fn corpus() -> Vec<Vec<u8>> {
    let request = |url: &str, names: &[&str], nonce: &str| DeltaDiscoveryRequest {
        type_url: url.to_owned(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        response_nonce: nonce.to_owned(),
        ..Default::default()
    };
    let mut all = Vec::new();
    for mode in [0u8, 1, 0x42] {
        let mut input = vec![mode];
        for (n, kind) in ResourceType::ALL.into_iter().enumerate() {
            for request in
                [request(kind.url(), &["*", "a"], ""), request(kind.url(), &[], &(n + 1).to_string())]
            {
                let bytes = request.encode_to_vec();
                input.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or_default().to_le_bytes());
                input.extend_from_slice(&bytes);
            }
        }
        all.push(input);
    }
    all
}

#[cfg(test)]
mod tests {
    #[test]
    fn mutated_requests_never_panic() {
        let corpus = super::corpus();
        let mut random = fastrand::Rng::with_seed(11);
        for _ in 0..300 {
            let mut input = corpus[random.usize(..corpus.len())].clone();
            for _ in 0..random.usize(..12) {
                let at = random.usize(..input.len());
                input[at] = random.u8(..);
            }
            super::session(&input);
        }
    }
}

//! xDS resources into a snapshot, and requests decided on what came of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use heddle_proxy::decide::{
    Connection, Decision, Downstream, decide, finish_response, match_filter_chain, prepare,
};
use heddle_proxy::http::head::{RequestHead, ResponseHead, Scheme};
use heddle_proxy::snapshot::{Snapshot, SnapshotBuilder, WARMING, disk};
use heddle_xds::ResourceType;

/// A cluster, an EDS cluster with its endpoints, a listener and a route configuration.
pub(crate) const CORPUS: &[&[u8]] = &[b"\
    \x01\x05\x00\x0a\x01a\x10\x00\x01\x05\x00\x0a\x01x\x10\x03\x02\x19\x00\x0a\x01x\x12\x14\x12\x12\x0a\
      \x10\x0a\x0e\x0a\x0c\x12\x0810.0.0.1\x18P\x03\xc2\x01\x0a\x08listener\x12\x0f\x0a\x0d\x12\x09127.0.\
      0.1\x18P\x1a\xa4\x03\x1a\xa1\x03\x0a\x04http\x22\x98\x03\x0aetype.googleapis.com/envoy.extensions.f\
      ilters.network.http_connection_manager.v3.HttpConnectionManager\x12\xae\x02\x1a\x08\x12\x06routes*[\
      \x0a\x17envoy.filters.http.cors\x22@\x0a>type.googleapis.com/envoy.extensions.filters.http.cors.v3.\
      Cors*b\x0a\x18envoy.filters.http.fault\x22F\x0aDtype.googleapis.com/envoy.extensions.filters.http.f\
      ault.v3.HTTPFault*a\x0a\x19envoy.filters.http.router\x22D\x0aBtype.googleapis.com/envoy.extensions.\
      filters.http.router.v3.Router\x04m\x00\x0a\x06routes\x12?\x0a\x02vh\x12\x01*\x12\x03a.*\x12\x03*.b\
      \x1a\x0b\x0a\x04\x0a\x02/a\x12\x03\x0a\x01a\x1a\x12\x0a\x0bR\x09\x12\x07/[a-z]+\x12\x03\x0a\x01a\
      \x1a\x0b\x0a\x04r\x02/s\x12\x03\x0a\x01a2\x22\x0a\x1e\x0a\x03x-a\x12\x17%REQ(:path)%-%PROTOCOL%\x18\
      \x02"];

/// Reads records of one byte type, two bytes length, body; applies them, publishes, and sends requests through every listener.
/// True when a request came as far as a decision.
pub fn xds_into_snapshot(data: &[u8]) -> bool {
    let mut builder = SnapshotBuilder::new();
    let mut rest = data;
    while let [kind, low, high, tail @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(tail.len());
        let (body, behind) = tail.split_at(len);
        rest = behind;
        let kind = ResourceType::ALL[usize::from(*kind) % ResourceType::COUNT];
        let _ = builder.apply(kind, name_of(body), body);
    }
    let now = Instant::now();
    builder.publish(now);
    builder.publish(now + WARMING);
    let file = disk::encode(&builder);
    assert!(disk::decode(&file).is_ok(), "a file of accepted resources is readable");
    let _ = disk::decode(data);
    exercise(builder.current(), data)
}

/// The name stands in field 1 of every resource: tag 0x0a, length, bytes.
fn name_of(body: &[u8]) -> &str {
    let found = match body {
        [0x0a, len, tail @ ..] => tail.get(..usize::from(*len)),
        _ => None,
    };
    found.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("x")
}

fn exercise(snapshot: &Snapshot, data: &[u8]) -> bool {
    let mut decided = false;
    let peer = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 4000));
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    for listener in snapshot.listeners.values() {
        let connection = Connection {
            destination: local.into(),
            source: peer.into(),
            direct_source: Some(peer.ip()),
            server_name: "h",
            transport_protocol: "raw_buffer",
            application_protocols: &["http/1.1"],
        };
        let Some(chain) = match_filter_chain(listener, &connection) else { continue };
        let downstream = Downstream {
            listener: listener.clone(),
            chain: chain.clone(),
            peer: peer.into(),
            local: local.into(),
            passed_on_by: None,
            original_dst: None,
            machine: None,
            scheme: Scheme::Http,
            server_name: None,
            client_cert: None,
            connection_id: 1,
        };
        for (method, path) in [("GET", "/"), ("POST", "/a/b?c=d"), ("CONNECT", ""), ("OPTIONS", "/%2e%2e/x")]
        {
            let mut head = RequestHead::new(method, "h", path).with("x-data", "1").with("origin", "http://o");
            head.headers.append("x-any", &data[..data.len().min(64)]);
            decided |= one(snapshot, &downstream, head);
        }
    }
    decided
}

fn one(snapshot: &Snapshot, downstream: &Downstream, mut head: RequestHead) -> bool {
    let mut response = ResponseHead::new(200);
    if let Err(answer) = prepare(downstream, &mut head, 1) {
        answer.write_head(downstream, &head, &mut response);
        return false;
    }
    match decide(snapshot, downstream, &head, 2) {
        Decision::Forward(forward) => {
            forward.edit_request(downstream, &mut head);
            forward.edit_response(downstream, &head, 1, &mut response);
        }
        Decision::Respond(answer) => {
            answer.write_head(downstream, &head, &mut response);
        }
        Decision::Need(_) => {}
    }
    finish_response(downstream, &head, false, &mut response);
    true
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_is_good_input() {
        let mut builder = super::SnapshotBuilder::new();
        let mut rest = super::CORPUS[0];
        while let [kind, low, high, tail @ ..] = rest {
            let (body, behind) = tail.split_at(usize::from(u16::from_le_bytes([*low, *high])));
            let kind = super::ResourceType::ALL[usize::from(*kind)];
            builder.apply(kind, super::name_of(body), body).unwrap();
            rest = behind;
        }
        assert!(super::xds_into_snapshot(super::CORPUS[0]));
    }

    #[test]
    fn mutated_and_random_bytes_do_not_panic() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2000 {
            let len = random.usize(..300);
            let bytes: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            super::xds_into_snapshot(&bytes);
        }
    }
}

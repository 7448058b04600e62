//! xDS resources into a snapshot, and requests decided on what came of it.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use heddle_proxy::decide::{
    Connection, Decision, Downstream, decide, finish_response, match_filter_chain, prepare,
};
use heddle_proxy::http::head::{RequestHead, ResponseHead, Scheme};
use heddle_proxy::snapshot::{Snapshot, SnapshotBuilder, WARMING, disk};
use heddle_xds::ResourceType;

/// Reads records of one byte type, two bytes length, body; applies them, publishes, and sends requests through every listener.
pub fn xds_into_snapshot(data: &[u8]) {
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
    exercise(builder.current(), data);
}

/// The name stands in field 1 of every resource: tag 0x0a, length, bytes.
fn name_of(body: &[u8]) -> &str {
    let found = match body {
        [0x0a, len, tail @ ..] => tail.get(..usize::from(*len)),
        _ => None,
    };
    found.and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("x")
}

fn exercise(snapshot: &Snapshot, data: &[u8]) {
    let peer = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 1), 4000));
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
    for listener in snapshot.listeners.values() {
        let connection = Connection {
            destination: local,
            source: peer,
            direct_source: peer.ip(),
            server_name: "h",
            transport_protocol: "raw_buffer",
            application_protocols: &["http/1.1"],
        };
        let Some(chain) = match_filter_chain(listener, &connection) else { continue };
        let downstream = Downstream {
            listener: listener.clone(),
            chain: chain.clone(),
            peer,
            local,
            original_dst: None,
            machine: None,
            scheme: Scheme::Http,
            server_name: None,
            connection_id: 1,
        };
        for (method, path) in [("GET", "/"), ("POST", "/a/b?c=d"), ("CONNECT", ""), ("OPTIONS", "/%2e%2e/x")]
        {
            let mut head = RequestHead::new(method, "h", path).with("x-data", "1").with("origin", "http://o");
            head.headers.append("x-any", &data[..data.len().min(64)]);
            one(snapshot, &downstream, head);
        }
    }
}

fn one(snapshot: &Snapshot, downstream: &Downstream, mut head: RequestHead) {
    let mut response = ResponseHead::new(200);
    if let Err(answer) = prepare(downstream, &mut head, 1) {
        answer.write_head(downstream, &head, &mut response);
        return;
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
}

#[cfg(test)]
mod tests {
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

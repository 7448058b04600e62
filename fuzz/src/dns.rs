//! Questions as they come from programs, and the table of names as it comes from the control plane or the disk.

use std::sync::LazyLock;

use heddle_dns::{
    NameEndpoint, NameEntry, NamePort, NameTable, Names, Outside, Reply, Transport, UDP_PAYLOAD, reply,
    server_failure,
};
use prost::Message;

/// Questions for A, SRV and anything; one with EDNS, one with a compressed name.
pub(crate) const QUESTIONS: &[&[u8]] = &[
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07reviews\x00\x00\x01\x00\x01",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x02db\x07default\x03svc\x07cluster\x05local\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00",
    b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05_http\x04_tcp\x02db\x07default\x00\x00\x21\x00\x01",
    b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x07example\x03com\x07default\x03svc\x07cluster\x05local\x00\x00\xff\x00\x01",
    b"\x00\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x07reviews\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x7f\x00\x00\x01",
];

/// Two bytes of length, a table, and a question behind it.
pub(crate) const TABLES: &[&[u8]] = &[
    b"B\x00\x0a.\x0a\x15a.d.svc.cluster.local\x12\x01d\x1a\x01a\x22\x0810.0.0.12\x05\x0a\x01p\x10P\x12\x0dcluster.local\x1a\x01d\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01",
    b"R\x00\x0a\x14\x0a\x05*.b.c\x12\x01d\x22\x0810.0.0.2\x0a7\x0a\x15w.d.svc.cluster.local\x12\x01d\x1a\x01w(\x012\x05\x0a\x01p\x10P:\x0f\x0a\x0810.0.0.1\x12\x03w-0\x1a\x01d\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01",
];

/// A question to a table with services of every sort. True when it is answered from the table.
pub fn dns_question(data: &[u8]) -> bool {
    static NAMES: LazyLock<Names> = LazyLock::new(|| Names::new(&table()).0);
    let random = data.len() as u64;
    let mut answered = false;
    for (transport, outside) in [(Transport::Udp, Outside::Absent), (Transport::Tcp, Outside::Forward)] {
        for asker in [Some("default"), None] {
            let reply = reply(data, &NAMES, asker, outside, transport, random);
            answered |= check(data, &reply, transport);
        }
    }
    if let Some(failure) = server_failure(data) {
        assert_eq!(failure[..2], data[..2], "a failure repeats the id");
    }
    answered
}

/// A table, and questions for each of its names. True when one of them is answered with a record.
pub fn dns_names(data: &[u8]) -> bool {
    let [low, high, rest @ ..] = data else { return false };
    let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
    let (table, packet) = rest.split_at(len);
    let Ok(table) = NameTable::decode(table) else { return false };
    let (names, _faults) = Names::new(&table);
    let asker = names.namespace().cloned();
    let mut answered = false;
    let mut ask = |packet: &[u8]| {
        for transport in [Transport::Udp, Transport::Tcp] {
            let reply = reply(packet, &names, asker.as_deref(), Outside::Absent, transport, 1);
            answered |= check(packet, &reply, transport);
        }
    };
    ask(packet);
    for entry in table.entries.iter().take(8) {
        let host = entry.host.trim_start_matches("*.");
        for name in [host.to_owned(), entry.service.clone(), format!("_p._tcp.{host}"), format!("x.{host}")] {
            for kind in [1, 28, 33, 255] {
                ask(&question(&name, kind));
            }
        }
    }
    answered
}

/// Laws of every reply; true when it carries an answer record.
fn check(packet: &[u8], reply: &Reply, transport: Transport) -> bool {
    let Reply::Packet(answer) = reply else { return false };
    assert!(answer.len() >= 12, "an answer has a header");
    assert_eq!(answer[..2], packet[..2], "an answer repeats the id");
    assert!(answer[2] & 0x80 != 0, "an answer says that it is one");
    // A refusal repeats the questions as they came, which may be more than one.
    let (code, answers) = (answer[3] & 0x0f, u16::from_be_bytes([answer[6], answer[7]]));
    if transport == Transport::Udp && code == 0 {
        assert!(answer.len() <= usize::from(UDP_PAYLOAD), "{} bytes over UDP", answer.len());
    }
    answers > 0
}

/// A question as a resolver writes it; labels that are too long are cut.
fn question(name: &str, kind: u16) -> Vec<u8> {
    let mut packet = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in name.split('.').filter(|label| !label.is_empty()).take(30) {
        let label = &label.as_bytes()[..label.len().min(63)];
        packet.push(u8::try_from(label.len()).unwrap_or(0));
        packet.extend_from_slice(label);
    }
    packet.push(0);
    packet.extend_from_slice(&kind.to_be_bytes());
    packet.extend_from_slice(&1u16.to_be_bytes());
    packet
}

/// A plain service, a crowded headless one, a wildcard.
fn table() -> NameTable {
    let port = |number| NamePort { name: "http".into(), number, protocol: String::new() };
    let endpoint = |i: u32| NameEndpoint {
        ip: format!("10.2.{}.{}", i / 200, i % 200),
        hostname: format!("db-{i}"),
        ports: vec![port(5000 + i)],
    };
    let service = |service: &str| NameEntry {
        host: format!("{service}.default.svc.cluster.local"),
        namespace: "default".into(),
        service: service.into(),
        ports: vec![port(80)],
        ..NameEntry::default()
    };
    let ips = vec!["240.240.0.1".to_owned(), "2001:2::1".to_owned()];
    NameTable {
        entries: vec![
            NameEntry { ips: ips.clone(), ..service("reviews") },
            NameEntry { headless: true, endpoints: (0..150).map(endpoint).collect(), ..service("db") },
            NameEntry { host: "*.example.com".into(), ips, ports: vec![port(443)], ..NameEntry::default() },
        ],
        cluster_domain: "cluster.local".into(),
        namespace: "default".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_good_input() {
        for packet in QUESTIONS {
            assert!(dns_question(packet), "{packet:02x?}");
        }
        for (n, input) in TABLES.iter().enumerate() {
            assert!(dns_names(input), "{n}");
        }
        let bytes = table().encode_to_vec();
        let len = u16::try_from(bytes.len()).unwrap();
        assert!(dns_names(&[&len.to_le_bytes()[..], &bytes].concat()));
    }
}

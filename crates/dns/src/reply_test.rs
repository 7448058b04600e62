use hickory_proto::rr::{Name, RecordType};

use super::*;
use crate::{NameEndpoint, NameTable, names::names_test::names, names::names_test::table};

fn question(name: &str, kind: RecordType, payload: Option<u16>) -> Vec<u8> {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload);
        message.set_edns(edns);
    }
    message.to_vec().unwrap()
}

fn ask(packet: &[u8], names: &Names, transport: Transport) -> Reply {
    reply(packet, names, Some("default"), Outside::Absent, transport, 0)
}

fn message(reply: Reply) -> Message {
    match reply {
        Reply::Packet(bytes) => Message::from_vec(&bytes).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_answer_repeats_id_question_and_case() {
    let answer = message(ask(&question("ReViews.", RecordType::A, None), &names(), Transport::Udp));
    assert_eq!(answer.metadata.id, 0x1234);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    assert_eq!(answer.queries[0].name().to_ascii(), "ReViews.");
    assert_eq!(answer.answers[0].name.to_ascii(), "ReViews.");
    assert!(answer.edns.is_none(), "an OPT only for those who sent one");
}

fn crowded() -> Names {
    let mut table: NameTable = table();
    let endpoint =
        |i: u32| NameEndpoint { ip: format!("10.2.{}.{}", i / 200, i % 200), ..NameEndpoint::default() };
    table.entries[3].endpoints = (0..200).map(endpoint).collect();
    Names::new(&table).0
}

#[test]
fn too_large_for_udp_is_cut_and_marked_and_whole_over_tcp() {
    let names = crowded();
    for (payload, limit) in [(None, 512), (Some(100), 512), (Some(1000), 1000), (Some(65_000), 1232)] {
        let packet = question("db.", RecordType::A, payload);
        let Reply::Packet(bytes) = ask(&packet, &names, Transport::Udp) else { panic!() };
        assert!(bytes.len() <= limit, "{} > {limit}", bytes.len());
        let answer = Message::from_vec(&bytes).unwrap();
        assert!(answer.metadata.truncation);
        assert!(answer.answers.len() > 10, "as many as fit");
        assert_eq!(answer.edns.is_some(), payload.is_some());
    }
    let whole = message(ask(&question("db.", RecordType::A, None), &names, Transport::Tcp));
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 200);
}

#[test]
fn what_is_no_plain_question_is_refused_by_name() {
    let names = names();
    let code = |packet: &[u8]| message(ask(packet, &names, Transport::Udp)).metadata.response_code;
    let good = question("reviews.", RecordType::A, Some(1232));
    let mut other = good.clone();
    other[2] = 5 << 3;
    assert_eq!(code(&other), ResponseCode::NotImp);
    let mut none = good.clone();
    none[5] = 0;
    assert_eq!(code(&none), ResponseCode::FormErr);
    assert_eq!(code(&good[..14]), ResponseCode::FormErr);
    let mut edns1 = good.clone();
    let version = good.len() - 5;
    edns1[version] = 1;
    // BADVERS and BADSIG are one number.
    assert_eq!(u16::from(code(&edns1)), u16::from(ResponseCode::BADVERS));
    let mut response = good.clone();
    response[2] |= 0x80;
    assert!(matches!(ask(&response, &names, Transport::Udp), Reply::Drop));
    assert!(matches!(ask(&good[..11], &names, Transport::Udp), Reply::Drop));
    assert!(matches!(
        ask(&question("a.example.", RecordType::A, None), &names, Transport::Udp),
        Reply::Forward
    ));
}

#[test]
fn no_packet_makes_it_panic() {
    let names = crowded();
    let mut random = fastrand::Rng::with_seed(8);
    let seeds = [
        question("reviews.", RecordType::A, Some(1232)),
        question("_peer._tcp.db.", RecordType::SRV, None),
        question("api.example.com.default.svc.cluster.local.", RecordType::ANY, Some(512)),
    ];
    for round in 0..60_000 {
        let mut packet = seeds[round % seeds.len()].clone();
        for _ in 0..random.usize(1..8) {
            match random.u8(0..4) {
                0 => packet.truncate(random.usize(0..=packet.len())),
                1 => packet.insert(random.usize(0..=packet.len()), random.u8(..)),
                _ if packet.is_empty() => packet.push(random.u8(..)),
                2 => {
                    let at = random.usize(0..packet.len());
                    packet[at] ^= 1 << random.u8(0..8);
                }
                _ => {
                    let at = random.usize(0..packet.len());
                    packet[at] = random.u8(..);
                }
            }
        }
        let transport = if random.bool() { Transport::Udp } else { Transport::Tcp };
        if let Reply::Packet(answer) = ask(&packet, &names, transport) {
            assert!(Message::from_vec(&answer).is_ok(), "round {round}: {packet:02x?}");
            assert_eq!(answer[..2], packet[..2]);
        }
        let _ = fit(&packet, packet.clone(), Transport::Udp);
        let _ = server_failure(&packet);
    }
}

use super::*;

/// The extension `server_name`.
pub(crate) fn named(name: &str) -> Vec<u8> {
    let entry = [&[0][..], &(name.len() as u16).to_be_bytes(), name.as_bytes()].concat();
    extension(0, &[&(entry.len() as u16).to_be_bytes()[..], &entry].concat())
}

pub(crate) fn offering(protocols: &[&[u8]]) -> Vec<u8> {
    let list: Vec<u8> = protocols.iter().flat_map(|p| [&[p.len() as u8][..], p].concat()).collect();
    extension(16, &[&(list.len() as u16).to_be_bytes()[..], &list].concat())
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(content.len() as u16).to_be_bytes(), content].concat()
}

/// A handshake message with these extensions.
fn message(extensions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0x13, 1, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let len = (body.len() as u32).to_be_bytes();
    [&[1, len[1], len[2], len[3]][..], &body].concat()
}

/// The message in records of at most `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| [&[22, 3, 1][..], &(part.len() as u16).to_be_bytes(), part].concat();
    message.chunks(size).flat_map(record).collect()
}

/// What is read of the bytes, however they arrive.
fn read(data: &[u8]) -> Progress {
    let whole = Reader::new(16 * 1024).read(data);
    let mut reader = Reader::new(16 * 1024);
    let ends = 1..=data.len();
    let piecewise = ends.map(|end| reader.read(&data[..end])).find(|progress| *progress != Progress::More);
    assert_eq!(piecewise.unwrap_or(Progress::More), whole, "in one piece and byte by byte");
    whole
}

#[test]
fn names_and_protocols_are_read_from_one_or_many_records() {
    let extensions =
        [extension(0x0a0a, &[]), named("Api.Example.COM"), offering(&[b"\x8a\x8a", b"h2", b"x"])].concat();
    let expected =
        ClientHello { server_name: Some("api.example.com".into()), protocols: vec!["h2".into(), "x".into()] };
    for size in [1, 2, 3, 100, RECORD] {
        let data = records(&message(&extensions), size);
        assert_eq!(read(&data), Progress::Whole(expected.clone()), "records of {size} bytes");
        assert_eq!(read(&data[..data.len() - 1]), Progress::More);
        // What follows is not ours to read.
        assert_eq!(read(&[&data[..], b"\x17\x03\x03early"].concat()), Progress::Whole(expected.clone()));
    }
    assert_eq!(read(&records(&message(&[]), RECORD)), Progress::Whole(ClientHello::default()));
}

#[test]
fn what_breaks_the_rules_is_no_hello() {
    let good = message(&named("a.b"));
    let mut other_message = good.clone();
    other_message[0] = 2;
    let mut longer_session = good.clone();
    longer_session[4 + 34] = 33;
    let mut bytes_behind = message(&named("a.b"));
    bytes_behind.push(0);
    bytes_behind[3] += 1;
    let cases: [(&str, Vec<u8>); 13] = [
        ("an alert between", [records(&good[..9], 9), vec![21, 3, 1, 0, 2, 1, 0]].concat()),
        ("an empty record", vec![22, 3, 1, 0, 0]),
        ("a record too long", vec![22, 3, 1, 0x40, 1]),
        ("no TLS", vec![22, 2, 1, 0, 9]),
        ("another message", records(&other_message, RECORD)),
        ("a long session id", records(&longer_session, RECORD)),
        ("bytes behind the extensions", records(&bytes_behind, RECORD)),
        ("two names", records(&message(&[named("a.b"), named("a.c")].concat()), RECORD)),
        ("an empty name", records(&message(&named("")), RECORD)),
        ("a zero in the name", records(&message(&named("a\0b")), RECORD)),
        ("a long name", records(&message(&named(&"a".repeat(254))), RECORD)),
        ("no protocol", records(&message(&offering(&[])), RECORD)),
        ("an empty protocol", records(&message(&offering(&[b"h2", b""])), RECORD)),
    ];
    for (what, data) in cases {
        assert_eq!(read(&data), Progress::Malformed, "{what}");
    }
}

#[test]
fn a_large_hello_is_refused_by_its_length() {
    let large = message(&extension(21, &[0; 16 * 1024 - 47]));
    assert_eq!(large.len(), 4 + 16 * 1024);
    assert!(matches!(read(&records(&large, RECORD)), Progress::Whole(_)));
    let larger = message(&extension(21, &[0; 16 * 1024 - 46]));
    assert_eq!(read(&records(&larger, RECORD)[..9]), Progress::TooLarge, "as soon as the length is known");
}

use super::{read as read_allowed, *};

fn read(data: &[u8]) -> Header {
    read_allowed(data, true, true)
}

fn ends(source: &str, destination: &str) -> Option<Ends> {
    Some(Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
}

/// Version 2 with these fields, and additions behind the addresses.
fn binary_of(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [&SIGNATURE[..], &[command, family], &(body.len() as u16).to_be_bytes(), body].concat()
}

const FOUR: [u8; 12] = [1, 2, 3, 4, 5, 6, 7, 8, 0, 80, 1, 187];

/// What is read, however it arrives and whatever follows.
fn read_all(data: &[u8]) -> Header {
    let whole = read(data);
    let first = (0..=data.len()).map(|end| read(&data[..end])).find(|header| *header != Header::More);
    assert_eq!(first.unwrap_or(Header::More), whole, "byte by byte");
    whole
}

#[test]
fn what_is_written_is_read() {
    let rows = [ends("1.2.3.4:5", "6.7.8.9:65535"), ends("[2001:db8::1]:1", "[::1]:2"), None];
    for version in [Version::V1, Version::V2] {
        for ends in rows {
            let mut bytes = Vec::new();
            write(&mut bytes, version, ends);
            let expected = Header::Whole { len: bytes.len(), version, ends };
            assert_eq!(read_all(&[&bytes[..], b"GET"].concat()), expected, "{bytes:?}");
            assert_eq!(read_all(&bytes[..bytes.len() - 1]), Header::More);
        }
        // One header has one family; an address of IPv4 in IPv6 is one of IPv4.
        for (given, same) in [
            (ends("[::ffff:1.2.3.4]:5", "6.7.8.9:1"), ends("1.2.3.4:5", "6.7.8.9:1")),
            (ends("1.2.3.4:5", "[::1]:1"), ends("[::ffff:1.2.3.4]:5", "[::1]:1")),
        ] {
            let mut bytes = Vec::new();
            write(&mut bytes, version, given);
            assert_eq!(read(&bytes), Header::Whole { len: bytes.len(), version, ends: same });
        }
    }
}

#[test]
fn additions_are_passed_over_and_what_is_not_known_is_no_address() {
    let v2 = |len, ends| Header::Whole { len, version: Version::V2, ends };
    let additions = [&FOUR[..], &[4, 0, 2, 9, 9], &[0xE0, 0, 0]].concat();
    assert_eq!(read_all(&binary_of(0x21, 0x11, &additions)), v2(36, ends("1.2.3.4:80", "5.6.7.8:443")));
    assert_eq!(read_all(&binary_of(0x20, 0x11, &FOUR)), v2(28, None), "LOCAL");
    assert_eq!(read_all(&binary_of(0x20, 0xff, &[1])), v2(17, None), "LOCAL of whatever");
    assert_eq!(read_all(&binary_of(0x21, 0x00, &[9])), v2(17, None), "unspecified");
    assert_eq!(read_all(&binary_of(0x21, 0x31, &[b'/'; 216])), v2(232, None), "Unix sockets");
    for text in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ::1 whatever 0\r\n"] {
        let expected = Header::Whole { len: text.len(), version: Version::V1, ends: None };
        assert_eq!(read_all(text.as_bytes()), expected);
    }
}

#[test]
fn what_the_specification_does_not_allow_is_malformed() {
    let lines = [
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
        "PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
    ];
    for line in lines {
        assert_eq!(read_all(line.as_bytes()), Header::Malformed, "{line:?}");
    }
    assert_eq!(read_all(format!("PROXY UNKNOWN{}\r\n", " ".repeat(92)).as_bytes()).clone(), {
        Header::Whole { len: 107, version: Version::V1, ends: None }
    });
    assert_eq!(read_all(format!("PROXY UNKNOWN{}\r\n", " ".repeat(93)).as_bytes()), Header::Malformed);
    for (command, family, body) in [
        (0x11, 0x11, &FOUR[..]),
        (0x22, 0x11, &FOUR),
        (0x21, 0x12, &FOUR),
        (0x21, 0x41, &FOUR),
        (0x21, 0x11, &FOUR[1..]),
        (0x21, 0x21, &FOUR),
        (0x21, 0x11, &[&FOUR[..], &[4, 0, 2, 9]].concat()),
        (0x21, 0x11, &[&FOUR[..], &[4, 0]].concat()),
    ] {
        let header = binary_of(command, family, body);
        assert_eq!(read_all(&header), Header::Malformed, "{header:?}");
    }
    let long = |len| binary_of(0x20, 0, &vec![0; len]);
    assert!(matches!(read(&long(LONGEST - 16)), Header::Whole { .. }));
    assert_eq!(read(&long(LONGEST - 15)[..16]), Header::Malformed, "as soon as the length is known");
}

#[test]
fn what_does_not_begin_like_a_header_is_none() {
    for data in [&b"GET / HTTP/1.1\r\n"[..], b"PROX ", b"\r\n\r\n\r\n", b"\x16\x03\x01", b"PROXY\t"] {
        assert_eq!(read_all(data), Header::Absent);
    }
    assert_eq!(read(b""), Header::More);
    // What is not allowed is no header either, from its first byte on.
    assert_eq!(read_allowed(b"P", false, true), Header::Absent);
    assert_eq!(read_allowed(SIGNATURE, true, false), Header::Absent);
}

//! Every example of RFC 7541, appendix C.

use super::{Decoder, Encoder, Index};

type Fields<'a> = &'a [(&'a str, &'a str)];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn decoded(decoder: &mut Decoder, hex: &str) -> Vec<(String, String, bool)> {
    let mut fields = Vec::new();
    let done: Result<(), super::Error<()>> = decoder.decode(&bytes(hex), |name, value, never| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        fields.push((text(name), text(value), never));
        Ok(())
    });
    done.unwrap();
    fields
}

fn expect(decoder: &mut Decoder, hex: &str, fields: Fields<'_>) {
    let wanted: Vec<_> = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned(), false)).collect();
    assert_eq!(decoded(decoder, hex), wanted);
}

#[test]
fn c1_integers() {
    use super::integer::{read, write};
    for (bits, value, hex) in [(5, 10, "0a"), (5, 1337, "1f9a0a"), (8, 42, "2a")] {
        let mut out = Vec::new();
        write(&mut out, 0, bits, value);
        assert_eq!(out, bytes(hex));
        assert_eq!(read(&mut out.as_slice(), bits), Ok(value));
    }
}

#[test]
fn c2_fields() {
    let mut decoder = Decoder::new(4096);
    expect(
        &mut decoder,
        "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572",
        &[("custom-key", "custom-header")],
    );
    expect(&mut decoder, "be", &[("custom-key", "custom-header")]);
    expect(&mut decoder, "040c 2f73 616d 706c 652f 7061 7468", &[(":path", "/sample/path")]);
    let secret = decoded(&mut decoder, "1008 7061 7373 776f 7264 0673 6563 7265 74");
    assert_eq!(secret, [("password".to_owned(), "secret".to_owned(), true)]);
    expect(&mut decoder, "82", &[(":method", "GET")]);
    expect(&mut decoder, "be", &[("custom-key", "custom-header")]);
}

const REQUESTS: [Fields<'_>; 3] = [
    &[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")],
    &[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "www.example.com"),
        ("cache-control", "no-cache"),
    ],
    &[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ],
];

#[test]
fn c3_requests() {
    let mut decoder = Decoder::new(4096);
    let blocks = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    for (block, fields) in blocks.into_iter().zip(REQUESTS) {
        expect(&mut decoder, block, fields);
    }
}

#[test]
fn c4_requests_coded() {
    let blocks = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    let (mut decoder, mut encoder) = (Decoder::new(4096), Encoder::new());
    for (block, fields) in blocks.into_iter().zip(REQUESTS) {
        expect(&mut decoder, block, fields);
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in fields {
            encoder.field(&mut out, name.as_bytes(), value.as_bytes(), Index::Yes);
        }
        assert_eq!(out, bytes(block), "the encoder makes the same choices as the example");
    }
}

const COOKIE: &str = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
const PLACE: (&str, &str) = ("location", "https://www.example.com");
const FIRST: (&str, &str) = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
const RESPONSES: [Fields<'_>; 3] = [
    &[(":status", "302"), ("cache-control", "private"), FIRST, PLACE],
    &[(":status", "307"), ("cache-control", "private"), FIRST, PLACE],
    &[
        (":status", "200"),
        ("cache-control", "private"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
        PLACE,
        ("content-encoding", "gzip"),
        ("set-cookie", COOKIE),
    ],
];

/// These examples evict entries: the table is one of 256.
#[test]
fn c5_responses() {
    let mut decoder = Decoder::new(256);
    let blocks = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 \
         3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 \
         7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 \
         6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    ];
    for (block, fields) in blocks.into_iter().zip(RESPONSES) {
        expect(&mut decoder, block, fields);
    }
}

#[test]
fn c6_responses_coded() {
    let mut decoder = Decoder::new(256);
    let blocks = [
        "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad \
         1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 \
         e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    for (block, fields) in blocks.into_iter().zip(RESPONSES) {
        expect(&mut decoder, block, fields);
    }
}

/// The encoder's way through the same responses: it announces the smaller table, evicts as the examples do, and codes
/// where that is shorter, which `307` is not.
#[test]
fn c6_responses_encoded() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    encoder.set_max_table_size(256);
    let mut blocks = Vec::new();
    for fields in RESPONSES {
        let mut out = Vec::new();
        encoder.begin(&mut out);
        for (name, value) in fields {
            encoder.field(&mut out, name.as_bytes(), value.as_bytes(), Index::Yes);
        }
        let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
        expect(&mut decoder, &hex, fields);
        blocks.push(out);
    }
    assert!(blocks[0].starts_with(&bytes("3fe1 0148 8264 0258 85ae")), "the size comes first");
    assert_eq!(blocks[1], bytes("4803 3330 37c1 c0bf"));
    assert!(blocks[2].starts_with(&bytes("88c1 6196")), "{:x?}", blocks[2]);
}

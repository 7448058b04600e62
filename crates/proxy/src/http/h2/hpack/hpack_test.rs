use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

type Field = (Vec<u8>, Vec<u8>, Index);
/// Name, value, and whether it must never be indexed.
type Found = (Vec<u8>, Vec<u8>, bool);

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<Found>, Error<Infallible>> {
    let mut fields = Vec::new();
    decoder.decode(block, |name, value, never| {
        fields.push((name.to_vec(), value.to_vec(), never));
        Ok(())
    })?;
    Ok(fields)
}

fn encode(encoder: &mut Encoder, fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.begin(&mut out);
    for (name, value, index) in fields {
        encoder.field(&mut out, name, value, *index);
    }
    out
}

fn text(name: &str, value: &str, index: Index) -> Field {
    (name.into(), value.into(), index)
}

/// Few names and values, so that blocks meet what is in the table; and some of every kind of length and byte.
fn field() -> impl Strategy<Value = Field> {
    let name = prop_oneof![
        4 => prop::sample::select(vec![":path", ":status", "cookie", "a", "b", "grpc-status", "x-request-identity"])
            .prop_map(|name| name.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    let value = prop_oneof![
        4 => prop::sample::select(vec!["/", "200", "0", "", "gzip, deflate", "application/grpc+proto"])
            .prop_map(|value| value.as_bytes().to_vec()),
        2 => "[a-z0-9/-]{0,60}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..80),
        1 => prop::collection::vec(any::<u8>(), 0..3000),
    ];
    (name, value, prop::sample::select(vec![Index::Yes, Index::Yes, Index::No, Index::Never]))
}

/// Sizes that the receiving side sets, one after the other, before a block.
fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        3 => Just(Vec::new()),
        2 => prop::collection::vec(prop_oneof![Just(0usize), 30..200usize, Just(4096), Just(20_000)], 1..4),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(
        blocks in prop::collection::vec((sizes(), prop::collection::vec(field(), 0..20)), 1..12)
    ) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
        for (sizes, fields) in blocks {
            for size in sizes {
                decoder.set_max_table_size(size);
                encoder.set_max_table_size(size);
            }
            let block = encode(&mut encoder, &fields);
            let found = decode(&mut decoder, &block).unwrap();
            let wanted: Vec<_> = fields.into_iter().map(|(n, v, index)| (n, v, index == Index::Never)).collect();
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6)) {
        let mut decoder = Decoder::new(4096);
        for block in blocks {
            let _ = decode(&mut decoder, &block);
        }
    }

    #[test]
    fn any_text_has_a_code(text in prop::collection::vec(any::<u8>(), 0..300)) {
        let (mut coded, mut back) = (Vec::new(), Vec::new());
        huffman::encode(&mut coded, &text);
        prop_assert_eq!(coded.len(), huffman::coded_len(&text));
        huffman::decode(&coded, &mut back).unwrap();
        prop_assert!(back.len() <= huffman::most(coded.len()));
        prop_assert_eq!(back, text);
    }
}

#[test]
fn padding_is_short_and_of_ones() {
    let decode = |coded: &[u8]| {
        let mut out = Vec::new();
        huffman::decode(coded, &mut out).map(|()| out)
    };
    assert_eq!(decode(b""), Ok(vec![]));
    assert_eq!(decode(b"\x1f"), Ok(b"a".to_vec()), "three ones behind `a`");
    assert_eq!(decode(b"\x18"), Err(Fault::Huffman), "three zeros");
    assert_eq!(decode(b"\x1e"), Err(Fault::Huffman), "the last bit is zero");
    assert_eq!(decode(b"\xff"), Err(Fault::Huffman), "eight ones");
    assert_eq!(decode(b"\x1f\xff"), Err(Fault::Huffman), "eleven ones");
    assert_eq!(decode(b"\xf8\xff"), Err(Fault::Huffman), "`&` and eight ones");
    assert_eq!(decode(b"\xff\xff\xff\xff"), Err(Fault::Huffman), "the end-of-string symbol");
    assert_eq!(
        decode(b"\x1f\xff\xff\xff\xff\xff\xff"),
        Err(Fault::Huffman),
        "the end-of-string symbol behind `a`"
    );
    assert_eq!(decode(b"\xff\xff\xff\xf0"), Err(Fault::Huffman), "a code that is cut");
}

#[test]
fn broken_blocks_are_refused() {
    for (block, fault) in [
        (&b"\x80"[..], Fault::Index),
        (b"\xbe", Fault::Index),
        (b"\x7e\x01a", Fault::Index),
        (b"\x0f\x2f\x01a", Fault::Index),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", Fault::Integer),
        (b"\x40", Fault::Truncated),
        (b"\x40\x01", Fault::Truncated),
        (b"\x40\x01a", Fault::Truncated),
        (b"\x40\x01a\x02b", Fault::Truncated),
        (b"\x00\x7f\xff\xff\xff\xff\x0e", Fault::Truncated),
        (b"\xff", Fault::Truncated),
        (b"\x00\x01a\x82\xff\xff", Fault::Huffman),
        (b"\x82\x20", Fault::SizePlace),
        (b"\x20\x20\x20", Fault::SizePlace),
        (b"\x3f\xe2\x1f", Fault::SizeLimit),
        (b"\x20\x3f\xe2\x1f", Fault::SizeLimit),
    ] {
        let found = decode(&mut Decoder::new(4096), block);
        assert_eq!(found, Err(Error::Compression(fault)), "{block:x?}");
    }
}

#[test]
fn a_smaller_limit_has_to_be_answered_by_the_next_block() {
    let mut decoder = Decoder::new(4096);
    decoder.set_max_table_size(100);
    decoder.set_max_table_size(200);
    for (block, fault) in [
        (&b"\x82"[..], Fault::SizeMissing),
        (b"", Fault::SizeMissing),
        (b"\x3f\x46\x82", Fault::SizeMissing),           // 101 at first
        (b"\x3f\x45\x3f\xaa\x01\x82", Fault::SizeLimit), // 100, then 201
    ] {
        let mut decoder = Decoder::new(4096);
        decoder.set_max_table_size(100);
        decoder.set_max_table_size(200);
        assert_eq!(decode(&mut decoder, block), Err(Error::Compression(fault)), "{block:x?}");
    }
    assert_eq!(decode(&mut decoder, b"\x3f\x45\x3f\xa9\x01\x82").unwrap().len(), 1, "100, then 200");
    assert_eq!(decode(&mut decoder, b"\x82").unwrap().len(), 1, "once is enough");
    decoder.set_max_table_size(4096);
    assert_eq!(decode(&mut decoder, b"\x82").unwrap().len(), 1, "a larger limit need not be used");
}

#[test]
fn a_refused_field_leaves_the_table_right() {
    let mut decoder = Decoder::new(4096);
    let mut seen = 0;
    let refused = decoder.decode(b"\x40\x01a\x01b\x82\x40\x01c\x01d", |_, _, _| {
        seen += 1;
        Err("no")
    });
    assert_eq!((refused, seen), (Err(Error::Field("no")), 1));
    let rest = decode(&mut decoder, b"\xbe\xbf").unwrap();
    assert_eq!(rest, [(b"c".to_vec(), b"d".to_vec(), false), (b"a".to_vec(), b"b".to_vec(), false)]);
    let broken = decoder.decode(b"\x82\x80", |_, _, _| Err(()));
    assert_eq!(broken, Err(Error::Compression(Fault::Index)), "a broken block is worse");
}

/// RFC 7541, 4.4: a new entry may take its name from one that it pushes out.
#[test]
fn an_entry_may_be_named_by_one_that_it_evicts() {
    let mut decoder = Decoder::new(80);
    decode(&mut decoder, b"\x40\x04name\x04long").unwrap();
    let value = [b"\x7e\x28".as_slice(), &[b'v'; 40]].concat();
    assert_eq!(decode(&mut decoder, &value).unwrap()[0], (b"name".to_vec(), vec![b'v'; 40], false));
    assert_eq!(decode(&mut decoder, b"\xbe").unwrap()[0].0, b"name");
    assert_eq!(decode(&mut decoder, b"\xbf"), Err(Error::Compression(Fault::Index)), "the first is gone");
    let too_large = [b"\x7e\x40".as_slice(), &[b'v'; 64]].concat();
    assert_eq!(decode(&mut decoder, &too_large).unwrap()[0].0, b"name");
    assert_eq!(decode(&mut decoder, b"\xbe"), Err(Error::Compression(Fault::Index)), "the table is empty");
}

#[test]
fn what_comes_again_is_a_byte() {
    let mut encoder = Encoder::new();
    let headers = [
        text(":method", "POST", Index::Yes),
        text(":authority", "echo.default.svc:50051", Index::Yes),
        text("content-type", "application/grpc", Index::Yes),
        text("te", "trailers", Index::Yes),
    ];
    let trailers = [text("grpc-status", "0", Index::Yes), text("grpc-message", "", Index::Yes)];
    encode(&mut encoder, &headers);
    encode(&mut encoder, &trailers);
    for _ in 0..3 {
        assert_eq!(encode(&mut encoder, &headers), [0x83, 62 + 4, 62 + 3, 62 + 2].map(|byte| byte | 0x80));
        assert_eq!(encode(&mut encoder, &trailers), [62 + 1, 62].map(|byte| byte | 0x80));
        assert_eq!(encode(&mut encoder, &trailers[1..]), [62 | 0x80], "also out of order");
    }
}

#[test]
fn what_varies_takes_no_room() {
    let mut encoder = Encoder::new();
    for call in 0..1000 {
        let secret = text("x-key", &call.to_string(), Index::Never);
        assert!(encode(&mut encoder, &[secret]).starts_with(b"\x10"), "no name, never indexed");
        let trace = text("traceparent", &format!("00-{call:032x}-{call:016x}-01"), Index::No);
        let block = encode(&mut encoder, &[trace]);
        assert!(call == 0 || block.starts_with(&[0x0f, 63 - 15]), "its name is known: {block:x?}");
        let path = text(":path", &format!("/shop/{call}"), Index::No);
        assert!(encode(&mut encoder, &[path]).starts_with(b"\x04"));
        let agent = encode(&mut encoder, &[text("user-agent", "grpc-go/1.80", Index::Yes)]);
        assert!(call == 0 || agent == [0xbe], "it stays the newest entry");
    }
}

#[test]
fn entries_fill_the_table_to_the_last_byte() {
    for (size, both) in [(68, true), (67, false)] {
        let mut decoder = Decoder::new(size);
        decode(&mut decoder, b"\x40\x01a\x01b\x40\x01c\x01d").unwrap();
        assert_eq!(decode(&mut decoder, b"\xbe").unwrap()[0].0, b"c");
        assert_eq!(decode(&mut decoder, b"\xbf").is_ok(), both, "a table of {size}");
    }
}

#[test]
fn a_peer_that_allows_more_does_not_get_more() {
    let mut encoder = Encoder::new();
    encoder.set_max_table_size(1 << 20);
    assert!(encode(&mut encoder, &[]).is_empty());
    encoder.set_max_table_size(0);
    encoder.set_max_table_size(1 << 20);
    assert_eq!(encode(&mut encoder, &[]), b"\x20\x3f\xe1\x1f", "0, then 4096");
}

#[test]
fn memory_is_bounded_and_comes_with_use() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(4096));
    assert_eq!((encoder.memory(), decoder.memory()), (0, 0), "a connection that was not used");
    for call in 0..5000usize {
        let long = "v".repeat(if call % 100 == 0 { 60_000 } else { call % 300 });
        let block =
            encode(&mut encoder, &[text("x", &format!("{call}"), Index::Yes), text("y", &long, Index::Yes)]);
        decode(&mut decoder, &block).unwrap();
        assert!(
            encoder.memory() < 16 << 10 && decoder.memory() < 16 << 10,
            "{} {}",
            encoder.memory(),
            decoder.memory()
        );
    }
}

#[test]
fn nothing_is_kept_where_the_peer_wants_no_table() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(0));
    encoder.set_max_table_size(0);
    for first in [&b"\x20"[..], b""] {
        let block = encode(&mut encoder, &[text("a", "b", Index::Yes), text("a", "c", Index::No)]);
        assert!(block.starts_with(first) && block[first.len()] == 0, "{block:x?}");
        assert_eq!(decode(&mut decoder, &block).unwrap().len(), 2);
    }
}

//! Header blocks of HTTP/2, and fields on their way into one.

use std::convert::Infallible;

use heddle_proxy::http::h2::hpack::{DEFAULT_TABLE, Decoder, Encoder, Error, Index};

/// After the length of each block: fields from the tables, literals of every kind, with and without Huffman codes, new
/// sizes, and entries that push out others.
pub(crate) const BLOCKS: &[&[u8]] = &[
    b"\x11\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x0c\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf",
    b"\x0e\x04\x0c/sample/path\x11\x10\x08password\x06secret\x04\x40\x01a\x00\x01\xbe",
    b"\x03\x3f\x11\x82\x07\x20\x3f\xe1\x1f\x00\x00\x00\x1a\x3f\x21\x40\x0acustom-key\x0acustom-val\xbe",
    b"\x06\x48\x82\x64\x02\x88\xbe\x0c\x40\x82\x64\x02\x86\xa8\xeb\x10\x64\x9c\xbf\xbe",
    b"4@\x01a\x011@\x02bb\x011@\x02cc\x011@\x01d\x011@\x01e\x011@\x01f\x011@\x01g\x011@\x01h\x011@\x01i\x011@\x01j\x011\x0d\xbe\xbf\xc0\xc1\xc2\xc3\xc4\xc5\xc6\xc7\xc4\xbe\xc7",
];

/// A byte for the kind and size, and then the lengths of a name and a value before their bytes.
pub(crate) const FIELDS: &[&[u8]] = &[
    b"\x00\x07\x04:methodPOST\x00\x05\x14:pathpackage.Service/Call\x00\x02\x08tetrailers\x00\x02\x08tetrailers",
    b"\x01\x0c\x05grpc-timeout1000m\x01\x0c\x05grpc-timeout2000m\x02\x0d\x06authorizationsecret",
    b"\x03\x00\x00\x00\x04\x05aaaabbbbb\x07\x00\x00\x00\x04\x05aaaabbbbb\x0b\x00\x00\x00\x01\x01ab\x00\x01\x01ab",
    b"\x00\x01\x01a1\x00\x02\x01bb1\x00\x02\x01cc1\x00\x01\x01d1\x00\x01\x01e1\x00\x01\x01f1\x00\x01\x01g1\x00\x01\x01h1\x00\x01\x01i1\x00\x01\x01j1\x04\x01\x01k2\x00\x01\x01a1\x00\x02\x01bb1\x00\x02\x01cc1\x00\x01\x01d1\x00\x01\x01e1\x00\x01\x01f1\x00\x01\x01g1\x00\x01\x01h1\x00\x01\x01i1\x00\x01\x01j1\x00\x01\x01g1\x00\x01\x01a1",
];

/// Bounds of what one block may become: every byte of it could name the largest entry.
const LARGEST_FIELD: usize = 4096;

const SMALL_TABLE: usize = 256;

/// Blocks of one connection. What they hold is encoded, and has to be decoded as the same. True when a block held a field.
pub fn hpack_blocks(data: &[u8]) -> bool {
    let (mut encoder, mut again) = (Encoder::new(), Decoder::new(DEFAULT_TABLE));
    // A small table, so that entries push out others.
    encoder.set_max_table_size(SMALL_TABLE);
    again.set_max_table_size(SMALL_TABLE);
    let mut decoder = Decoder::new(DEFAULT_TABLE);
    let (mut rest, mut deep) = (data, false);
    while let [len, tail @ ..] = rest {
        let (block, behind) = tail.split_at(usize::from(*len).min(tail.len()));
        rest = behind;
        let mut fields = Vec::new();
        let done: Result<(), Error<Infallible>> = decoder.decode(block, |name, value, never| {
            let largest = LARGEST_FIELD + block.len() * 8 / 5;
            assert!(name.len() + value.len() <= largest, "a field is no longer than the table or the block");
            fields.push((name.to_vec(), value.to_vec(), if never { Index::Never } else { Index::Yes }));
            Ok(())
        });
        if done.is_err() {
            return false;
        }
        assert!(fields.len() <= block.len(), "a field takes a byte");
        deep |= !fields.is_empty();
        same(&mut encoder, &mut again, &fields);
    }
    deep
}

/// Fields of several blocks, with new table sizes between them, encoded and decoded. True when there was one.
pub fn hpack_fields(data: &[u8]) -> bool {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new(DEFAULT_TABLE));
    let (mut rest, mut fields, mut deep) = (data, Vec::new(), false);
    while let [kind, name, value, tail @ ..] = rest {
        let (name, tail) = tail.split_at(usize::from(*name).min(tail.len()));
        let (value, tail) = tail.split_at(usize::from(*value).min(tail.len()));
        rest = tail;
        if kind & 3 == 3 {
            same(&mut encoder, &mut decoder, &fields);
            fields.clear();
            let size = usize::from(*kind) << 5;
            encoder.set_max_table_size(size);
            decoder.set_max_table_size(size);
            continue;
        }
        fields.push((
            name.to_vec(),
            value.to_vec(),
            [Index::Yes, Index::No, Index::Never][usize::from(kind & 3)],
        ));
        deep = true;
        if kind & 4 != 0 {
            same(&mut encoder, &mut decoder, &fields);
            fields.clear();
        }
    }
    same(&mut encoder, &mut decoder, &fields);
    deep
}

fn same(encoder: &mut Encoder, decoder: &mut Decoder, fields: &[(Vec<u8>, Vec<u8>, Index)]) {
    let mut block = Vec::new();
    encoder.begin(&mut block);
    for (name, value, index) in fields {
        encoder.field(&mut block, name, value, *index);
    }
    let mut wanted = fields.iter();
    let done: Result<(), Error<Infallible>> = decoder.decode(&block, |name, value, never| {
        let (n, v, index) = wanted.next().expect("no field more");
        assert!(name == n && value == v && never == (*index == Index::Never), "the same field");
        Ok(())
    });
    assert_eq!(done, Ok(()), "what is encoded is good");
    assert!(wanted.next().is_none(), "no field less");
}

use super::*;

#[test]
fn a_head_is_read_as_it_was_written() {
    let mut out = Vec::new();
    head(&mut out, 0x0001_0203, DATA, END_STREAM, 0x7fff_fffe);
    let expected = Head { len: 0x0001_0203, kind: DATA, flags: END_STREAM, stream: 0x7fff_fffe };
    assert_eq!(Head::parse(&out), Some(expected));
    assert_eq!(Head::parse(&out[..8]), None);
    // The highest bit of a stream is reserved and ignored.
    out[5] |= 0x80;
    assert_eq!(Head::parse(&out), Some(expected));
}

#[test]
fn padding_is_taken_off() {
    let padded = |flags, payload: &'static [u8]| {
        let head = Head { len: payload.len(), kind: HEADERS, flags, stream: 3 };
        head.block(payload)
    };
    assert_eq!(padded(0, b"abc"), Ok((&b"abc"[..], false)));
    assert_eq!(padded(PADDED, b"\x02abc\0\0"), Ok((&b"abc"[..], false)));
    assert_eq!(padded(PADDED, b"\x00abc"), Ok((&b"abc"[..], false)));
    assert_eq!(padded(PADDED, b"\x04abc"), Err(Fault::PROTOCOL));
    assert_eq!(padded(PADDED, b""), Err(Fault::SIZE));
    assert_eq!(padded(PRIORITIZED, b"\0\0\0\x05\x10abc"), Ok((&b"abc"[..], false)));
    assert_eq!(padded(PRIORITIZED, b"\x80\0\0\x03\x10abc"), Ok((&b"abc"[..], true)));
    assert_eq!(padded(PRIORITIZED | PADDED, b"\x01\0\0\0\x05\x10abc\0"), Ok((&b"abc"[..], false)));
    assert_eq!(padded(PRIORITIZED, b"\0\0\0\x05"), Err(Fault::SIZE));
}

#[test]
fn a_block_that_is_too_long_for_one_frame_goes_in_several() {
    for len in [0, 1, 9, 10, 11, 20, 35] {
        let block: Vec<u8> = (0..len).collect();
        let mut out = b"before".to_vec();
        out.extend_from_slice(&[0; HEAD]);
        out.extend_from_slice(&block);
        close_block(&mut out, 6, END_STREAM, 7, 10);
        let (mut rest, mut joined, mut frames) = (&out[6..], Vec::new(), 0);
        while let Some(head) = Head::parse(rest) {
            assert_eq!(head.kind, if frames == 0 { HEADERS } else { CONTINUATION });
            assert_eq!(head.stream, 7);
            assert_eq!(head.flags & END_STREAM != 0, frames == 0);
            joined.extend_from_slice(&rest[HEAD..HEAD + head.len]);
            rest = &rest[HEAD + head.len..];
            frames += 1;
            assert_eq!(head.has(END_HEADERS), rest.is_empty());
        }
        assert_eq!(joined, block);
        assert_eq!(frames, usize::from(len).div_ceil(10).max(1));
    }
}

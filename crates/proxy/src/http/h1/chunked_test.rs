use super::super::framing::{Decoder, Framing};
use super::*;

/// Feeds `input` in pieces of `step` bytes and returns body and unread rest.
fn decode(input: &[u8], step: usize) -> Result<(Vec<u8>, Vec<u8>, bool), Malformed> {
    let mut decoder = Decoder::new(Framing::Chunked);
    let (mut buffer, mut body, mut end) = (Vec::new(), Vec::new(), false);
    for piece in input.chunks(step) {
        buffer.extend_from_slice(piece);
        while !end {
            match decoder.look(&buffer)? {
                Found::Data { skip, len } => {
                    body.extend_from_slice(&buffer[skip..skip + len]);
                    decoder.took(len);
                    buffer.drain(..skip + len);
                }
                Found::More { skip } => {
                    buffer.drain(..skip);
                    break;
                }
                Found::End { skip } => {
                    buffer.drain(..skip);
                    end = true;
                }
            }
        }
    }
    Ok((body, buffer, end))
}

#[test]
fn reads_in_pieces_of_any_size() {
    let input = b"5\r\nhello\r\n6;ext=\"v\"\r\n world\r\n0\r\nX-T: 1\r\n\r\nNEXT";
    for step in 1..input.len() {
        let (body, rest, end) = decode(input, step).unwrap();
        assert_eq!(body, b"hello world");
        assert_eq!(rest, b"NEXT");
        assert!(end);
    }
}

#[test]
fn trailers_are_kept_without_those_that_frame() {
    let mut decoder = Chunks::default();
    let input = b"0\r\nGrpc-Status: 0\r\nContent-Length: 7\r\n\r\n";
    assert_eq!(decoder.look(input), Ok(Found::End { skip: input.len() }));
    assert_eq!(decoder.trailers.get("grpc-status"), Some(&b"0"[..]));
    assert_eq!(decoder.trailers.len(), 1);
}

#[test]
fn refuses_what_others_read_differently() {
    for input in [
        "\r\n",
        "g\r\n",
        "5\n",
        " 5\r\nhello\r\n",
        "5 x\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "-1\r\n",
        "5\r\nhelloX\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\r\n",
        "ffffffffffffffff\r\n",
        "0\r\nbad name: x\r\n\r\n",
        "0\r\nnocolon\r\n\r\n",
        "0\r\nA: \0\r\n\r\n",
    ] {
        assert!(decode(input.as_bytes(), 64).is_err(), "{input:?}");
    }
    let endless = format!("5;{}", "x".repeat(5000));
    assert!(decode(endless.as_bytes(), 8192).is_err());
}

//! Messages taken apart before they are decoded: decoded, a long list takes many times its bytes.

use bytes::{Buf as _, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, encode_key, skip_field};
use prost::{DecodeError, Message};

use super::judge::{Compiled, Refusal};

/// A message from its bytes.
pub(crate) fn decoded<M: Message + Default>(bytes: &Bytes) -> Compiled<M> {
    M::decode(&**bytes).map_err(undecodable)
}

/// The elements of one repeated field as they stand in a message, and the message without them.
pub(super) fn apart<M: Message + Default>(message: &Bytes, field: u32) -> Compiled<(Vec<Bytes>, M)> {
    let (elements, others) = split(message, field).map_err(undecodable)?;
    Ok((elements, decoded(&others.into())?))
}

fn undecodable(error: DecodeError) -> Refusal {
    Refusal::new("", format!("does not decode: {error}"))
}

fn split(message: &Bytes, field: u32) -> Result<(Vec<Bytes>, Vec<u8>), DecodeError> {
    let (mut rest, mut elements, mut others) = (message.clone(), Vec::new(), Vec::new());
    while rest.has_remaining() {
        let (tag, wire) = decode_key(&mut rest)?;
        if tag == field && wire == WireType::LengthDelimited {
            let mut element = Bytes::new();
            prost::encoding::bytes::merge(wire, &mut element, &mut rest, DecodeContext::default())?;
            elements.push(element);
            continue;
        }
        let mut value = rest.clone();
        skip_field(wire, tag, &mut rest, DecodeContext::default())?;
        value.truncate(value.len() - rest.len());
        encode_key(tag, wire, &mut others);
        others.extend_from_slice(&value);
    }
    Ok((elements, others))
}

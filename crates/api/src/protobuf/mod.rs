//! Bodies in Kubernetes' protobuf: what typed clients (kubectl's `create` commands among them) send for
//! core kinds without asking whether the server can read it. Answers are always JSON.
//!
//! One table of messages ([`messages`]) and one reader.

mod messages;

use base64::Engine as _;
use serde_json::{Map, Value};

use messages::{
    Field,
    Type::{self, BytesMap, Choice, Fields, Flag, Int, IntOrString, Message, Text, TextMap, Time},
    message_of, one,
};

use crate::error::ApiError;

pub(crate) const MEDIA: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";

/// The object of a body; 415 for a kind that is not in the table, so that the client may try JSON.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, ApiError> {
    let broken = || ApiError::bad_request("the body of the request is not valid Kubernetes protobuf");
    let envelope = bytes.strip_prefix(MAGIC).ok_or_else(broken)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader(envelope);
    while !reader.0.is_empty() {
        match reader.field().ok_or_else(broken)? {
            (1, Wire::Bytes(types)) => {
                let told = object(types, &[one(1, "apiVersion", Text), one(2, "kind", Text)]);
                let told = told.ok_or_else(broken)?;
                let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                (api_version, kind) = (text("apiVersion"), text("kind"));
            }
            (2, Wire::Bytes(content)) => raw = content,
            _ => {}
        }
    }
    let fields = message_of(&api_version, &kind).ok_or_else(|| {
        ApiError::media_type(&format!("{MEDIA} of {api_version} {kind}"), crate::body::OBJECT)
    })?;
    let mut value = object(raw, fields).ok_or_else(broken)?;
    value.insert("apiVersion".to_owned(), api_version.into());
    value.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(value))
}

/// A value on the wire.
enum Wire<'b> {
    Number(u64),
    Bytes(&'b [u8]),
    /// Of fixed width: no field of ours.
    Other,
}

struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for index in 0..10 {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f).checked_shl(7 * index)?;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'b [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<(u32, Wire<'b>)> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok()?;
        let wire = match key & 7 {
            0 => Wire::Number(self.varint()?),
            1 => self.take(8).map(|_| Wire::Other)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Wire::Other)?,
            _ => return None,
        };
        Some((number, wire))
    }
}

/// Decodes a message; `None` when it is broken. Nesting is bounded by the table.
fn object(bytes: &[u8], fields: &[Field]) -> Option<Map<String, Value>> {
    let mut reader = Reader(bytes);
    let mut object = Map::new();
    while !reader.0.is_empty() {
        let (number, wire) = reader.field()?;
        let Some(field) = fields.iter().find(|f| f.number == number) else { continue };
        if let (TextMap | BytesMap, Wire::Bytes(entry)) = (field.of, &wire) {
            let (key, value) = entry_of(entry, matches!(field.of, BytesMap))?;
            if let Some(map) = object.entry(field.name).or_insert_with(|| Map::new().into()).as_object_mut() {
                map.insert(key, value);
            }
            continue;
        }
        let Some(value) = value_of(field.of, &wire)? else { continue };
        if !field.list {
            object.insert(field.name.to_owned(), value);
        } else if let Some(list) =
            object.entry(field.name).or_insert_with(|| Vec::<Value>::new().into()).as_array_mut()
        {
            list.push(value);
        }
    }
    Some(object)
}

/// `Some(None)`: the value of a field that JSON leaves out.
#[expect(clippy::option_option, reason = "broken and absent are different")]
fn value_of(of: Type, wire: &Wire<'_>) -> Option<Option<Value>> {
    let value = match (of, wire) {
        (Text, Wire::Bytes(b"")) => None,
        (Text, Wire::Bytes(bytes)) => Some(std::str::from_utf8(bytes).ok()?.into()),
        (Int, Wire::Number(0)) | (Flag, Wire::Number(0)) => None,
        (Int, Wire::Number(number)) => Some(number.cast_signed().into()),
        (Flag | Choice, Wire::Number(number)) => Some((*number != 0).into()),
        (Time, Wire::Bytes(bytes)) => time(bytes)?,
        (IntOrString, Wire::Bytes(bytes)) => int_or_string(bytes)?,
        (Fields, Wire::Bytes(bytes)) => {
            let mut reader = Reader(bytes);
            let mut fields = None;
            while !reader.0.is_empty() {
                if let (1, Wire::Bytes(raw)) = reader.field()? {
                    fields = serde_json::from_slice(raw).ok();
                }
            }
            fields
        }
        (Message(fields), Wire::Bytes(bytes)) => {
            let object = object(bytes, fields)?;
            (!object.is_empty()).then_some(Value::Object(object))
        }
        _ => return None,
    };
    Some(value)
}

fn base64(bytes: &[u8]) -> Value {
    base64::engine::general_purpose::STANDARD.encode(bytes).into()
}

fn entry_of(bytes: &[u8], in_base64: bool) -> Option<(String, Value)> {
    let (mut key, mut value) = (String::new(), &[][..]);
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        match reader.field()? {
            (1, Wire::Bytes(bytes)) => key = std::str::from_utf8(bytes).ok()?.to_owned(),
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => {}
        }
    }
    let value = if in_base64 { base64(value) } else { std::str::from_utf8(value).ok()?.into() };
    Some((key, value))
}

/// Two numbers, as in Timestamp; the zero time is absent.
#[expect(clippy::option_option, reason = "broken and absent are different")]
fn time(bytes: &[u8]) -> Option<Option<Value>> {
    let (mut seconds, mut nanos) = (None, 0);
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        match reader.field()? {
            (1, Wire::Number(number)) => seconds = Some(number.cast_signed()),
            (2, Wire::Number(number)) => nanos = i32::try_from(number).ok()?,
            _ => {}
        }
    }
    let Some(seconds) = seconds else { return Some(None) };
    let stamp = jiff::Timestamp::new(seconds, nanos).ok()?;
    let format = if nanos == 0 { "%Y-%m-%dT%H:%M:%SZ" } else { "%Y-%m-%dT%H:%M:%S.%6fZ" };
    Some(Some(stamp.strftime(format).to_string().into()))
}

#[expect(clippy::option_option, reason = "broken and absent are different")]
fn int_or_string(bytes: &[u8]) -> Option<Option<Value>> {
    let (mut is_text, mut number, mut text) = (false, 0, "");
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        match reader.field()? {
            (1, Wire::Number(kind)) => is_text = kind == 1,
            (2, Wire::Number(value)) => number = value.cast_signed(),
            (3, Wire::Bytes(bytes)) => text = std::str::from_utf8(bytes).ok()?,
            _ => {}
        }
    }
    // The zero value is how these clients say nothing.
    Some(if is_text { Some(text.into()) } else { (number != 0).then(|| number.into()) })
}

#[cfg(test)]
#[path = "protobuf_test.rs"]
mod protobuf_test;

//! Bodies in Kubernetes' protobuf: what typed clients (kubectl's `create` commands among them) send for
//! core kinds without asking whether the server can read it. Answers are always JSON.
//!
//! One table of messages; field numbers are those of Kubernetes' `generated.proto` files.

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::error::ApiError;

pub(crate) const MEDIA: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";

/// How a field reads.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Int,
    /// Absent when false.
    Flag,
    /// Said when false too.
    Choice,
    Time,
    IntOrString,
    /// JSON within bytes within a message.
    Fields,
    Message(&'static [Field]),
    TextMap,
    /// Values shown in base64.
    BytesMap,
}

struct Field {
    number: u32,
    name: &'static str,
    of: Type,
    list: bool,
}

const fn one(number: u32, name: &'static str, of: Type) -> Field {
    Field { number, name, of, list: false }
}

const fn many(number: u32, name: &'static str, of: Type) -> Field {
    Field { number, name, of, list: true }
}

use Type::{BytesMap, Choice, Fields, Flag, Int, IntOrString, Message, Text, TextMap, Time};

const OWNER: &[Field] = &[
    one(1, "kind", Text),
    one(3, "name", Text),
    one(4, "uid", Text),
    one(5, "apiVersion", Text),
    one(6, "controller", Choice),
    one(7, "blockOwnerDeletion", Choice),
];
const MANAGED: &[Field] = &[
    one(1, "manager", Text),
    one(2, "operation", Text),
    one(3, "apiVersion", Text),
    one(4, "time", Time),
    one(6, "fieldsType", Text),
    one(7, "fieldsV1", Fields),
    one(8, "subresource", Text),
];
const META: &[Field] = &[
    one(1, "name", Text),
    one(2, "generateName", Text),
    one(3, "namespace", Text),
    one(4, "selfLink", Text),
    one(5, "uid", Text),
    one(6, "resourceVersion", Text),
    one(7, "generation", Int),
    one(8, "creationTimestamp", Time),
    one(9, "deletionTimestamp", Time),
    one(10, "deletionGracePeriodSeconds", Int),
    one(11, "labels", TextMap),
    one(12, "annotations", TextMap),
    many(13, "ownerReferences", Message(OWNER)),
    many(14, "finalizers", Text),
    many(17, "managedFields", Message(MANAGED)),
];
const CONDITION: &[Field] = &[
    one(1, "type", Text),
    one(2, "status", Text),
    one(3, "observedGeneration", Int),
    one(4, "lastTransitionTime", Time),
    one(5, "reason", Text),
    one(6, "message", Text),
];
const NAMESPACE: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "spec", Message(&[many(1, "finalizers", Text)])),
    one(3, "status", Message(&[one(1, "phase", Text)])),
];
const CONFIG_MAP: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "data", TextMap),
    one(3, "binaryData", BytesMap),
    one(4, "immutable", Choice),
];
const SECRET: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "data", BytesMap),
    one(3, "type", Text),
    one(4, "stringData", TextMap),
    one(5, "immutable", Choice),
];
const SERVICE_PORT: &[Field] = &[
    one(1, "name", Text),
    one(2, "protocol", Text),
    one(3, "port", Int),
    one(4, "targetPort", IntOrString),
    one(5, "nodePort", Int),
    one(6, "appProtocol", Text),
];
const SERVICE_SPEC: &[Field] = &[
    many(1, "ports", Message(SERVICE_PORT)),
    one(2, "selector", TextMap),
    one(3, "clusterIP", Text),
    one(4, "type", Text),
    many(5, "externalIPs", Text),
    one(7, "sessionAffinity", Text),
    one(8, "loadBalancerIP", Text),
    many(9, "loadBalancerSourceRanges", Text),
    one(10, "externalName", Text),
    one(11, "externalTrafficPolicy", Text),
    one(12, "healthCheckNodePort", Int),
    one(13, "publishNotReadyAddresses", Flag),
    one(
        14,
        "sessionAffinityConfig",
        Message(&[one(1, "clientIP", Message(&[one(1, "timeoutSeconds", Int)]))]),
    ),
    one(17, "ipFamilyPolicy", Text),
    many(18, "clusterIPs", Text),
    many(19, "ipFamilies", Text),
    one(20, "allocateLoadBalancerNodePorts", Choice),
    one(21, "loadBalancerClass", Text),
    one(22, "internalTrafficPolicy", Text),
    one(23, "trafficDistribution", Text),
];
const INGRESS: &[Field] = &[one(1, "ip", Text), one(2, "hostname", Text), one(3, "ipMode", Text)];
const SERVICE_STATUS: &[Field] = &[
    one(1, "loadBalancer", Message(&[many(1, "ingress", Message(INGRESS))])),
    many(2, "conditions", Message(CONDITION)),
];
const SERVICE: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "spec", Message(SERVICE_SPEC)),
    one(3, "status", Message(SERVICE_STATUS)),
];
const REFERENCE: &[Field] = &[
    one(1, "kind", Text),
    one(2, "namespace", Text),
    one(3, "name", Text),
    one(4, "uid", Text),
    one(5, "apiVersion", Text),
    one(6, "resourceVersion", Text),
    one(7, "fieldPath", Text),
];
const SERVICE_ACCOUNT: &[Field] = &[
    one(1, "metadata", Message(META)),
    many(2, "secrets", Message(REFERENCE)),
    many(3, "imagePullSecrets", Message(&[one(1, "name", Text)])),
    one(4, "automountServiceAccountToken", Choice),
];
const EVENT: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(2, "involvedObject", Message(REFERENCE)),
    one(3, "reason", Text),
    one(4, "message", Text),
    one(5, "source", Message(&[one(1, "component", Text), one(2, "host", Text)])),
    one(6, "firstTimestamp", Time),
    one(7, "lastTimestamp", Time),
    one(8, "count", Int),
    one(9, "type", Text),
    one(10, "eventTime", Time),
    one(12, "action", Text),
    one(13, "related", Message(REFERENCE)),
    one(14, "reportingComponent", Text),
    one(15, "reportingInstance", Text),
];
const ENDPOINT: &[Field] = &[
    many(1, "addresses", Text),
    one(
        2,
        "conditions",
        Message(&[one(1, "ready", Choice), one(2, "serving", Choice), one(3, "terminating", Choice)]),
    ),
    one(3, "hostname", Text),
    one(4, "targetRef", Message(REFERENCE)),
    one(5, "deprecatedTopology", TextMap),
    one(6, "nodeName", Text),
    one(7, "zone", Text),
    one(8, "hints", Message(&[many(1, "forZones", Message(&[one(1, "name", Text)]))])),
];
const ENDPOINT_SLICE: &[Field] = &[
    one(1, "metadata", Message(META)),
    many(2, "endpoints", Message(ENDPOINT)),
    many(
        3,
        "ports",
        Message(&[
            one(1, "name", Text),
            one(2, "protocol", Text),
            one(3, "port", Int),
            one(4, "appProtocol", Text),
        ]),
    ),
    one(4, "addressType", Text),
];
const ATTRIBUTES: &[Field] = &[
    one(1, "namespace", Text),
    one(2, "verb", Text),
    one(3, "group", Text),
    one(4, "version", Text),
    one(5, "resource", Text),
    one(6, "subresource", Text),
    one(7, "name", Text),
];
const ACCESS_REVIEW: &[Field] = &[
    one(1, "metadata", Message(META)),
    one(
        2,
        "spec",
        Message(&[
            one(1, "resourceAttributes", Message(ATTRIBUTES)),
            one(2, "nonResourceAttributes", Message(&[one(1, "path", Text), one(2, "verb", Text)])),
        ]),
    ),
];
const RULES_REVIEW: &[Field] =
    &[one(1, "metadata", Message(META)), one(2, "spec", Message(&[one(1, "namespace", Text)]))];
const SELF_REVIEW: &[Field] = &[one(1, "metadata", Message(META))];
const DELETE_OPTIONS: &[Field] = &[
    one(1, "gracePeriodSeconds", Int),
    one(2, "preconditions", Message(&[one(1, "uid", Text), one(2, "resourceVersion", Text)])),
    one(3, "orphanDependents", Choice),
    one(4, "propagationPolicy", Text),
    many(5, "dryRun", Text),
];

fn message_of(api_version: &str, kind: &str) -> Option<&'static [Field]> {
    match (api_version, kind) {
        ("v1", "Namespace") => Some(NAMESPACE),
        ("v1", "ConfigMap") => Some(CONFIG_MAP),
        ("v1", "Secret") => Some(SECRET),
        ("v1", "Service") => Some(SERVICE),
        ("v1", "ServiceAccount") => Some(SERVICE_ACCOUNT),
        ("v1", "Event") => Some(EVENT),
        ("discovery.k8s.io/v1", "EndpointSlice") => Some(ENDPOINT_SLICE),
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview") => Some(ACCESS_REVIEW),
        ("authorization.k8s.io/v1", "SelfSubjectRulesReview") => Some(RULES_REVIEW),
        ("authentication.k8s.io/v1", "SelfSubjectReview") => Some(SELF_REVIEW),
        (_, "DeleteOptions") => Some(DELETE_OPTIONS),
        _ => None,
    }
}

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

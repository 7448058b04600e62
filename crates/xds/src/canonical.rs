//! Puts map entries of an encoded message in the order of their keys.
//!
//! `prost` keeps protobuf maps in hash maps and writes them in an order that differs from one
//! encoding to the next, while a version that is a hash of the content needs equal bytes for equal
//! messages. Only maps are sorted (the order of any other repeated field has a meaning), so the
//! few messages of Envoy's configuration that hold maps are described here by field number.

use std::ops::Range;

use crate::ResourceType;

/// What is known of a message: its fields that are maps, or that lead to some.
struct Shape(&'static [(u64, Field)]);

enum Field {
    Message(&'static Shape),
    /// A map whose values are messages of this shape.
    Map(&'static Shape),
}

use Field::{Map, Message};

static PLAIN: Shape = Shape(&[]);
static STRUCT: Shape = Shape(&[(1, Map(&VALUE))]);
static VALUE: Shape = Shape(&[(5, Message(&STRUCT)), (6, Message(&LIST))]);
static LIST: Shape = Shape(&[(1, Message(&VALUE))]);
static METADATA: Shape = Shape(&[(1, Map(&STRUCT)), (2, Map(&PLAIN))]);

static CLUSTER: Shape = Shape(&[(25, Message(&METADATA)), (33, Message(&ASSIGNMENT)), (36, Map(&PLAIN))]);

static ASSIGNMENT: Shape = Shape(&[(2, Message(&LOCALITY)), (5, Map(&PLAIN))]);
static LOCALITY: Shape = Shape(&[(2, Message(&LB_ENDPOINT)), (9, Message(&METADATA))]);
static LB_ENDPOINT: Shape = Shape(&[(3, Message(&METADATA))]);

static ROUTE_CONFIGURATION: Shape =
    Shape(&[(2, Message(&VIRTUAL_HOST)), (16, Map(&PLAIN)), (17, Message(&METADATA))]);
static VIRTUAL_HOST: Shape = Shape(&[(3, Message(&ROUTE)), (15, Map(&PLAIN)), (24, Message(&METADATA))]);
static ROUTE: Shape = Shape(&[(2, Message(&ROUTE_ACTION)), (4, Message(&METADATA)), (13, Map(&PLAIN))]);
static ROUTE_ACTION: Shape = Shape(&[(3, Message(&WEIGHTED_CLUSTERS)), (4, Message(&METADATA))]);
static WEIGHTED_CLUSTERS: Shape = Shape(&[(1, Message(&CLUSTER_WEIGHT))]);
static CLUSTER_WEIGHT: Shape = Shape(&[(3, Message(&METADATA)), (10, Map(&PLAIN))]);

static LISTENER: Shape = Shape(&[
    (3, Message(&FILTER_CHAIN)),
    (6, Message(&METADATA)),
    (19, Message(&API_LISTENER)),
    (25, Message(&FILTER_CHAIN)),
]);
static API_LISTENER: Shape = Shape(&[(1, Message(&ANY))]);
static FILTER_CHAIN: Shape = Shape(&[(3, Message(&FILTER)), (5, Message(&METADATA))]);
static FILTER: Shape = Shape(&[(4, Message(&ANY))]);
static ANY: Shape = Shape(&[(2, Message(&CONNECTION_MANAGER))]);
static CONNECTION_MANAGER: Shape = Shape(&[(4, Message(&ROUTE_CONFIGURATION))]);

const CONNECTION_MANAGER_URL: &[u8] =
    b"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// Sorts the maps of a resource in place. Bytes that are not such a message are left as they are.
pub(crate) fn sort_maps(kind: ResourceType, bytes: &mut [u8]) {
    let shape = match kind {
        ResourceType::Cluster => &CLUSTER,
        ResourceType::Endpoint => &ASSIGNMENT,
        ResourceType::Listener => &LISTENER,
        ResourceType::Route => &ROUTE_CONFIGURATION,
        ResourceType::VirtualHost => &VIRTUAL_HOST,
        ResourceType::Secret | ResourceType::NameTable => return,
    };
    // Envoy's messages nest less than this; `Struct` values may nest deeper, in vain.
    let _ = sort_message(shape, bytes, 64);
}

/// `None`: not a protobuf message, or nested too deeply.
fn sort_message(shape: &'static Shape, bytes: &mut [u8], depth: usize) -> Option<()> {
    if std::ptr::eq(shape, &ANY) && !is_connection_manager(bytes) {
        return Some(());
    }
    let depth = depth.checked_sub(1)?;
    let mut at = 0;
    let mut run = Run::default();
    while at < bytes.len() {
        let start = at;
        let (number, payload) = field(bytes, &mut at)?;
        let rule = shape.0.iter().find(|(n, _)| *n == number).map(|(_, rule)| rule);
        match (rule, payload) {
            (Some(Message(inner)), Some(payload)) => {
                run.finish(bytes);
                sort_message(inner, &mut bytes[payload], depth)?;
            }
            (Some(Map(inner)), Some(payload)) => {
                if run.number != number {
                    run.finish(bytes);
                }
                let key = sort_entry(inner, &mut bytes[payload.clone()], depth)?;
                let key = payload.start + key.start..payload.start + key.end;
                run.number = number;
                run.entries.push((key, start..at));
            }
            _ => run.finish(bytes),
        }
    }
    run.finish(bytes);
    Some(())
}

/// Sorts within the value of a map entry, and gives the place of its key.
fn sort_entry(value: &'static Shape, entry: &mut [u8], depth: usize) -> Option<Range<usize>> {
    let (mut at, mut key) = (0, 0..0);
    while at < entry.len() {
        match field(entry, &mut at)? {
            (1, Some(payload)) => key = payload,
            (2, Some(payload)) => sort_message(value, &mut entry[payload], depth)?,
            _ => {}
        }
    }
    Some(key)
}

fn is_connection_manager(any: &[u8]) -> bool {
    let mut at = 0;
    matches!(field(any, &mut at), Some((1, Some(url))) if any[url.clone()].ends_with(CONNECTION_MANAGER_URL))
}

/// Consecutive entries of one map.
#[derive(Default)]
struct Run {
    number: u64,
    /// Place of the key, place of the whole entry.
    entries: Vec<(Range<usize>, Range<usize>)>,
}

impl Run {
    fn finish(&mut self, bytes: &mut [u8]) {
        let sorted = self.entries.is_sorted_by(|a, b| bytes[a.0.clone()] <= bytes[b.0.clone()]);
        if let (false, Some(first)) = (sorted, self.entries.first()) {
            let mut at = first.1.start;
            self.entries.sort_by(|a, b| bytes[a.0.clone()].cmp(&bytes[b.0.clone()]));
            let copies: Vec<Vec<u8>> =
                self.entries.iter().map(|(_, whole)| bytes[whole.clone()].to_vec()).collect();
            for copy in copies {
                bytes[at..at + copy.len()].copy_from_slice(&copy);
                at += copy.len();
            }
        }
        self.entries.clear();
        self.number = 0;
    }
}

/// Reads one field: its number and, if it is length-delimited, the place of its payload.
pub(crate) fn field(bytes: &[u8], at: &mut usize) -> Option<(u64, Option<Range<usize>>)> {
    let tag = varint(bytes, at)?;
    let skip = match tag & 7 {
        0 => {
            varint(bytes, at)?;
            return Some((tag >> 3, None));
        }
        1 => 8,
        5 => 4,
        2 => usize::try_from(varint(bytes, at)?).ok()?,
        _ => return None,
    };
    let end = at.checked_add(skip).filter(|end| *end <= bytes.len())?;
    let payload = *at..end;
    *at = end;
    Some((tag >> 3, (tag & 7 == 2).then_some(payload)))
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
#[path = "canonical_test.rs"]
mod canonical_test;

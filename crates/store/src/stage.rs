//! What a write comes to, before it is stored: preconditions, limits, revision stamps.

use std::{io, sync::Arc};

use heddle_resource::{Key, Object};
use serde_json::Value;

use crate::{MAX_OBJECT_BYTES, Precondition, Revision, StoreError};

/// What a put comes to.
pub(crate) enum Staged {
    /// It says what is stored already.
    Unchanged(Arc<Object>),
    New(Arc<Object>),
}

/// Checks a put against what is stored and stamps it with its revision.
pub(crate) fn stage_put(
    object: Object,
    stored: Option<&Arc<Object>>,
    precondition: Precondition,
    next: Revision,
) -> Result<Staged, StoreError> {
    let key = object.key();
    check(&key, stored, precondition)?;
    let size = json_size(&object.json);
    if size > MAX_OBJECT_BYTES {
        return Err(StoreError::TooLarge { key, size, limit: MAX_OBJECT_BYTES });
    }
    if let Some(stored) = stored {
        let same = stamp(object, &stored.meta.resource_version);
        if same.json == stored.json && same.source == stored.source {
            return Ok(Staged::Unchanged(stored.clone()));
        }
        return Ok(Staged::New(Arc::new(stamp(same, &next.to_string()))));
    }
    Ok(Staged::New(Arc::new(stamp(object, &next.to_string()))))
}

/// Checks a delete and stamps the last state with the deletion's revision.
pub(crate) fn stage_delete(
    key: &Key,
    stored: Option<&Arc<Object>>,
    precondition: Precondition,
    next: Revision,
) -> Result<Arc<Object>, StoreError> {
    check(key, stored, precondition)?;
    let Some(stored) = stored else { return Err(StoreError::NotFound { key: key.clone() }) };
    Ok(Arc::new(stamp(Object::clone(stored), &next.to_string())))
}

fn check(key: &Key, stored: Option<&Arc<Object>>, precondition: Precondition) -> Result<(), StoreError> {
    let found = stored.and_then(|object| Revision::of(object));
    let expected = match precondition {
        Precondition::Any => return Ok(()),
        Precondition::Absent if stored.is_none() => return Ok(()),
        Precondition::Absent => None,
        Precondition::Revision(revision) if found == Some(revision) => return Ok(()),
        Precondition::Revision(revision) => Some(revision),
    };
    Err(StoreError::Conflict { key: key.clone(), expected, found })
}

/// The object with this `metadata.resourceVersion`, in `meta` and `json` alike.
pub(crate) fn stamp(mut object: Object, revision: &str) -> Object {
    object.meta.resource_version = revision.to_owned();
    if let Value::Object(json) = Arc::make_mut(&mut object.json) {
        let metadata = json.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Value::Object(metadata) = metadata {
            metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_owned()));
        }
    }
    object
}

pub(crate) fn json_size(json: &Value) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail, and a `Value` always serialises.
    let _ = serde_json::to_writer(&mut count, json);
    count.0
}

//! What can go wrong with a store, in words an operator can act on.

use heddle_resource::Key;

use crate::Revision;

/// A store's refusal or failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The object is not in the state that the precondition asks for. Answered 409.
    #[error("{key} {}; read it again and repeat the change", conflict_text(*.expected, *.found))]
    Conflict {
        key: Key,
        /// The revision the writer had seen; `None`: the writer expected no such object.
        expected: Option<Revision>,
        /// The revision the store holds; `None`: there is no such object.
        found: Option<Revision>,
    },
    /// Answered 404.
    #[error("{key} not found")]
    NotFound { key: Key },
    /// The events after the asked revision are no longer kept: list again. Answered 410.
    #[error("the events after that revision are no longer kept; list again and watch from there")]
    Compacted,
    /// The source cannot be written through this store. Answered 409.
    #[error("{0}")]
    ReadOnly(String),
    /// No space is left. Nothing of the write was kept.
    #[error("{0}")]
    Full(String),
    #[error("{0}")]
    Io(String),
    /// What is on disk is not what was written there.
    #[error("{0}")]
    Damaged(String),
    #[error("{key} takes {size} bytes of JSON, more than the {limit} a store keeps; split it")]
    TooLarge { key: Key, size: usize, limit: usize },
    /// No such lease: it lapsed, was revoked, or never was. Grant a new one.
    #[error("lease {0} is not held (lapsed or revoked); register again")]
    NoLease(crate::LeaseId),
    /// The store was closed while the call was under way; whether it took effect is unknown.
    #[error("the store is closed")]
    Closed,
}

fn conflict_text(expected: Option<Revision>, found: Option<Revision>) -> String {
    match (expected, found) {
        (None, Some(found)) => format!("already exists (resourceVersion {found})"),
        (Some(expected), Some(found)) => {
            format!("was changed by another writer (resourceVersion is {found}, not {expected})")
        }
        (Some(expected), None) => format!("no longer exists (resourceVersion {expected} was expected)"),
        (None, None) => "is being changed by another writer".to_owned(),
    }
}

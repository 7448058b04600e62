//! Findings that need more than one object: dangling references, duplicates, rules that are never reached.

use crate::{diagnostic::Diagnostic, object::Object};

/// What is wrong between objects that are each valid by themselves, in the order of the objects.
pub fn analyze(objects: &[Object]) -> Vec<Diagnostic> {
    let _ = objects;
    Vec::new()
}

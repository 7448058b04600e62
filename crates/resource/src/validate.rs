//! What a kind's own rules say of an object whose fields have the right types.

use crate::{diagnostic::Diagnostic, object::Object};

/// Adds what is wrong with the object.
pub(crate) fn object(object: &Object, findings: &mut Vec<Diagnostic>) {
    let _ = (object, findings);
}

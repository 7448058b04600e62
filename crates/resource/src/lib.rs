//! What users write: every kind in one table; parsing, defaults, admission, coded diagnostics, status.
//!
//! A document comes in as text or JSON, goes through [`admit`], the only validation there is, and comes
//! out as an [`Object`]: its metadata, its JSON as the API serves it, and its typed [`Spec`].

mod admit;
mod analyze;
mod check;
pub mod core;
mod diagnostic;
mod document;
pub mod fields;
pub mod finding;
pub mod gateway;
pub mod istio;
pub mod kind;
mod object;
pub mod schema;
mod validate;
pub mod value;

pub use admit::{Admission, AdmitOptions, UnknownFields, admit, admit_json};
pub use analyze::analyze;
pub use check::Unbuilt;
pub use diagnostic::{Diagnostic, Severity};
pub use document::{Document, MAX_TEXT_BYTES, parse_documents};

pub use kind::{Kind, Spec, kinds};
pub use object::{Key, Meta, Object, ObjectRef, OwnerRef, Source};

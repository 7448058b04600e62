//! What users write: every kind in one table; parsing, defaults, admission, coded diagnostics, status.
//!
//! A document comes in as text ([`parse_documents`]) or JSON, goes through [`admit`], the only validation there is,
//! and comes out as an [`Object`]: its metadata, its JSON as the API serves it, and its typed [`Spec`].
//!
//! - [`kind`] has one static per kind (`kind::VIRTUAL_SERVICE`, `kind::ISTIO_GATEWAY`, `kind::GATEWAY` of the Gateway
//!   API ...) and [`kinds`] all of them. [`Kind::find`] and [`Kind::by_plural`] look them up.
//! - [`Spec`] holds the typed content: `spec` for Istio's kinds ([`istio`]), the document without its metadata for
//!   [`core`] and [`gateway`] kinds. Fields are named as in JSON, in snake case; `match` is `matches`, `type` is
//!   `type_`. In Istio's kinds an empty string or a zero port is absent, as in protobuf.
//! - Structs and their description ([`schema`]) come from one declaration each. From the description follow the
//!   checks of admission, OpenAPI, server-side apply, and `docs/resources.md` ([`fields`]).
//! - Rules that types do not express are in `validate`, one module per kind. [`analyze`] looks across objects.
//! - Every finding has a code, of which [`finding`] has the table: meaning and what to do ([`Diagnostic::fix`]).
//! - [`Object::unbuilt`] names the fields that are valid and not built. Where one `denies`, the traffic concerned is
//!   to be denied.

mod admit;
mod analyze;
pub mod certificate;
mod check;
pub mod core;
mod diagnostic;
mod document;
mod elsewhere;
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

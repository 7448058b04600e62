//! What users write: every kind in one table; parsing, defaults, admission, coded diagnostics, status.
//!
//! A document comes in as text or JSON, goes through [`admit`], the only validation there is, and comes
//! out as an [`Object`]: its metadata, its JSON as the API serves it, and its typed [`Spec`].

pub mod core;
pub mod gateway;
pub mod istio;
pub mod kind;
mod object;
pub mod schema;
pub mod value;

pub use kind::{Kind, Spec, kinds};
pub use object::{Key, Meta, Object, ObjectRef, OwnerRef, Source};

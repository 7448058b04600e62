//! What users write: every kind in one table; parsing, defaults, admission, coded diagnostics, status.
//!
//! A document comes in as text or JSON, goes through [`admit`], the only validation there is, and comes
//! out as an [`Object`]: its metadata, its JSON as the API serves it, and its typed [`Spec`].

pub mod kind;
mod object;

pub use kind::{Kind, Spec};
pub use object::{Key, Meta, Object, ObjectRef, OwnerRef, Source};

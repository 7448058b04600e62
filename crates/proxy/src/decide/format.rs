//! Format.

/// Format.
#[derive(Clone, Debug, Default)]
pub struct Format {}

//! RouteIndex.

/// RouteIndex.
#[derive(Clone, Debug, Default)]
pub struct RouteIndex {}

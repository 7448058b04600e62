//! How work runs: workers per core, drain, readiness, clock and metric shards.

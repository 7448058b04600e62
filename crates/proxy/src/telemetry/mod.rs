//! What is known about each request when it ends, and where it is counted.

pub(crate) mod collect;
pub(crate) mod flags;
pub(crate) mod metrics;
pub(crate) mod record;

pub(crate) use flags::Flags;
pub(crate) use metrics::{Metrics, SeriesCache};
pub(crate) use record::Record;

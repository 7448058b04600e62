//! The data plane: worker, connections, snapshot, decide, HTTP, TCP, upstream.

pub mod decide;
pub mod http;
pub mod snapshot;

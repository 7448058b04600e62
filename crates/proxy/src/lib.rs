//! The data plane: worker, connections, snapshot, decide, HTTP, TCP, upstream.

pub mod http;

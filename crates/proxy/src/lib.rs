//! The data plane: worker, connections, snapshot, decide, HTTP, TCP, upstream.

pub(crate) mod access_log;
pub(crate) mod admin;
#[path = "upstream/balance.rs"]
pub mod balance;
pub(crate) mod config;
pub mod conn;
pub mod decide;
pub(crate) mod disk;
pub(crate) mod feed;
pub(crate) mod handover;
pub mod http;
pub(crate) mod overload;
pub(crate) mod policy;
pub(crate) mod resolve;
pub(crate) mod run;
pub mod snapshot;
pub(crate) mod sockets;
pub(crate) mod start;
pub(crate) mod tcp;
pub(crate) mod telemetry;
pub mod tls;
pub(crate) mod upstream;
pub(crate) mod worker;

pub use access_log::check_log_format;
pub use config::{Bound, Interception, NameSockets, ProxyConfig, Role, SocketFuture, WorkloadNetwork};
pub use run::{Proxy, ProxyError, run};

//! The mesh's names: answers for services, forwarding for the rest.
//!
//! The control plane sends a [`NameTable`] per scope; [`Names`] indexes it and answers purely
//! ([`Names::answer`]); [`reply()`] turns a packet into a packet or says where else to ask; [`serve()`] does
//! the I/O. [`AddressPool`] gives addresses to services that have none.

mod disk;
mod forward;
mod host;
mod names;
mod pool;
mod reply;
mod resolv_conf;
mod serve;
mod table;

pub use disk::{DiskError, load, save};
pub use forward::{ForwardError, Forwarder};
pub use names::{Answer, Names, Outside, TTL_SECONDS, Verdict};
pub use pool::{AddressPool, Addresses, V4_RANGE, V6_RANGE};
pub use reply::{Reply, Transport, UDP_PAYLOAD, reply, server_failure};
pub use resolv_conf::ResolvConf;
pub use serve::{AskerNamespace, Counters, Server, ServerConfig, serve};
pub use table::{NameEndpoint, NameEntry, NamePort, NameTable, TYPE_URL};

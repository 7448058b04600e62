//! The mesh's names: answers for services, forwarding for the rest.
//!
//! The control plane sends a [`NameTable`] per scope; [`Names`] indexes it and answers purely
//! ([`Names::answer`]); [`reply()`] turns a packet into a packet or says where else to ask; [`serve()`] does
//! the I/O, [`follow()`] keeps it up to date. [`Addresses`] are chosen for services that have none.

mod addresses;
mod disk;
mod follow;
mod forward;
mod host;
mod names;
mod reply;
mod resolv_conf;
mod serve;
mod table;

pub use addresses::{Addresses, V4_RANGE, V6_RANGE};
pub use disk::{DiskError, load, save};
pub use follow::follow;
pub use forward::{ForwardError, Forwarder};
pub use names::{Answer, Names, Outside, TTL_SECONDS, Verdict};
pub use reply::{Chase, Reply, Transport, UDP_PAYLOAD, reply, server_failure};
pub use resolv_conf::ResolvConf;
pub use serve::{AskerNamespace, Counters, Server, ServerConfig, serve};
pub use table::{NameEndpoint, NameEntry, NamePort, NameTable, TYPE_URL};

//! TLS towards clients and endpoints: certificates out of Secrets and ConfigMaps (SDS), and the settings that
//! refer to them.

mod context;
mod credential;

pub(crate) use context::{Certificate, Client, Roots, Server, Verification, downstream, upstream};
pub(crate) use credential::{Credential, judge, secret, usable};

//! The data plane: worker, connections, snapshot, decide, HTTP, TCP, upstream.

#![allow(dead_code, reason = "the parts land one after the other")]

pub(crate) mod conn;
pub mod decide;

pub mod http;
pub mod snapshot;

#[path = "upstream/balance.rs"]
pub mod balance;

//! Connections: bytes, buffers and timers under every protocol.

pub mod probe;

pub(crate) mod alarm;
pub(crate) mod buffers;
pub(crate) mod detect;
pub(crate) mod hello;
pub(crate) mod open;
pub mod proxy_protocol;
pub(crate) mod registry;
pub(crate) mod secure;
pub(crate) mod serving;
pub(crate) mod sniff;
pub(crate) mod splice;
pub(crate) mod terminate;
pub(crate) mod wire;

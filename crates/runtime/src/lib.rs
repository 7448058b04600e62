//! How work runs: one thread and one runtime per worker, drain, readiness and the clock of the data plane.
//!
//! Workers share nothing on the request path. What another thread wants from a worker (its metrics, its view of the
//! endpoints, a new configuration) it asks for by a message, and the worker answers between two requests.

mod drain;
mod limits;
mod listen;
mod port;
mod ready;
mod sys;
mod worker;

pub use drain::{Drain, DrainSignal, Phase};
pub use limits::raise_open_files;
pub use listen::cannot_listen;
pub use port::free_port;
pub use ready::{Gate, Readiness};
pub use sys::give_back_startup_pages;
pub use worker::{Peers, Workers, available_cpus};

//! Drills: what happens to a mesh in its life happens under constant load, and no GET fails for it.
//!
//! Everything is a process of its own: control plane, proxy, instances. Each drill runs with heddle's proxy, where no
//! GET may fail, and with Envoy, where none may fail by the order in which configuration came (NR, NC). No request may
//! be answered by the wrong one. POSTs run beside, and their failures are shown.

mod control;
mod drain;
mod endpoints;
mod ground;
mod instance;
mod kills;
mod load;
mod mixed;
mod plane;
mod routes;
mod sidecars;

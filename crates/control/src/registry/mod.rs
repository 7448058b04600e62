//! Instances that were registered by hand: leases that lapse, and health checks that the control plane
//! makes.
//!
//! [`Checks`] decides without I/O and without a clock; [`Registry::start`] feeds it the WorkloadEntries of
//! the stores, makes its probes, and writes what it finds into the condition `Healthy` of the object's
//! status, from where every change goes its usual way to the proxies.

mod checks;
mod condition;
mod lease;
mod probe;
mod run;
mod spec;

pub use checks::{Checks, HealthChange, ProbeRequest, Report};
pub use run::{Registry, RegistryConfig};
pub use spec::{
    CheckSpec, HEALTH, HEALTH_HEALTHY_THRESHOLD, HEALTH_INTERVAL, HEALTH_PORT, HEALTH_TIMEOUT,
    HEALTH_UNHEALTHY_THRESHOLD, LEASE_TTL, Probe, Target,
};

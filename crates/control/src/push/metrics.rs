//! The control plane's metrics, in Prometheus' text format.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use heddle_resource::kind;
use heddle_xds::ResourceType;

use crate::{compile::Counters, world::World};

/// Bounds of `pilot_proxy_convergence_time`, in seconds: Istio's, and finer ones below them.
const BOUNDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0];

/// What the push side counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct PushMetrics {
    /// Open streams.
    pub(crate) streams: usize,
    /// Scopes that are kept.
    pub(crate) scopes: usize,
    /// Compiled units that are kept.
    pub(crate) units: usize,
    /// Answered responses by type.
    pub(crate) pushes: [u64; ResourceType::COUNT],
    pub(crate) rejects: [u64; ResourceType::COUNT],
    /// Views published.
    pub(crate) views: u64,
    /// Changes taken up.
    pub(crate) events: u64,
    buckets: [u64; BOUNDS.len()],
    sum: f64,
    count: u64,
}

impl PushMetrics {
    /// A node came to serve a change that long after the change was read.
    pub(crate) fn converged(&mut self, after: Duration) {
        let seconds = after.as_secs_f64();
        for (bucket, bound) in self.buckets.iter_mut().zip(BOUNDS) {
            *bucket += u64::from(seconds <= bound);
        }
        self.sum += seconds;
        self.count += 1;
    }

    pub(crate) fn text(&self, world: &World, counters: &Counters) -> String {
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = self.write(&mut text, world, counters);
        text
    }

    fn write(&self, f: &mut String, world: &World, counters: &Counters) -> fmt::Result {
        let types = || ResourceType::ALL.into_iter();
        gauge(f, "pilot_xds", "Streams of proxies that are open.", self.streams)?;
        gauge(f, "pilot_services", "Services known.", world.services().count())?;
        let rules = world.count(&kind::VIRTUAL_SERVICE);
        gauge(f, "pilot_virt_services", "VirtualServices known.", rules)?;
        gauge(f, "heddle_endpoint_sets", "Endpoint sets known.", world.endpoint_sets())?;
        gauge(f, "heddle_scopes", "Distinct scopes of connected proxies.", self.scopes)?;
        gauge(f, "heddle_kept_units", "Compiled units kept.", self.units)?;
        counter(f, "heddle_world_changes_total", "Batches of changes taken up.")?;
        writeln!(f, "heddle_world_changes_total {}", self.events)?;
        counter(f, "heddle_views_published_total", "Views given to scopes.")?;
        writeln!(f, "heddle_views_published_total {}", self.views)?;
        counter(f, "pilot_xds_pushes", "Responses that proxies answered, by type.")?;
        for kind in types() {
            writeln!(f, "pilot_xds_pushes{{type=\"{}\"}} {}", kind.short(), self.pushes[kind.index()])?;
        }
        counter(f, "pilot_total_xds_rejects", "Responses that proxies refused, by type.")?;
        for kind in types() {
            let count = self.rejects[kind.index()];
            writeln!(f, "pilot_total_xds_rejects{{type=\"{}\"}} {count}", kind.short())?;
        }
        counter(f, "heddle_compiled_resources_total", "Resources compiled, by type.")?;
        for kind in types() {
            let count = counters.compiled_of(kind);
            writeln!(f, "heddle_compiled_resources_total{{type=\"{}\"}} {count}", kind.short())?;
        }
        counter(f, "heddle_encoded_resources_total", "Resources encoded, by type.")?;
        for kind in types() {
            let count = counters.encoded_of(kind);
            writeln!(f, "heddle_encoded_resources_total{{type=\"{}\"}} {count}", kind.short())?;
        }
        self.histogram(f)
    }

    fn histogram(&self, f: &mut String) -> fmt::Result {
        let name = "pilot_proxy_convergence_time";
        writeln!(
            f,
            "# HELP {name} Seconds from a change to a proxy that serves it.\n# TYPE {name} histogram"
        )?;
        for (bucket, bound) in self.buckets.iter().zip(BOUNDS) {
            writeln!(f, "{name}_bucket{{le=\"{bound}\"}} {bucket}")?;
        }
        writeln!(f, "{name}_bucket{{le=\"+Inf\"}} {}", self.count)?;
        writeln!(f, "{name}_sum {}\n{name}_count {}", self.sum, self.count)
    }
}

fn gauge(f: &mut String, name: &str, help: &str, value: usize) -> fmt::Result {
    writeln!(f, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}")
}

fn counter(f: &mut String, name: &str, help: &str) -> fmt::Result {
    writeln!(f, "# HELP {name} {help}\n# TYPE {name} counter")
}

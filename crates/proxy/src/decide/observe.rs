//! A trace of a decision, for `heddle explain`. In production the observer is `()` and costs nothing.

use super::matching::{HeaderMatcher, PathMatcher, QueryMatcher};
use crate::snapshot::{Cluster, Route, RouteConfig, VirtualHost, WeightedCluster};

/// Why a route did not match.
#[derive(Clone, Copy, Debug)]
pub enum Mismatch<'s> {
    /// Its path.
    Path(&'s PathMatcher),
    /// A header.
    Header(&'s HeaderMatcher),
    /// A query parameter.
    Query(&'s QueryMatcher),
    /// The request is not gRPC.
    NotGrpc,
    /// The roll fell outside of its share.
    Fraction(u32),
}

impl std::fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Mismatch::Path(matcher) => write!(f, "needs {matcher}"),
            Mismatch::Header(matcher) => write!(f, "needs {matcher}"),
            Mismatch::Query(matcher) => write!(f, "needs {matcher}"),
            Mismatch::NotGrpc => f.write_str("needs content-type application/grpc"),
            Mismatch::Fraction(share) => {
                write!(f, "takes {} % of the requests, not this one", f64::from(*share) / 1e4)
            }
        }
    }
}

/// Sees a decision being made. Every method does nothing unless overridden.
pub trait Observer<'s> {
    /// Look at every route in order instead of asking the index first.
    const EVERY_ROUTE: bool = true;
    /// The route configuration in use.
    fn config(&mut self, config: &'s RouteConfig) {
        let _ = config;
    }
    /// The virtual host of the request's host, or that there is none.
    fn virtual_host(&mut self, host: &[u8], found: Option<&'s VirtualHost>) {
        let _ = (host, found);
    }
    /// A route that does not match.
    fn skipped(&mut self, position: usize, route: &'s Route, why: Mismatch<'s>) {
        let _ = (position, route, why);
    }
    /// The route that matches.
    fn matched(&mut self, position: usize, route: &'s Route) {
        let _ = (position, route);
    }
    /// The cluster that was drawn from several.
    fn weighted(&mut self, cluster: &'s WeightedCluster, total: u64, value: u64) {
        let _ = (cluster, total, value);
    }
    /// The cluster, or that it is unknown.
    fn cluster(&mut self, name: &str, found: Option<&'s Cluster>) {
        let _ = (name, found);
    }
}

impl Observer<'_> for () {
    const EVERY_ROUTE: bool = false;
}

/// An observer that writes down each step as a line of text.
#[derive(Clone, Debug, Default)]
pub struct Explain {
    /// The steps, in order.
    pub steps: Vec<Step>,
}

/// One step of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was looked at: `virtual host`, `route`, `cluster`.
    pub what: &'static str,
    /// Its name.
    pub name: String,
    /// What came of it.
    pub outcome: String,
    /// It led on (as opposed to being passed over).
    pub taken: bool,
    /// Where it came from: object and field of the user's resources.
    pub origin: Option<(String, String)>,
}

impl Explain {
    fn push(
        &mut self,
        what: &'static str,
        name: &str,
        outcome: String,
        taken: bool,
        from: Option<&crate::snapshot::Provenance>,
    ) {
        let origin = from.map(|p| (p.object.to_string(), p.field.to_string()));
        self.steps.push(Step { what, name: name.to_string(), outcome, taken, origin });
    }
}

fn route_name(position: usize, route: &Route) -> String {
    if route.name.is_empty() { format!("#{position}") } else { format!("#{position} {}", route.name) }
}

impl<'s> Observer<'s> for Explain {
    fn config(&mut self, config: &'s RouteConfig) {
        let hosts = config.virtual_hosts.len();
        self.push("route configuration", config.name.as_str(), format!("{hosts} virtual hosts"), true, None);
    }

    fn virtual_host(&mut self, host: &[u8], found: Option<&'s VirtualHost>) {
        let host = String::from_utf8_lossy(host);
        match found {
            Some(vh) => {
                let outcome = format!("host {host:?} is one of {}", vh.domains.join(", "));
                self.push("virtual host", vh.name.as_str(), outcome, true, vh.provenance.as_ref());
            }
            None => {
                self.push("virtual host", "", format!("no virtual host serves host {host:?}"), false, None)
            }
        }
    }

    fn skipped(&mut self, position: usize, route: &'s Route, why: Mismatch<'s>) {
        self.push("route", &route_name(position, route), why.to_string(), false, route.provenance.as_ref());
    }

    fn matched(&mut self, position: usize, route: &'s Route) {
        let mut outcome = format!("matches: {}", route.matches.path);
        for header in &route.matches.headers {
            outcome.push_str(&format!(", {header}"));
        }
        for query in &route.matches.query {
            outcome.push_str(&format!(", {query}"));
        }
        self.push("route", &route_name(position, route), outcome, true, route.provenance.as_ref());
    }

    fn weighted(&mut self, cluster: &'s WeightedCluster, total: u64, value: u64) {
        let outcome = format!("weight {} of {total}, drawn by {value}", cluster.weight);
        self.push("weighted cluster", &format!("{}", cluster.cluster), outcome, true, None);
    }

    fn cluster(&mut self, name: &str, found: Option<&'s Cluster>) {
        match found {
            Some(cluster) => self.push("cluster", name, "known".into(), true, cluster.provenance.as_ref()),
            None => self.push("cluster", name, "unknown".into(), false, None),
        }
    }
}

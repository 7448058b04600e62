//! What [`super::decide`] says.

use std::borrow::Cow;
use std::time::Duration;

use smallvec::SmallVec;

use super::timeout::Timeouts;
use crate::snapshot::{
    Cluster, CorsPolicy, HttpConnectionManager, Mirror, Name, RetryOn, RetryPolicy, Route, RouteAction,
    RouteConfig, VirtualHost, WeightedCluster,
};

/// What happens to a request.
#[derive(Debug)]
pub enum Decision<'s> {
    /// It goes to a cluster.
    Forward(Forward<'s>),
    /// It is answered here.
    Respond(Respond<'s>),
    /// Configuration it needs is not here: subscribe, wait under a deadline, decide again.
    Need(Names<'s>),
}

/// What is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names<'s> {
    /// A route configuration.
    Routes(&'s Name),
    /// A virtual host on demand: route configuration and host.
    VirtualHost(&'s Name, Box<str>),
}

/// A request that goes to a cluster.
#[derive(Debug)]
pub struct Forward<'s> {
    /// The connection manager.
    pub http: &'s HttpConnectionManager,
    /// The route configuration.
    pub config: &'s RouteConfig,
    /// The virtual host.
    pub virtual_host: &'s VirtualHost,
    /// The route.
    pub route: &'s Route,
    /// Its action.
    pub action: &'s RouteAction,
    /// The weighted cluster that was drawn, if the route has several.
    pub weighted: Option<&'s WeightedCluster>,
    /// The cluster.
    pub cluster: &'s Cluster,
    /// What the fault filter does first: the delay, then the abort (which ends the request).
    pub fault: Option<FaultOutcome<'s>>,
    /// Clusters that get a copy.
    pub mirrors: SmallVec<[MirrorTo<'s>; 1]>,
    /// The whole request's time; `None` is unlimited.
    pub timeout: Option<Duration>,
    /// One attempt's time; `None`: the whole request's.
    pub per_try_timeout: Option<Duration>,
    /// The stream's longest life; `None` is unlimited.
    pub max_stream_duration: Option<Duration>,
    /// Time without a byte in either direction; `None` is unlimited.
    pub idle_timeout: Option<Duration>,
    /// The retry policy, if there is one.
    pub retry: Option<&'s RetryPolicy>,
    /// Conditions of the policy and of `x-envoy-retry-on`; empty: no retries.
    pub retry_on: RetryOn,
    /// Most retries, of the policy or of `x-envoy-max-retries`.
    pub max_retries: u32,
    /// Retriable status codes of `x-envoy-retriable-status-codes`, besides the policy's.
    pub extra_status_codes: SmallVec<[u16; 2]>,
    /// Bytes of the request body kept for retries and mirrors (`per_request_buffer_limit_bytes`); 0: nothing is kept;
    /// `None`: heddle's default of 64 KiB.
    pub buffer_limit: Option<u64>,
    /// CORS headers of the response.
    pub cors: Option<CorsOutcome<'s>>,
    /// The upgrade asked for, if it is allowed here.
    pub upgrade: UpgradeOutcome,
    /// gRPC-Web is translated.
    pub web: bool,
    /// The random bits of the decision: `upstream::balance` derives its rolls from them.
    pub random: u64,
    pub(super) times: Timeouts,
}

/// A mirror that was drawn.
#[derive(Clone, Copy, Debug)]
pub struct MirrorTo<'s> {
    /// Where the copy goes.
    pub cluster: &'s Cluster,
    /// The policy.
    pub mirror: &'s Mirror,
}

/// What the CORS filter adds to the response.
#[derive(Clone, Debug)]
pub struct CorsOutcome<'s> {
    /// The request's origin.
    pub origin: Box<[u8]>,
    /// Policies, most specific first.
    pub policies: SmallVec<[&'s CorsPolicy; 2]>,
}

/// What becomes of an upgrade or CONNECT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpgradeOutcome {
    /// None was asked for.
    #[default]
    None,
    /// Passed on as it is.
    Pass,
    /// A CONNECT that ends here: raw bytes to the endpoint.
    Terminate,
}

/// What the fault filter does.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultOutcome<'s> {
    /// Wait this long first (flag DI).
    pub delay: Option<Duration>,
    /// Then answer this (flag FI).
    pub abort: Option<Abort<'s>>,
    /// `max_active_faults` of the policy.
    pub max_active: Option<u32>,
}

/// An abort that was drawn; answer it by [`super::local_reply`].
#[derive(Clone, Debug, PartialEq)]
pub struct Abort<'s> {
    /// HTTP status (200 for gRPC).
    pub status: u16,
    /// gRPC status.
    pub grpc_status: Option<u32>,
    /// Body.
    pub body: &'s str,
}

/// A request that is answered here.
#[derive(Debug)]
pub struct Respond<'s> {
    /// Status.
    pub status: u16,
    /// Body; a gRPC request gets it as `grpc-message` (see [`Respond::write_head`]).
    pub body: Cow<'s, [u8]>,
    /// Type of the body, default `text/plain`.
    pub content_type: Option<&'s str>,
    /// Headers of the answer itself (`location`, CORS preflight).
    pub headers: SmallVec<[OwnHeader; 2]>,
    /// Envoy's response flag (`NR`, `NC`, ...); empty for none.
    pub flag: &'static str,
    /// Envoy's response code details.
    pub details: &'static str,
    /// The route that answers, if one does.
    pub matched: Option<Matched<'s>>,
    /// What the fault filter does first.
    pub fault: Option<FaultOutcome<'s>>,
    /// The request is gRPC.
    pub grpc: bool,
    /// Whether gRPC-Web is translated; `None`: as it is without a route.
    pub web: Option<bool>,
}

/// A header of an answer made here: lowercased name and value.
pub type OwnHeader = (&'static str, Box<[u8]>);

/// The route of an answer.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'s> {
    /// The route configuration.
    pub config: &'s RouteConfig,
    /// The virtual host.
    pub virtual_host: &'s VirtualHost,
    /// The route.
    pub route: &'s Route,
}

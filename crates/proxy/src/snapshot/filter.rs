//! CORS and fault policies (`cors.v3`, `fault.v3`).

use std::time::Duration;

use super::Name;
use crate::decide::matching::{Fraction, HeaderMatcher, StringMatcher};

/// `cors.v3.CorsPolicy`.
#[derive(Debug, Default)]
pub struct CorsPolicy {
    /// Origins.
    pub origins: Box<[StringMatcher]>,
    /// `allow_methods`.
    pub allow_methods: Box<str>,
    /// `allow_headers`.
    pub allow_headers: Box<str>,
    /// `expose_headers`.
    pub expose_headers: Box<str>,
    /// `max_age`.
    pub max_age: Box<str>,
    /// `allow_credentials`.
    pub allow_credentials: Option<bool>,
    /// `allow_private_network_access`.
    pub allow_private_network: Option<bool>,
    /// `forward_not_matching_preflights`, default true.
    pub forward_not_matching: Option<bool>,
    /// `filter_enabled`; absent is on.
    pub enabled: Option<Fraction>,
}

/// `fault.v3.HTTPFault`.
#[derive(Debug, Default)]
pub struct Fault {
    /// Delay.
    pub delay: Option<FaultDelay>,
    /// Abort.
    pub abort: Option<FaultAbort>,
    /// Only for this cluster.
    pub upstream_cluster: Option<Name>,
    /// Only for requests with these headers.
    pub headers: Box<[HeaderMatcher]>,
    /// Only for these `x-envoy-downstream-service-node` values.
    pub downstream_nodes: Box<[Box<str>]>,
    /// `max_active_faults`.
    pub max_active: Option<u32>,
}

/// `FaultDelay`.
#[derive(Clone, Debug)]
pub struct FaultDelay {
    /// How long; `None`: as `x-envoy-fault-delay-request` says.
    pub fixed: Option<Duration>,
    /// Share of the requests.
    pub fraction: Fraction,
}

/// `FaultAbort`.
#[derive(Clone, Debug)]
pub struct FaultAbort {
    /// What is answered.
    pub kind: AbortKind,
    /// Share of the requests.
    pub fraction: Fraction,
    /// `response_body`.
    pub body: Box<str>,
}

/// What an abort answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortKind {
    /// This HTTP status.
    Http(u16),
    /// This gRPC status.
    Grpc(u32),
    /// As `x-envoy-fault-abort-request` or `x-envoy-fault-abort-grpc-request` says.
    Header,
}

//! xDS messages to compiled configuration: pure, one file per part of the API.

#![allow(deprecated, reason = "deprecated xDS fields are judged like every other")]

pub(crate) mod access_log;
pub(crate) mod action;
mod alike;
pub(super) mod apart;
pub(crate) mod cluster;
pub(crate) mod credentials;
pub(crate) mod endpoint;
pub(crate) mod filter;
pub(crate) mod http;
pub(crate) mod judge;
pub(crate) mod listener;
pub(crate) mod options;
pub(crate) mod proxy_protocol;
pub(crate) mod route;
pub(crate) mod tls;
mod value;

pub use self::judge::{Effect, Rule};

/// What becomes of every field of every message that heddle reads: the table behind the documents.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [
        listener::listener::RULES,
        listener::chain::RULES,
        listener::chain_match::RULES,
        listener::tcp_proxy::RULES,
        listener::tls_inspector::RULES,
        proxy_protocol::filter::RULES,
        proxy_protocol::transport::RULES,
        proxy_protocol::config::RULES,
        http::manager::RULES,
        http::router::RULES,
        options::common::RULES,
        options::http1::RULES,
        options::http2::RULES,
        access_log::log::RULES,
        access_log::file_log::RULES,
        access_log::format_string::RULES,
        filter::cors_policy::RULES,
        filter::http_fault::RULES,
        route::config::RULES,
        route::virtual_host::RULES,
        route::route::RULES,
        route::route_match::RULES,
        action::forward::RULES,
        action::weighted::RULES,
        action::mirror::RULES,
        action::retry::RULES,
        action::redirects::RULES,
        action::direct::RULES,
        cluster::cluster::RULES,
        cluster::common_lb::RULES,
        cluster::outlier::RULES,
        cluster::preconnect::RULES,
        options::protocols::RULES,
        endpoint::assignment::RULES,
        endpoint::policy::RULES,
        endpoint::locality::RULES,
        endpoint::lb_endpoint::RULES,
        endpoint::endpoint::RULES,
        tls::downstream::RULES,
        tls::upstream::RULES,
        tls::common::RULES,
        tls::params::RULES,
        credentials::certificate::RULES,
        credentials::validation::RULES,
    ]
    .into_iter()
    .flatten()
}

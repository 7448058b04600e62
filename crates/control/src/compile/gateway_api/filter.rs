//! Filters of rules and backends, as Envoy's route has them.

use envoy_types::pb::{
    envoy::{
        config::{
            core::v3::{
                HeaderValueOption, RuntimeFractionalPercent, header_value_option::HeaderAppendAction,
            },
            route::v3::{
                RedirectAction, Route, RouteAction,
                redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
                route_action::{HostRewriteSpecifier, RequestMirrorPolicy},
            },
        },
        extensions::filters::http::cors::v3::CorsPolicy,
        r#type::{
            matcher::v3::{RegexMatchAndSubstitute, StringMatcher, string_matcher::MatchPattern},
            v3::{FractionalPercent, fractional_percent::DenominatorType},
        },
    },
    google::protobuf::Any,
};

use super::model::{Cors, HeaderEdit, Path, PathEdit, Redirect, Share};
use crate::compile::build;

/// The name of the filter that answers for CORS.
pub(crate) const CORS: &str = "envoy.filters.http.cors";

/// Header edits: those to write and those to remove.
#[derive(Default)]
pub(crate) struct Edits {
    pub(crate) write: Vec<HeaderValueOption>,
    pub(crate) remove: Vec<String>,
}

impl Edits {
    pub(crate) fn push(&mut self, edit: &HeaderEdit) {
        let write = |(name, value): &(String, String), action| {
            // Envoy's values are formats, Gateway API's are literal.
            build::header(name, &value.replace('%', "%%"), action)
        };
        let set = edit.set.iter().map(|pair| write(pair, HeaderAppendAction::OverwriteIfExistsOrAdd));
        let add = edit.add.iter().map(|pair| write(pair, HeaderAppendAction::AppendIfExistsOrAdd));
        self.write.extend(set.chain(add));
        self.remove.extend(edit.remove.iter().cloned());
    }
}

/// A share of requests, in millionths.
pub(crate) fn fraction(share: Share) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent {
        default_value: Some(FractionalPercent {
            numerator: share.millionths(),
            denominator: DenominatorType::Million as i32,
        }),
        ..Default::default()
    }
}

pub(crate) fn mirror(cluster: String, share: Share) -> RequestMirrorPolicy {
    RequestMirrorPolicy { cluster, runtime_fraction: Some(fraction(share)), ..Default::default() }
}

/// A change of path: by prefix, or by a pattern.
enum PathChange {
    Prefix(String),
    Pattern(RegexMatchAndSubstitute),
}

fn path_change(edit: &PathEdit, matched: &Path) -> PathChange {
    let pattern = |pattern: String, replacement: &str, tail: &str| {
        PathChange::Pattern(RegexMatchAndSubstitute {
            pattern: Some(build::regex(&pattern)),
            substitution: format!("{}{tail}", replacement.replace('\\', "\\\\")),
        })
    };
    match (edit, matched) {
        (PathEdit::Full(path), _) => pattern("^/.*".to_owned(), path, ""),
        (PathEdit::Prefix(to), Path::Prefix(from)) => {
            let to = to.trim_end_matches('/');
            if from.is_empty() {
                // Of `/` only the slash is the prefix: `/a` becomes `/new/a`.
                PathChange::Prefix(format!("{to}/"))
            } else if to.is_empty() {
                // The slash that follows the prefix stays the only one.
                pattern(format!("^{}/?(.*)", escape(from)), "/", "\\1")
            } else {
                PathChange::Prefix(to.to_owned())
            }
        }
        // Refused before (`unacceptable`); to keep the path is the harmless answer.
        (PathEdit::Prefix(_), _) => pattern("^(/.*)".to_owned(), "", "\\1"),
    }
}

/// Quotes what means something in a regular expression.
fn escape(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if !c.is_alphanumeric() && !matches!(c, '/' | '_' | '-') && c.is_ascii() {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}

pub(crate) fn rewrite(action: &mut RouteAction, host: Option<&str>, path: Option<&PathEdit>, matched: &Path) {
    if let Some(host) = host {
        action.host_rewrite_specifier = Some(HostRewriteSpecifier::HostRewriteLiteral(host.to_owned()));
    }
    match path.map(|path| path_change(path, matched)) {
        Some(PathChange::Prefix(prefix)) => action.prefix_rewrite = prefix,
        Some(PathChange::Pattern(pattern)) => action.regex_rewrite = Some(pattern),
        None => {}
    }
}

/// A redirect, for requests that came in on `port` of the listener.
pub(crate) fn redirect(redirect: &Redirect, matched: &Path, port: u16) -> RedirectAction {
    let scheme = redirect.scheme.as_deref();
    let path = redirect.path.as_ref().map(|edit| match (edit, path_change(edit, matched)) {
        (PathEdit::Full(path), _) => PathRewriteSpecifier::PathRedirect(path.clone()),
        (_, PathChange::Prefix(prefix)) => PathRewriteSpecifier::PrefixRewrite(prefix),
        (_, PathChange::Pattern(pattern)) => PathRewriteSpecifier::RegexRewrite(pattern),
    });
    RedirectAction {
        scheme_rewrite_specifier: scheme
            .map(|scheme| SchemeRewriteSpecifier::SchemeRedirect(scheme.to_owned())),
        host_redirect: redirect.host.clone().unwrap_or_default(),
        port_redirect: redirect_port(redirect, port),
        response_code: match redirect.status {
            Some(301) => RedirectResponseCode::MovedPermanently,
            Some(303) => RedirectResponseCode::SeeOther,
            Some(307) => RedirectResponseCode::TemporaryRedirect,
            Some(308) => RedirectResponseCode::PermanentRedirect,
            _ => RedirectResponseCode::Found,
        } as i32,
        path_rewrite_specifier: path,
        ..Default::default()
    }
}

/// The port to write; 0 for none, which is what the scheme's own port calls for.
///
/// By the specification: the declared one, else that of the declared scheme, else the listener's.
fn redirect_port(redirect: &Redirect, listener: u16) -> u32 {
    let of_scheme = |scheme: &str| match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let scheme = redirect.scheme.as_deref();
    let port = redirect.port.unwrap_or_else(|| scheme.and_then(of_scheme).unwrap_or(listener));
    if of_scheme(scheme.unwrap_or("http")) == Some(port) { 0 } else { u32::from(port) }
}

/// The per-route configuration of the CORS filter.
pub(crate) fn cors(cors: &Cors) -> Any {
    build::any(&CorsPolicy {
        allow_origin_string_match: cors.origins.iter().map(|origin| origin_matcher(origin)).collect(),
        allow_methods: cors.methods.join(", "),
        allow_headers: cors.headers.join(", "),
        expose_headers: cors.expose.join(", "),
        max_age: cors.max_age.unwrap_or(5).to_string(),
        allow_credentials: build::boolean(cors.credentials),
        forward_not_matching_preflights: build::boolean(false),
        ..Default::default()
    })
}

/// `https://*.example.org`: a star stands for one label or more.
fn origin_matcher(origin: &str) -> StringMatcher {
    let pattern = match origin.split_once('*') {
        None => MatchPattern::Exact(origin.to_owned()),
        Some(("", "")) => MatchPattern::SafeRegex(build::regex(".*")),
        Some((before, after)) => {
            MatchPattern::SafeRegex(build::regex(&format!("{}[^/]+{}", escape(before), escape(after))))
        }
    };
    build::string(pattern)
}

/// Puts header edits on a route.
pub(crate) fn set_headers(route: &mut Route, request: Edits, response: Edits) {
    route.request_headers_to_add.extend(request.write);
    route.request_headers_to_remove.extend(request.remove);
    route.response_headers_to_add.extend(response.write);
    route.response_headers_to_remove.extend(response.remove);
}

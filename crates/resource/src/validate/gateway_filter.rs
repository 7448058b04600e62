//! Filters of HTTPRoutes and GRPCRoutes.

use super::{
    Judge,
    gateway::hostname,
    gateway_route::{path_value, service_port},
    syntax::is_token,
};
use crate::gateway::{
    CorsFilter, HeaderFilter, HttpRouteFilter, HttpRouteRule, MirrorFilter, PathModifier, RedirectFilter,
};

pub(super) fn grpc_filters(filters: &[HttpRouteFilter], at: &mut Judge<'_>) {
    let known = ["RequestHeaderModifier", "ResponseHeaderModifier", "RequestMirror", "ExtensionRef"];
    for (index, filter) in filters.iter().enumerate().filter(|(_, f)| !known.contains(&f.type_.as_str())) {
        let mut at = at.field(format_args!("filters[{index}].type"));
        at.error("HDL0116", "not a filter of a GRPCRoute", &filter.type_, &known.join(", "));
    }
    http_filters(filters, at);
}

pub(super) fn http_filters(filters: &[HttpRouteFilter], at: &mut Judge<'_>) {
    if filters.len() > 16 {
        at.field("filters").error("HDL0109", "too many filters", filters.len(), "at most 16");
    }
    for (index, entry) in filters.iter().enumerate() {
        filter(entry, &mut at.item("filters", index));
    }
    // Mirrors and extensions may stand several times.
    let once =
        filters.iter().map(|f| f.type_.as_str()).filter(|t| !matches!(*t, "RequestMirror" | "ExtensionRef"));
    at.field("filters").unique(once);
    let has = |name: &str| filters.iter().any(|f| f.type_ == name);
    if has("RequestRedirect") && has("URLRewrite") {
        at.field("filters").conflict("RequestRedirect and URLRewrite exclude each other");
    }
}

/// What the filters ask of their rule.
pub(super) fn rule(rule: &HttpRouteRule, at: &mut Judge<'_>) {
    let redirects = rule.filters.iter().any(|f| f.request_redirect.is_some());
    if redirects && !rule.backend_refs.is_empty() {
        at.conflict("RequestRedirect and backendRefs exclude each other");
    }
    let own = rule.filters.iter().chain(rule.backend_refs.iter().flat_map(|b| &b.filters));
    let prefix = own
        .filter_map(|f| {
            let rewrite = f.url_rewrite.as_ref().and_then(|r| r.path.as_ref());
            f.request_redirect.as_ref().and_then(|r| r.path.as_ref()).or(rewrite)
        })
        .any(|path| path.type_ == "ReplacePrefixMatch");
    let matches_prefix = rule.matches.iter().all(|m| {
        let kind = m.path.as_ref().and_then(|p| p.type_.as_deref());
        kind.unwrap_or("PathPrefix") == "PathPrefix"
    });
    // No match at all is the prefix `/`.
    if prefix && (rule.matches.len() > 1 || !matches_prefix) {
        let message = "ReplacePrefixMatch goes with exactly one match, of type PathPrefix";
        at.field("filters").error("HDL0116", message, rule.matches.len(), "1 match");
    }
}

fn filter(filter: &HttpRouteFilter, at: &mut Judge<'_>) {
    let parts = [
        ("RequestHeaderModifier", "requestHeaderModifier", filter.request_header_modifier.is_some()),
        ("ResponseHeaderModifier", "responseHeaderModifier", filter.response_header_modifier.is_some()),
        ("RequestMirror", "requestMirror", filter.request_mirror.is_some()),
        ("RequestRedirect", "requestRedirect", filter.request_redirect.is_some()),
        ("URLRewrite", "urlRewrite", filter.url_rewrite.is_some()),
        ("CORS", "cors", filter.cors.is_some()),
        ("ExternalAuth", "externalAuth", filter.external_auth.is_some()),
        ("ExtensionRef", "extensionRef", filter.extension_ref.is_some()),
    ];
    for (kind, field, set) in parts {
        if (filter.type_ == kind) != set {
            let (found, expected) = if set { ("it is there", "none") } else { ("", "there") };
            at.field(field).error("HDL0116", &format!("type is {}", filter.type_), found, expected);
        }
    }
    for (name, headers) in [
        ("requestHeaderModifier", &filter.request_header_modifier),
        ("responseHeaderModifier", &filter.response_header_modifier),
    ] {
        if let Some(headers) = headers {
            header_filter(headers, &mut at.field(name));
        }
    }
    if let Some(mirror) = &filter.request_mirror {
        mirror_filter(mirror, &mut at.field("requestMirror"));
    }
    if let Some(redirect) = &filter.request_redirect {
        redirect_filter(redirect, &mut at.field("requestRedirect"));
    }
    if let Some(rewrite) = &filter.url_rewrite {
        let mut at = at.field("urlRewrite");
        if let Some(name) = &rewrite.hostname {
            hostname(name, &mut at.field("hostname"));
        }
        path_modifier(rewrite.path.as_ref(), &mut at.field("path"));
    }
    if let Some(cors) = &filter.cors {
        cors_filter(cors, &mut at.field("cors"));
    }
}

fn header_filter(filter: &HeaderFilter, at: &mut Judge<'_>) {
    for (list, headers) in [("set", &filter.set), ("add", &filter.add)] {
        for (index, header) in headers.iter().enumerate() {
            let mut at = at.item(list, index);
            if !is_token(&header.name) {
                at.field("name").error("HDL0110", "not a header name", &header.name, "letters, digits and -");
            }
            if header.value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
                at.field("value").error(
                    "HDL0110",
                    "not a header value",
                    header.value.escape_default(),
                    "one line",
                );
            }
        }
        at.field(list).unique(headers.iter().map(|h| h.name.as_str()));
    }
    for (index, name) in filter.remove.iter().enumerate().filter(|(_, name)| !is_token(name)) {
        at.item("remove", index).error("HDL0110", "not a header name", name, "letters, digits and -");
    }
}

fn mirror_filter(mirror: &MirrorFilter, at: &mut Judge<'_>) {
    let backend = &mirror.backend_ref;
    service_port(
        backend.group.as_deref(),
        backend.kind.as_deref(),
        backend.port,
        &mut at.field("backendRef"),
    );
    if mirror.percent.is_some() && mirror.fraction.is_some() {
        at.conflict("percent and fraction exclude each other");
    }
    if let Some(percent) = mirror.percent {
        at.field("percent").percent(percent);
    }
    if let Some(fraction) = &mirror.fraction {
        let denominator = fraction.denominator.unwrap_or(100);
        if denominator < 1 || !(0..=denominator).contains(&fraction.numerator) {
            let found = format!("{}/{denominator}", fraction.numerator);
            at.field("fraction").error("HDL0109", "not a share", found, "0 to 1");
        }
    }
}

fn redirect_filter(redirect: &RedirectFilter, at: &mut Judge<'_>) {
    if let Some(name) = &redirect.hostname {
        hostname(name, &mut at.field("hostname"));
    }
    if let Some(port) = redirect.port {
        at.field("port").port(port);
    }
    if let Some(code) = redirect.status_code.filter(|code| !matches!(code, 301 | 302 | 303 | 307 | 308)) {
        at.field("statusCode").error("HDL0109", "not a redirect's status", code, "301, 302, 303, 307 or 308");
    }
    path_modifier(redirect.path.as_ref(), &mut at.field("path"));
}

fn path_modifier(path: Option<&PathModifier>, at: &mut Judge<'_>) {
    let Some(path) = path else { return };
    let full = path.type_ == "ReplaceFullPath";
    let (wanted, other) = if full {
        (&path.replace_full_path, &path.replace_prefix_match)
    } else {
        (&path.replace_prefix_match, &path.replace_full_path)
    };
    let (field, strange) = if full {
        ("replaceFullPath", "replacePrefixMatch")
    } else {
        ("replacePrefixMatch", "replaceFullPath")
    };
    match wanted {
        None => at.field(field).error("HDL0116", &format!("type is {}", path.type_), "", "there"),
        Some(value) if value.starts_with('/') => path_value(value, &mut at.field(field)),
        Some(_) => {}
    }
    if other.is_some() {
        at.field(strange).error("HDL0116", &format!("type is {}", path.type_), "it is there", "none");
    }
}

fn cors_filter(cors: &CorsFilter, at: &mut Judge<'_>) {
    for (list, values) in [
        ("allowOrigins", &cors.allow_origins),
        ("allowMethods", &cors.allow_methods),
        ("allowHeaders", &cors.allow_headers),
    ] {
        if values.len() > 1 && values.iter().any(|v| v == "*") {
            at.field(list).conflict("`*` stands alone");
        }
    }
    for (index, origin) in cors.allow_origins.iter().enumerate() {
        let host = origin.split_once("://").map(|(_, host)| host);
        if origin != "*" && host.is_none_or(str::is_empty) {
            at.item("allowOrigins", index).error("HDL0102", "not an origin", origin, "SCHEME://HOST or *");
        }
    }
    for (list, names) in [("allowHeaders", &cors.allow_headers), ("exposeHeaders", &cors.expose_headers)] {
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !is_token(name)) {
            at.item(list, index).error("HDL0110", "not a header name", name, "letters, digits and -");
        }
    }
    if let Some(age) = cors.max_age.filter(|age| *age < 1) {
        at.field("maxAge").error("HDL0109", "it is too little", age, "1 second or more");
    }
}

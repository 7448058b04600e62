//! Routing features of Gateway API: a rule of an HTTPRoute each.

use crate::features::Feature;

const fn feature(
    name: &'static str,
    rule: &'static str,
    requests: &'static [(&'static str, &'static str)],
) -> Feature {
    Feature { name, rule, requests }
}

/// As [`crate::features::FEATURES`], with rules of an HTTPRoute.
pub(crate) const ROUTES: &[Feature] = &[
    feature(
        "path types",
        "{matches: [{path: {type: Exact, value: /exact}}, {path: {type: PathPrefix, value: /pre}}, \
         {path: {type: RegularExpression, value: '/r/[0-9]+'}}], backendRefs: [{name: a, port: 80}]}",
        &[
            ("GET /exact", "a"),
            ("GET /exact/", "shop"),
            ("GET /pre", "a"),
            ("GET /pre/x?q=1", "a"),
            ("GET /prefix", "shop"),
            ("GET /r/12", "a"),
            ("GET /r/x", "shop"),
        ],
    ),
    feature(
        "headers, query, method",
        "{matches: [{path: {value: /m}, method: POST}, {path: {value: /m}, headers: [{name: X-V, value: '2'}]}, \
         {path: {value: /m}, queryParams: [{name: q, value: '1'}]}], backendRefs: [{name: b, port: 80}]}",
        &[
            ("POST /m body=1", "b"),
            ("GET /m x-v=2", "b"),
            ("GET /m x-v=3", "shop"),
            ("GET /m?q=1", "b"),
            ("GET /m?q=2", "shop"),
        ],
    ),
    feature(
        "header modifiers",
        "{matches: [{path: {value: /hm}}], filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-set, \
         value: new}], add: [{name: x-add, value: more}], remove: [x-del]}}, {type: ResponseHeaderModifier, \
         responseHeaderModifier: {set: [{name: x-up, value: '2'}], add: [{name: x-two, value: c}], remove: [x-gone]}}], \
         backendRefs: [{name: a, port: 80}]}",
        &[("GET /hm", "a"), ("GET /hm x-set=old x-add=one x-del=1", "a"), ("GET /hn x-del=1", "shop")],
    ),
    feature(
        "rewrite of a prefix",
        "{matches: [{path: {value: /rp}}], filters: [{type: URLRewrite, urlRewrite: {hostname: new.example, path: \
         {type: ReplacePrefixMatch, replacePrefixMatch: /new}}}], backendRefs: [{name: a, port: 80}]}",
        &[("GET /rp", "a"), ("GET /rp/", "a"), ("GET /rp/x?y=1", "a"), ("GET /rpx", "shop")],
    ),
    feature(
        "rewrite of a prefix to the root",
        "{matches: [{path: {value: /rr}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, \
         replacePrefixMatch: /}}}], backendRefs: [{name: a, port: 80}]}",
        &[("GET /rr", "a"), ("GET /rr/x", "a"), ("GET /rr?z", "a")],
    ),
    feature(
        "rewrite of the whole path",
        "{matches: [{path: {value: /rf}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, \
         replaceFullPath: /whole}}}], backendRefs: [{name: a, port: 80}]}",
        &[("GET /rf/x?q=1", "a"), ("GET /rf", "a"), ("GET /rfx", "shop")],
    ),
    feature(
        "redirect of host, scheme, port",
        "{matches: [{path: {value: /rd1}}], filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: \
         new.example, port: 8443, statusCode: 301}}]}",
        &[("GET /rd1/x?q", "301"), ("GET /rd", "shop")],
    ),
    feature(
        "redirect of a prefix",
        "{matches: [{path: {value: /rd2}}], filters: [{type: RequestRedirect, requestRedirect: {path: {type: \
         ReplacePrefixMatch, replacePrefixMatch: /to}, statusCode: 302}}]}",
        &[("GET /rd2/x?q", "302"), ("GET /rd2", "302")],
    ),
    feature(
        "redirect of the whole path",
        "{matches: [{path: {value: /rd3}}], filters: [{type: RequestRedirect, requestRedirect: {path: {type: \
         ReplaceFullPath, replaceFullPath: /all}}}]}",
        &[("GET /rd3/x?q", "302"), ("HEAD /rd3", "302")],
    ),
    feature(
        "mirror",
        "{matches: [{path: {value: /mi1}}], filters: [{type: RequestMirror, requestMirror: {backendRef: {name: mirror, \
         port: 80}}}], backendRefs: [{name: a, port: 80}]}",
        &[("GET /mi1", "a"), ("POST /mi1 body=copied", "a")],
    ),
    feature(
        "weights",
        "{matches: [{path: {value: /we}}], backendRefs: [{name: a, port: 80, weight: 1, filters: [{type: \
         RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-to, value: a}]}}]}, {name: b, port: 80, weight: 0}]}",
        &[("GET /we", "a")],
    ),
    feature(
        "timeout",
        "{matches: [{path: {value: /to}}], timeouts: {request: 150ms}, backendRefs: [{name: a, port: 80}]}",
        &[("GET /to x-slow=2000", "504"), ("GET /to", "a")],
    ),
    feature(
        "missing backend",
        "{matches: [{path: {value: /mb}}], backendRefs: [{name: nowhere, port: 80}]}",
        &[("GET /mb", "500"), ("POST /mb content-type=application/grpc body=x", "200")],
    ),
    feature("no backend", "{matches: [{path: {value: /nb}}]}", &[("GET /nb", "500")]),
    feature(
        "hosts",
        "",
        &[
            ("GET @unknown.example/x", "404"),
            ("GET @SHOP.mesh/exact", "a"),
            ("GET @shop.mesh:1234/exact", "a"),
        ],
    ),
];

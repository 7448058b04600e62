//! Routing features: a rule of a VirtualService each, and requests that must and must not meet it.

/// A rule and its requests.
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    /// An entry of `spec.http`; empty for what needs none.
    pub(crate) rule: &'static str,
    /// Request and what must come of it: a backend's name, or a status.
    pub(crate) requests: &'static [(&'static str, &'static str)],
}

const fn feature(
    name: &'static str,
    rule: &'static str,
    requests: &'static [(&'static str, &'static str)],
) -> Feature {
    Feature { name, rule, requests }
}

/// A request is `METHOD PATH name=value ...`; `_` in values stands for a space; `@HOST` before the path names another host;
/// `body=` sends one.
pub(crate) const FEATURES: &[Feature] = &[
    feature(
        "exact path",
        "{match: [{uri: {exact: /exact}}], route: [{destination: {host: a.mesh}}]}",
        &[
            ("GET /exact", "a"),
            ("GET /exact?x=1", "a"),
            ("GET /exact/", "shop"),
            ("GET /Exact", "shop"),
            ("POST /exact body=hello", "a"),
            ("HEAD /exact", "a"),
            ("PUT /exact body=x", "a"),
            ("DELETE /exact", "a"),
            ("PATCH /exact body=y", "a"),
            ("OPTIONS /exact", "a"),
        ],
    ),
    feature(
        "prefix",
        "{match: [{uri: {prefix: /pre}}], route: [{destination: {host: a.mesh}}]}",
        &[("GET /pre", "a"), ("GET /prefix/x?y=/z", "a"), ("GET /Pre", "shop"), ("GET /x/pre", "shop")],
    ),
    feature(
        "regex",
        "{match: [{uri: {regex: '/r/[a-z]+(/x)?'}}], route: [{destination: {host: b.mesh}}]}",
        &[
            ("GET /r/abc", "b"),
            ("GET /r/abc/x?q", "b"),
            ("GET /r/abc/y", "shop"),
            ("GET /r/", "shop"),
            ("GET /r/ABC", "shop"),
        ],
    ),
    feature(
        "ignoring case",
        "{match: [{uri: {prefix: /CaSe}, ignoreUriCase: true}, {uri: {exact: /OnE}, ignoreUriCase: true}], \
         route: [{destination: {host: a.mesh}}]}",
        &[
            ("GET /case/x", "a"),
            ("GET /CASE", "a"),
            ("GET /one", "a"),
            ("GET /one1", "shop"),
            ("GET /cas", "shop"),
        ],
    ),
    feature(
        "header exact",
        "{match: [{uri: {prefix: /h1}, headers: {x-user: {exact: jason}}}], route: [{destination: {host: b.mesh}}]}",
        &[
            ("GET /h1 x-user=jason", "b"),
            ("GET /h1 X-User=jason", "b"),
            ("GET /h1 x-user=Jason", "shop"),
            ("GET /h1 x-user=jason x-user=tom", "b"),
            ("GET /h1 x-user=tom x-user=jason", "b"),
            ("GET /h1 x-user=jason,tom", "shop"),
            ("GET /h1 x-user=tom x-user=tim", "shop"),
            ("GET /h1", "shop"),
        ],
    ),
    feature(
        "header prefix, regex, presence",
        "{match: [{uri: {prefix: /h2}, headers: {x-p: {prefix: ab}}}, {uri: {prefix: /h2}, headers: {x-r: {regex: 'a+b'}}}, \
         {uri: {prefix: /h2}, headers: {x-any: {}}}], route: [{destination: {host: c.mesh}}]}",
        &[
            ("GET /h2 x-p=abc", "c"),
            ("GET /h2 x-p=bab", "shop"),
            ("GET /h2 x-p=bab x-p=abc", "c"),
            ("GET /h2 x-r=aab", "c"),
            ("GET /h2 x-r=aabc", "shop"),
            ("GET /h2 x-any=1", "c"),
            ("GET /h2 x-any=", "c"),
            ("GET /h2 x-other=1", "shop"),
        ],
    ),
    feature(
        "two headers at once",
        "{match: [{uri: {prefix: /h3}, headers: {x-a: {exact: '1'}, x-b: {exact: '2'}}}], \
         route: [{destination: {host: a.mesh}}]}",
        &[("GET /h3 x-a=1 x-b=2", "a"), ("GET /h3 x-a=1", "shop"), ("GET /h3 x-b=2 x-a=2", "shop")],
    ),
    feature(
        "without headers",
        "{match: [{uri: {prefix: /h4}, withoutHeaders: {x-no: {exact: '1'}, x-gone: {}}}], \
         route: [{destination: {host: a.mesh}}]}",
        &[
            ("GET /h4 x-no=2", "a"),
            ("GET /h4 x-no=1", "shop"),
            ("GET /h4 x-no=2 x-no=1", "shop"),
            ("GET /h4 x-no=2 x-no=3", "a"),
            ("GET /h4 x-no=2 x-gone=1", "shop"),
        ],
    ),
    feature(
        "query parameters",
        "{match: [{uri: {prefix: /q}, queryParams: {a: {exact: '1'}}}, {uri: {prefix: /q}, queryParams: {b: {regex: 'x+'}}}, \
         {uri: {prefix: /q}, queryParams: {c: {prefix: ab}}}], route: [{destination: {host: b.mesh}}]}",
        &[
            ("GET /q?a=1", "b"),
            ("GET /q?z=2&a=1", "b"),
            ("GET /q?a=1&a=2", "b"),
            ("GET /q?a=2&a=1", "shop"),
            ("GET /q?a", "shop"),
            ("GET /q?a=%31", "shop"),
            ("GET /q?b=xxx", "b"),
            ("GET /q?b=xyx", "shop"),
            ("GET /q?c=abc", "b"),
            ("GET /q?c=ba", "shop"),
            ("GET /q", "shop"),
        ],
    ),
    feature(
        "method",
        "{match: [{uri: {prefix: /me}, method: {exact: POST}}, {uri: {prefix: /me}, method: {regex: 'PUT|DELETE'}}], \
         route: [{destination: {host: c.mesh}}]}",
        &[
            ("POST /me body=1", "c"),
            ("PUT /me body=1", "c"),
            ("DELETE /me", "c"),
            ("GET /me", "shop"),
            ("HEAD /me", "shop"),
            ("POST /me", "c"),
        ],
    ),
    feature(
        "authority and scheme",
        "{match: [{uri: {prefix: /au}, authority: {exact: shop.mesh}}, {uri: {prefix: /sc}, scheme: {exact: https}}, \
         {uri: {prefix: /sh}, scheme: {exact: http}}], route: [{destination: {host: a.mesh}}]}",
        &[("GET /au", "a"), ("GET /sc", "shop"), ("GET /sh", "a"), ("GET @SHOP.mesh/exact", "a")],
    ),
    feature(
        "source labels and namespace",
        "{match: [{uri: {prefix: /s1}, sourceLabels: {app: client}}, {uri: {prefix: /s2}, sourceLabels: {app: other}}], \
         route: [{destination: {host: a.mesh}}]}",
        &[("GET /s1", "a"), ("GET /s2", "shop")],
    ),
    feature(
        "rewrite of a prefix",
        "{match: [{uri: {prefix: /rw/}}], rewrite: {uri: /new/}, route: [{destination: {host: a.mesh}}]}",
        &[("GET /rw/x?q=/rw/", "a"), ("GET /rw/", "a"), ("GET /rw", "shop")],
    ),
    feature(
        "rewrite of an exact path",
        "{match: [{uri: {exact: /rwe}}], rewrite: {uri: /else/where}, route: [{destination: {host: a.mesh}}]}",
        &[("GET /rwe?q=1", "a"), ("GET /rwe/1", "shop")],
    ),
    feature(
        "rewrite by a regex",
        "{match: [{uri: {prefix: /rx/}}], rewrite: {uriRegexRewrite: {match: '^/rx/([^/]+)(/.*)$', rewrite: '\\2/i/\\1'}}, \
         route: [{destination: {host: b.mesh}}]}",
        &[("GET /rx/foo/v1?z", "b"), ("GET /rx/foo", "b"), ("GET /ry/foo/v1", "shop")],
    ),
    feature(
        "rewrite of the authority",
        "{match: [{uri: {prefix: /ra}}], rewrite: {authority: other.example}, route: [{destination: {host: a.mesh}}]}",
        &[("GET /ra/x", "a"), ("GET /rb/x", "shop")],
    ),
    feature(
        "redirect",
        "{match: [{uri: {prefix: /red1}}], redirect: {uri: /elsewhere, authority: new.example}}",
        &[
            ("GET /red1/x?q=1", "301"),
            ("POST /red1 body=1", "301"),
            ("HEAD /red1", "301"),
            ("GET /red", "shop"),
        ],
    ),
    feature(
        "redirect by scheme, port and code",
        "{match: [{uri: {prefix: /red2}}], redirect: {scheme: https, port: 8443, redirectCode: 308}}",
        &[("GET /red2/x?q=1", "308"), ("GET @shop.mesh:80/red2/x", "308")],
    ),
    feature(
        "redirect with codes",
        "{match: [{uri: {prefix: /red3}}], redirect: {authority: n.example, redirectCode: 302}}",
        &[("GET /red3", "302"), ("GET /red3?x", "302")],
    ),
    feature(
        "redirect with 303",
        "{match: [{uri: {prefix: /red4}}], redirect: {uri: '/p?own=1', redirectCode: 303}}",
        &[("GET /red4?x=1", "303")],
    ),
    feature(
        "redirect with 307",
        "{match: [{uri: {exact: /red5}}], redirect: {scheme: https, redirectCode: 307}}",
        &[("GET /red5", "307"), ("GET @shop.mesh:80/red5", "307"), ("GET /red5/x", "shop")],
    ),
    feature(
        "direct response",
        "{match: [{uri: {prefix: /dr1}}], directResponse: {status: 418, body: {string: teapot}}}",
        &[("GET /dr1", "418"), ("HEAD /dr1", "418"), ("POST /dr1 body=1", "418"), ("GET /dr", "shop")],
    ),
    feature(
        "direct response without a body",
        "{match: [{uri: {prefix: /dr2}}], directResponse: {status: 204}}",
        &[("GET /dr2", "204")],
    ),
    feature(
        "direct response of an error, with headers",
        "{match: [{uri: {prefix: /dr3}}], directResponse: {status: 503, body: {string: down}}, \
         headers: {response: {set: {x-why: maintenance}}}}",
        &[("GET /dr3", "503"), ("POST /dr3 content-type=application/grpc body=x", "200")],
    ),
    feature(
        "request headers",
        "{match: [{uri: {prefix: /hd1}}], headers: {request: {set: {x-set: new}, add: {x-add: more}, remove: [x-del]}}, \
         route: [{destination: {host: a.mesh}}]}",
        &[
            ("GET /hd1", "a"),
            ("GET /hd1 x-set=old x-add=one x-del=1", "a"),
            ("GET /hd1 X-Set=old X-Add=one X-Del=1", "a"),
            ("GET /hd2 x-set=old x-del=1", "shop"),
        ],
    ),
    feature(
        "response headers",
        "{match: [{uri: {prefix: /hr1}}], headers: {response: {set: {x-up: '2', x-new: n}, add: {x-two: c}, remove: [x-gone]}}, \
         route: [{destination: {host: a.mesh}}]}",
        &[("GET /hr1", "a"), ("GET /hr1 x-answer=404", "404"), ("GET /hr2", "shop")],
    ),
    feature(
        "headers of the destination",
        "{match: [{uri: {prefix: /hw1}}], headers: {request: {set: {x-level: rule}}}, route: [{destination: {host: a.mesh}, \
         headers: {request: {set: {x-level: destination, x-to: a}}, response: {set: {x-from: a}}}}]}",
        &[("GET /hw1", "a"), ("GET /hw2", "shop")],
    ),
    feature(
        "values with operators",
        "{match: [{uri: {prefix: /fm1}}], headers: {request: {set: {x-path: '%REQ(:path)%', x-proto: '%PROTOCOL%', \
         x-none: '%REQ(x-none)%'}}, response: {set: {x-echo: '%RESP(x-up)%-%REQ(:method)%'}}}, \
         route: [{destination: {host: a.mesh}}]}",
        &[("GET /fm1?q", "a"), ("POST /fm1 body=1", "a"), ("GET /fm2", "shop")],
    ),
    feature(
        "host set as a header",
        "{match: [{uri: {prefix: /hh1}}], headers: {request: {set: {Host: set.example}}}, \
         route: [{destination: {host: a.mesh}}]}",
        &[("GET /hh1", "a"), ("GET /hh2", "shop")],
    ),
    feature(
        "weights",
        "{match: [{uri: {prefix: /w1}}], route: [{destination: {host: a.mesh}, weight: 100, \
         headers: {request: {set: {x-w: a}}}}, {destination: {host: b.mesh}, weight: 0}]}",
        &[("GET /w1", "a"), ("GET /w1/again", "a"), ("GET /w", "shop")],
    ),
    feature(
        "subsets",
        "{match: [{uri: {prefix: /v1}}], route: [{destination: {host: versions.mesh, subset: one}}]}",
        &[("GET /v1", "b"), ("GET /v1/x", "b")],
    ),
    feature(
        "another subset by header",
        "{match: [{uri: {prefix: /v2}, headers: {end-user: {exact: jason}}}], \
         route: [{destination: {host: versions.mesh, subset: two}}]}",
        &[("GET /v2 end-user=jason", "c"), ("GET /v2 end-user=tom", "shop")],
    ),
    feature(
        "a port of the destination",
        "{match: [{uri: {prefix: /port}}], route: [{destination: {host: ports.mesh, port: {number: 81}}}]}",
        &[("GET /port", "c"), ("GET /por", "shop")],
    ),
    feature(
        "abort",
        "{match: [{uri: {prefix: /ab1}}], fault: {abort: {httpStatus: 555, percentage: {value: 100}}}, \
         route: [{destination: {host: a.mesh}}]}",
        &[
            ("GET /ab1", "555"),
            ("HEAD /ab1", "555"),
            ("POST /ab1 content-type=application/grpc body=x", "200"),
            ("GET /ab", "shop"),
        ],
    ),
    feature(
        "abort of nobody",
        "{match: [{uri: {prefix: /an1}}], fault: {abort: {httpStatus: 500, percentage: {value: 0}}}, \
         route: [{destination: {host: a.mesh}}]}",
        &[("GET /an1", "a")],
    ),
    feature(
        "abort by gRPC status",
        "{match: [{uri: {prefix: /ag1}}], fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 100}}}, \
         route: [{destination: {host: a.mesh}}]}",
        &[("POST /ag1 content-type=application/grpc body=x", "200"), ("GET /ag", "shop")],
    ),
    feature(
        "delay, and abort of one user",
        "{match: [{uri: {prefix: /dl1}, headers: {end-user: {exact: jason}}}], \
         fault: {delay: {fixedDelay: 20ms, percentage: {value: 100}}, abort: {httpStatus: 500, percentage: {value: 100}}}, \
         route: [{destination: {host: a.mesh}}]}",
        &[("GET /dl1 end-user=jason", "500"), ("GET /dl1 end-user=tom", "shop")],
    ),
    feature(
        "delay",
        "{match: [{uri: {prefix: /dl2}}], fault: {delay: {fixedDelay: 20ms, percentage: {value: 100}}}, \
         route: [{destination: {host: a.mesh}}]}",
        &[("GET /dl2", "a")],
    ),
    feature(
        "mirror",
        "{match: [{uri: {prefix: /mi1}}], mirror: {host: mirror.mesh}, route: [{destination: {host: a.mesh}}]}",
        &[("GET /mi1", "a"), ("POST /mi1 body=copied", "a"), ("GET /mi", "shop")],
    ),
    feature(
        "cors",
        "{match: [{uri: {prefix: /co1}}], corsPolicy: {allowOrigins: [{exact: 'http://o.example'}, {regex: 'http://[a-z]+[.]re'}], \
         allowMethods: [GET, POST], allowHeaders: [x-a], exposeHeaders: [x-b, x-c], maxAge: 60s, allowCredentials: true}, \
         route: [{destination: {host: a.mesh}}]}",
        &[
            ("OPTIONS /co1 origin=http://o.example access-control-request-method=GET", "200"),
            ("OPTIONS /co1 origin=http://abc.re access-control-request-method=POST", "200"),
            ("OPTIONS /co1 origin=http://o.example", "a"),
            ("GET /co1 origin=http://o.example", "a"),
            ("GET /co1 origin=http://abc.re", "a"),
            ("GET /co1 origin=http://p.example", "a"),
            ("GET /co1", "a"),
            ("OPTIONS /co origin=http://o.example access-control-request-method=GET", "shop"),
        ],
    ),
    feature(
        "timeout",
        "{match: [{uri: {prefix: /to1}}], timeout: 150ms, retries: {attempts: 0}, route: [{destination: {host: a.mesh}}]}",
        &[("GET /to1 x-slow=2000", "504"), ("GET /to1", "a"), ("GET /to", "shop")],
    ),
    feature(
        "retries on a status",
        "{match: [{uri: {prefix: /re1}}], retries: {attempts: 2, retryOn: '5xx'}, route: [{destination: {host: a.mesh}}]}",
        &[("GET /re1 x-answer=503", "503"), ("GET /re1", "a"), ("GET /re1 x-answer=404", "404")],
    ),
    feature(
        "retries on a status of the list",
        "{match: [{uri: {prefix: /re2}}], retries: {attempts: 1, retryOn: 'retriable-status-codes,409'}, \
         route: [{destination: {host: a.mesh}}]}",
        &[
            ("GET /re2 x-answer=409", "409"),
            ("GET /re2 x-answer=503", "503"),
            ("POST /re2 x-answer=409 body=again", "409"),
        ],
    ),
    feature(
        "no retries",
        "{match: [{uri: {prefix: /re3}}], retries: {attempts: 0}, route: [{destination: {host: a.mesh}}]}",
        &[("GET /re3 x-answer=503", "503"), ("GET /re x-answer=503", "503")],
    ),
    feature(
        "nobody there",
        "{match: [{uri: {prefix: /nb1}}], route: [{destination: {host: empty.mesh}}]}",
        &[
            ("GET /nb1", "503"),
            ("POST /nb1 content-type=application/grpc body=x", "200"),
            ("GET /nb", "shop"),
        ],
    ),
    feature(
        "refused connections",
        "{match: [{uri: {prefix: /rc1}}], route: [{destination: {host: refused.mesh}}]}",
        &[("GET /rc1", "503"), ("GET /rc", "shop")],
    ),
    feature(
        "refused connections without retries",
        "{match: [{uri: {prefix: /rn1}}], retries: {attempts: 0}, route: [{destination: {host: refused.mesh}}]}",
        &[("GET /rn1", "503"), ("GET /rn", "shop")],
    ),
    feature(
        "unknown destination",
        "{match: [{uri: {prefix: /ud1}}], route: [{destination: {host: nowhere.example}}]}",
        &[("GET /ud1", "503"), ("GET /ud", "shop")],
    ),
    feature(
        "hosts",
        "",
        &[
            ("GET @a.mesh/x", "a"),
            ("GET @a.mesh:80/x", "a"),
            ("GET @A.MESH/x", "a"),
            ("GET @unknown.example/x", "404"),
            ("POST @unknown.example/x content-type=application/grpc body=x", "200"),
        ],
    ),
    feature(
        "paths in one form",
        "",
        &[
            ("GET /x/../exact", "a"),
            ("GET /x/%2e%2e/exact", "a"),
            ("GET /./exact", "a"),
            ("GET /%65xact", "a"),
            ("GET //exact", "shop"),
            ("GET /exact%2f", "shop"),
            ("GET /a%20b?c=%20d", "shop"),
        ],
    ),
    feature(
        "headers on the way",
        "",
        &[
            ("GET /hop Keep-Alive=5 Connection=keep-alive", "shop"),
            ("GET /hop TE=trailers", "shop"),
            ("GET /hop Proxy-Connection=keep-alive", "shop"),
            ("GET /hop X-MiXeD-CaSe=Value x-forwarded-proto=https", "shop"),
            ("GET /hop X-Forwarded-For=1.2.3.4", "shop"),
            ("GET /hop x-envoy-max-retries=1 x-envoy-retry-on=5xx x-answer=503", "503"),
            ("GET /hop x-envoy-upstream-rq-timeout-ms=50 x-envoy-expected-rq-timeout-ms=7", "shop"),
            ("GET /hop x-envoy-original-path=/p x-envoy-internal=true x-envoy-decorator-operation=o", "shop"),
            ("GET /hop x-forwarded-client-cert=By=x user-agent=curl cookie=a=1 cookie=b=2", "shop"),
            ("GET /hop accept=a accept=b x-multi=1 x-multi=2", "shop"),
            ("GET /hop x-b3-traceid=80f198ee56343ba864fe8b2a57d3eff7 traceparent=00-1-2-00", "shop"),
            ("GET http://shop.mesh/exact", "a"),
            ("GET http://shop.mesh:80/exact?x", "a"),
            ("GET /hop connection=Upgrade upgrade=websocket sec-websocket-key=abc x-answer=101", "101"),
            ("GET /hop connection=Upgrade upgrade=other", "403"),
            ("GET /hop connection=Upgrade,HTTP2-Settings upgrade=h2c http2-settings=AAMAAABk", "shop"),
            ("GET /hop connection=x-hop x-hop=1", "shop"),
            ("GET /hop te=gzip", "shop"),
            ("POST /hop content-type=application/grpc te=trailers body=x", "shop"),
            ("GET /hop grpc-timeout=5S", "shop"),
            ("POST /hop content-type=application/grpc grpc-timeout=5S body=x", "shop"),
            ("GET /hop x-envoy-fault-abort-request=500", "shop"),
            ("GET /hop range=bytes=0-1 if-none-match=x accept-encoding=gzip", "shop"),
            ("GET /hop x-request-id=mine", "shop"),
            ("GET /hop#fragment", "400"),
            ("GET /hop from=loopback", "shop"),
            ("GET /hop x-forwarded-for=1.2.3.4 from=loopback", "shop"),
            ("GET /hop connection=close", "shop"),
            ("GET /hop Expect=nothing", "shop"),
            ("GET /hop authorization=Basic_abc referer=http://r/ via=1.1_x", "shop"),
            ("GET /hop x-answer=500", "500"),
            ("GET /hop x-answer=304", "304"),
            ("GET /hop x-answer=404", "404"),
        ],
    ),
];

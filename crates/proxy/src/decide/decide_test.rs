#![expect(deprecated, reason = "deprecated fields act, too")]

use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier as H;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier as Q;
use envoy_types::pb::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, SchemeRewriteSpecifier,
};
use envoy_types::pb::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern as M;

use super::kit::*;
use super::matching::roll;
use super::*;
use crate::http::head::ResponseHead;

fn check(world: &World, rows: &[(&str, &str)]) {
    for (line, expected) in rows {
        assert_eq!(world.outcome(&request(line)), *expected, "{line}");
    }
}

#[test]
fn paths() {
    let world = World::of_routes(vec![
        route(path("path:/exact"), to("a")),
        route(path("i-path:/IExact"), to("a")),
        route(path("under:/sep"), to("b")),
        route(path("i-under:/ISep"), to("b")),
        route(path("regex:/r/[a-z]+(/x)?"), to("c")),
        route(path("prefix:/pre"), to("d")),
        route(path("i-prefix:/IPre"), to("d")),
        route(path("connect:"), rds::RouteAction { upgrade_configs: vec![], ..to("e") }),
    ]);
    check(
        &world,
        &[
            ("GET h/exact", "a"),
            ("GET h/exact?q=1", "a"),
            ("GET h/exact/", "404"),
            ("GET h/Exact", "404"),
            ("GET h/iexact", "a"),
            ("GET h/IEXACT?x", "a"),
            ("GET h/iexact2", "404"),
            ("GET h/sep", "b"),
            ("GET h/sep/", "b"),
            ("GET h/sep/x/y", "b"),
            ("GET h/sep?x=/", "b"),
            ("GET h/separate", "404"),
            ("GET h/Sep", "404"),
            ("GET h/isep/x", "b"),
            ("GET h/isepx", "404"),
            ("GET h/r/abc", "c"),
            ("GET h/r/abc/x", "c"),
            ("GET h/r/abc?foo", "c"),
            ("GET h/r/abc/y", "404"),
            ("GET h/r/ABC", "404"),
            ("GET h/x/r/abc", "404"),
            ("GET h/pre", "d"),
            ("GET h/prefix/x", "d"),
            ("GET h/Pre", "404"),
            ("GET h/ipreX", "d"),
            ("GET h/other", "404"),
            ("POST h/exact", "a"),
        ],
    );
}

#[test]
fn the_first_route_wins_whatever_its_kind() {
    let mut routes = vec![
        route(path("prefix:/a/b"), to("a")),
        route(path("path:/a/b/c"), to("b")),
        route(path("regex:/x.*"), to("c")),
        route(path("prefix:/x"), to("d")),
        route(path("prefix:/"), to("e")),
    ];
    let rows = [("GET h/a/b/c", "a"), ("GET h/x", "c"), ("GET h/a", "e"), ("GET h/", "e")];
    check(&World::of_routes(routes.clone()), &rows);
    // The same behind many others, so that the index is in use.
    for n in 0..50 {
        routes.insert(0, route(path(&format!("path:/unrelated/{n}")), to("a")));
    }
    check(&World::of_routes(routes), &rows);
}

#[test]
fn headers() {
    let text = |kind| H::StringMatch(string(kind));
    let insensitive = matcher::StringMatcher { ignore_case: true, ..exact("YES") };
    let cases: Vec<(rds::HeaderMatcher, &[&str], &[&str])> = vec![
        (
            header("x-a", text(M::Exact("1".into()))),
            &["x-a=1", "X-A=1", "x-a=1 x-a=1", "x-a=2 x-a=1"],
            &["x-a=2", "x-b=1"],
        ),
        (header("x-a", text(M::Exact("1,2".into()))), &["x-a=1,2"], &["x-a=1", "x-a=2 x-a=1"]),
        (header("x-a", H::StringMatch(insensitive)), &["x-a=yes", "x-a=YES"], &["x-a=no"]),
        (header("x-a", text(M::Prefix("ab".into()))), &["x-a=ab", "x-a=abc"], &["x-a=a", "x-a=ba"]),
        (header("x-a", text(M::Suffix("yz".into()))), &["x-a=yz", "x-a=xyz"], &["x-a=z", "x-a=yzx"]),
        (header("x-a", text(M::Contains("mm".into()))), &["x-a=ammb"], &["x-a=amb"]),
        (header("x-a", text(M::SafeRegex(regex("a+b")))), &["x-a=aab"], &["x-a=aabc", "x-a=b"]),
        (header("x-a", H::PresentMatch(true)), &["x-a=1", "x-a="], &["x-b=1"]),
        (header("x-a", H::PresentMatch(false)), &["x-b=1", ""], &["x-a=1"]),
        (
            header(
                "x-a",
                H::RangeMatch(envoy_types::pb::envoy::r#type::v3::Int64Range { start: -5, end: 10 }),
            ),
            &["x-a=-5", "x-a=0", "x-a=9"],
            &["x-a=10", "x-a=-6", "x-a=1.5", "x-a=abc", "x-b=1"],
        ),
        (
            rds::HeaderMatcher { invert_match: true, ..header("x-a", text(M::Exact("1".into()))) },
            &["x-a=2"],
            &["x-a=1", ""],
        ),
        (
            rds::HeaderMatcher {
                invert_match: true,
                treat_missing_header_as_empty: true,
                ..header("x-a", text(M::Exact("1".into())))
            },
            &["x-a=2", ""],
            &["x-a=1"],
        ),
        (
            rds::HeaderMatcher { invert_match: true, ..header("x-a", H::PresentMatch(true)) },
            &["", "x-b=1"],
            &["x-a=1"],
        ),
        (
            rds::HeaderMatcher { invert_match: true, ..header("x-a", H::PresentMatch(false)) },
            &["x-a=1"],
            &[""],
        ),
        (
            rds::HeaderMatcher {
                treat_missing_header_as_empty: true,
                ..header("x-a", text(M::SafeRegex(regex("1?"))))
            },
            &["", "x-a=1", "x-a="],
            &["x-a=2"],
        ),
        (header(":authority", text(M::Prefix("h".into()))), &[""], &[]),
        (header("host", text(M::Exact("h".into()))), &[""], &[]),
        (header(":path", text(M::Exact("/p?q=1".into()))), &[""], &[]),
        (header(":scheme", text(M::Exact("https".into()))), &[], &[""]),
    ];
    for (wanted, hits, misses) in cases {
        let matched = rds::RouteMatch { headers: vec![wanted.clone()], ..path("prefix:/") };
        let world = World::of_routes(vec![route(matched, to("a")), route(path("prefix:/"), to("b"))]);
        for (lines, expected) in [(hits, "a"), (misses, "b")] {
            for line in lines {
                let line = format!("GET h/p?q=1 {line}");
                assert_eq!(world.outcome(&request(line.trim())), expected, "{line} on {wanted:?}");
            }
        }
    }
}

#[test]
fn methods_are_headers() {
    let method = |name: &str| rds::RouteMatch {
        headers: vec![header(":method", H::StringMatch(exact(name)))],
        ..path("prefix:/")
    };
    let world = World::of_routes(vec![
        route(method("GET"), to("a")),
        route(method("PURGE"), to("b")),
        route(path("prefix:/"), to("c")),
    ]);
    check(
        &world,
        &[("GET h/", "a"), ("PURGE h/", "b"), ("purge h/", "c"), ("POST h/", "c"), ("HEAD h/", "c")],
    );
}

#[test]
fn query_parameters() {
    let parameter = |name: &str, kind: Q| rds::QueryParameterMatcher {
        name: name.into(),
        query_parameter_match_specifier: Some(kind),
    };
    let on = |parameters| rds::RouteMatch { query_parameters: parameters, ..path("prefix:/") };
    let world = World::of_routes(vec![
        route(
            on(vec![parameter("both", Q::PresentMatch(true)), parameter("a", Q::StringMatch(exact("2")))]),
            to("d"),
        ),
        route(on(vec![parameter("a", Q::StringMatch(exact("1")))]), to("a")),
        route(on(vec![parameter("b", Q::StringMatch(string(M::SafeRegex(regex("x+")))))]), to("b")),
        route(on(vec![parameter("c", Q::PresentMatch(true))]), to("c")),
    ]);
    check(
        &world,
        &[
            ("GET h/?a=1", "a"),
            ("GET h/?a=1&b=xx", "a"),
            ("GET h/?z&a=1", "a"),
            ("GET h/?a=2", "404"),
            ("GET h/?a=2&a=1", "404"),
            ("GET h/?a=1&a=2", "a"),
            ("GET h/?aa=1", "404"),
            ("GET h/?a=2&both", "d"),
            ("GET h/?both=&a=2", "d"),
            ("GET h/?both", "404"),
            ("GET h/?b=xxx", "b"),
            ("GET h/?b=xy", "404"),
            ("GET h/?b", "404"),
            ("GET h/?c", "c"),
            ("GET h/?c=1", "c"),
            ("GET h/c", "404"),
            ("GET h/?a=%31", "404"),
        ],
    );
}

#[test]
fn grpc_requests() {
    let grpc = rds::RouteMatch { grpc: Some(rds::route_match::GrpcRouteMatchOptions {}), ..path("prefix:/") };
    let world = World::of_routes(vec![route(grpc, to("a")), route(path("prefix:/"), to("b"))]);
    check(
        &world,
        &[
            ("POST h/s/m content-type=application/grpc", "a"),
            ("POST h/s/m content-type=application/grpc+proto", "a"),
            ("POST h/s/m content-type=application/grpc-web", "b"),
            ("POST h/s/m content-type=application/json", "b"),
            ("POST h/s/m", "b"),
        ],
    );
}

#[test]
fn hosts() {
    let one = |name: &str, domains: &[&str]| host(name, domains, vec![route(path("prefix:/"), to(name))]);
    let hosts = vec![
        one("a", &["a.com", "A.net:8080"]),
        one("b", &["*.a.com"]),
        one("c", &["c.*"]),
        one("d", &["*"]),
    ];
    let world = World::new(config(hosts.clone()));
    check(
        &world,
        &[
            ("GET a.com/", "a"),
            ("GET A.COM/", "a"),
            ("GET a.com:80/", "d"),
            ("GET a.net:8080/", "a"),
            ("GET a.net/", "d"),
            ("GET x.a.com/", "b"),
            ("GET x.y.a.com/", "b"),
            ("GET c.org/", "c"),
            ("GET c.org:1/", "c"),
            ("GET zzz/", "d"),
        ],
    );
    let ignoring =
        rds::RouteConfiguration { ignore_port_in_host_matching: true, ..config(hosts[..3].to_vec()) };
    check(
        &World::new(ignoring),
        &[("GET a.com:1234/", "a"), ("GET x.a.com:1/", "b"), ("GET a.net/", "404"), ("GET q/", "404")],
    );
}

#[test]
fn shares_and_weights_follow_the_roll() {
    let cluster = |name: &str, weight| rds::weighted_cluster::ClusterWeight {
        name: name.into(),
        weight: Some(envoy_types::pb::google::protobuf::UInt32Value { value: weight }),
        ..Default::default()
    };
    let weighted = rds::WeightedCluster {
        clusters: vec![cluster("a", 80), cluster("b", 20), cluster("c", 0)],
        ..Default::default()
    };
    let action = rds::RouteAction {
        cluster_specifier: Some(rds::route_action::ClusterSpecifier::WeightedClusters(weighted)),
        ..Default::default()
    };
    let some = rds::RouteMatch { runtime_fraction: Some(percent(30)), ..path("prefix:/") };
    let world = World::of_routes(vec![route(some, to("d")), route(path("prefix:/"), action)]);
    let mut counts = std::collections::BTreeMap::new();
    for n in 0..10_000u64 {
        let decision = decide(&world.snapshot, &world.downstream, &request("GET h/"), roll(n, 99)).name();
        *counts.entry(decision).or_insert(0) += 1;
    }
    let near = |name: &str, expected: i32| (counts[name] - expected).abs() < 200;
    assert!(near("d", 3000) && near("a", 5600) && near("b", 1400), "{counts:?}");
    assert_eq!(counts.len(), 3);
}

impl Decision<'_> {
    fn name(&self) -> String {
        match self {
            Decision::Forward(forward) => forward.cluster.name.to_string(),
            other => format!("{other:?}"),
        }
    }
}

#[test]
fn a_header_may_name_the_cluster() {
    let action = rds::RouteAction {
        cluster_specifier: Some(rds::route_action::ClusterSpecifier::ClusterHeader("x-to".into())),
        ..Default::default()
    };
    let missing = rds::RouteAction { cluster_not_found_response_code: 1, ..to("nowhere") };
    let world = World::of_routes(vec![route(path("prefix:/m"), missing), route(path("prefix:/"), action)]);
    check(
        &world,
        &[("GET h/ x-to=b", "b"), ("GET h/ x-to=zz", "503"), ("GET h/", "503"), ("GET h/m", "404")],
    );
    assert_eq!(world.respond(&request("GET h/m")).flag, "NC");
}

#[test]
fn redirects() {
    let redirect = |action: rds::RedirectAction| rds::Route {
        r#match: Some(path("prefix:/old")),
        action: Some(rds::route::Action::Redirect(action)),
        ..Default::default()
    };
    let with = |path: PathRewriteSpecifier| rds::RedirectAction {
        path_rewrite_specifier: Some(path),
        ..Default::default()
    };
    let rewrite = matcher::RegexMatchAndSubstitute {
        pattern: Some(regex("/old/(.*)")),
        substitution: r"/new/\1".into(),
    };
    let rows: Vec<(rds::RedirectAction, &str, u16, &str)> = vec![
        (
            rds::RedirectAction { host_redirect: "n".into(), ..Default::default() },
            "h:80/old?q",
            301,
            "http://n/old?q",
        ),
        (
            rds::RedirectAction {
                scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::HttpsRedirect(true)),
                ..Default::default()
            },
            "h:80/old",
            301,
            "https://h/old",
        ),
        (
            rds::RedirectAction {
                scheme_rewrite_specifier: Some(SchemeRewriteSpecifier::SchemeRedirect("https".into())),
                ..Default::default()
            },
            "h:8080/old",
            301,
            "https://h:8080/old",
        ),
        (rds::RedirectAction { port_redirect: 81, ..Default::default() }, "h:80/old", 301, "http://h:81/old"),
        (rds::RedirectAction { response_code: 3, ..Default::default() }, "h/old", 307, "http://h/old"),
        (
            rds::RedirectAction { strip_query: true, response_code: 1, ..Default::default() },
            "h/old/x?a=1",
            302,
            "http://h/old/x",
        ),
        (with(PathRewriteSpecifier::PathRedirect("/p".into())), "h/old?a=1", 301, "http://h/p?a=1"),
        (with(PathRewriteSpecifier::PathRedirect("/p?b".into())), "h/old?a=1", 301, "http://h/p?b"),
        (with(PathRewriteSpecifier::PrefixRewrite("/new".into())), "h/old/x?a", 301, "http://h/new/x?a"),
        (with(PathRewriteSpecifier::RegexRewrite(rewrite)), "h/old/x?a", 301, "http://h/new/x?a"),
        (
            with(PathRewriteSpecifier::PathRewrite("/x/%REQ(:method)%".into())),
            "h/old?a",
            301,
            "http://h/x/GET?a",
        ),
    ];
    for (action, target, status, expected) in rows {
        let world = World::of_routes(vec![redirect(action)]);
        let head = request(&format!("GET {target}"));
        let answer = world.respond(&head);
        let mut response = ResponseHead::default();
        answer.write_head(&world.downstream, &head, &mut response);
        let location = String::from_utf8_lossy(response.headers.get("location").unwrap()).into_owned();
        assert_eq!((response.status, location.as_str()), (status, expected), "{target}");
    }
}

#[test]
fn rewrites() {
    let rewrite = |pattern: &str, substitution: &str| matcher::RegexMatchAndSubstitute {
        pattern: Some(regex(pattern)),
        substitution: substitution.into(),
    };
    let prefix = |new: &str| rds::RouteAction { prefix_rewrite: new.into(), ..to("a") };
    let by_host = |kind| rds::RouteAction { host_rewrite_specifier: Some(kind), ..to("a") };
    let rows: Vec<(&str, rds::RouteAction, &str, &str, &str)> = vec![
        ("prefix:/v1/", prefix("/"), "h/v1/x?q=1", "h", "/x?q=1"),
        ("prefix:/v1", prefix("/"), "h/v1", "h", "/"),
        ("prefix:/v1", prefix("/"), "h/v1/x", "h", "//x"),
        ("prefix:/v1", prefix("/v2"), "h/v1?q", "h", "/v2?q"),
        ("path:/a/b", prefix("/c"), "h/a/b?q", "h", "/c?q"),
        ("under:/a", prefix("/c"), "h/a/b", "h", "/c/b"),
        ("i-prefix:/AB", prefix("/c"), "h/abx", "h", "/cx"),
        ("regex:/a/.*", prefix("/c"), "h/a/b?q", "h", "/c?q"),
        (
            "prefix:/",
            rds::RouteAction { regex_rewrite: Some(rewrite("^/s/([^/]+)(/.*)$", r"\2/i/\1")), ..to("a") },
            "h/s/foo/v1?z=/s/",
            "h",
            "/v1/i/foo?z=/s/",
        ),
        (
            "prefix:/",
            rds::RouteAction { path_rewrite: "/n/%REQ(x-t)%".into(), ..to("a") },
            "h/p?q x-t=5",
            "h",
            "/n/5?q",
        ),
        ("prefix:/", by_host(HostRewriteSpecifier::HostRewriteLiteral("n".into())), "h/p", "n", "/p"),
        ("prefix:/", by_host(HostRewriteSpecifier::HostRewriteHeader("x-h".into())), "h/p x-h=m", "m", "/p"),
        ("prefix:/", by_host(HostRewriteSpecifier::HostRewriteHeader("x-h".into())), "h/p", "h", "/p"),
        (
            "prefix:/",
            by_host(HostRewriteSpecifier::HostRewritePathRegex(rewrite("^/([^/]+)/.*$", r"\1.org"))),
            "h/foo/x?y",
            "foo.org",
            "/foo/x?y",
        ),
    ];
    for (matched, action, target, host, expected) in rows {
        let world = World::of_routes(vec![route(path(matched), action)]);
        let sent = world.sent(request(&format!("GET {target}")));
        let seen = (String::from_utf8_lossy(sent.authority()), String::from_utf8_lossy(sent.path()));
        assert_eq!((&*seen.0, &*seen.1), (host, expected), "{matched} {target}");
        let before = target.split(' ').next().unwrap().split_once('/').unwrap().1;
        let original =
            sent.headers.get("x-envoy-original-path").map(|path| String::from_utf8_lossy(path).into_owned());
        let rewritten = expected != format!("/{before}");
        assert_eq!(original, rewritten.then(|| format!("/{before}")), "{matched} {target}");
    }
}

#[test]
fn header_changes_are_made_level_by_level() {
    let level =
        |route: &mut Vec<_>, name: &str| route.extend([add("x-append", name, 0), add("x-set", name, 2)]);
    let mut from = route(path("prefix:/"), to("a"));
    level(&mut from.request_headers_to_add, "route");
    from.request_headers_to_remove = vec!["x-gone".into()];
    from.response_headers_to_add =
        vec![add("x-r", "%RESP(x-up)%", 0), add("x-absent", "1", 1), add("x-only", "1", 3)];
    let mut vh = host("vh", &["*"], vec![from]);
    level(&mut vh.request_headers_to_add, "vh");
    vh.include_request_attempt_count = true;
    let mut all = config(vec![vh]);
    level(&mut all.request_headers_to_add, "config");
    all.request_headers_to_add.push(add("x-addr", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", 2));
    all.request_headers_to_add.push(add("x-empty", "%REQ(x-none)%", 2));
    all.request_headers_to_add.push(add("x-mixed", "%REQ(x-none?:method)%-%PROTOCOL%-100%%", 2));
    for (wins, set) in [(false, "config"), (true, "route")] {
        let mut given = all.clone();
        given.most_specific_header_mutations_wins = wins;
        let world = World::new(given);
        let sent = world.sent(request("GET h/ x-gone=1 x-append=0"));
        let value = |name: &str| {
            let all: Vec<_> = sent.headers.get_all(name).map(String::from_utf8_lossy).collect();
            all.join("|")
        };
        assert_eq!(value("x-set"), set);
        let order = if wins { "0|config|vh|route" } else { "0|route|vh|config" };
        assert_eq!(value("x-append"), order);
        assert_eq!(value("x-gone"), "");
        assert_eq!(value("x-addr"), "10.1.2.3");
        assert_eq!(value("x-empty"), "");
        assert_eq!(value("x-mixed"), "GET-HTTP/1.1-100%");
        assert_eq!(value("x-envoy-attempt-count"), "1");
        let head = request("GET h/");
        let mut response = ResponseHead::new(200).with("x-up", "7").with("x-only", "0").with("x-absent", "0");
        world.forward(&head).edit_response(&world.downstream, &head, 1, &mut response);
        assert_eq!(shown(&response.headers), ["x-absent=0", "x-only=1", "x-r=7", "x-up=7"]);
    }
}

#[test]
fn timeouts() {
    type Seconds = Option<f64>;
    let action = |timeout: Seconds| rds::RouteAction { timeout: timeout.and_then(duration), ..to("a") };
    let grpc = |max: f64| rds::RouteAction { max_grpc_timeout: duration(max), ..action(Some(9.0)) };
    let stream = |max: Seconds, grpc: Seconds| rds::RouteAction {
        max_stream_duration: Some(rds::route_action::MaxStreamDuration {
            max_stream_duration: max.and_then(duration),
            grpc_timeout_header_max: grpc.and_then(duration),
            ..Default::default()
        }),
        ..action(Some(9.0))
    };
    let retrying = |try_for: f64| rds::RouteAction {
        retry_policy: Some(rds::RetryPolicy {
            retry_on: "5xx".into(),
            per_try_timeout: duration(try_for),
            ..Default::default()
        }),
        ..action(Some(3.0))
    };
    const CALL: &str = "POST h/ content-type=application/grpc grpc-timeout=";
    let rows: Vec<(rds::RouteAction, String, Seconds, Seconds, Seconds, &str)> = vec![
        (action(None), "GET h/".into(), Some(15.0), None, None, "15000"),
        (action(Some(0.0)), "GET h/".into(), None, None, None, ""),
        (action(Some(2.5)), "GET h/".into(), Some(2.5), None, None, "2500"),
        (action(Some(2.5)), "GET h/ x-envoy-upstream-rq-timeout-ms=100".into(), Some(0.1), None, None, "100"),
        (action(Some(2.5)), "GET h/ x-envoy-upstream-rq-timeout-ms=x".into(), Some(2.5), None, None, "2500"),
        (retrying(1.0), "GET h/".into(), Some(3.0), Some(1.0), None, "1000"),
        (retrying(4.0), "GET h/".into(), Some(3.0), None, None, "3000"),
        (
            action(Some(3.0)),
            "GET h/ x-envoy-upstream-rq-per-try-timeout-ms=50".into(),
            Some(3.0),
            Some(0.05),
            None,
            "50",
        ),
        (grpc(0.0), format!("{CALL}2S"), Some(2.0), None, None, "2000"),
        (grpc(1.0), format!("{CALL}2S"), Some(1.0), None, None, "1000"),
        (grpc(1.0), "POST h/ content-type=application/grpc".into(), Some(1.0), None, None, "1000"),
        (grpc(0.0), "POST h/ content-type=application/grpc".into(), None, None, None, ""),
        (grpc(1.0), "GET h/".into(), Some(9.0), None, None, "9000"),
        (stream(Some(4.0), None), "GET h/".into(), None, None, Some(4.0), ""),
        (stream(Some(4.0), Some(0.0)), format!("{CALL}3000m"), None, None, Some(3.0), ""),
        (stream(Some(4.0), Some(2.0)), format!("{CALL}3000m"), None, None, Some(2.0), ""),
    ];
    for (action, line, global, per_try, longest, expected) in rows {
        let world = World::of_routes(vec![route(path("prefix:/"), action)]);
        let head = request(&line);
        let forward = world.forward(&head);
        let seconds = |time: Option<std::time::Duration>| time.map(|time| time.as_secs_f64());
        let seen = (
            seconds(forward.timeout),
            seconds(forward.per_try_timeout),
            seconds(forward.max_stream_duration),
        );
        assert_eq!(seen, (global, per_try, longest), "{line}");
        let mut sent = head.clone();
        forward.edit_request(&world.downstream, &mut sent);
        let header = sent.headers.get("x-envoy-expected-rq-timeout-ms").unwrap_or_default();
        assert_eq!(String::from_utf8_lossy(header), expected, "{line}");
        assert!(!sent.headers.contains("x-envoy-upstream-rq-timeout-ms"));
    }
}

#[test]
fn retries_come_from_route_host_and_headers() {
    let policy = |on: &str, count| rds::RetryPolicy {
        retry_on: on.into(),
        num_retries: Some(envoy_types::pb::google::protobuf::UInt32Value { value: count }),
        ..Default::default()
    };
    let own = rds::RouteAction { retry_policy: Some(policy("5xx", 4)), ..to("a") };
    let limited = rds::RetryPolicy {
        retriable_request_headers: vec![header("x-r", H::PresentMatch(true))],
        ..policy("5xx", 3)
    };
    let limited = rds::RouteAction { retry_policy: Some(limited), ..to("a") };
    let mut vh = host(
        "vh",
        &["*"],
        vec![
            route(path("path:/own"), own),
            route(path("path:/limited"), limited),
            route(path("path:/vh"), to("a")),
        ],
    );
    vh.retry_policy = Some(policy("connect-failure,reset", 2));
    let world = World::new(config(vec![vh]));
    let rows = [
        ("GET h/own", "5xx", 4),
        ("GET h/vh", "connect-failure,reset", 2),
        ("GET h/vh x-envoy-retry-on=gateway-error", "connect-failure,reset,gateway-error", 2),
        ("GET h/vh x-envoy-max-retries=7", "connect-failure,reset", 7),
        ("GET h/vh x-envoy-retry-grpc-on=unavailable", "connect-failure,reset,unavailable", 2),
        ("GET h/limited", "", 0),
        ("GET h/limited x-r=1", "5xx", 3),
    ];
    for (line, on, count) in rows {
        let head = request(line);
        let forward = world.forward(&head);
        assert_eq!(forward.retry_on, crate::snapshot::RetryOn::parse(on), "{line}");
        assert_eq!(forward.max_retries, count, "{line}");
    }
}

#[test]
fn an_explanation_names_every_route_passed_over() {
    let world = World::of_routes(vec![
        route(
            rds::RouteMatch { headers: vec![header("x-a", H::StringMatch(exact("1")))], ..path("prefix:/") },
            to("a"),
        ),
        route(path("path:/x"), to("b")),
        route(path("prefix:/"), to("c")),
    ]);
    let mut explain = Explain::default();
    decide_with(&world.snapshot, &world.downstream, &request("GET h/y"), 0, &mut explain);
    let steps: Vec<String> =
        explain.steps.iter().map(|s| format!("{} {} {}", s.what, s.taken, s.outcome)).collect();
    assert_eq!(
        steps,
        [
            "route configuration true 1 virtual hosts",
            "virtual host true host \"h\" is one of *",
            "route false needs header x-a is \"1\"",
            "route false needs path is \"/x\"",
            "route true matches: path starts with \"/\"",
            "cluster true known",
        ]
    );
}

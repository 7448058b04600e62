use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier as H;
use envoy_types::pb::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay};
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort};
use envoy_types::pb::google::protobuf::BoolValue;

use super::super::kit::*;
use super::super::{Decision, decide};
use crate::http::head::ResponseHead;

fn with_fault(fault: &HttpFault) -> rds::Route {
    let mut given = route(path("prefix:/"), to("a"));
    given.typed_per_filter_config.insert("envoy.filters.http.fault".into(), any(fault));
    given
}

fn abort(kind: fault_abort::ErrorType, share: u32) -> Option<FaultAbort> {
    let percentage = percent(share).default_value;
    Some(FaultAbort { percentage, error_type: Some(kind), ..Default::default() })
}

fn delay(seconds: f64) -> Option<FaultDelay> {
    let fixed = fault_delay::FaultDelaySecifier::FixedDelay(duration(seconds).unwrap());
    Some(FaultDelay { percentage: percent(100).default_value, fault_delay_secifier: Some(fixed) })
}

/// Milliseconds of delay, status, gRPC status.
type Seen = (Option<u64>, Option<u16>, Option<u32>);

fn seen(fault: &HttpFault, line: &str) -> Seen {
    let world = World::of_routes(vec![with_fault(fault)]);
    let forward = world.forward(&request(line));
    let Some(fault) = &forward.fault else { return (None, None, None) };
    let abort = fault.abort.as_ref();
    let delay = fault.delay.map(|delay| delay.as_millis() as u64);
    (delay, abort.map(|abort| abort.status), abort.and_then(|abort| abort.grpc_status))
}

#[test]
fn faults_by_policy_and_header() {
    use fault_abort::ErrorType::{GrpcStatus, HeaderAbort, HttpStatus};
    let none = HttpFault::default();
    let http = HttpFault { abort: abort(HttpStatus(555), 100), ..Default::default() };
    let never = HttpFault { abort: abort(HttpStatus(555), 0), ..Default::default() };
    let grpc = HttpFault { abort: abort(GrpcStatus(14), 100), ..Default::default() };
    let both = HttpFault { delay: delay(2.0), abort: abort(HttpStatus(503), 100), ..Default::default() };
    let by_header =
        HttpFault { abort: abort(HeaderAbort(fault_abort::HeaderAbort {}), 100), ..Default::default() };
    let delayed = HttpFault {
        delay: Some(FaultDelay {
            percentage: percent(100).default_value,
            fault_delay_secifier: Some(fault_delay::FaultDelaySecifier::HeaderDelay(
                fault_delay::HeaderDelay {},
            )),
        }),
        ..Default::default()
    };
    let cluster = |name: &str| HttpFault { upstream_cluster: name.into(), ..http.clone() };
    let user =
        HttpFault { headers: vec![header("end-user", H::StringMatch(exact("jason")))], ..http.clone() };
    let node = HttpFault { downstream_nodes: vec!["n1".into()], ..http.clone() };
    let rows: [(&HttpFault, &str, Seen); 18] = [
        (&none, "GET h/", (None, None, None)),
        (&http, "GET h/", (None, Some(555), None)),
        (&never, "GET h/", (None, None, None)),
        (&grpc, "GET h/", (None, Some(200), Some(14))),
        (&both, "GET h/", (Some(2000), Some(503), None)),
        (&by_header, "GET h/", (None, None, None)),
        (&by_header, "GET h/ x-envoy-fault-abort-request=418", (None, Some(418), None)),
        (&by_header, "GET h/ x-envoy-fault-abort-request=99", (None, None, None)),
        (&by_header, "GET h/ x-envoy-fault-abort-grpc-request=5", (None, Some(200), Some(5))),
        (
            &by_header,
            "GET h/ x-envoy-fault-abort-request=418 x-envoy-fault-abort-request-percentage=0",
            (None, None, None),
        ),
        (&delayed, "GET h/ x-envoy-fault-delay-request=30", (Some(30), None, None)),
        (&delayed, "GET h/", (None, None, None)),
        (&cluster("a"), "GET h/", (None, Some(555), None)),
        (&cluster("b"), "GET h/", (None, None, None)),
        (&user, "GET h/ end-user=jason", (None, Some(555), None)),
        (&user, "GET h/ end-user=other", (None, None, None)),
        (&node, "GET h/ x-envoy-downstream-service-node=n1", (None, Some(555), None)),
        (&node, "GET h/", (None, None, None)),
    ];
    for (fault, line, expected) in rows {
        assert_eq!(seen(fault, line), expected, "{line} {fault:?}");
    }
}

#[test]
fn a_share_of_faults_is_a_share() {
    let fault = HttpFault { abort: abort(fault_abort::ErrorType::HttpStatus(500), 25), ..Default::default() };
    let world = World::of_routes(vec![with_fault(&fault)]);
    let head = request("GET h/");
    let hits = (0..10_000u64).filter(|n| {
        let random = super::roll(*n, 5);
        matches!(decide(&world.snapshot, &world.downstream, &head, random), Decision::Forward(f) if f.fault.is_some())
    });
    let hits = hits.count();
    assert!((2300..2700).contains(&hits), "{hits}");
}

fn cors_world(policy: CorsPolicy) -> World {
    let mut given = route(path("prefix:/"), to("a"));
    given.typed_per_filter_config.insert("envoy.filters.http.cors".into(), any(&policy));
    World::of_routes(vec![given])
}

fn policy() -> CorsPolicy {
    CorsPolicy {
        allow_origin_string_match: vec![exact("http://o")],
        allow_methods: "GET,POST".into(),
        allow_headers: "x-a".into(),
        expose_headers: "x-b".into(),
        max_age: "60".into(),
        allow_credentials: Some(BoolValue { value: true }),
        ..Default::default()
    }
}

const PREFLIGHT: &str = "OPTIONS h/ origin=http://o access-control-request-method=GET";

#[test]
fn preflights_are_answered_here() {
    let world = cors_world(policy());
    let head = request(PREFLIGHT);
    let mut response = ResponseHead::default();
    let answer = world.respond(&head);
    answer.write_head(&world.downstream, &head, &mut response);
    assert_eq!(response.status, 200);
    assert_eq!(
        shown(&response.headers),
        [
            "access-control-allow-credentials=true",
            "access-control-allow-headers=x-a",
            "access-control-allow-methods=GET,POST",
            "access-control-allow-origin=http://o",
            "access-control-expose-headers=x-b",
            "access-control-max-age=60",
        ]
    );
    for line in [
        "OPTIONS h/ origin=http://p access-control-request-method=GET",
        "OPTIONS h/ origin=http://o",
        "OPTIONS h/ access-control-request-method=GET",
        "GET h/ origin=http://o access-control-request-method=GET",
    ] {
        assert_eq!(world.outcome(&request(line)), "a", "{line}");
    }
    let strict = CorsPolicy { forward_not_matching_preflights: Some(BoolValue { value: false }), ..policy() };
    let world = cors_world(strict);
    assert_eq!(
        world.outcome(&request("OPTIONS h/ origin=http://p access-control-request-method=GET")),
        "200"
    );
    let off = CorsPolicy { filter_enabled: Some(percent(0)), ..policy() };
    assert_eq!(cors_world(off).outcome(&request(PREFLIGHT)), "a");
}

#[test]
fn responses_to_allowed_origins_carry_cors_headers() {
    let world = cors_world(policy());
    let answered = |line: &str| {
        let head = request(line);
        let mut response = ResponseHead::new(200).with("access-control-allow-origin", "upstream");
        world.forward(&head).edit_response(&world.downstream, &head, 1, &mut response);
        shown(&response.headers)
    };
    assert_eq!(
        answered("GET h/ origin=http://o"),
        [
            "access-control-allow-credentials=true",
            "access-control-allow-origin=http://o",
            "access-control-expose-headers=x-b",
        ]
    );
    assert_eq!(answered("GET h/ origin=http://p"), ["access-control-allow-origin=upstream"]);
    assert_eq!(answered("GET h/"), ["access-control-allow-origin=upstream"]);
}

#[test]
fn faults_precede_answers_of_routes() {
    let fault = HttpFault { delay: delay(1.0), ..Default::default() };
    let mut vh = host(
        "vh",
        &["*"],
        vec![rds::Route {
            r#match: Some(path("prefix:/")),
            action: Some(rds::route::Action::DirectResponse(rds::DirectResponseAction {
                status: 204,
                ..Default::default()
            })),
            ..Default::default()
        }],
    );
    vh.typed_per_filter_config.insert("envoy.filters.http.fault".into(), any(&fault));
    let world = World::new(config(vec![vh]));
    let head = request("GET h/");
    let answer = world.respond(&head);
    assert_eq!(answer.status, 204);
    assert_eq!(answer.fault.unwrap().delay, Some(Duration::from_secs(1)));
}

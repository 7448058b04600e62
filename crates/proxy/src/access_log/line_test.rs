use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3 as proto;
use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::extensions::access_loggers::file::v3 as file;
use envoy_types::pb::envoy::r#type::v3::FractionalPercent;
use envoy_types::pb::google::protobuf;
use tokio::time::Instant;

use crate::access_log::{Entry, Notes};
use crate::decide::kit::*;
use crate::http::head::{Headers, RequestHead, ResponseHead};
use crate::http::stream::Extra;
use crate::snapshot::Direction;
use crate::telemetry::{Flags, Record};

fn string(text: &str) -> protobuf::Value {
    protobuf::Value { kind: Some(protobuf::value::Kind::StringValue(text.into())) }
}

fn structure(members: &[(&str, protobuf::Value)]) -> protobuf::Struct {
    let fields = members.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
    protobuf::Struct { fields }
}

fn log_to(path: &str, format: Option<Format>, omit_empty_values: bool) -> proto::AccessLog {
    let format = core::SubstitutionFormatString { format, omit_empty_values, ..Default::default() };
    let file = file::FileAccessLog {
        path: path.into(),
        access_log_format: Some(file::file_access_log::AccessLogFormat::LogFormat(format)),
    };
    let config = proto::access_log::ConfigType::TypedConfig(any(&file));
    proto::AccessLog { name: "file".into(), config_type: Some(config), ..Default::default() }
}

fn inline(text: &str) -> Format {
    let specifier = Some(core::data_source::Specifier::InlineString(text.into()));
    Format::TextFormatSource(core::DataSource { specifier, ..Default::default() })
}

fn text(format: &str) -> proto::AccessLog {
    log_to("/log", Some(inline(format)), false)
}

fn world(log: proto::AccessLog) -> Result<World, String> {
    let mut manager = manager();
    manager.access_log = vec![log];
    World::with(config(vec![host("vh", &["*"], vec![])]), &manager)
}

/// A request that went well, after so many milliseconds.
struct Case {
    request: Option<RequestHead>,
    response: Option<ResponseHead>,
    record: Record,
    notes: Notes,
    took: u64,
}

impl Case {
    fn new() -> Self {
        let start = Instant::now();
        let mut record = Record::new(start, Direction::Unspecified);
        (record.code, record.request_bytes, record.response_bytes, record.attempts) = (200, 5, 1234, 1);
        let mut notes = Notes {
            details: "via_upstream".into(),
            request_end: Some(start + Duration::from_millis(3)),
            response_start: Some(start + Duration::from_millis(20)),
            upstream_local: Some("127.0.0.1:999".parse().unwrap()),
            ..Notes::default()
        };
        notes.set_route("front");
        let response = ResponseHead::new(200).with("x-envoy-upstream-service-time", "17");
        Self {
            request: Some(request("POST shop.test/a?b=c user-agent=curl/8 x-two=1 x-two=2")),
            response: Some(response),
            record,
            notes,
            took: 42,
        }
    }

    fn line(&self, log: proto::AccessLog) -> String {
        let world = world(log).unwrap_or_else(|e| panic!("{e}"));
        let log = &world.downstream.http().unwrap().access_log[0];
        let entry = self.entry(&world);
        let mut out = Vec::new();
        log.line.write(&entry, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn entry<'e>(&'e self, world: &'e World) -> Entry<'e> {
        Entry {
            downstream: &world.downstream,
            request: self.request.as_ref(),
            response: self.response.as_ref(),
            record: &self.record,
            notes: &self.notes,
            version: self.request.as_ref().map(|request| request.version),
            now: self.record.start + Duration::from_millis(self.took),
        }
    }

    fn taken(&self, filter: FilterSpecifier) -> bool {
        let log = proto::AccessLog {
            filter: Some(proto::AccessLogFilter { filter_specifier: Some(filter) }),
            ..text("x")
        };
        let world = world(log).unwrap_or_else(|e| panic!("{e}"));
        let log = &world.downstream.http().unwrap().access_log[0];
        log.filter.as_ref().unwrap().takes(&self.entry(&world), || 1 << 40)
    }
}

#[test]
fn operators_say_what_happened() {
    let case = Case::new();
    for (format, expected) in [
        ("%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%", "POST /a?b=c HTTP/1.1"),
        ("%REQ(:AUTHORITY)% %REQ(USER-AGENT):4% %REQ(X-TWO)% %REQ(ABSENT)%", "shop.test curl 1 -"),
        ("%REQ_WITHOUT_QUERY(:PATH)%", "/a"),
        (
            "%RESPONSE_CODE% %RESPONSE_CODE_DETAILS% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%",
            "200 via_upstream - -",
        ),
        ("%BYTES_RECEIVED% %BYTES_SENT%", "5 1234"),
        ("%DURATION% %REQUEST_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%", "42 3 20 22"),
        ("%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% %RESP(ABSENT?SERVER)%", "17 -"),
        ("%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS%", "- - 127.0.0.1:999"),
        ("%UPSTREAM_LOCAL_PORT% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %ROUTE_NAME%", "999 1 front"),
        ("%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", "10.1.2.3:4567 127.0.0.1"),
        ("%CONNECTION_ID% 100%% %DYNAMIC_METADATA(a:b)% %VIRTUAL_CLUSTER_NAME%", "7 100% - -"),
        ("%GRPC_STATUS% %TRAILER(X)%", "- -"),
    ] {
        assert_eq!(case.line(text(format)), expected, "{format}");
    }
    let at = case.line(text("%START_TIME%"));
    assert!(at.len() == 24 && at.ends_with('Z') && at.starts_with("20"), "{at}");
}

#[test]
fn grpc_has_statuses_and_trailers() {
    let mut case = Case::new();
    case.record.grpc_status = Some(5);
    let mut trailers = Headers::new();
    trailers.append("grpc-message", b"no such thing");
    case.notes.extra = Some(Box::new(Extra { trailers: Some(trailers), web: None }));
    let format = "%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER% %TRAILER(GRPC-MESSAGE):7%";
    assert_eq!(case.line(text(format)), "NotFound NOT_FOUND 5 no such");
    case.record.grpc_status = Some(77);
    assert_eq!(case.line(text("%GRPC_STATUS%")), "77");
}

#[test]
fn a_connection_has_no_request() {
    let case = Case { request: None, response: None, ..Case::new() };
    assert_eq!(case.line(text("%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESP(SERVER)%")), "- - - -");
    let omitted = log_to("/log", Some(inline("<%REQ(:METHOD)%>")), true);
    assert_eq!(case.line(omitted), "<>");
}

#[test]
fn the_standard_line_is_envoys() {
    let line = Case::new().line(log_to("/log", None, false));
    let (time, rest) = line.split_once(']').unwrap();
    assert_eq!(time.len(), 25);
    assert_eq!(
        rest,
        " \"POST /a?b=c HTTP/1.1\" 200 - 5 1234 42 17 \"-\" \"curl/8\" \"-\" \"shop.test\" \"-\"\n"
    );
}

#[test]
fn json_keeps_types_and_escapes() {
    let mut case = Case::new();
    case.request = Some(request("GET shop.test/a x-a=say_\"hi\"_\\ x-b=\u{e9}"));
    let inner = structure(&[("code", string("%RESPONSE_CODE%")), ("none", string("%REQ(ABSENT)%"))]);
    let list = protobuf::ListValue { values: vec![string("%DURATION%"), string("x%DURATION%")] };
    let number = protobuf::Value { kind: Some(protobuf::value::Kind::NumberValue(3.0)) };
    let format = structure(&[
        ("b\"", string("%REQ(X-A)%")),
        ("a", string("%REQ(X-B)% and %REQ(ABSENT)%")),
        ("inner", protobuf::Value { kind: Some(protobuf::value::Kind::StructValue(inner)) }),
        ("list", protobuf::Value { kind: Some(protobuf::value::Kind::ListValue(list)) }),
        ("number", number),
        ("plain", string("100%%")),
    ]);
    let with = |omit| case.line(log_to("/log", Some(Format::JsonFormat(format.clone())), omit));
    assert_eq!(
        with(false),
        "{\"a\":\"\u{e9} and -\",\"b\\\"\":\"say \\\"hi\\\" \\\\\",\"inner\":{\"code\":200,\"none\":null},\
         \"list\":[42,\"x42\"],\"number\":3,\"plain\":\"100%\"}\n"
    );
    assert!(with(true).contains("\"inner\":{\"code\":200},"), "{}", with(true));
    assert!(with(true).starts_with("{\"a\":\"\u{e9} and \","), "{}", with(true));
}

#[test]
fn filters_choose_lines() {
    let mut case = Case::new();
    let compare = |op, default_value| proto::ComparisonFilter {
        op,
        value: Some(core::RuntimeUInt32 { default_value, runtime_key: "k".into() }),
    };
    let status = |op, value| {
        FilterSpecifier::StatusCodeFilter(proto::StatusCodeFilter { comparison: Some(compare(op, value)) })
    };
    let duration = |op, value| {
        FilterSpecifier::DurationFilter(proto::DurationFilter { comparison: Some(compare(op, value)) })
    };
    let flags = |flags: &[&str]| {
        let flags = flags.iter().map(|flag| flag.to_string()).collect();
        FilterSpecifier::ResponseFlagFilter(proto::ResponseFlagFilter { flags })
    };
    let grpc = |statuses: &[i32], exclude| {
        FilterSpecifier::GrpcStatusFilter(proto::GrpcStatusFilter { statuses: statuses.into(), exclude })
    };
    let share = |numerator| {
        FilterSpecifier::RuntimeFilter(proto::RuntimeFilter {
            runtime_key: "k".into(),
            percent_sampled: Some(FractionalPercent { numerator, denominator: 0 }),
            ..Default::default()
        })
    };
    let wanted = |name: &str| {
        let header = header(name, HeaderMatchSpecifier::PresentMatch(true));
        FilterSpecifier::HeaderFilter(proto::HeaderFilter { header: Some(header) })
    };
    let of = |filters: Vec<FilterSpecifier>| -> Vec<proto::AccessLogFilter> {
        filters.into_iter().map(|f| proto::AccessLogFilter { filter_specifier: Some(f) }).collect()
    };
    let all = |filters| FilterSpecifier::AndFilter(proto::AndFilter { filters: of(filters) });
    let any = |filters| FilterSpecifier::OrFilter(proto::OrFilter { filters: of(filters) });
    assert!(case.taken(status(0, 200)) && !case.taken(status(0, 201)));
    assert!(case.taken(status(1, 200)) && !case.taken(status(1, 201)));
    assert!(case.taken(status(2, 200)) && !case.taken(status(2, 199)));
    assert!(case.taken(status(3, 500)) && !case.taken(status(3, 200)));
    assert!(case.taken(duration(1, 42)) && !case.taken(duration(1, 43)));
    assert!(case.taken(FilterSpecifier::NotHealthCheckFilter(Default::default())));
    assert!(case.taken(wanted("user-agent")) && !case.taken(wanted("absent")));
    assert!(case.taken(all(vec![status(0, 200), wanted("x-two")])));
    assert!(!case.taken(all(vec![status(0, 200), wanted("absent")])));
    assert!(case.taken(any(vec![status(0, 500), wanted("x-two")])));
    assert!(!case.taken(any(vec![status(0, 500), wanted("absent")])));
    assert!(case.taken(share(100)) && !case.taken(share(0)));
    assert!(!case.taken(flags(&[])) && !case.taken(flags(&["NR"])));
    case.record.flags.add(Flags::NO_ROUTE);
    assert!(case.taken(flags(&[])) && case.taken(flags(&["RL", "NR"])) && !case.taken(flags(&["UH"])));
    assert!(case.taken(grpc(&[0], false)) && !case.taken(grpc(&[0], true)));
    case.record.grpc_status = Some(14);
    assert!(case.taken(grpc(&[2, 14], false)) && !case.taken(grpc(&[2], false)));
}

#[test]
fn what_cannot_be_written_is_refused_by_name() {
    let refused = |log| world(log).err().unwrap_or_default();
    let error = refused(text("%NO_SUCH%"));
    assert!(error.contains("access_log[0].typed_config.log_format.text_format_source"), "{error}");
    assert!(error.contains("operator %NO_SUCH% is not built"), "{error}");
    assert!(refused(text("%START_TIME(%Q)%")).contains("%Q is not built"));
    assert!(refused(text("50%")).contains("a % without its closing %"));
    assert!(refused(log_to("", None, false)).contains("path: is required"));
    let flags = proto::ResponseFlagFilter { flags: vec!["XX".into()] };
    let filter =
        proto::AccessLogFilter { filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(flags)) };
    assert!(
        refused(proto::AccessLog { filter: Some(filter), ..text("x") })
            .contains("\"XX\" is no response flag")
    );
    // A destination or filter of another kind harms nobody: it is listed, and there is no such log.
    let filter = FilterSpecifier::TraceableFilter(proto::TraceableFilter {});
    let filter = Some(proto::AccessLogFilter { filter_specifier: Some(filter) });
    let world = world(proto::AccessLog { filter, ..text("x") }).unwrap_or_else(|e| panic!("{e}"));
    assert!(world.downstream.http().unwrap().access_log.is_empty());
}

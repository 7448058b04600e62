//! `AccessLog` to [`AccessLog`].

use std::sync::Arc;

use envoy_types::pb::envoy::config::accesslog::v3 as proto;
use envoy_types::pb::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format as Given;
use envoy_types::pb::envoy::extensions::access_loggers::{file::v3 as file, stream::v3 as stream};
use envoy_types::pb::google::protobuf;
use envoy_types::pb::google::protobuf::value::Kind;

use super::judge::{Compiled, Listed, Refusal, judge};
use super::{route, value};
use crate::access_log::AccessLog;
use crate::access_log::filter::{Comparison, Filter, Op};
use crate::access_log::line::{self, Json, Line};
use crate::decide::matching::Fraction;
use crate::telemetry::Flags;

judge!(log, envoy_types::pb::envoy::config::accesslog::v3::AccessLog as "AccessLog",
    acts: [name, filter, config_type], listed: [], refused: []);
judge!(file_log, envoy_types::pb::envoy::extensions::access_loggers::file::v3::FileAccessLog as "FileAccessLog",
    acts: [path, access_log_format], listed: [], refused: []);
judge!(format_string, envoy_types::pb::envoy::config::core::v3::SubstitutionFormatString as "SubstitutionFormatString",
    acts: [omit_empty_values, format, formatters], listed: [content_type, json_format_options], refused: []);

const FILE: &str = "envoy.extensions.access_loggers.file.v3.FileAccessLog";
const STDOUT: &str = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog";
const STDERR: &str = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog";

/// Formatters whose operators are among those that every format may have.
const FORMATTERS: [&str; 2] = [
    "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery",
    "envoy.extensions.formatter.metadata.v3.Metadata",
];

/// Flags that Envoy knows and that nothing sets here.
const NEVER_SET: [&str; 12] =
    ["LH", "RL", "UAEX", "RLSE", "IH", "UMSDR", "RFCF", "NFCF", "DT", "DF", "DO", "DR"];

/// The logs of a field `access_log`. One of a kind that is not built, or with such a filter, is listed and writes nothing.
pub(crate) fn compile(given: &[proto::AccessLog], seen: &mut Listed) -> Compiled<Arc<[AccessLog]>> {
    let mut logs = Vec::new();
    for (index, given) in given.iter().enumerate() {
        let place = |error: Refusal| error.within(format!("access_log[{index}]"));
        logs.extend(one(given, seen).map_err(place)?);
    }
    Ok(logs.into())
}

fn one(given: &proto::AccessLog, seen: &mut Listed) -> Compiled<Option<AccessLog>> {
    log::judge(given, seen)?;
    let Some(proto::access_log::ConfigType::TypedConfig(any)) = &given.config_type else {
        return Err(Refusal::new("typed_config", format!("{:?} needs one", given.name)));
    };
    let place = |error: Refusal| error.within("typed_config");
    let (path, line) = match value::type_name(&any.type_url) {
        FILE => {
            let file: file::FileAccessLog = value::unpack(any).map_err(place)?;
            let line = file_line(&file, seen).map_err(place)?;
            (file.path, line)
        }
        STDOUT => {
            let stream: stream::StdoutAccessLog = value::unpack(any).map_err(place)?;
            let Some(stream::stdout_access_log::AccessLogFormat::LogFormat(format)) =
                stream.access_log_format
            else {
                return one_of("/dev/stdout", standard(), given, seen);
            };
            ("/dev/stdout".to_owned(), formatted(&format, seen).map_err(place)?)
        }
        STDERR => {
            let stream: stream::StderrAccessLog = value::unpack(any).map_err(place)?;
            let Some(stream::stderr_access_log::AccessLogFormat::LogFormat(format)) =
                stream.access_log_format
            else {
                return one_of("/dev/stderr", standard(), given, seen);
            };
            ("/dev/stderr".to_owned(), formatted(&format, seen).map_err(place)?)
        }
        _ => {
            seen.insert("AccessLog.typed_config");
            return Ok(None);
        }
    };
    if path.is_empty() {
        return Err(place(Refusal::new("path", "is required")));
    }
    one_of(&path, Ok(line), given, seen)
}

fn one_of(
    path: &str,
    line: Compiled<Line>,
    given: &proto::AccessLog,
    seen: &mut Listed,
) -> Compiled<Option<AccessLog>> {
    let filter = match &given.filter {
        None => None,
        Some(given) => match filter(given).map_err(|error| error.within("filter"))? {
            Some(filter) => Some(filter),
            None => {
                seen.insert("AccessLog.filter");
                return Ok(None);
            }
        },
    };
    Ok(Some(AccessLog { path: path.into(), filter, line: line? }))
}

fn standard() -> Compiled<Line> {
    Line::text(line::DEFAULT, false).map_err(|reason| Refusal::new("", reason))
}

fn file_line(given: &file::FileAccessLog, seen: &mut Listed) -> Compiled<Line> {
    use file::file_access_log::AccessLogFormat;
    file_log::judge(given, seen)?;
    match &given.access_log_format {
        None => standard(),
        Some(AccessLogFormat::Format(text)) if text.is_empty() => standard(),
        Some(AccessLogFormat::Format(text)) => {
            Line::text(text, false).map_err(|reason| Refusal::new("format", reason))
        }
        Some(AccessLogFormat::JsonFormat(json)) => {
            Ok(Line::json(object(json).map_err(|error| error.within("json_format"))?, false))
        }
        Some(AccessLogFormat::TypedJsonFormat(json)) => {
            Ok(Line::json(object(json).map_err(|error| error.within("typed_json_format"))?, false))
        }
        Some(AccessLogFormat::LogFormat(format)) => {
            formatted(format, seen).map_err(|error| error.within("log_format"))
        }
    }
}

fn formatted(given: &core::SubstitutionFormatString, seen: &mut Listed) -> Compiled<Line> {
    format_string::judge(given, seen)?;
    for formatter in &given.formatters {
        let kind = formatter.typed_config.as_ref().map_or("", |any| value::type_name(&any.type_url));
        if !FORMATTERS.contains(&kind) {
            let reason = format!("{:?} ({kind}) is not built: its operators are unknown", formatter.name);
            return Err(Refusal::new("formatters", reason));
        }
    }
    let text = |text: &str, field: &str| {
        Line::text(text, given.omit_empty_values).map_err(|reason| Refusal::new(field, reason))
    };
    match &given.format {
        None => standard(),
        Some(Given::TextFormat(given)) if given.is_empty() => standard(),
        Some(Given::TextFormat(given)) => text(given, "text_format"),
        Some(Given::TextFormatSource(source)) => {
            let found = source_text(source).map_err(|reason| Refusal::new("text_format_source", reason))?;
            text(&found, "text_format_source")
        }
        Some(Given::JsonFormat(json)) => {
            let json = object(json).map_err(|error| error.within("json_format"))?;
            Ok(Line::json(json, given.omit_empty_values))
        }
    }
}

fn source_text(source: &core::DataSource) -> Result<String, String> {
    use core::data_source::Specifier;
    match &source.specifier {
        Some(Specifier::InlineString(text)) => Ok(text.clone()),
        Some(Specifier::InlineBytes(bytes)) => {
            String::from_utf8(bytes.clone()).map_err(|_| "inline_bytes is not UTF-8".to_owned())
        }
        Some(Specifier::EnvironmentVariable(name)) => {
            std::env::var(name).map_err(|_| format!("environment variable {name} is not set, or not UTF-8"))
        }
        Some(Specifier::Filename(path)) => {
            std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))
        }
        None => Err("inline_string, inline_bytes, filename or environment_variable is required".to_owned()),
    }
}

fn object(given: &protobuf::Struct) -> Compiled<Json> {
    let member = |(key, value): (&String, &protobuf::Value)| {
        Ok((key.clone(), json(value).map_err(|error| error.within(key))?))
    };
    let mut members = given.fields.iter().map(member).collect::<Compiled<Vec<_>>>()?;
    // As Envoy does, since a map has no order.
    members.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(Json::object(members))
}

fn json(given: &protobuf::Value) -> Compiled<Json> {
    Ok(match &given.kind {
        Some(Kind::StringValue(text)) => Json::text(text).map_err(|reason| Refusal::new("", reason))?,
        Some(Kind::NumberValue(number)) => Json::Literal(number.to_string().into_bytes().into()),
        Some(Kind::BoolValue(value)) => Json::Literal(value.to_string().into_bytes().into()),
        Some(Kind::NullValue(_)) | None => Json::Literal(b"null"[..].into()),
        Some(Kind::StructValue(members)) => object(members)?,
        Some(Kind::ListValue(list)) => Json::Array(list.values.iter().map(json).collect::<Compiled<_>>()?),
    })
}

/// Nothing for a filter that is not built.
fn filter(given: &proto::AccessLogFilter) -> Compiled<Option<Filter>> {
    let Some(given) = &given.filter_specifier else {
        return Err(Refusal::new("filter_specifier", "is required"));
    };
    Ok(Some(match given {
        FilterSpecifier::StatusCodeFilter(given) => {
            let wanted = comparison(given.comparison.as_ref());
            Filter::Status(wanted.map_err(|error| error.within("status_code_filter"))?)
        }
        FilterSpecifier::DurationFilter(given) => {
            let wanted = comparison(given.comparison.as_ref());
            Filter::Duration(wanted.map_err(|error| error.within("duration_filter"))?)
        }
        FilterSpecifier::NotHealthCheckFilter(_) => Filter::NotHealthCheck,
        FilterSpecifier::RuntimeFilter(given) => Filter::Share(
            given
                .percent_sampled
                .as_ref()
                .map_or(Ok(Fraction(0)), value::fraction)
                .map_err(|error| error.within("runtime_filter.percent_sampled"))?,
        ),
        FilterSpecifier::AndFilter(given) => match all_of(&given.filters, "and_filter")? {
            Some(filters) => Filter::All(filters),
            None => return Ok(None),
        },
        FilterSpecifier::OrFilter(given) => match all_of(&given.filters, "or_filter")? {
            Some(filters) => Filter::Any(filters),
            None => return Ok(None),
        },
        FilterSpecifier::HeaderFilter(given) => {
            let header =
                given.header.as_ref().ok_or_else(|| Refusal::new("header_filter.header", "is required"))?;
            let matcher =
                route::header_matcher(header).map_err(|error| error.within("header_filter.header"))?;
            Filter::Header(Box::new(matcher))
        }
        FilterSpecifier::ResponseFlagFilter(given) => {
            let mut of = Flags::NONE;
            for name in &given.flags {
                let flag = Flags::named(name);
                if flag == Flags::NONE && !NEVER_SET.contains(&name.as_str()) {
                    let reason = format!("{name:?} is no response flag");
                    return Err(Refusal::new("response_flag_filter.flags", reason));
                }
                of.add(flag);
            }
            Filter::Flags { any: given.flags.is_empty(), of }
        }
        FilterSpecifier::GrpcStatusFilter(given) => Filter::Grpc {
            statuses: given.statuses.iter().filter_map(|status| u32::try_from(*status).ok()).collect(),
            exclude: given.exclude,
        },
        FilterSpecifier::TraceableFilter(_)
        | FilterSpecifier::ExtensionFilter(_)
        | FilterSpecifier::MetadataFilter(_)
        | FilterSpecifier::LogTypeFilter(_) => return Ok(None),
    }))
}

fn all_of(given: &[proto::AccessLogFilter], field: &str) -> Compiled<Option<Box<[Filter]>>> {
    if given.len() < 2 {
        return Err(Refusal::new(&format!("{field}.filters"), "at least two are required"));
    }
    let one =
        |(index, given)| filter(given).map_err(|error| error.within(format!("{field}.filters[{index}]")));
    given.iter().enumerate().map(one).collect()
}

fn comparison(given: Option<&proto::ComparisonFilter>) -> Compiled<Comparison> {
    let given = given.ok_or_else(|| Refusal::new("comparison", "is required"))?;
    let value =
        given.value.as_ref().ok_or_else(|| Refusal::new("comparison.value", "is required"))?.default_value;
    let op = match given.op {
        0 => Op::Equal,
        1 => Op::AtLeast,
        2 => Op::AtMost,
        3 => Op::NotEqual,
        other => return Err(Refusal::new("comparison.op", format!("{other} is unknown"))),
    };
    Ok(Comparison { op, value: value.into() })
}

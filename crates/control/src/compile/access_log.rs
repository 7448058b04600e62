//! The access log that the whole mesh keeps.

use envoy_types::pb::{
    envoy::{
        config::{
            accesslog::v3::{AccessLog, access_log::ConfigType},
            core::v3::{SubstitutionFormatString, substitution_format_string::Format},
        },
        extensions::access_loggers::file::v3::{FileAccessLog, file_access_log::AccessLogFormat as Given},
    },
    google::protobuf::Any,
};
use prost::{Message as _, Name as _};
use serde_json::{Map, Value};

use super::{build::inline_string, canonical};
use crate::world::{AccessLogConfig, AccessLogFormat, MeshConfig};

/// Istio's line of text.
const TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% \
    %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \
    \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
    %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \
    \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
    %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

/// The members of Istio's JSON object.
const JSON: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
];

/// `access_log` of a connection manager or TCP proxy.
pub(crate) fn logs(config: &MeshConfig) -> Vec<AccessLog> {
    let Some(AccessLogConfig { file, format }) = &config.access_log else { return Vec::new() };
    let value = match format {
        AccessLogFormat::Text(text) => text_log(file, text.as_deref()),
        AccessLogFormat::Json(members) => json_log(file, members.as_deref()),
    };
    vec![AccessLog {
        name: "envoy.access_loggers.file".to_owned(),
        config_type: Some(ConfigType::TypedConfig(Any { type_url: FileAccessLog::type_url(), value })),
        ..Default::default()
    }]
}

fn text_log(path: &str, format: Option<&str>) -> Vec<u8> {
    let mut text = format.unwrap_or(TEXT).to_owned();
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let format = SubstitutionFormatString {
        format: Some(Format::TextFormatSource(inline_string(text))),
        ..Default::default()
    };
    let log = FileAccessLog { path: path.to_owned(), access_log_format: Some(Given::LogFormat(format)) };
    log.encode_to_vec()
}

/// The object's members are a map, which is written by key.
fn json_log(path: &str, members: Option<&Map<String, Value>>) -> Vec<u8> {
    let standard: Map<String, Value> = match members {
        Some(_) => Map::new(),
        None => JSON.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect(),
    };
    let members = members.unwrap_or(&standard);
    let object = canonical::structure(members.iter().map(|(name, value)| (name.as_str(), value)));
    let mut format = Vec::new();
    // SubstitutionFormatString.json_format.
    canonical::field(&mut format, 2, &object);
    let mut log = FileAccessLog { path: path.to_owned(), access_log_format: None }.encode_to_vec();
    // FileAccessLog.log_format.
    canonical::field(&mut log, 5, &format);
    log
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::{
        envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager,
        google::protobuf::value::Kind,
    };

    use super::*;

    fn config(format: AccessLogFormat) -> MeshConfig {
        let access_log = Some(AccessLogConfig { file: "/dev/stdout".into(), format });
        MeshConfig { access_log, ..MeshConfig::default() }
    }

    fn format_of(config: &MeshConfig) -> Format {
        let logs = logs(config);
        let Some(ConfigType::TypedConfig(any)) = &logs[0].config_type else { panic!("{logs:?}") };
        let log = FileAccessLog::decode(&*any.value).unwrap();
        assert_eq!(log.path, "/dev/stdout");
        match log.access_log_format {
            Some(Given::LogFormat(SubstitutionFormatString { format: Some(format), .. })) => format,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn istios_format_is_the_default_and_ends_its_lines() {
        assert!(logs(&MeshConfig::default()).is_empty());
        let text = |format| Format::TextFormatSource(inline_string(format));
        assert_eq!(format_of(&config(AccessLogFormat::Text(None))), text(TEXT));
        let own = AccessLogFormat::Text(Some("%PROTOCOL%".into()));
        assert_eq!(format_of(&config(own)), text("%PROTOCOL%\n"));
    }

    #[test]
    fn json_is_always_encoded_alike() {
        let Format::JsonFormat(found) = format_of(&config(AccessLogFormat::Json(None))) else { panic!() };
        assert_eq!(found.fields.len(), JSON.len());
        let code = found.fields["response_code"].kind.clone();
        assert_eq!(code, Some(Kind::StringValue("%RESPONSE_CODE%".into())));
        let bytes = || {
            let access_log = logs(&config(AccessLogFormat::Json(None)));
            HttpConnectionManager { access_log, ..Default::default() }.encode_to_vec()
        };
        assert_eq!(bytes(), bytes());
        let own = serde_json::json!({"a": {"b": "%PROTOCOL%"}});
        let own = AccessLogFormat::Json(own.as_object().cloned().map(Into::into));
        let Format::JsonFormat(found) = format_of(&config(own)) else { panic!() };
        assert!(matches!(found.fields["a"].kind, Some(Kind::StructValue(_))));
    }
}

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::google::protobuf::{Struct, Value, value::Kind};
use serde_json::{Map, Number};

/// Who opened a stream: the first request's `Node`, decoded.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct NodeInfo {
    /// `ROLE~IP~NAME.NAMESPACE~NAMESPACE.svc.DOMAIN` by Istio's convention, or anything else.
    pub id: String,
    /// `node.cluster`.
    pub cluster: String,
    /// `user_agent_name`, and its version after a slash where given.
    pub user_agent: String,
    /// `node.metadata` as JSON: `NAMESPACE`, `LABELS`, `SERVICE_ACCOUNT`, `OUTBOUND`, ...
    pub metadata: BTreeMap<String, serde_json::Value>,
    /// Where the node runs.
    pub locality: Locality,
    /// What sort of client it is, by its user agent.
    pub kind: ClientKind,
}

/// `envoy.config.core.v3.Locality`; empty strings where not told.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Locality {
    /// Region.
    pub region: String,
    /// Zone within the region.
    pub zone: String,
    /// Sub-zone within the zone.
    pub sub_zone: String,
}

/// What a client understands and how it behaves follows from this.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub enum ClientKind {
    /// Our own proxy: `user_agent_name` is `heddle`.
    Heddle,
    /// Envoy, and whoever does not say what it is.
    #[default]
    Envoy,
    /// A gRPC library: `user_agent_name` begins with `gRPC`.
    Grpc,
}

impl ClientKind {
    /// The kind of client that calls itself so.
    pub fn from_user_agent(name: &str) -> Self {
        if name == "heddle" {
            Self::Heddle
        } else if name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("grpc")) {
            Self::Grpc
        } else {
            Self::Envoy
        }
    }
}

impl From<&Node> for NodeInfo {
    fn from(node: &Node) -> Self {
        use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
        let version = match &node.user_agent_version_type {
            Some(UserAgentVersionType::UserAgentVersion(version)) => Some(version.clone()),
            Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
                build.version.as_ref().map(|v| format!("{}.{}.{}", v.major_number, v.minor_number, v.patch))
            }
            None => None,
        };
        let user_agent = match version {
            Some(version) if !version.is_empty() => format!("{}/{version}", node.user_agent_name),
            _ => node.user_agent_name.clone(),
        };
        let locality = node.locality.as_ref().map(|l| Locality {
            region: l.region.clone(),
            zone: l.zone.clone(),
            sub_zone: l.sub_zone.clone(),
        });
        NodeInfo {
            id: node.id.clone(),
            cluster: node.cluster.clone(),
            user_agent,
            metadata: node.metadata.as_ref().map(metadata_json).unwrap_or_default(),
            locality: locality.unwrap_or_default(),
            kind: ClientKind::from_user_agent(&node.user_agent_name),
        }
    }
}

fn metadata_json(metadata: &Struct) -> BTreeMap<String, serde_json::Value> {
    metadata.fields.iter().map(|(key, value)| (key.clone(), to_json(value))).collect()
}

/// A protobuf `Value` as JSON; numbers without a fraction become integers. The depth is bounded
/// by the decoder's recursion limit.
fn to_json(value: &Value) -> serde_json::Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(b)) => (*b).into(),
        Some(Kind::StringValue(s)) => s.clone().into(),
        Some(Kind::NumberValue(n)) => number(*n),
        Some(Kind::ListValue(list)) => list.values.iter().map(to_json).collect(),
        Some(Kind::StructValue(s)) => serde_json::Value::Object(
            s.fields.iter().map(|(k, v)| (k.clone(), to_json(v))).collect::<Map<_, _>>(),
        ),
    }
}

fn number(n: f64) -> serde_json::Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if n.fract() == 0.0 && n.abs() <= EXACT {
        serde_json::Value::from(n as i64)
    } else {
        Number::from_f64(n).map_or(serde_json::Value::Null, serde_json::Value::Number)
    }
}

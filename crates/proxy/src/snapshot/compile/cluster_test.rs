use envoy_types::pb::envoy::config::cluster::v3 as proto;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, PreconnectPolicy,
};
use envoy_types::pb::envoy::r#type::matcher::v3::MetadataMatcher;
use envoy_types::pb::google::protobuf::DoubleValue;

use super::compile;
use crate::snapshot::compile::judge::Listed;

/// What becomes of a policy: the ratio, or why it is refused, and what is without effect.
fn outcome(
    kind: DiscoveryType,
    policy: PreconnectPolicy,
) -> (Result<Option<f64>, String>, Vec<&'static str>) {
    let value = proto::Cluster {
        name: "up".to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        preconnect_policy: Some(policy),
        ..Default::default()
    };
    let mut seen = Listed::new();
    let made = compile(&value, &mut seen);
    (made.map(|made| made.preconnect).map_err(|error| error.to_string()), seen.into_iter().collect())
}

#[expect(clippy::unnecessary_wraps, reason = "as the messages have it")]
const fn double(value: f64) -> Option<DoubleValue> {
    Some(DoubleValue { value })
}

fn per_upstream(ratio: f64) -> PreconnectPolicy {
    PreconnectPolicy { per_upstream_preconnect_ratio: double(ratio), ..Default::default() }
}

#[test]
fn a_ratio_of_preconnecting_is_between_1_and_3() {
    let of = |ratio| outcome(DiscoveryType::Static, per_upstream(ratio)).0;
    assert_eq!((of(1.0), of(1.5), of(3.0)), (Ok(None), Ok(Some(1.5)), Ok(Some(3.0))));
    for wrong in [0.0, 0.99, 3.01, -2.0, f64::NAN, f64::INFINITY] {
        let refused = of(wrong).unwrap_err();
        assert!(refused.starts_with("preconnect_policy.per_upstream_preconnect_ratio: "), "{refused}");
    }
    let predictive = PreconnectPolicy { predictive_preconnect_ratio: double(4.0), ..Default::default() };
    let refused = outcome(DiscoveryType::Static, predictive).0.unwrap_err();
    assert!(refused.starts_with("preconnect_policy.predictive_preconnect_ratio: "), "{refused}");
}

#[test]
fn what_of_preconnecting_is_not_built_is_listed() {
    let ratio = "PreconnectPolicy.per_upstream_preconnect_ratio";
    assert_eq!(outcome(DiscoveryType::Static, per_upstream(2.0)), (Ok(Some(2.0)), vec![]));
    assert_eq!(outcome(DiscoveryType::OriginalDst, per_upstream(2.0)), (Ok(None), vec![ratio]));
    let predictive = PreconnectPolicy { predictive_preconnect_ratio: double(2.0), ..per_upstream(2.0) };
    let listed = vec!["PreconnectPolicy.predictive_preconnect_ratio"];
    assert_eq!(outcome(DiscoveryType::Static, predictive), (Ok(Some(2.0)), listed));
    let some = PreconnectPolicy {
        preconnect_enabled_metadata: Some(MetadataMatcher::default()),
        ..per_upstream(2.0)
    };
    let (made, listed) = outcome(DiscoveryType::Static, some);
    assert_eq!(made, Ok(None), "none has what only some are to have");
    assert!(listed.contains(&ratio), "{listed:?}");
}

use envoy_types::pb::{envoy::config::core::v3::Metadata, google::protobuf::value::Kind};
use serde_json::json;

use super::*;

#[test]
fn metadata_reads_back_as_written() {
    let labels = json!({"app": "a", "version": "v1"});
    let fields = BTreeMap::from([("labels", labels), ("n", json!(3)), ("ok", json!([true, null]))]);
    let bytes = metadata(&fields);
    let read = Metadata::decode(bytes.as_slice()).expect("decodes");
    let ours = &read.filter_metadata["heddle.dev"].fields;
    assert_eq!(ours["n"].kind, Some(Kind::NumberValue(3.0)));
    let Some(Kind::StructValue(labels)) = &ours["labels"].kind else { panic!("labels: {ours:?}") };
    assert_eq!(labels.fields["version"].kind, Some(Kind::StringValue("v1".into())));
    let Some(Kind::ListValue(list)) = &ours["ok"].kind else { panic!("ok: {ours:?}") };
    assert_eq!(list.values[0].kind, Some(Kind::BoolValue(true)));
    assert_eq!(list.values[1].kind, Some(Kind::NullValue(0)));
}

#[test]
fn routes_keep_their_filters_in_order() {
    let draft = RouteDraft {
        route: Route { name: "a".into(), ..Default::default() },
        filters: BTreeMap::from([
            ("envoy.filters.http.fault", Any { type_url: "t/f".into(), value: vec![1] }),
            ("envoy.filters.http.cors", Any { type_url: "t/c".into(), value: vec![] }),
        ]),
        provenance: None,
    };
    let head = VirtualHost { name: "h".into(), ..Default::default() };
    let read = VirtualHost::decode(virtual_host(&head, &[draft]).as_slice()).expect("decodes");
    assert_eq!(read.routes[0].name, "a");
    assert_eq!(read.routes[0].typed_per_filter_config.len(), 2);
    assert_eq!(read.routes[0].typed_per_filter_config["envoy.filters.http.fault"].value, [1]);
}

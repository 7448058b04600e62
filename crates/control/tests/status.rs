//! Statuses as they come to stand in the store.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use heddle_control::{Control, ControlConfig};
use heddle_resource::{Admission, AdmitOptions, Key, Object, admit, kind, parse_documents};
use heddle_store::{FileOptions, FileStore, MemoryStore, Precondition, Store};
use heddle_xds::{Event, NodeInfo, Outcome, ViewSource};
use serde_json::{Value, json};

const YAML: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: apps}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: heddle, generation: 1}
spec: {controllerName: heddle.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: apps, generation: 3}
spec:
  gatewayClassName: heddle
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: apps, generation: 2}
spec:
  parentRefs: [{name: edge}, {name: edge, sectionName: none}, {group: '', kind: Service, name: web}]
  rules: [{backendRefs: [{name: web, port: 80}], sessionPersistence: {type: Cookie}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: apps, generation: 1}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: web}}]}]
";

fn objects(yaml: &str) -> Vec<Object> {
    parse_documents(yaml, "test.yaml")
        .into_iter()
        .map(|document| match admit(&document.expect("YAML"), &AdmitOptions::default()) {
            Admission::Admitted { object, .. } => object,
            other => panic!("{other:?}"),
        })
        .collect()
}

async fn start() -> (Arc<dyn Store>, Control) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    for object in objects(YAML) {
        store.put(object, Precondition::Absent).await.expect("put");
    }
    let control = Control::start(ControlConfig { stores: vec![store.clone()], ..ControlConfig::default() });
    (store, control)
}

/// Waits until the stored object's status is as wanted.
async fn status(store: &Arc<dyn Store>, key: &Key, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut watch =
        store.watch(key.kind, store.list(key.kind, None).await.expect("list").1).await.expect("watch");
    let mut last = Value::Null;
    let found = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            if let Some(object) = store.get(key).await.expect("get") {
                last = object.json["status"].clone();
                if wanted(&last) {
                    return last.clone();
                }
            }
            watch.next().await;
        }
    });
    match found.await {
        Ok(status) => status,
        Err(_) => panic!("{key}: status stayed {last:#}"),
    }
}

fn condition<'a>(conditions: &'a Value, kind: &str) -> &'a Value {
    let conditions = conditions.as_array().expect("conditions");
    conditions.iter().find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

fn gateway_node() -> NodeInfo {
    let metadata: BTreeMap<_, _> = [("GATEWAY", json!("k8s:apps/edge")), ("BIND", json!("127.0.0.9"))]
        .map(|(k, v)| (k.to_owned(), v))
        .into();
    NodeInfo {
        id: "router~127.0.0.9~edge.apps~apps.svc.cluster.local".to_owned(),
        metadata,
        ..NodeInfo::default()
    }
}

#[tokio::test]
async fn every_object_is_told_what_became_of_it() {
    let (store, control) = start().await;
    let class = status(&store, &Key::new(&kind::GATEWAY_CLASS, "", "heddle"), |s| !s.is_null()).await;
    assert_eq!(condition(&class["conditions"], "Accepted")["status"], "True");
    let route = status(&store, &Key::new(&kind::HTTP_ROUTE, "apps", "web"), |s| !s.is_null()).await;
    let reasons: Vec<_> = route["parents"]
        .as_array()
        .expect("parents")
        .iter()
        .map(|parent| condition(&parent["conditions"], "Accepted")["reason"].as_str().expect("a reason"))
        .collect();
    assert_eq!(reasons, ["Accepted", "NoMatchingParent", "Accepted"]);
    let first = &route["parents"][0];
    assert_eq!(first["controllerName"], "heddle.dev/gateway-controller");
    assert_eq!(condition(&first["conditions"], "ResolvedRefs")["observedGeneration"], 2);
    let unsupported = condition(&first["conditions"], "Unsupported")["message"].as_str().expect("a message");
    assert!(unsupported.contains("sessionPersistence"), "{unsupported}");
    let rule = status(&store, &Key::new(&kind::VIRTUAL_SERVICE, "apps", "web"), |s| !s.is_null()).await;
    assert_eq!(condition(&rule["conditions"], "Accepted")["status"], "True");
    drop(control);
}

#[tokio::test]
async fn a_gateway_is_programmed_when_its_proxies_are() {
    let (store, control) = start().await;
    let key = Key::new(&kind::GATEWAY, "apps", "edge");
    let programmed = |status: &Value, reason: &str| {
        status.is_object() && condition(&status["conditions"], "Programmed")["reason"] == reason
    };
    status(&store, &key, |s| programmed(s, "AddressNotAssigned")).await;
    let attached = control.attach(gateway_node()).await.expect("attached");
    let generation = attached.views.borrow().generation;
    let pending = status(&store, &key, |s| programmed(s, "Pending")).await;
    assert_eq!(pending["addresses"], json!([{"type": "IPAddress", "value": "127.0.0.9"}]));
    let outcome = Outcome { stream: attached.id, event: Event::Synced { generation } };
    attached.outcomes.send(outcome).await.expect("the control plane listens");
    let done = status(&store, &key, |s| programmed(s, "Programmed")).await;
    assert_eq!(done["listeners"][0]["attachedRoutes"], 1);
    assert_eq!(condition(&done["listeners"][0]["conditions"], "Programmed")["status"], "True");
    assert_eq!(condition(&done["conditions"], "Programmed")["observedGeneration"], 3);
    drop(attached);
    status(&store, &key, |s| programmed(s, "AddressNotAssigned")).await;
}

#[tokio::test]
async fn writing_a_status_changes_no_world() {
    let (store, control) = start().await;
    let key = Key::new(&kind::GATEWAY, "apps", "edge");
    status(&store, &key, |s| !s.is_null()).await;
    status(&store, &Key::new(&kind::VIRTUAL_SERVICE, "apps", "web"), |s| !s.is_null()).await;
    let generation = control.world().generation;
    // A change of something else comes after the statuses in the same feeds' order of time.
    let mut other = objects(YAML).remove(2);
    other.meta.name = "other".into();
    let mut json = (*other.json).clone();
    json["metadata"]["name"] = "other".into();
    other.json = Arc::new(json);
    store.put(other, Precondition::Absent).await.expect("put");
    let mut worlds = control.worlds();
    let gateways = |world: &heddle_control::World| world.count(&kind::GATEWAY) == 2;
    worlds.wait_for(|world| gateways(world)).await.expect("the control plane lives");
    assert_eq!(control.world().generation, generation + 1);
}

#[tokio::test]
async fn a_status_says_who_wrote_it() {
    let (store, _control) = start().await;
    let key = Key::new(&kind::VIRTUAL_SERVICE, "apps", "web");
    status(&store, &key, |s| !s.is_null()).await;
    let object = store.get(&key).await.expect("get").expect("the object");
    let entries = object.json["metadata"]["managedFields"].as_array().expect("entries");
    let ours: Vec<_> = entries.iter().filter(|entry| entry["subresource"] == "status").collect();
    assert_eq!(ours.len(), 1, "{entries:?}");
    assert_eq!(ours[0]["manager"], "heddle");
    assert_eq!(ours[0]["operation"], "Update");
    assert_eq!(ours[0]["fieldsV1"]["f:status"]["f:conditions"], json!({}));
}

#[tokio::test]
async fn objects_from_files_are_told_too() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("mesh.yaml"), YAML).expect("written");
    let paths = [directory.path().to_owned()];
    let files = FileStore::open(paths, FileOptions::default()).await.expect("opened");
    let store: Arc<dyn Store> = Arc::new(files);
    let _control = Control::start(ControlConfig { stores: vec![store.clone()], ..ControlConfig::default() });
    let rule = status(&store, &Key::new(&kind::VIRTUAL_SERVICE, "apps", "web"), |s| !s.is_null()).await;
    assert_eq!(condition(&rule["conditions"], "Accepted")["status"], "True");
}

#[tokio::test]
async fn addresses_that_stand_for_a_service_entry_are_told() {
    let (store, control) = start().await;
    for object in objects(
        "
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ext, namespace: apps, generation: 1}
spec: {hosts: [api.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: own, namespace: apps, generation: 1}
spec:
  hosts: [own.example.com]
  addresses: [192.0.2.7]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
",
    ) {
        store.put(object, Precondition::Absent).await.expect("put");
    }
    let key = |name| Key::new(&kind::SERVICE_ENTRY, "apps", name);
    let told = status(&store, &key("ext"), |s| !s.is_null()).await;
    let addresses = told["addresses"].as_array().expect("addresses");
    assert_eq!(addresses.len(), 2, "{addresses:?}");
    assert!(addresses.iter().all(|address| address["host"] == "api.example.com"));
    assert!(addresses[0]["value"].as_str().expect("an address").starts_with("240."), "{addresses:?}");
    let told = status(&store, &key("own"), |s| !s.is_null()).await;
    assert!(told["addresses"].is_null(), "{told}");
    drop(control);
}

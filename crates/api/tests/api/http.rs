//! The conventions, request by request.

use std::sync::Arc;

use heddle_store::{FileOptions, FileStore, MemoryStore, Revision, Store};
use serde_json::{Value, json};

use crate::kit::Served;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";
const VIRTUAL_SERVICES: &str = "/apis/networking.istio.io/v1/namespaces/default/virtualservices";

fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "a": "b" } })
}

fn virtual_service(name: &str) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": { "name": name },
        "spec": { "hosts": ["web"], "http": [{ "route": [{ "destination": { "host": "web" } }] }] },
    })
}

fn made(served: &Served, names: &[&str]) {
    for name in names {
        assert_eq!(served.send(&format!("POST {CONFIG_MAPS}"), &config_map(name)).code, 201);
    }
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    items.iter().map(|i| i["metadata"]["name"].as_str().unwrap_or_default()).collect()
}

/// The events of a watch that ended.
fn events(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn told(events: &[Value]) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    events.iter().map(|e| (text(&e["type"]), text(&e["object"]["metadata"]["name"]))).collect()
}

fn pair(what: &str, name: &str) -> (String, String) {
    (what.to_owned(), name.to_owned())
}

#[test]
fn doors_are_closed_to_web_pages() {
    let served = Served::new();
    let port = served.url.rsplit(':').next().unwrap();
    for (headers, code) in [
        (vec!["Host: evil.example"], 403),
        (vec!["Host: localhost"], 200),
        (vec!["Host: [::1]:15014"], 200),
        (vec!["Host: 127.0.0.1.evil.example"], 403),
        (vec!["Origin: http://evil.example"], 403),
        (vec!["Origin: null"], 403),
        (vec!["Sec-Fetch-Site: cross-site"], 403),
        (vec!["Sec-Fetch-Site: same-origin"], 200),
    ] {
        assert_eq!(served.ask("GET /version", &headers, "").code, code, "{headers:?}");
    }
    let own = [format!("Host: localhost:{port}"), format!("Origin: http://localhost:{port}")];
    assert_eq!(served.ask("GET /version", &[&own[0], &own[1]], "").code, 200);
    let body = config_map("x").to_string();
    for media in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let reply = served.ask(&format!("POST {CONFIG_MAPS}"), &[&format!("Content-Type: {media}")], &body);
        assert_eq!((reply.code, &reply.json()["reason"]), (415, &json!("UnsupportedMediaType")), "{media}");
    }
    assert!(names(&served.get(CONFIG_MAPS).json()).is_empty());
}

#[test]
fn what_is_too_large_is_refused() {
    let served = Served::new();
    let mut object = config_map("big");
    object["data"]["a"] = "x".repeat(2 << 20).into();
    let reply = served.send(&format!("POST {CONFIG_MAPS}"), &object);
    assert_eq!((reply.code, &reply.json()["reason"]), (413, &json!("RequestEntityTooLarge")));
    object["data"]["a"] = "x".repeat(4 << 20).into();
    assert_eq!(served.send(&format!("POST {CONFIG_MAPS}"), &object).code, 413);
}

#[test]
fn a_list_comes_in_pages_of_one_moment() {
    let served = Served::new();
    made(&served, &["a", "b", "c", "d", "e"]);
    let first = served.get(&format!("{CONFIG_MAPS}?limit=2")).json();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    // What happens in between is not seen.
    assert_eq!(served.ask(&format!("DELETE {CONFIG_MAPS}/c"), &[], "").code, 200);
    made(&served, &["cc"]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let second = served.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).json();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], first["metadata"]["resourceVersion"]);
    let token = second["metadata"]["continue"].as_str().unwrap();
    let third = served.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}")).json();
    assert_eq!((names(&third), third["metadata"].get("continue")), (vec!["e"], None));

    let reply = served.get(&format!("{CONFIG_MAPS}?continue=nonsense"));
    assert_eq!(reply.code, 400);
}

#[test]
fn an_old_page_is_gone_but_may_go_on() {
    let served = Served::new();
    made(&served, &["a", "b", "c"]);
    let first = served.get(&format!("{CONFIG_MAPS}?limit=1")).json();
    // Forty other lists push the first out of what is kept.
    for index in 0..40 {
        made(&served, &[&format!("x{index}")]);
        served.get(&format!("{CONFIG_MAPS}?limit=1"));
    }
    let token = first["metadata"]["continue"].as_str().unwrap();
    let gone = served.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"));
    let status = gone.json();
    assert_eq!((gone.code, &status["reason"]), (410, &json!("Expired")));
    let token = status["metadata"]["continue"].as_str().unwrap();
    let on = served.get(&format!("{CONFIG_MAPS}?limit=2&continue={token}"));
    assert_eq!(names(&on.json()), ["b", "c"]);
}

#[test]
fn resource_versions() {
    let served = Served::over(vec![Arc::new(MemoryStore::starting_at(Revision(100), 4))]);
    made(&served, &["a"]);
    let list = served.get(CONFIG_MAPS).json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let exact = format!("{CONFIG_MAPS}?resourceVersionMatch=Exact&resourceVersion=");
    assert_eq!(served.get(&format!("{exact}{version}")).code, 200);
    assert_eq!(served.get(&format!("{exact}1")).code, 410);
    let ahead = served.get(&format!("{CONFIG_MAPS}?resourceVersion=99999999999"));
    assert_eq!((ahead.code, &ahead.json()["reason"]), (504, &json!("Timeout")));
    assert_eq!(served.get(&format!("{CONFIG_MAPS}?resourceVersion=nonsense")).code, 400);
    assert_eq!(served.get(&format!("{CONFIG_MAPS}?resourceVersionMatch=Exact")).code, 400);
    assert_eq!(served.get(&format!("{CONFIG_MAPS}?resourceVersion=0")).code, 200);

    // More changes than are kept: a watch from before them is told so.
    let names: Vec<String> = (0..10).map(|i| format!("b{i}")).collect();
    made(&served, &names.iter().map(String::as_str).collect::<Vec<_>>());
    let watch = served.get(&format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}"));
    let reason = if watch.code == 200 { events(&watch.text())[0]["object"].clone() } else { watch.json() };
    assert_eq!((&reason["code"], &reason["reason"]), (&json!(410), &json!("Expired")));
}

#[test]
fn conflicts() {
    let served = Served::new();
    made(&served, &["a"]);
    let again = served.send(&format!("POST {CONFIG_MAPS}"), &config_map("a"));
    assert_eq!((again.code, &again.json()["reason"]), (409, &json!("AlreadyExists")));
    let object = served.get(&format!("{CONFIG_MAPS}/a")).json();
    let mut change = object.clone();
    change["data"]["a"] = "c".into();
    assert_eq!(served.send(&format!("PUT {CONFIG_MAPS}/a"), &change).code, 200);
    change["data"]["a"] = "d".into();
    let stale = served.send(&format!("PUT {CONFIG_MAPS}/a"), &change);
    assert_eq!((stale.code, &stale.json()["reason"]), (409, &json!("Conflict")));
    let merge = ["Content-Type: application/merge-patch+json"];
    let patch = json!({ "metadata": { "resourceVersion": object["metadata"]["resourceVersion"] } });
    assert_eq!(served.ask(&format!("PATCH {CONFIG_MAPS}/a"), &merge, &patch.to_string()).code, 409);
    change["metadata"]["resourceVersion"] = Value::Null;
    change["metadata"]["uid"] = "another".into();
    assert_eq!(served.send(&format!("PUT {CONFIG_MAPS}/a"), &change).code, 409);
    let options = json!({ "preconditions": { "uid": "another" } });
    assert_eq!(served.send(&format!("DELETE {CONFIG_MAPS}/a"), &options).code, 409);
    assert_eq!(served.send(&format!("PUT {CONFIG_MAPS}/b"), &config_map("a")).code, 400);
    assert_eq!(served.send(&format!("PUT {CONFIG_MAPS}/nothing"), &config_map("nothing")).code, 404);
}

#[test]
fn metadata_is_the_server_s() {
    let served = Served::new();
    let mut object = virtual_service("v");
    object["metadata"]["generation"] = 9.into();
    object["metadata"]["deletionTimestamp"] = "2020-01-01T00:00:00Z".into();
    object["status"] = json!({ "observedGeneration": 5 });
    let created = served.send(&format!("POST {VIRTUAL_SERVICES}"), &object).json();
    let metadata = &created["metadata"];
    assert_eq!((&metadata["generation"], metadata.get("deletionTimestamp")), (&json!(1), None));
    assert_eq!(created.get("status"), None);
    assert_eq!(metadata["uid"].as_str().map(str::len), Some(36));

    let mut change = created.clone();
    change["metadata"]["labels"] = json!({ "a": "b" });
    change["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z".into();
    let labelled = served.send(&format!("PUT {VIRTUAL_SERVICES}/v"), &change).json();
    assert_eq!(labelled["metadata"]["generation"], 1);
    assert_eq!(labelled["metadata"]["creationTimestamp"], metadata["creationTimestamp"]);
    let mut change = labelled.clone();
    change["spec"]["hosts"] = json!(["other"]);
    change["status"] = json!({ "observedGeneration": 7 });
    let changed = served.send(&format!("PUT {VIRTUAL_SERVICES}/v"), &change).json();
    assert_eq!((&changed["metadata"]["generation"], changed.get("status")), (&json!(2), None));

    let mut change = changed.clone();
    change["spec"]["hosts"] = json!(["ignored"]);
    change["status"] = json!({ "observedGeneration": 2 });
    let told = served.send(&format!("PUT {VIRTUAL_SERVICES}/v/status"), &change).json();
    assert_eq!(
        (&told["spec"]["hosts"], &told["status"]["observedGeneration"]),
        (&json!(["other"]), &json!(2))
    );
    assert_eq!(told["metadata"]["generation"], 2);
    let entries = told["metadata"]["managedFields"].as_array().unwrap();
    assert!(entries.iter().any(|e| e["subresource"] == "status"));

    // A write that changes nothing is none.
    let same = served.send(&format!("PUT {VIRTUAL_SERVICES}/v"), &told).json();
    assert_eq!(same["metadata"]["resourceVersion"], told["metadata"]["resourceVersion"]);

    let mut unnamed = config_map("");
    unnamed["metadata"] = json!({ "generateName": "made-" });
    let made = served.send(&format!("POST {CONFIG_MAPS}"), &unnamed).json();
    assert!(made["metadata"]["name"].as_str().is_some_and(|n| n.starts_with("made-") && n.len() == 10));
}

#[test]
fn finalizers_hold() {
    let served = Served::new();
    let mut object = config_map("held");
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    served.send(&format!("POST {CONFIG_MAPS}"), &object);
    let marked = served.ask(&format!("DELETE {CONFIG_MAPS}/held"), &[], "").json();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let merge = ["Content-Type: application/merge-patch+json"];
    let more = json!({ "metadata": { "finalizers": ["example.com/hold", "example.com/more"] } });
    assert_eq!(served.ask(&format!("PATCH {CONFIG_MAPS}/held"), &merge, &more.to_string()).code, 422);
    let none = json!({ "metadata": { "finalizers": [] } });
    assert_eq!(served.ask(&format!("PATCH {CONFIG_MAPS}/held"), &merge, &none.to_string()).code, 200);
    assert_eq!(served.get(&format!("{CONFIG_MAPS}/held")).code, 404);
}

#[test]
fn what_is_owned_goes_with_its_owner() {
    let served = Served::new();
    let owner = served.send(&format!("POST {CONFIG_MAPS}"), &config_map("owner")).json();
    let mut owned = config_map("owned");
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"],
    }]);
    let created = served.send(&format!("POST {CONFIG_MAPS}"), &owned).json();
    owned["metadata"]["name"] = "foreign".into();
    owned["metadata"]["ownerReferences"][0]["kind"] = "Deployment".into();
    owned["metadata"]["ownerReferences"][0]["apiVersion"] = "apps/v1".into();
    served.send(&format!("POST {CONFIG_MAPS}"), &owned);
    // Its owner is another of the same name.
    let mut stale = config_map("stale");
    stale["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "foreign", "uid": "earlier" }]);
    served.send(&format!("POST {CONFIG_MAPS}"), &stale);
    let version = created["metadata"]["resourceVersion"].as_str().unwrap();
    assert_eq!(served.ask(&format!("DELETE {CONFIG_MAPS}/owner"), &[], "").code, 200);
    // The watch ends by itself after both are gone, or after its time.
    let path = format!("{CONFIG_MAPS}?watch=1&resourceVersion={version}&timeoutSeconds=2");
    let seen = told(&events(&served.get(&path).text()));
    assert!(seen.contains(&pair("DELETED", "owned")), "{seen:?}");
    assert!(seen.contains(&pair("DELETED", "stale")), "{seen:?}");
    assert_eq!(names(&served.get(CONFIG_MAPS).json()), ["foreign"]);

    // Orphaned, it stays.
    let owner = served.send(&format!("POST {CONFIG_MAPS}"), &config_map("owner")).json();
    let mut owned = config_map("owned");
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner["metadata"]["uid"],
    }]);
    served.send(&format!("POST {CONFIG_MAPS}"), &owned);
    let orphan = json!({ "propagationPolicy": "Orphan" });
    assert_eq!(served.send(&format!("DELETE {CONFIG_MAPS}/owner"), &orphan).code, 200);
    let left = served.get(&format!("{CONFIG_MAPS}/owned")).json();
    assert_eq!(left["metadata"].get("ownerReferences"), None);
}

#[test]
fn watches() {
    let served = Served::new();
    made(&served, &["a", "z"]);
    let version = served.get(CONFIG_MAPS).json()["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    made(&served, &["b"]);
    served.ask(&format!("DELETE {CONFIG_MAPS}/z"), &[], "");
    let merge = ["Content-Type: application/merge-patch+json"];
    let label = |name: &str, color: &str| {
        let patch = json!({ "metadata": { "labels": { "color": color } } }).to_string();
        let path = format!("PATCH {CONFIG_MAPS}/{name}?fieldManager=painter");
        assert_eq!(served.ask(&path, &merge, &patch).code, 200);
    };
    label("a", "red");
    label("b", "red");
    label("b", "blue");
    served.ask(&format!("DELETE {CONFIG_MAPS}/a"), &[], "");
    let watch = |query: &str| {
        let reply = served.get(&format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1&{query}"));
        assert_eq!(reply.code, 200, "{}", reply.text());
        events(&reply.text())
    };
    let all = told(&watch(&format!("resourceVersion={version}")));
    let expected = [
        pair("ADDED", "b"),
        pair("DELETED", "z"),
        pair("MODIFIED", "a"),
        pair("MODIFIED", "b"),
        pair("MODIFIED", "b"),
        pair("DELETED", "a"),
    ];
    assert_eq!(all, expected);
    // By a selector, objects come and go as they come to match and cease to.
    let mut red = told(&watch(&format!("resourceVersion={version}&labelSelector=color%3Dred")));
    // Of what the client may have had, it is told that it is gone.
    red.retain(|e| e.1 != "z");
    assert_eq!(red, [pair("ADDED", "a"), pair("ADDED", "b"), pair("DELETED", "b"), pair("DELETED", "a")]);
    assert_eq!(told(&watch("")), [pair("ADDED", "b")]);
    assert_eq!(told(&watch("fieldSelector=metadata.name%3Dzzz")), []);

    let listed = watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    assert_eq!(told(&listed)[0], pair("ADDED", "b"));
    assert_eq!(listed[1]["type"], "BOOKMARK");
    let marks = &listed[1]["object"]["metadata"];
    assert_eq!(marks["annotations"]["k8s.io/initial-events-end"], "true");
    let now = served.get(CONFIG_MAPS).json();
    assert_eq!(marks["resourceVersion"], now["metadata"]["resourceVersion"]);
    assert_eq!(served.get(&format!("{CONFIG_MAPS}?watch=1&sendInitialEvents=true")).code, 400);

    let old_form = served.get("/api/v1/watch/namespaces/default/configmaps/b?timeoutSeconds=1");
    assert_eq!(told(&events(&old_form.text())), [pair("ADDED", "b")]);
}

#[test]
fn watches_are_bounded_and_end_with_the_server() {
    use std::io::{Read as _, Write as _};
    let served = Served::with(vec![Arc::new(MemoryStore::new())], |config| config.max_watches = 1);
    made(&served, &["a"]);
    let mut open = std::net::TcpStream::connect(served.url.trim_start_matches("http://")).unwrap();
    write!(open, "GET {CONFIG_MAPS}?watch=1 HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut begun = [0; 16];
    open.read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"HTTP/1.0 200 OK\r");
    let refused = served.get(&format!("{CONFIG_MAPS}?watch=1"));
    assert_eq!((refused.code, &refused.json()["reason"]), (429, &json!("TooManyRequests")));
    assert_eq!(refused.header("retry-after"), ["1"]);
    drop(served);
    let mut rest = String::new();
    open.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("\"ADDED\""), "{rest}");
}

#[test]
fn tables_and_metadata() {
    let served = Served::new();
    made(&served, &["a"]);
    let ask =
        |path: &str, accept: &str| served.ask(&format!("GET {path}"), &[&format!("Accept: {accept}")], "");
    let table = ask(CONFIG_MAPS, "application/json;as=Table;v=v1;g=meta.k8s.io,application/json").json();
    assert_eq!((&table["kind"], &table["apiVersion"]), (&json!("Table"), &json!("meta.k8s.io/v1")));
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"][0]["cells"][0], "a");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let metadata =
        ask(CONFIG_MAPS, "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1").json();
    assert_eq!(metadata["kind"], "PartialObjectMetadataList");
    assert_eq!(metadata["items"][0].get("data"), None);
    let one =
        ask(&format!("{CONFIG_MAPS}/a"), "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
            .json();
    assert_eq!((&one["kind"], &one["metadata"]["name"]), (&json!("PartialObjectMetadata"), &json!("a")));
    let both = ask(CONFIG_MAPS, "application/vnd.kubernetes.protobuf, application/json");
    assert_eq!(both.json()["kind"], "ConfigMapList");
    assert_eq!(ask(CONFIG_MAPS, "application/vnd.kubernetes.protobuf").code, 406);
    assert_eq!(ask(CONFIG_MAPS, "text/html").code, 406);
}

#[test]
fn discovery_and_descriptions() {
    let served = Served::new();
    let aggregated =
        "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let groups = served.ask("GET /apis", &[aggregated], "");
    assert_eq!(groups.json()["kind"], "APIGroupDiscoveryList");
    assert!(groups.header("content-type")[0].contains("as=APIGroupDiscoveryList"));
    assert_eq!(served.get("/apis").json()["kind"], "APIGroupList");
    assert_eq!(served.get("/apis/networking.istio.io").json()["preferredVersion"]["version"], "v1");
    assert_eq!(served.get("/apis/networking.istio.io/v1beta1").json()["kind"], "APIResourceList");
    for absent in [
        "/apis/nothing",
        "/apis/networking.istio.io/v9",
        "/api/v2",
        "/apis/networking.istio.io/v1/nothing",
        "/x",
    ] {
        assert_eq!(served.get(absent).code, 404, "{absent}");
    }
    let v3 = served.get("/openapi/v3").json();
    let url = v3["paths"]["apis/networking.istio.io/v1"]["serverRelativeURL"].as_str().unwrap();
    let described = served.get(url);
    assert!(described.json()["components"]["schemas"].get("io.istio.networking.v1.VirtualService").is_some());
    let etag = &described.header("etag")[0];
    assert_eq!(served.ask(&format!("GET {url}"), &[&format!("If-None-Match: {etag}")], "").code, 304);
    let v2 = served.get("/openapi/v2");
    assert_eq!(v2.json()["swagger"], "2.0");
    let proto = "Accept: application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    assert_eq!(served.ask("GET /openapi/v2", &[proto], "").body[..5], [10, 3, b'2', b'.', b'0']);
    assert_eq!(served.ask("POST /apis", &["Content-Type: application/json"], "{}").code, 405);
}

#[test]
fn operation() {
    let served = Served::new();
    assert_eq!(served.get("/healthz").text(), "ok");
    assert_eq!(served.get("/livez").code, 200);
    assert_eq!(served.get("/readyz").code, 200);
    assert!(served.get("/metrics").text().contains("heddle_api_watches 0\n"));
    assert_eq!(served.get("/debug/syncz").code, 404);
    let review =
        json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {} });
    let answer = served.send("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review);
    assert_eq!(answer.json()["status"]["allowed"], true);
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": { "generateName": "e-" }, "reason": "Tested",
        "involvedObject": { "kind": "Service", "name": "web" },
    });
    assert_eq!(served.send("POST /api/v1/namespaces/default/events", &event).code, 201);
    let path = "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3D";
    assert_eq!(served.get(&format!("{path}web")).json()["items"][0]["reason"], "Tested");
    assert_eq!(served.get(&format!("{path}other")).json()["items"], json!([]));
}

#[test]
fn leases() {
    let served = Served::new();
    let entries = "/apis/networking.istio.io/v1/namespaces/default/workloadentries";
    let entry = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "WorkloadEntry", "metadata": { "name": "w" },
        "spec": { "address": "10.0.0.1" },
    });
    assert_eq!(served.send(&format!("POST {entries}/w/lease"), &json!({ "ttlSeconds": 1 })).code, 404);
    let version =
        served.send(&format!("POST {entries}"), &entry).json()["metadata"]["resourceVersion"].clone();
    assert_eq!(served.get(&format!("{entries}/w/lease")).code, 404);
    assert_eq!(served.send(&format!("POST {entries}/w/lease"), &json!({ "ttlSeconds": 0 })).code, 422);
    let granted = served.send(&format!("POST {entries}/w/lease"), &json!({ "ttlSeconds": 600 })).json();
    let renewed = served.send(&format!("POST {entries}/w/lease"), &json!({})).json();
    assert_eq!((&granted["id"], granted["ttlSeconds"].as_u64()), (&renewed["id"], Some(600)));
    // A renewal is no write.
    assert_eq!(served.get(&format!("{entries}/w")).json()["metadata"]["resourceVersion"], version);
    assert_eq!(served.ask(&format!("DELETE {entries}/w/lease"), &[], "").code, 200);
    assert_eq!(served.send(&format!("POST {entries}/w/lease"), &json!({ "ttlSeconds": 1 })).code, 200);
    let watch = format!("{entries}?watch=1&timeoutSeconds=3&resourceVersion={}", version.as_str().unwrap());
    assert_eq!(told(&events(&served.get(&watch).text())), [pair("DELETED", "w")]);
}

#[tokio::test]
async fn files_are_read_and_not_edited() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("# first\n{}", serde_json::to_string(&config_map("filed")).unwrap());
    std::fs::write(dir.path().join("a.yaml"), text).unwrap();
    let files = FileStore::open([dir.path().to_owned()], FileOptions::default()).await.unwrap();
    let stores: Vec<Arc<dyn Store>> = vec![Arc::new(MemoryStore::new()), Arc::new(files)];
    tokio::task::spawn_blocking(move || {
        let served = Served::over(stores);
        made(&served, &["made"]);
        let list = served.get(CONFIG_MAPS).json();
        assert_eq!(names(&list), ["filed", "made"]);
        let source = list["items"][0]["metadata"]["annotations"]["heddle.dev/source"].as_str().unwrap();
        assert!(source.contains("a.yaml:"), "{source}");
        for refused in [
            served.ask(&format!("DELETE {CONFIG_MAPS}/filed"), &[], ""),
            served.send(&format!("PUT {CONFIG_MAPS}/filed"), &config_map("filed")),
            served.send(&format!("POST {CONFIG_MAPS}"), &config_map("filed")),
        ] {
            let status = refused.json();
            assert_eq!((refused.code, &status["reason"]), (409, &json!("Conflict")));
            assert!(status["message"].as_str().unwrap().contains("a.yaml"), "{status}");
        }
        let version = list["metadata"]["resourceVersion"].as_str().unwrap();
        assert!(version.len() > 20, "{version}");
        made(&served, &["more"]);
        let watch = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1&resourceVersion={version}");
        let seen = events(&served.get(&watch).text());
        assert_eq!(told(&seen), [pair("ADDED", "more")]);
        let on = seen[0]["object"]["metadata"]["resourceVersion"].as_str().unwrap();
        let watch = format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1&resourceVersion={on}");
        assert_eq!(told(&events(&served.get(&watch).text())), []);
        // An object that came from a watch may be written back.
        let mut change = seen[0]["object"].clone();
        change["data"]["a"] = "c".into();
        assert_eq!(served.send(&format!("PUT {CONFIG_MAPS}/more"), &change).code, 200);
        assert_eq!(served.send(&format!("PUT {CONFIG_MAPS}/more"), &change).code, 409);
    })
    .await
    .unwrap();
}

#[test]
fn namespaces() {
    let served = Served::new();
    assert_eq!(served.get("/api/v1/namespaces/default").code, 200);
    assert_eq!(served.send("POST /api/v1/namespaces/new/configmaps", &config_map("a")).code, 201);
    assert_eq!(served.get("/api/v1/namespaces/new").json()["status"]["phase"], "Active");
    let mut elsewhere = config_map("b");
    elsewhere["metadata"]["namespace"] = "other".into();
    assert_eq!(served.send("POST /api/v1/namespaces/new/configmaps", &elsewhere).code, 400);
    assert_eq!(served.send("POST /api/v1/configmaps", &config_map("b")).code, 400);
    let mut held = config_map("held");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    served.send("POST /api/v1/namespaces/new/configmaps", &held);
    let marked = served.ask("DELETE /api/v1/namespaces/new", &[], "").json();
    assert_eq!(marked["status"]["phase"], "Terminating");
    let refused = served.send("POST /api/v1/namespaces/new/configmaps", &config_map("c"));
    assert_eq!((refused.code, &refused.json()["reason"]), (403, &json!("Forbidden")));
}

#[test]
fn dry_runs_change_nothing() {
    let served = Served::new();
    let body = config_map("a");
    assert_eq!(served.send(&format!("POST {CONFIG_MAPS}?dryRun=All"), &body).code, 201);
    assert_eq!(served.get(&format!("{CONFIG_MAPS}/a")).code, 404);
    made(&served, &["a"]);
    let mut change = body.clone();
    change["data"]["a"] = "z".into();
    let told = served.send(&format!("PUT {CONFIG_MAPS}/a?dryRun=All"), &change).json();
    assert_eq!(told["data"]["a"], "z");
    assert_eq!(served.ask(&format!("DELETE {CONFIG_MAPS}/a?dryRun=All"), &[], "").code, 200);
    assert_eq!(served.get(&format!("{CONFIG_MAPS}/a")).json()["data"]["a"], "b");
    assert_eq!(served.send(&format!("POST {CONFIG_MAPS}?dryRun=Some"), &body).code, 400);
}

#[test]
fn bodies_that_are_no_objects() {
    let served = Served::new();
    for body in ["", "[]", "7", "{", "null", "{}", "{\"metadata\":7}", "{\"metadata\":{\"name\":7}}"] {
        let reply = served.ask(&format!("POST {CONFIG_MAPS}"), &["Content-Type: application/json"], body);
        assert!((400..=422).contains(&reply.code), "{body}: {}", reply.text());
        assert_eq!(reply.json()["kind"], "Status");
    }
    for body in ["k8s", "k8s\0", "k8s\0\u{1}", "k8s\0\n\u{7f}"] {
        let media = ["Content-Type: application/vnd.kubernetes.protobuf"];
        let reply = served.ask(&format!("POST {CONFIG_MAPS}"), &media, body);
        assert!(matches!(reply.code, 400 | 415), "{body:?}: {}", reply.text());
    }
    made(&served, &["a"]);
    for (media, body) in [
        ("json-patch", "{}"),
        ("json-patch", "[{\"op\":\"remove\",\"path\":\"/nothing\"}]"),
        ("json-patch", "[{\"op\":\"replace\",\"path\":\"\",\"value\":7}]"),
        ("merge-patch", "7"),
        ("strategic-merge-patch", "{\"$patch\":\"nonsense\"}"),
        ("strategic-merge-patch", "{\"metadata\":{\"ownerReferences\":[{\"name\":\"x\"}]}}"),
    ] {
        let header = format!("Content-Type: application/{media}+json");
        let reply = served.ask(&format!("PATCH {CONFIG_MAPS}/a"), &[&header], body);
        assert!((400..=422).contains(&reply.code), "{media} {body}: {}", reply.text());
    }
    let apply = ["Content-Type: application/apply-patch+yaml"];
    assert_eq!(served.ask(&format!("PATCH {CONFIG_MAPS}/a"), &apply, "{}").code, 400);
    assert_eq!(served.ask(&format!("PATCH {CONFIG_MAPS}/a?fieldManager=m"), &apply, "a: b: c").code, 400);
}

#[tokio::test]
async fn the_client_of_this_crate() {
    use heddle_api::client::{ApplyOptions, Client, ClientError};
    use heddle_resource::kind;
    let served = tokio::task::spawn_blocking(Served::new).await.unwrap();
    let client = Client::new(&served.url).unwrap();
    assert!(client.get(&kind::CONFIG_MAP, "default", "a").await.unwrap_err().is_not_found());
    let mut watch = client.watch(&kind::CONFIG_MAP, None, None).await.unwrap();
    let applied = client.apply(&kind::CONFIG_MAP, &config_map("a"), &ApplyOptions::default()).await.unwrap();
    assert!(applied.created);
    assert_eq!(watch.next().await.unwrap().unwrap()["type"], "ADDED");
    let later = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule", "metadata": { "name": "d" },
        "spec": { "host": "web", "trafficPolicy": { "outlierDetection": { "minHealthPercent": 50 } } },
    });
    let warned = client.apply(&kind::DESTINATION_RULE, &later, &ApplyOptions::default()).await.unwrap();
    assert!(warned.warnings.iter().any(|w| w.contains("spec.trafficPolicy")), "{:?}", warned.warnings);
    let listed = client.list(&kind::CONFIG_MAP, Some("default"), &[("limit", "1")]).await.unwrap();
    assert_eq!(names(&listed), ["a"]);
    client.delete(&kind::CONFIG_MAP, "default", "a").await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap()["type"], "DELETED");
    let nobody = Client::new("http://127.0.0.1:1").unwrap();
    let error = nobody.get(&kind::CONFIG_MAP, "default", "a").await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { .. }) && error.to_string().contains("--server"));
    assert!(Client::new("https://x").is_err());
    tokio::task::spawn_blocking(move || drop(served)).await.unwrap();
}

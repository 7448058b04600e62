//! Cases of the Gateway API conformance suite, as data, against a control plane and proxies of ours.
//!
//! Needs the suite's data (`HEDDLE_SHARED_DATA`, or `shared/data` beside the checkout) and the right to bind
//! ports below 1024 on loopback addresses. `HEDDLE_CONFORMANCE_PROXY=envoy` runs the same cases with Envoy as
//! the data plane; `HEDDLE_CONFORMANCE_CASES=TEXT` runs those with TEXT in their name only.

mod backend;
mod bed;
mod certificates;
mod client;
mod envoy;
mod own;
mod statuses;
mod traffic;

use std::{collections::BTreeSet, path::Path, time::Duration};

use bed::{Bed, DataPlane};
use client::Outcome;
use heddle_resource::Key;
use heddle_tests::say;
use serde_json::{Value, json};

/// How long a check may take to come true.
const PATIENCE: Duration = Duration::from_secs(15);

/// Cases whose traffic is carried in TLS: they run on Envoy too.
fn is_secured(name: &str) -> bool {
    [
        "BackendTLSPolicy",
        "Certificate",
        "HTTPSListener",
        "TLSRouteHostname",
        "TLSRouteInvalidBackend",
        "Secret",
    ]
    .iter()
    .any(|part| name.contains(part))
}

/// Why a case is not run, if it is not.
fn left_out(name: &str, profile: &str) -> Option<&'static str> {
    let has = |part: &str| name.contains(part);
    if has("UDPRoute") {
        return Some("a kind that is none of ours yet");
    }
    if profile == "mesh" && has("FrontendHostname") {
        return Some("calls by address, which only a captured client does: run by the suite `redirect`");
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conformance() {
    let data_plane = match std::env::var("HEDDLE_CONFORMANCE_PROXY").as_deref() {
        Ok("envoy") => DataPlane::Envoy,
        _ => DataPlane::Heddle,
    };
    suite(data_plane, |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_on_envoy() {
    if heddle_tests::peer::envoy().is_some() {
        suite(DataPlane::Envoy, is_secured).await;
    }
}

async fn suite(data_plane: DataPlane, chosen: impl Fn(&str) -> bool) {
    let Some(data) = heddle_tests::shared_data() else { return };
    let data = data.join("gateway-api");
    if std::net::TcpListener::bind("127.78.0.1:80").is_err() {
        say("LEFT OUT: Gateway API conformance needs to bind 127.78.0.1:80; run it as root");
        return;
    }
    let all: Vec<_> = cases(&data).into_iter().chain(own::cases()).collect();
    let bed = Bed::start(data_plane).await;
    certificates::make(&bed, &all).await.expect("certificates");
    let base =
        std::fs::read_to_string(data.join("manifests/base/manifests.yaml")).expect("the base manifests");
    bed.apply(&base).await.expect("the base manifests apply");
    let mesh =
        std::fs::read_to_string(data.join("manifests/mesh/manifests.yaml")).expect("the mesh manifests");
    bed.apply(&mesh).await.expect("the mesh manifests apply");
    let class = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass",
        "metadata": {"name": "heddle"}, "spec": {"controllerName": "heddle.dev/gateway-controller"}});
    bed.write(class).await.expect("the class");
    let only = std::env::var("HEDDLE_CONFORMANCE_CASES").unwrap_or_default();
    let (mut passed, mut failed) = (0, Vec::new());
    let mut exercised: BTreeSet<String> = BTreeSet::new();
    let asked = |name: &str| name.contains(&only) && chosen(name);
    for case in all.iter().filter(|case| case["name"].as_str().is_some_and(asked)) {
        let name = case["name"].as_str().unwrap_or_default();
        if let Some(why) = left_out(name, case["profile"].as_str().unwrap_or_default()) {
            say(&format!("not run  {name}: {why}"));
            continue;
        }
        match run(&bed, &data, case).await {
            Ok(()) => {
                passed += 1;
                exercised.extend(own::features(name).map(str::to_owned));
                let features = list(&case["features"]).iter().filter_map(Value::as_str);
                exercised.extend(features.map(str::to_owned));
                say(&format!("passed   {name}"));
            }
            Err(error) => {
                say(&format!("FAILED   {name}: {error}"));
                failed.push(name.to_owned());
            }
        }
    }
    say(&format!("{passed} cases passed, {} failed", failed.len()));
    assert!(failed.is_empty(), "{failed:?}\n{}", bed.logs());
    assert!(passed > 0, "no case was run");
    if only.is_empty() && data_plane == DataPlane::Heddle {
        let class = bed.get("GatewayClass", "", "heddle").await.expect("the class");
        let claimed = list(&class["status"]["supportedFeatures"]).iter();
        let claimed: BTreeSet<_> = claimed.filter_map(|feature| feature["name"].as_str()).collect();
        assert!(!claimed.is_empty(), "no feature is claimed");
        let idle: Vec<_> = claimed.into_iter().filter(|feature| !exercised.contains(*feature)).collect();
        assert!(idle.is_empty(), "claimed, and exercised by no case: {idle:?}");
    }
}

fn cases(data: &Path) -> Vec<Value> {
    let mut files: Vec<_> =
        std::fs::read_dir(data.join("cases")).expect("cases").flatten().map(|f| f.path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        serde_json::from_slice(&std::fs::read(path).expect("a case")).expect("JSON")
    };
    files.iter().map(read).collect()
}

/// Runs a case and takes away what it made.
async fn run(bed: &Bed, data: &Path, case: &Value) -> Outcome<()> {
    let mut created = Vec::new();
    let result = steps(bed, data, case, &mut created).await;
    for key in created.iter().rev() {
        bed.delete(key).await;
    }
    result
}

async fn steps(bed: &Bed, data: &Path, case: &Value, created: &mut Vec<Key>) -> Outcome<()> {
    manifests(bed, data, case, created).await?;
    let reconciles =
        |entry: &Value| entry["subtest"].as_str().is_some_and(|text| text.starts_with(RECONCILES));
    let writes: Vec<_> =
        list(&case["api_writes"]).iter().filter(|entry| !reconciles(entry)).cloned().collect();
    let deletes = writes.iter().any(|write| write["call"] == "suite.Client.Delete");
    // What is said to come after the deletion comes after it; everything else of such a case before.
    let later =
        |entry: &Value| deletes && entry["subtest"].as_str().is_some_and(|text| text.contains(" after "));
    if !deletes {
        apply_writes(bed, &writes, created).await?;
    }
    checks(bed, case, |entry| !later(entry) && !reconciles(entry)).await?;
    if list(&case["status"]).iter().any(reconciles) {
        reconcile(bed, case, created).await?;
    }
    if deletes {
        apply_writes(bed, &writes, created).await?;
        checks(bed, case, later).await?;
    }
    if case["name"].as_str().is_some_and(|name| name.contains("ObservedGenerationBump")) {
        bump(bed, case).await?;
        checks(bed, case, |_| true).await?;
    }
    Ok(())
}

/// What a case is about: manifests of the suite, and objects that a case of our own adds.
async fn manifests(bed: &Bed, data: &Path, case: &Value, created: &mut Vec<Key>) -> Outcome<()> {
    for manifest in list(&case["manifests"]).iter().filter_map(Value::as_str) {
        let path = data.join("manifests").join(manifest);
        let yaml = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let (keys, foreign) = bed.apply(&yaml).await?;
        created.extend(keys);
        if !foreign.is_empty() {
            return Err(format!("kinds that are none of ours: {foreign:?}"));
        }
    }
    if let Some(yaml) = case["objects"].as_str() {
        created.extend(bed.apply(yaml).await?.0);
    }
    Ok(())
}

/// The subtest that changes what a BackendTLSPolicy refers to, in steps that the table does not order.
const RECONCILES: &str = "Changing the content of a ConfigMap";

/// The policy's authorities: present, gone, present again, gone again.
async fn reconcile(bed: &Bed, case: &Value, created: &mut Vec<Key>) -> Outcome<()> {
    const NAMESPACE: &str = "gateway-conformance-infra";
    const FRESH: &str = "tls-checks-ca-certificate-reconcile-test";
    let entries = list(&case["status"]).iter();
    let entries: Vec<_> = entries
        .filter(|entry| entry["subtest"].as_str().is_some_and(|text| text.starts_with(RECONCILES)))
        .collect();
    let shared = bed.get("ConfigMap", NAMESPACE, "tls-checks-ca-certificate").await?;
    let pem = shared["data"]["ca.crt"].as_str().ok_or("no authorities")?.to_owned();
    // Two conditions a step.
    for (step, pair) in entries.chunks(2).enumerate() {
        match step {
            0 => {}
            1 => {
                let mut policy = bed.get("BackendTLSPolicy", NAMESPACE, "reconcile-test").await?;
                policy["spec"]["validation"]["caCertificateRefs"][0]["name"] = FRESH.into();
                bed.write(policy).await?;
            }
            step if step % 2 == 0 => created.extend(bed.write(certificates::bundle(FRESH, &pem)).await?),
            _ => bed.delete(&Bed::key("ConfigMap", NAMESPACE, FRESH)).await,
        }
        for entry in pair {
            let args = list(&entry["args"]).to_vec();
            eventually(&format!("step {step}"), || {
                statuses::check(bed, "BackendTLSPolicyMustHaveCondition", &args)
            })
            .await?;
        }
        let status = if step % 2 == 0 { 200 } else { 503 };
        let asked = json!({
            "to": {"gateway": {"name": "same-namespace", "namespace": NAMESPACE}}, "scheme": "http",
            "request": {"host": "abc.example.com", "path": "/backendtlspolicy-reconcile-test", "method": "GET"},
            "expect": {"status": [status]},
        });
        eventually(&format!("step {step}"), || traffic::http(bed, &asked)).await?;
    }
    Ok(())
}

/// What the suite writes in the middle of a case.
async fn apply_writes(bed: &Bed, writes: &[Value], created: &mut Vec<Key>) -> Outcome<()> {
    for write in writes {
        match write["call"].as_str() {
            Some("suite.Client.Delete") => {
                let meta = &write["args"][0]["ObjectMeta"];
                let (namespace, name) = statuses::reference(meta).ok_or("what to delete?")?;
                bed.delete(&Bed::key("ReferenceGrant", &namespace, &name)).await;
            }
            Some("suite.Applier.MustApplyObjectsWithCleanup") => {
                for object in list(&write["args"][0]) {
                    created.extend(bed.write(tcp_route(object)?).await?);
                }
            }
            other => return Err(format!("this runner does not know the call {other:?}")),
        }
    }
    Ok(())
}

/// The TCPRoute that a case makes in Go.
fn tcp_route(object: &Value) -> Outcome<Value> {
    let (namespace, name) = statuses::reference(&object["ObjectMeta"]).ok_or("what to apply?")?;
    let parent = &object["Spec"]["CommonRouteSpec"]["ParentRefs"][0];
    let backend = &object["Spec"]["Rules"][0]["BackendRefs"][0]["BackendObjectReference"];
    Ok(json!({
        "apiVersion": "gateway.networking.k8s.io/v1alpha2",
        "kind": "TCPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "parentRefs": [{"name": parent["Name"], "sectionName": parent["SectionName"]}],
            "rules": [{"backendRefs": [{"name": backend["Name"], "port": backend["Port"]}]}],
        },
    }))
}

/// Changes the object that an `ObservedGenerationBump` case is about, as the suite does.
async fn bump(bed: &Bed, case: &Value) -> Outcome<()> {
    let (namespace, name) = statuses::reference(&case["status"][0]["args"][0]).ok_or("what to change?")?;
    let kind = if case["name"] == "GatewayObservedGenerationBump" { "Gateway" } else { "HTTPRoute" };
    let mut object = bed.get(kind, &namespace, &name).await?;
    let before = object["metadata"]["generation"].clone();
    if kind == "Gateway" {
        let mut listener = object["spec"]["listeners"][0].clone();
        listener["name"] = "alternate".into();
        listener["port"] = 8080.into();
        object["spec"]["listeners"].as_array_mut().ok_or("no listeners")?.push(listener);
    } else {
        object["spec"]["rules"][0]["backendRefs"][0]["name"] = "infra-backend-v2".into();
    }
    bed.write(object).await?;
    let after = bed.get(kind, &namespace, &name).await?["metadata"]["generation"].clone();
    if before == after { Err("the generation stayed".into()) } else { Ok(()) }
}

/// Every check of the case that is chosen, in the order of the suite: statuses, then traffic.
async fn checks(bed: &Bed, case: &Value, chosen: impl Fn(&Value) -> bool) -> Outcome<()> {
    let of = |part: &str| list(&case[part]).iter().filter(|entry| chosen(entry)).cloned().collect::<Vec<_>>();
    for entry in of("status") {
        let (assert, args) =
            (entry["assert"].as_str().unwrap_or_default().to_owned(), list(&entry["args"]).to_vec());
        eventually(&assert, || statuses::check(bed, &assert, &args)).await?;
    }
    for entry in of("http") {
        let what = entry["subtest"].as_str().unwrap_or_default().to_owned();
        eventually(&what, || traffic::http(bed, &entry)).await?;
    }
    for entry in of("tls_reject") {
        eventually("TLS is rejected", || traffic::tls_reject(bed, &entry)).await?;
    }
    for entry in of("grpc") {
        eventually("gRPC", || async { traffic::grpc(bed, &entry).await.map(drop) }).await?;
    }
    for entry in of("tcp") {
        eventually("TCP", || async { traffic::tcp(bed, &entry).await.map(drop) }).await?;
    }
    if case.get("websocket").is_some() && chosen(&case["websocket"][0]) {
        let to =
            json!({"to": {"gateway": {"name": "same-namespace", "namespace": "gateway-conformance-infra"}}});
        eventually("WebSocket", || async {
            client::websocket(traffic::target(bed, &to).await?, "/ws").await
        })
        .await?;
    }
    for entry in of("mirror_shares") {
        eventually("mirrored share", || traffic::mirrored_share(bed, &entry)).await?;
    }
    for entry in of("weights") {
        eventually("weights", || shares(bed, case, &entry)).await?;
    }
    Ok(())
}

async fn shares(bed: &Bed, case: &Value, entry: &Value) -> Outcome<()> {
    let mut pods = Vec::new();
    for _ in 0..entry["requests"].as_u64().unwrap_or(500) {
        pods.push(if case.get("grpc").is_some() {
            traffic::grpc(bed, &case["grpc"][0]).await?
        } else if case.get("tcp").is_some() {
            traffic::tcp(bed, entry).await?
        } else {
            traffic::pod(bed, entry).await?
        });
    }
    traffic::shares(entry, &pods)
}

/// Repeats a check until it holds, as the suite does.
async fn eventually<R: Future<Output = Outcome<()>>>(
    what: &str,
    mut check: impl FnMut() -> R,
) -> Outcome<()> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut poll = tokio::time::interval(Duration::from_millis(50));
    loop {
        poll.tick().await;
        match check().await {
            Ok(()) => return Ok(()),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(format!("{what}: {error}")),
            Err(_) => {}
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

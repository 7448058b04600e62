//! Gateway API conformance of mesh clients that call by address: the cases `Mesh*FrontendHostname`.

use std::collections::BTreeMap;

use heddle_tests::{backend::Backend, eventually};
use serde_json::Value;

use crate::kit::{Bed, Who, text};

const NAMESPACE: &str = "gateway-conformance-mesh";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_of_the_gateway_api_follow_the_address_and_not_the_host() {
    let Some(data) = heddle_tests::shared_data() else { return };
    let data = data.join("gateway-api");
    let read = |path: &str| std::fs::read_to_string(data.join(path)).unwrap();
    let case: Value = serde_json::from_str(&read("cases/mesh-MeshFrontendHostname.json")).unwrap();
    for who in Who::all() {
        let bed = Bed::start();
        // The Deployments in it are none of ours; what they would run is registered here.
        bed.mesh.apply(&read("manifests/mesh/manifests.yaml"));
        let mut backends = BTreeMap::new();
        for version in ["v1", "v2"] {
            let service = format!("echo-{version}");
            let backend = Backend::start(&format!("{service}-0")).await;
            let (address, labels) = (backend.address.to_string(), format!("app=echo,version={version}"));
            let (code, _, err) = bed.mesh.heddle(&[
                "register",
                "--service",
                &service,
                "--namespace",
                NAMESPACE,
                "--address",
                &address,
                "--port-name",
                "http",
                "--labels",
                &labels,
            ]);
            assert_eq!(code, 0, "{err}");
            backends.insert(service, backend);
        }
        for manifest in case["manifests"].as_array().unwrap() {
            bed.mesh.apply(&read(&format!("manifests/{}", manifest.as_str().unwrap())));
        }
        for entry in case["http"].as_array().unwrap() {
            let what = entry["case"].as_str().unwrap();
            eventually(what, || async { call(&bed, who, entry) }).await;
        }
    }
}

/// Makes the request of an entry as a program of the mesh, and compares.
fn call(bed: &Bed, who: Who, entry: &Value) -> Result<(), String> {
    let (request, expect) = (&entry["request"], &entry["expect"]);
    let host = request["host"].as_str().unwrap();
    let mut script = "curl -sS -i".to_owned();
    for (name, value) in request["headers"].as_object().unwrap() {
        script += &format!(" -H '{name}: {}'", value.as_str().unwrap());
    }
    let output = bed.script(who, NAMESPACE, &format!("{script} http://{host}/"));
    let answer = text(&output.stdout);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| text(&output.stderr))?;
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
    let headers: BTreeMap<_, _> =
        lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_ascii_lowercase(), v)).collect();
    let header = |name: &str| headers.get(&name.to_ascii_lowercase()).copied();
    let wrong = || Err(format!("wanted {expect}, got {answer}"));
    if !expect["status"].as_array().unwrap().iter().any(|wanted| wanted.as_u64() == status) {
        return wrong();
    }
    let wanted = expect["headers"].as_object().into_iter().flatten();
    let absent = expect["absent_headers"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let backend: Value = serde_json::from_str(body).map_err(|e| format!("{e}: {body}"))?;
    let came_to = backend["backend"].as_str().unwrap_or_default();
    let right = wanted.into_iter().all(|(name, value)| header(name) == value.as_str())
        && absent.into_iter().all(|name| header(name).is_none())
        && came_to.starts_with(expect["backend_pod_prefix"].as_str().unwrap());
    if right { Ok(()) } else { wrong() }
}

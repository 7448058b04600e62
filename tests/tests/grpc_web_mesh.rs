//! A service of gRPC-Web that shares the listener of its port: what the control plane makes of that is taken by real Envoy.

use std::net::SocketAddr;

use heddle_tests::{
    client::get,
    envoy::{Envoy, Join, free_address},
    eventually,
    mesh::Mesh,
    peer,
};
use serde_json::{Value, json};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: shop}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.0.0.2, ports: [{name: grpc-web, port: 80}]}
";

const FILTER: &str = "envoy.filters.http.grpc_web";

/// The values in a list of Envoy's dump, whatever its section.
async fn dumped(admin: SocketAddr, list: &str) -> Result<Vec<Value>, String> {
    let dump = get(admin, "localhost", "/config_dump", &[]).await?.json();
    let sections = dump["configs"].as_array().cloned().unwrap_or_default();
    Ok(sections.iter().filter_map(|section| section[list].as_array()).flatten().cloned().collect())
}

/// The filter in the listener that Envoy works with.
async fn filter(admin: SocketAddr) -> Result<Value, String> {
    let listeners = dumped(admin, "dynamic_listeners").await?;
    let shared = listeners.iter().find(|listener| listener["name"] == "0.0.0.0_80").ok_or("no 0.0.0.0_80")?;
    let chain = &shared["active_state"]["listener"]["filter_chains"][0];
    let filters = chain["filters"][0]["typed_config"]["http_filters"].as_array().cloned().unwrap_or_default();
    filters.into_iter().find(|filter| filter["name"] == FILTER).ok_or_else(|| format!("not in {shared}"))
}

/// What the virtual host of a service says to the filter, in the routes that Envoy works with.
async fn told(admin: SocketAddr, service: &str) -> Result<Value, String> {
    let routes = dumped(admin, "dynamic_route_configs").await?;
    let shared = routes.iter().map(|routes| &routes["route_config"]).find(|routes| routes["name"] == "80");
    let hosts = shared.ok_or("no routes 80")?["virtual_hosts"].as_array().cloned().unwrap_or_default();
    let name = format!("{service}.default.svc.cluster.local:80");
    let host = hosts.into_iter().find(|host| host["name"] == name).ok_or_else(|| format!("no {name}"))?;
    Ok(host["typed_per_filter_config"][FILTER].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_switches_grpc_web_on_for_the_service_that_says_so() {
    let Some(binary) = peer::envoy() else { return };
    let mesh = Mesh::start();
    mesh.apply(SERVICES);
    let metadata = format!("OUTBOUND: \"{}\", INTERCEPTION_MODE: REDIRECT", free_address([127, 0, 0, 1]));
    let join = Join {
        api: "DELTA_GRPC",
        xds: mesh.control.address("xds"),
        role: "sidecar",
        metadata: &metadata,
        args: &[],
    };
    let envoy = Envoy::start("captured", &binary, &join, mesh.scratch.path());
    let found = eventually("the shared listener and its routes", || async {
        Ok((filter(envoy.admin).await?, told(envoy.admin, "web").await?, told(envoy.admin, "shop").await?))
    })
    .await;
    let (filter, web, shop) = found;
    assert_eq!(filter["disabled"], true, "{filter}");
    assert_eq!(web, json!({"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}));
    assert_eq!(shop, Value::Null);
    let (code, out, err) = mesh.heddle(&["status"]);
    assert_eq!(code, 0, "nothing was refused: {out}{err}");
    assert!(out.contains("client.default"), "{out}");
}

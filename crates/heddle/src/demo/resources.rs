//! The demo's resources, as a user would write them. `docs/demo.md` shows the same texts.

use std::net::SocketAddr;

use super::shop::Instance;

pub(crate) const NAMESPACE: &str = "shop";
pub(crate) const GATEWAY_HOST: &str = "shop.example";

/// The namespace, one Service for each name, the versions of `price`, and the gateway.
pub(crate) fn mesh(instances: &[Instance], gateway_port: u16) -> String {
    let mut text = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n");
    let mut services: Vec<&str> = instances.iter().map(|i| i.service).collect();
    services.dedup();
    for service in services {
        text.push_str(&format!(
            "---
apiVersion: v1
kind: Service
metadata:
  name: {service}
  namespace: {NAMESPACE}
spec:
  selector:
    app: {service}
  ports:
  - name: http
    port: 80
"
        ));
    }
    text.push_str(&format!(
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: price
  namespace: {NAMESPACE}
spec:
  host: price
  subsets:
  - name: v1
    labels:
      version: v1
  - name: v2
    labels:
      version: v2
  - name: v3
    labels:
      version: v3
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: shop-gateway
  namespace: {NAMESPACE}
spec:
  selector:
    app: shop-gateway
  servers:
  - port:
      number: {gateway_port}
      name: http
      protocol: HTTP
    hosts:
    - {GATEWAY_HOST}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: storefront
  namespace: {NAMESPACE}
spec:
  hosts:
  - {GATEWAY_HOST}
  gateways:
  - shop-gateway
  http:
  - route:
    - destination:
        host: storefront
"
    ));
    text
}

/// The instance as the registry knows it: reachable at its sidecar's inbound address.
pub(crate) fn workload(instance: &Instance, inbound: SocketAddr) -> String {
    format!(
        "apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: {name}
  namespace: {NAMESPACE}
spec:
  address: {ip}
  ports:
    http: {port}
  labels:
    app: {service}
    version: {version}
",
        name = instance.name,
        ip = inbound.ip(),
        port = inbound.port(),
        service = instance.service,
        version = instance.version,
    )
}

/// A VirtualService for calls inside the mesh to `host`, with `rules` as its `http` list.
pub(crate) fn route(host: &str, rules: &str) -> String {
    let rules: String = rules.lines().map(|line| format!("  {line}\n")).collect();
    format!(
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: {host}
  namespace: {NAMESPACE}
spec:
  hosts:
  - {host}
  http:
{rules}"
    )
}

pub(crate) const ALL_TO_V1: &str = "- route:
  - destination:
      host: price
      subset: v1";

pub(crate) const NINETY_TEN: &str = "- route:
  - destination:
      host: price
      subset: v1
    weight: 90
  - destination:
      host: price
      subset: v2
    weight: 10";

pub(crate) const ADA_TO_V3: &str = "- match:
  - headers:
      end-user:
        exact: ada
  route:
  - destination:
      host: price
      subset: v3
- route:
  - destination:
      host: price
      subset: v1";

pub(crate) const FAULT_FOR_BOB: &str = "- match:
  - headers:
      end-user:
        exact: bob
  fault:
    abort:
      httpStatus: 418
      percentage:
        value: 100
  route:
  - destination:
      host: price
      subset: v1
- route:
  - destination:
      host: price
      subset: v1";

pub(crate) const RETRY_FAILURES: &str = "- retries:
    attempts: 3
    retryOn: 5xx
  route:
  - destination:
      host: shipping";

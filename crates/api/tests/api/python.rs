//! The Python client lists, watches and writes, on core kinds and on custom ones.

use std::process::Command;

use crate::kit::{self, Served};

const SCRIPT: &str = r#"
import sys, threading
from kubernetes import client, watch

configuration = client.Configuration()
configuration.host = sys.argv[1]
api = client.ApiClient(configuration)
core, custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
GROUP = dict(group="networking.istio.io", version="v1", plural="virtualservices")

def service(name):
    return client.V1Service(
        metadata=client.V1ObjectMeta(name=name, labels={"app": name}),
        spec=client.V1ServiceSpec(selector={"app": name}, ports=[client.V1ServicePort(port=80)]),
    )

created = core.create_namespaced_service("shop", service("one"))
assert created.metadata.uid and created.spec.ports[0].target_port == 80, created
listed = core.list_namespaced_service("shop")
assert [s.metadata.name for s in listed.items] == ["one"], listed
assert [s.metadata.name for s in core.list_service_for_all_namespaces(label_selector="app=one").items] == ["one"]

# From the list on, nothing is missed.
core.create_namespaced_service("shop", service("two"))
core.patch_namespaced_service("two", "shop", {"metadata": {"labels": {"color": "red"}}})
core.delete_namespaced_service("two", "shop")
seen = []
for event in watch.Watch().stream(
    core.list_namespaced_service, "shop", resource_version=listed.metadata.resource_version, timeout_seconds=30
):
    seen.append((event["type"], event["object"].metadata.name))
    if event["type"] == "DELETED":
        break
assert seen == [("ADDED", "two"), ("MODIFIED", "two"), ("DELETED", "two")], seen

# Pages.
for name in ("a", "b", "c"):
    core.create_namespaced_config_map("shop", client.V1ConfigMap(metadata=client.V1ObjectMeta(name=name)))
page, names = core.list_namespaced_config_map("shop", limit=2), []
while True:
    names += [item.metadata.name for item in page.items]
    if not page.metadata._continue:
        break
    page = core.list_namespaced_config_map("shop", limit=2, _continue=page.metadata._continue)
assert names == ["a", "b", "c"], names

# Optimistic locking.
stale = core.read_namespaced_config_map("a", "shop")
core.patch_namespaced_config_map("a", "shop", {"data": {"x": "1"}})
stale.data = {"x": "2"}
try:
    core.replace_namespaced_config_map("a", "shop", stale)
    raise AssertionError("a stale replacement was taken")
except client.ApiException as refused:
    assert refused.status == 409, refused

# Custom kinds.
custom.create_namespaced_custom_object(namespace="shop", body={
    "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": "v"},
    "spec": {"hosts": ["one"], "http": [{"route": [{"destination": {"host": "one"}}]}]},
}, **GROUP)
items = custom.list_namespaced_custom_object(namespace="shop", **GROUP)["items"]
assert [i["metadata"]["name"] for i in items] == ["v"], items
for event in watch.Watch().stream(custom.list_namespaced_custom_object, namespace="shop", timeout_seconds=30, **GROUP):
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "v"), event
    break
custom.delete_namespaced_custom_object(namespace="shop", name="v", **GROUP)
assert client.VersionApi(api).get_code().minor == "32"
print("done")
"#;

#[test]
fn lists_watches_and_writes() {
    let Some(python) = kit::python() else { return };
    let served = Served::new();
    let output = Command::new(python).args(["-c", SCRIPT, &served.url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout.ends_with(b"done\n"));
}

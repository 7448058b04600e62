//! kubectl, old and new, does what its users do every day.

use std::io::{BufRead as _, BufReader};

use crate::kit::{self, Kubectl, Served};

/// One call of kubectl and what it must say.
pub(crate) struct Step {
    args: &'static str,
    stdin: &'static str,
    /// In its output or errors.
    says: &'static [&'static str],
    lacks: &'static [&'static str],
    code: i32,
    /// Clients older than this minor version have no such call.
    pub(crate) since: u32,
}

pub(crate) const fn step(args: &'static str) -> Step {
    Step { args, stdin: "", says: &[], lacks: &[], code: 0, since: 0 }
}

impl Step {
    pub(crate) const fn stdin(mut self, stdin: &'static str) -> Self {
        self.stdin = stdin;
        self
    }
    pub(crate) const fn says(mut self, says: &'static [&'static str]) -> Self {
        self.says = says;
        self
    }
    pub(crate) const fn lacks(mut self, lacks: &'static [&'static str]) -> Self {
        self.lacks = lacks;
        self
    }
    pub(crate) const fn fails(mut self) -> Self {
        self.code = 1;
        self
    }
    pub(crate) const fn since(mut self, minor: u32) -> Self {
        self.since = minor;
        self
    }
}

/// Runs every step against an empty API of its own, with every kubectl.
fn play(steps: &[Step]) {
    play_with(steps, "");
}

fn play_with(steps: &[Step], editor: &str) {
    for program in kit::kubectls() {
        let served = Served::new();
        let kubectl = Kubectl::new(&program, &served.url);
        kubectl.editor(editor);
        for step in steps.iter().filter(|s| s.since <= kubectl.minor) {
            check(&kubectl, step);
        }
    }
}

pub(crate) fn check(kubectl: &Kubectl, step: &Step) {
    // kubectl takes what begins with a brace for JSON.
    let output = kubectl.run(step.args, &format!("# YAML\n{}", step.stdin));
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let call = format!("kubectl 1.{} {}\n{told}", kubectl.minor, step.args);
    assert_eq!(output.status.code(), Some(step.code), "{call}");
    for text in step.says {
        assert!(told.contains(text), "expected {text:?} from {call}");
    }
    for text in step.lacks {
        assert!(!told.contains(text), "did not expect {text:?} from {call}");
    }
}

const SERVICE: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web, tier: front}}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
";
const SERVICE_CHANGED: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, labels: {app: web, tier: back}}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8081}, {name: grpc, port: 90}]
";
const SECRET: &str = r"
apiVersion: v1
kind: Secret
metadata: {name: creds}
stringData: {password: hunter2}
";
const CONFIG_MAP: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {color: red}
";
const VIRTUAL_SERVICE: &str = r"
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: web}}]}]
";
const HTTP_ROUTE: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
spec:
  parentRefs: [{name: edge}]
  hostnames: [web.example]
  rules: [{backendRefs: [{name: web, port: 80}]}]
";

#[test]
fn discovery() {
    play(&[
        step("version").says(&["v1.32.0+heddle"]),
        step("api-versions").says(&[
            "networking.istio.io/v1alpha3",
            "gateway.networking.k8s.io/v1",
            "\nv1\n",
        ]),
        step("api-resources").says(&["virtualservices", "httproutes", "configmaps", "vs ", "svc "]),
        step("api-resources --api-group networking.istio.io -o name")
            .says(&["workloadentries.networking.istio.io"]),
        step("api-resources --namespaced=false").says(&["gatewayclasses", "namespaces"]).lacks(&["services"]),
        step("explain virtualservice.spec.http").says(&["VirtualService", "route", "retries"]),
        step("explain service.spec.ports --recursive").says(&["targetPort", "appProtocol"]),
        step("explain httproute.spec.rules").says(&["backendRefs"]),
        step("explain gateways.gateway.networking.k8s.io.spec").since(27).says(&["gatewayClassName"]),
        step("explain vs.spec.nothing").fails().says(&["does not exist"]),
        step("get nonsense").fails().says(&["the server doesn't have a resource type \"nonsense\""]),
        step("cluster-info").says(&["127.0.0.1"]),
        step("auth can-i create virtualservices").says(&["yes"]),
    ]);
}

#[test]
fn create_get_and_delete() {
    play(&[
        step("create -f -").stdin(SERVICE).says(&["service/web created"]),
        step("create -f -")
            .stdin(SERVICE)
            .fails()
            .says(&["AlreadyExists", "services \"web\" already exists"]),
        step("create -f -").stdin(SECRET).says(&["secret/creds created"]),
        step("create -f -").stdin(CONFIG_MAP).says(&["configmap/settings created"]),
        step("create -f -").stdin(VIRTUAL_SERVICE).says(&["virtualservice.networking.istio.io/web created"]),
        step("create -f -").stdin(HTTP_ROUTE).says(&["httproute.gateway.networking.k8s.io/web created"]),
        step("create configmap more --from-literal=a=b").says(&["configmap/more created"]),
        step("create secret generic token --from-literal=a=b").says(&["secret/token created"]),
        step("create service clusterip plain --tcp=5678:8080").says(&["service/plain created"]),
        step("create namespace shop").says(&["namespace/shop created"]),
        step("create serviceaccount robot -n shop").says(&["serviceaccount/robot created"]),
        step("get svc")
            .says(&["NAME", "TYPE", "CLUSTER-IP", "PORT(S)", "AGE", "web", "80/TCP"])
            .lacks(&["SELECTOR"]),
        step("get svc -o wide").says(&["SELECTOR", "app=web"]),
        step("get svc web -o yaml").says(&["targetPort: 8080", "uid: ", "creationTimestamp: "]),
        step("get svc web -o json").says(&["\"generation\": 1", "\"protocol\": \"TCP\""]),
        step("get svc -o name").says(&["service/web"]),
        step("get svc web -o 'jsonpath={.spec.ports[0].port}'").says(&["80"]),
        step("get svc -o 'custom-columns=N:.metadata.name'").says(&["N\n", "web"]),
        step("get svc --show-labels").says(&["LABELS", "tier=front"]),
        step("get svc -L tier").says(&["TIER", "front"]),
        step("get svc -l app=web,tier!=back").says(&["web"]).lacks(&["plain"]),
        step("get svc -l 'tier in (back)'").says(&["No resources found"]),
        step("get svc --field-selector metadata.name=plain").says(&["plain"]).lacks(&["web"]),
        step("get svc --field-selector spec.nothing=1").fails().says(&["field label not supported"]),
        step("get svc --sort-by=.metadata.name").says(&["plain", "web"]),
        step("get vs,httproutes,svc,secret,cm")
            .says(&["virtualservice.networking.istio.io/web", "secret/creds"]),
        step("get vs web -o yaml").says(&["apiVersion: networking.istio.io/v1\n"]),
        step("get virtualservices.v1alpha3.networking.istio.io web -o yaml")
            .says(&["apiVersion: networking.istio.io/v1alpha3\n"]),
        step("get istio-io").says(&["web"]),
        step("get sa -A").says(&["NAMESPACE", "shop", "robot"]),
        step("get sa robot -n shop").says(&["robot"]),
        step("get secret creds -o 'jsonpath={.data.password}'").says(&["aHVudGVyMg=="]),
        step("get svc nothing")
            .fails()
            .says(&["Error from server (NotFound): services \"nothing\" not found"]),
        step("get vs nothing").fails().says(&["virtualservices.networking.istio.io \"nothing\" not found"]),
        step("get ns").says(&["default", "shop", "Active"]),
        step("delete svc plain").says(&["service \"plain\" deleted"]),
        step("delete svc plain").fails().says(&["NotFound"]),
        step("delete svc plain --ignore-not-found").lacks(&["NotFound"]),
        step("delete cm -l no=such").says(&["No resources found"]),
        step("label cm more settings group=old").says(&["configmap/more labeled"]),
        step("delete cm -l group=old").says(&["\"more\" deleted", "\"settings\" deleted"]),
        step("delete vs --all").says(&["\"web\" deleted"]),
        step("delete ns shop").says(&["namespace \"shop\" deleted"]),
        step("get sa -A").lacks(&["robot"]),
        step("delete ns default").fails().says(&["Forbidden"]),
    ]);
}

#[test]
fn client_side_apply_and_diff() {
    play(&[
        step("diff -f -").stdin(SERVICE).fails().says(&["+  name: web"]),
        step("apply -f -").stdin(SERVICE).says(&["service/web created"]),
        step("apply -f -").stdin(SERVICE).says(&["service/web unchanged"]),
        step("diff -f -").stdin(SERVICE),
        step("diff -f -")
            .stdin(SERVICE_CHANGED)
            .fails()
            .says(&["-    targetPort: 8080", "+    targetPort: 8081"]),
        step("apply -f - --dry-run=server")
            .stdin(SERVICE_CHANGED)
            .says(&["service/web configured (server dry run)"]),
        step("get svc web -o yaml").says(&["targetPort: 8080"]),
        step("apply -f -").stdin(SERVICE_CHANGED).says(&["service/web configured"]),
        step("get svc web -o yaml").says(&["targetPort: 8081", "name: grpc", "tier: back"]),
        step("apply -f -").stdin(SERVICE).says(&["service/web configured"]),
        step("get svc web -o yaml").says(&["targetPort: 8080"]).lacks(&["name: grpc"]),
        step("apply view-last-applied svc/web").says(&["targetPort: 8080"]),
        step("apply -f -").stdin(SECRET).says(&["secret/creds created"]),
        step("apply -f -").stdin(VIRTUAL_SERVICE).says(&["created"]),
        step("apply -f -").stdin(VIRTUAL_SERVICE).says(&["unchanged"]),
        step("apply -f -").stdin(HTTP_ROUTE).says(&["created"]),
        step("apply -f -").stdin(HTTP_ROUTE).says(&["unchanged"]),
        step("apply -f - --dry-run=client").stdin(HTTP_ROUTE).says(&["(dry run)"]),
        step("apply -f - -n books").stdin(CONFIG_MAP).says(&["configmap/settings created"]),
        step("get ns books").says(&["Active"]),
        step("create -f - --dry-run=server").stdin(CONFIG_MAP).says(&["created (server dry run)"]),
        step("get cm settings").fails().says(&["NotFound"]),
        step("delete -f -").stdin(SERVICE).says(&["service \"web\" deleted"]),
    ]);
}

const TEAM_A: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, labels: {owner: a}}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}]
";
const TEAM_B: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, labels: {reviewer: b}}
spec:
  ports: [{name: admin, port: 90}]
";
const TEAM_B_TAKES: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web, labels: {reviewer: b}}
spec:
  ports: [{name: http, port: 80, targetPort: 9999}]
";
const TEAM_B_EMPTY: &str = r"
apiVersion: v1
kind: Service
metadata: {name: web}
";

#[test]
fn server_side_apply() {
    play(&[
        step("apply --server-side --field-manager a -f -")
            .stdin(TEAM_A)
            .says(&["service/web serverside-applied"]),
        step("apply --server-side --field-manager a -f -").stdin(TEAM_A).says(&["serverside-applied"]),
        step("get svc web -o 'jsonpath={.metadata.generation}'").says(&["1"]),
        step("apply --server-side --field-manager b -f -").stdin(TEAM_B).says(&["serverside-applied"]),
        step("get svc web -o yaml").says(&["owner: a", "reviewer: b", "name: admin", "name: http"]),
        step("get svc web -o 'jsonpath={.metadata.managedFields}'")
            .says(&["\"manager\":\"a\"", "\"operation\":\"Apply\""]),
        step("apply --server-side --field-manager b -f -").stdin(TEAM_B_TAKES).fails().says(&[
            "conflict",
            "\"a\"",
            ".spec.ports[port=80,protocol=\"TCP\"].targetPort",
        ]),
        step("get svc web -o yaml").says(&["targetPort: 8080"]),
        step("apply --server-side --field-manager b --force-conflicts -f -").stdin(TEAM_B_TAKES),
        step("get svc web -o yaml").says(&["targetPort: 9999"]).lacks(&["name: admin"]),
        step("apply --server-side --field-manager b -f -").stdin(TEAM_B_EMPTY),
        step("get svc web -o yaml").says(&["owner: a", "port: 80"]).lacks(&["reviewer"]),
        step("apply --server-side --field-manager a --dry-run=server -f -")
            .stdin(VIRTUAL_SERVICE)
            .says(&["dry run"]),
        step("get vs web").fails().says(&["NotFound"]),
        step("apply --server-side -f -").stdin(VIRTUAL_SERVICE).says(&["serverside-applied"]),
        step("apply --server-side -f -").stdin(SECRET).says(&["serverside-applied"]),
        step("apply --server-side -f -").stdin(HTTP_ROUTE).says(&["serverside-applied"]),
        step("apply -f -").stdin(CONFIG_MAP).says(&["created"]),
        step("apply --server-side -f -").stdin(CONFIG_MAP).says(&["serverside-applied"]),
        step("diff --server-side -f -").stdin(CONFIG_MAP),
    ]);
}

#[test]
fn patches() {
    play(&[
        step("create -f -").stdin(SERVICE),
        step("create -f -").stdin(VIRTUAL_SERVICE),
        step("patch svc web --type json -p '[{\"op\":\"replace\",\"path\":\"/spec/ports/0/targetPort\",\"value\":1}]'")
            .says(&["service/web patched"]),
        step("get svc web -o yaml").says(&["targetPort: 1\n"]),
        step("patch svc web --type merge -p '{\"spec\":{\"selector\":{\"app\":null,\"name\":\"web\"}}}'")
            .says(&["patched"]),
        step("get svc web -o yaml").says(&["name: web"]).lacks(&["    app: web\n  sessionAffinity"]),
        step("patch svc web -p '{\"spec\":{\"ports\":[{\"port\":90,\"name\":\"two\"}]}}'").says(&["patched"]),
        step("get svc web -o yaml").says(&["port: 80", "port: 90"]),
        step("patch svc web -p '{\"spec\":{\"ports\":[{\"port\":90,\"$patch\":\"delete\"}]}}'").says(&["patched"]),
        step("get svc web -o yaml").says(&["port: 80"]).lacks(&["port: 90"]),
        step("patch svc web -p '{}'").says(&["patched (no change)"]),
        step("patch vs web -p '{\"spec\":{\"hosts\":[\"x\"]}}'").fails().says(&["application/merge-patch+json"]),
        step("patch vs web --type merge -p '{\"spec\":{\"hosts\":[\"x\"]}}'").says(&["patched"]),
        step("get vs web -o yaml").says(&["- x\n", "generation: 2"]),
        step("patch vs web --type json -p '[{\"op\":\"test\",\"path\":\"/spec/hosts/0\",\"value\":\"y\"}]'")
            .fails()
            .says(&["invalid"]),
        step("patch vs web --type merge -p '{\"spec\":{\"http\":\"nonsense\"}}'").fails().says(&["spec.http"]),
        step("patch vs web --type merge --subresource status -p '{\"status\":{\"observedGeneration\":2}}'")
            .since(24)
            .says(&["patched"]),
        step("get vs web -o yaml").since(24).says(&["observedGeneration: 2", "generation: 2"]),
        step("patch vs web --type merge -p '{\"status\":{\"observedGeneration\":7}}'").says(&["patched (no change)"]),
        step("label svc web color=blue").says(&["labeled"]),
        step("label svc web color=green").fails().says(&["--overwrite"]),
        step("label svc web color=green --overwrite").says(&["labeled"]),
        step("label svc web color-").says(&["service/web"]),
        step("annotate vs web note=hello").says(&["annotated"]),
        step("get vs web -o yaml").says(&["note: hello", "generation: 2"]),
        step("get svc web --show-labels").lacks(&["color"]),
        step("set selector svc web app=other").says(&["selector updated"]),
    ]);
}

#[test]
fn edit_and_replace() {
    let editor = "sed -i 's/targetPort: 8080/targetPort: 7070/; s/^  - web$/  - other/' \"$1\"";
    play_with(
        &[
            step("create -f -").stdin(SERVICE),
            step("create -f -").stdin(VIRTUAL_SERVICE),
            step("edit svc web").says(&["service/web edited"]),
            step("get svc web -o yaml").says(&["targetPort: 7070"]),
            step("edit svc web").says(&["Edit cancelled, no changes made"]),
            step("edit vs web").says(&["edited"]),
            step("get vs web -o yaml").says(&["- other"]),
            step("replace -f -").stdin(SERVICE_CHANGED).says(&["service/web replaced"]),
            step("get svc web -o yaml").says(&["targetPort: 8081", "tier: back"]),
            step("replace -f -").stdin(SECRET).fails().says(&["NotFound"]),
            step("replace --force -f -").stdin(SERVICE).says(&["service/web replaced"]),
            step("replace -f -")
                .stdin("{apiVersion: v1, kind: ConfigMap, metadata: {name: web, resourceVersion: \"1\"}}")
                .fails(),
        ],
        editor,
    );
}

#[test]
fn describe() {
    play(&[
        step("apply -f -").stdin(SERVICE),
        step("apply -f -").stdin(SECRET),
        step("apply -f -").stdin(CONFIG_MAP),
        step("apply -f -").stdin(VIRTUAL_SERVICE),
        step("apply -f -").stdin(HTTP_ROUTE),
        step("describe svc web").says(&["Name:", "Port:", "80/TCP", "Events:"]),
        step("describe secret creds").says(&["Opaque", "password:  7 bytes"]),
        step("describe cm settings").says(&["color", "red"]),
        step("describe vs web").says(&["Kind:         VirtualService", "Hosts:"]),
        step("describe httproute web").says(&["web.example"]),
        step("describe ns default").says(&["Active"]),
        step("get events").says(&["No resources found"]),
    ]);
}

#[test]
fn bad_input_is_refused_in_words() {
    play(&[
        step("create --validate=false -f -")
            .stdin("{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: v}, spec: {hosts: [a], tcp: [{route: [{destination: {host: a}}]}], htp: []}}")
            .says(&["created"]),
        step("create --validate=strict -f -")
            .since(25)
            .stdin("{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: w}, spec: {hosts: [a], tcp: [{route: [{destination: {host: a}}]}], htp: []}}")
            .fails()
            .says(&["strict decoding error", "spec.htp"]),
        step("create --validate=warn -f -")
            .since(25)
            .stdin("{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: x}, spec: {hosts: [a], tcp: [{route: [{destination: {host: a}}]}], htp: []}}")
            .says(&["Warning: unknown field \"spec.htp\"", "created"]),
        step("create --validate=false -f -")
            .stdin("{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: Bad_Name}, spec: {hosts: [a]}}")
            .fails()
            .says(&["metadata.name"]),
        step("create --validate=false -f -")
            .stdin("{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: yy}, spec: {hosts: 7}}")
            .fails()
            .says(&["spec.hosts", "a list"]),
        step("create -f -").stdin("{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}}").fails().says(&[
            "no matches for kind \"Deployment\"",
        ]),
        step("create -f -")
            .stdin("{apiVersion: v1, kind: ConfigMap, metadata: {generateName: made-}}")
            .says(&["configmap/made-", " created"]),
    ]);
}

#[test]
fn watch_and_wait() {
    for program in kit::kubectls() {
        let served = Served::new();
        let kubectl = Kubectl::new(&program, &served.url);
        let run = |args: &str, stdin: &str| {
            let output = kubectl.run(args, stdin);
            assert!(output.status.success(), "{args}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run("create -f -", SERVICE);
        let mut watch = kubectl.start("get svc -w -o name");
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert_eq!(lines.next().as_deref(), Some("service/web"));
        run("create service clusterip two --tcp=1:1", "");
        assert_eq!(lines.next().as_deref(), Some("service/two"));
        run("delete svc two", "");
        assert_eq!(lines.next().as_deref(), Some("service/two"));
        watch.kill().unwrap();
        watch.wait().unwrap();

        run("create -f -", VIRTUAL_SERVICE);
        let waiting = kubectl.start("wait vs/web --for=condition=Ready --timeout=60s");
        let status = r#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#;
        let path = format!(
            "{}/apis/networking.istio.io/v1/namespaces/default/virtualservices/web/status",
            served.url
        );
        patch(&path, status);
        let output = waiting.wait_with_output().unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("condition met"), "{output:?}");
        if kubectl.minor >= 23 {
            run("wait vs/web --for=jsonpath={.spec.hosts[0]}=web --timeout=60s", "");
        }

        run("patch svc web --type merge -p '{\"metadata\":{\"finalizers\":[\"example.com/hold\"]}}'", "");
        run("delete svc web --wait=false", "");
        let held = kubectl.run("get svc web -o yaml", "");
        assert!(String::from_utf8_lossy(&held.stdout).contains("deletionTimestamp"));
        let waiting = kubectl.start("wait svc/web --for=delete --timeout=60s");
        served.until(|served| served.get("/metrics").text().contains("heddle_api_watches 1\n"));
        run("patch svc web --type merge -p '{\"metadata\":{\"finalizers\":null}}'", "");
        let output = waiting.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// A merge patch by the crate's own client.
fn patch(url: &str, body: &str) {
    let (server, path) = url.split_at(url.find("/apis").unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = heddle_api::client::Client::new(server).unwrap();
    let body = serde_json::from_str(body).unwrap();
    runtime.block_on(client.patch(path, &body)).unwrap();
}

#[test]
fn cascades() {
    play(&[
        step("create -f -").stdin("{apiVersion: v1, kind: ConfigMap, metadata: {name: owner, uid: ignored}}"),
        step("delete cm owner --cascade=foreground --timeout=30s").since(21).says(&["deleted"]),
        step("create -f -").since(21).stdin("{apiVersion: v1, kind: ConfigMap, metadata: {name: owner}}"),
        step("delete cm owner --cascade=orphan").says(&["deleted"]),
        step("create -f -").stdin("{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: gone}}"),
        step("delete ns gone --timeout=30s").says(&["deleted"]),
        step("get secrets -A").lacks(&["gone"]),
    ]);
}

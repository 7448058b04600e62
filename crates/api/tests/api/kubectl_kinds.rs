//! Each verb of kubectl on each of three kinds: a core one, one with secrets, and a custom one.

use std::io::{BufRead as _, BufReader};

use crate::{
    kit::{self, Kubectl, Served},
    kubectl::{Step, check, step},
};

/// A kind and what its verbs are tried with.
struct Case {
    /// As kubectl names it: in arguments, and in its answers.
    kind: &'static str,
    named: &'static str,
    /// The object `one`, and a later form of it in which `old` is `new`.
    first: &'static str,
    later: &'static str,
    old: &'static str,
    new: &'static str,
    /// Columns and values of its table.
    table: &'static [&'static str],
    described: &'static [&'static str],
    /// Patches: JSON, merge, strategic merge (an error text where the kind has none), each with what it gives.
    json: (&'static str, &'static str),
    merge: (&'static str, &'static str),
    strategic: Result<(&'static str, &'static str), &'static str>,
    /// Of an editor: replaces something, and what it gives.
    edit: (&'static str, &'static str),
}

const CASES: [Case; 3] = [
    Case {
        kind: "service",
        named: "service",
        first: "{apiVersion: v1, kind: Service, metadata: {name: one, labels: {team: a}}, spec: {selector: {app: one}, ports: [{name: http, port: 80, targetPort: 8080}]}}",
        later: "{apiVersion: v1, kind: Service, metadata: {name: one, labels: {team: a}}, spec: {selector: {app: one}, ports: [{name: http, port: 80, targetPort: 8081}]}}",
        old: "targetPort: 8080",
        new: "targetPort: 8081",
        table: &["NAME", "PORT(S)", "one", "80/TCP"],
        described: &["Name:", "one", "80/TCP"],
        json: (
            "[{\"op\":\"replace\",\"path\":\"/spec/ports/0/targetPort\",\"value\":7001}]",
            "targetPort: 7001",
        ),
        merge: ("{\"spec\":{\"selector\":{\"app\":\"merged\"}}}", "app: merged"),
        strategic: Ok(("{\"spec\":{\"ports\":[{\"port\":90,\"name\":\"more\"}]}}", "port: 80\n")),
        edit: ("s/app: merged/app: edited/", "app: edited"),
    },
    Case {
        kind: "secret",
        named: "secret",
        first: "{apiVersion: v1, kind: Secret, metadata: {name: one, labels: {team: a}}, data: {key: Zmlyc3Q=}}",
        later: "{apiVersion: v1, kind: Secret, metadata: {name: one, labels: {team: a}}, data: {key: bGF0ZXI=}}",
        old: "key: Zmlyc3Q=",
        new: "key: bGF0ZXI=",
        table: &["NAME", "TYPE", "DATA", "one", "Opaque"],
        described: &["Name:", "one", "key:", "5 bytes"],
        json: ("[{\"op\":\"add\",\"path\":\"/data/json\",\"value\":\"anNvbg==\"}]", "json: anNvbg=="),
        merge: ("{\"stringData\":{\"merged\":\"text\"}}", "merged: dGV4dA=="),
        strategic: Ok(("{\"data\":{\"strategic\":\"YQ==\"}}", "merged: dGV4dA==")),
        edit: ("s/strategic: YQ==/strategic: Yg==/", "strategic: Yg=="),
    },
    Case {
        kind: "virtualservice",
        named: "virtualservice.networking.istio.io",
        first: "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: one, labels: {team: a}}, spec: {hosts: [one], http: [{route: [{destination: {host: first}}]}]}}",
        later: "{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: one, labels: {team: a}}, spec: {hosts: [one], http: [{route: [{destination: {host: later}}]}]}}",
        old: "host: first",
        new: "host: later",
        table: &["NAME", "HOSTS", "one"],
        described: &["Kind:         VirtualService", "Host:  first"],
        json: (
            "[{\"op\":\"replace\",\"path\":\"/spec/http/0/route/0/destination/host\",\"value\":\"json\"}]",
            "host: json",
        ),
        merge: ("{\"spec\":{\"hosts\":[\"merged\"]}}", "- merged"),
        strategic: Err("application/merge-patch+json"),
        edit: ("s/- merged/- edited/", "- edited"),
    },
];

/// A step whose arguments name the kind; texts live as long as the test.
fn on(args: &str, kind: &str) -> Step {
    step(leak(args.replace("KIND", kind)))
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn one(text: &'static str) -> &'static [&'static str] {
    Box::leak(Box::new([text]))
}

impl Case {
    fn reads(&self) -> Vec<Step> {
        let on = |args| on(args, self.kind);
        let says = |text: &str| one(leak(format!("{}{text}", self.named)));
        vec![
            step("api-resources").says(one(leak(format!("{}s", self.kind)))),
            on("create -f -").stdin(self.first).says(says("/one created")),
            on("get KIND").says(self.table),
            on("get KIND one -o yaml").says(one(self.old)),
            on("get KIND -l team=a -o name").says(says("/one")),
            on("get KIND -l team=b").says(&["No resources found"]),
            on("get KIND --show-labels").says(&["team=a"]),
            on("get KIND -n elsewhere").says(&["No resources found in elsewhere namespace"]),
            on("get KIND -A").says(&["NAMESPACE", "default", "one"]),
            on("describe KIND one").says(self.described),
            on("create -n elsewhere -f -").stdin(self.first).says(says("/one created")),
            on("get KIND -A -o 'jsonpath={.items[*].metadata.namespace}'").says(&["default elsewhere"]),
            on("delete KIND one -n elsewhere").says(&["\"one\" deleted"]),
            on("delete KIND one").says(&["\"one\" deleted"]),
        ]
    }

    fn writes(&self) -> Vec<Step> {
        let on = |args| on(args, self.kind);
        let says = |text: &str| one(leak(format!("{}{text}", self.named)));
        let mut steps = vec![
            // Nothing is stored by what only asks.
            on("apply --dry-run=server -f -").stdin(self.first).says(says("/one created (server dry run)")),
            on("get KIND one").fails().says(&["NotFound"]),
            on("diff -f -").stdin(self.first).fails(),
            on("apply -f -").stdin(self.first).says(says("/one created")),
            on("diff -f -").stdin(self.first),
            on("diff -f -").stdin(self.later).fails(),
            on("apply --dry-run=server -f -")
                .stdin(self.later)
                .says(says("/one configured (server dry run)")),
            on("get KIND one -o yaml").says(one(self.old)),
            on("apply -f -").stdin(self.later).says(says("/one configured")),
            on("get KIND one -o yaml").says(one(self.new)),
            on("apply -f -").stdin(self.later).says(says("/one unchanged")),
            on("delete KIND one --dry-run=server").says(&["server dry run"]),
            on("delete KIND one").says(&["deleted"]),
            on("apply --server-side --dry-run=server -f -").stdin(self.first).says(&["serverside-applied"]),
            on("get KIND one").fails().says(&["NotFound"]),
            on("apply --server-side -f -").stdin(self.first).says(says("/one serverside-applied")),
            on("apply --server-side --field-manager other -f -")
                .stdin(self.later)
                .fails()
                .says(&["conflict"]),
            on("apply --server-side -f -").stdin(self.later).says(says("/one serverside-applied")),
            on("get KIND one -o yaml").says(one(self.new)),
        ];
        for (kind, (patch, gives)) in [("json", self.json), ("merge", self.merge)] {
            let call = |more: &str| on(leak(format!("patch KIND one --type {kind} -p '{patch}'{more}")));
            steps.push(call(" --dry-run=server").says(says("/one patched")));
            steps.push(on("get KIND one -o yaml").lacks(one(gives)));
            steps.push(call("").says(says("/one patched")));
            steps.push(on("get KIND one -o yaml").says(one(gives)));
        }
        match self.strategic {
            Ok((patch, keeps)) => {
                steps.push(on(leak(format!("patch KIND one -p '{patch}'"))).says(says("/one patched")));
                steps.push(on("get KIND one -o yaml").says(one(keeps)));
            }
            Err(text) => steps.push(on("patch KIND one -p '{\"spec\":{}}'").fails().says(one(text))),
        }
        steps.extend([
            on("edit KIND one").says(says("/one edited")),
            on("get KIND one -o yaml").says(one(self.edit.1)),
            on("edit KIND one").says(&["Edit cancelled, no changes made"]),
            on("wait KIND/one --for=condition=Never --timeout=100ms").fails().says(&["timed out"]),
        ]);
        steps
    }
}

#[test]
fn every_verb_on_every_kind() {
    for program in kit::kubectls() {
        for case in &CASES {
            let served = Served::new();
            let kubectl = Kubectl::new(&program, &served.url);
            kubectl.editor(&format!("sed -i '{}' \"$1\"", case.edit.0));
            let steps = case.reads().into_iter().chain(case.writes());
            for step in steps.filter(|step| step.since <= kubectl.minor) {
                check(&kubectl, &step);
            }
        }
    }
}

/// An editor that writes what the server refuses is opened again with the reason on top, and gives up when the
/// text stays as it is.
#[test]
fn an_edit_that_is_refused_comes_back_with_the_reason() {
    for program in kit::kubectls() {
        let served = Served::new();
        let kubectl = Kubectl::new(&program, &served.url);
        check(&kubectl, &step("create -f -").stdin(CASES[2].first));
        // The client's own validation has nothing against a host of two words.
        kubectl.editor("cat \"$1\" >> \"$0.seen\"; sed -i 's/host: first$/host: two words/' \"$1\"");
        let output = kubectl.run("edit virtualservice one", "");
        assert!(!output.status.success(), "{output:?}");
        let seen = std::fs::read_to_string(kubectl.home.path().join("editor.seen")).unwrap();
        assert!(seen.contains("# virtualservices.networking.istio.io \"one\" was not valid"), "{seen}");
        assert!(seen.contains("spec.http[0].route[0].destination.host"), "{seen}");
        check(&kubectl, &step("get virtualservice one -o yaml").says(&["host: first\n"]));
    }
}

#[test]
fn every_kind_is_watched_and_waited_for() {
    for program in kit::kubectls() {
        for case in &CASES {
            let served = Served::new();
            let kubectl = Kubectl::new(&program, &served.url);
            check(&kubectl, &step("create -f -").stdin(case.first));
            let mut watch = kubectl.start(&format!("get {} --watch -o name", case.kind));
            let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines().map(Result::unwrap);
            let line = format!("{}/one", case.named);
            assert_eq!(lines.next().as_deref(), Some(&*line));
            check(&kubectl, &step("apply -f -").stdin(case.later));
            assert_eq!(lines.next().as_deref(), Some(&*line), "the change is seen");
            let waiting = kubectl.start(&format!("wait {}/one --for=delete --timeout=60s", case.kind));
            served.until(|served| served.get("/metrics").text().contains("heddle_api_watches 2\n"));
            check(&kubectl, &on("delete KIND one", case.kind).says(&["deleted"]));
            assert_eq!(lines.next().as_deref(), Some(&*line), "its end is seen");
            let output = waiting.wait_with_output().unwrap();
            assert!(output.status.success(), "{output:?}");
            watch.kill().unwrap();
            watch.wait().unwrap();
        }
    }
}

//! Resources: what is wrong is named by file, line, object and field; the rest of the file applies.

use std::process::Command;

use heddle_tests::{client::get, eventually, mesh::binary};

use crate::{Bed, service};

/// A VirtualService of this name with this spec, one line.
fn rule(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// What is wrong, the document, and what has to be said about it.
fn cases() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let to = "{destination: {host: web}}";
    vec![
        (
            "malformed YAML",
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nspec:\n  hosts: [web\n  http:\n"
                .into(),
            vec!["bad.yaml:5", "not readable as YAML"],
        ),
        (
            "one key twice",
            "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nmetadata: {name: bad}\n".into(),
            vec!["bad.yaml:4: not readable as YAML: duplicate mapping key: metadata at column 1"],
        ),
        (
            "wrong types",
            rule(
                "bad",
                &format!(
                    "{{hosts: web, http: [{{route: [{{destination: {{host: web}}, weight: all}}], timeout: [{to}]}}]}}"
                ),
            ),
            vec![
                "bad.yaml:4: VirtualService default/bad spec.hosts: wrong type of value (found `\"web\"`, expected a list)",
                "spec.http[0].route[0].weight: wrong type of value (found `\"all\"`, expected a whole number)",
                "spec.http[0].timeout",
            ],
        ),
        (
            "unknown fields",
            rule("bad", &format!("{{hosts: [web], http: [{{rout: [{to}], retires: {{attempts: 2}}}}]}}")),
            vec![
                "VirtualService default/bad spec.http[0].retires: unknown field (found `retires`, expected perhaps `retries`)",
                "spec.http[0].rout: unknown field (found `rout`, expected perhaps `route`)",
            ],
        ),
        (
            "an invalid regex",
            rule(
                "bad",
                &format!("{{hosts: [web], http: [{{match: [{{uri: {{regex: '/a(b'}}}}], route: [{to}]}}]}}"),
            ),
            vec![
                "VirtualService default/bad spec.http[0].match[0].uri: not a usable regular expression",
                "/a(b",
                "unclosed group",
            ],
        ),
        (
            "negative weights",
            rule(
                "bad",
                "{hosts: [web], http: [{route: [{destination: {host: web}, weight: -5}, {destination: {host: other}, weight: 105}]}]}",
            ),
            vec![
                "VirtualService default/bad spec.http[0].route[0].weight: it is negative (found `-5`, expected 0 or more)",
            ],
        ),
        (
            "one host twice in one rule",
            rule("bad", &format!("{{hosts: [web, web], http: [{{route: [{to}]}}]}}")),
            vec!["VirtualService default/bad spec.hosts"],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_document_is_named_and_the_good_ones_beside_it_apply() {
    let bed = Bed::start().await;
    for (n, (what, bad, says)) in cases().into_iter().enumerate() {
        let (code, told) = bed.apply("bad.yaml", &bad);
        assert_eq!(code, 1, "{what}: {told}");
        for text in &says {
            assert!(told.contains(text), "{what}: expected {text:?} in {told}");
        }
        // The same document between two good ones.
        let (before, after) = (format!("before{n}"), format!("after{n}"));
        let text = format!(
            "{}---\n{bad}---\n{}",
            service(&before, bed.backend.port()),
            service(&after, bed.backend.port())
        );
        let (code, told) = bed.apply("mixed.yaml", &text);
        assert_eq!(code, 1, "{what} among good ones: {told}");
        bed.serves(&before).await;
        bed.serves(&after).await;
    }
    let (code, out, err) = bed.mesh.heddle(&["get", "virtualservices", "bad"]);
    assert_eq!(code, 1, "nothing of it was stored: {out}{err}");
    bed.serves("web").await;
}

#[test]
fn what_cannot_be_read_or_reached_is_said_once() {
    let scratch = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = scratch.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let (noise, good) =
        (file("noise.yaml", b"\x7fELF\xff\xfe"), file("good.yaml", service("web", 1).as_bytes()));
    let apply = |path: &str| {
        let server = "http://127.0.0.1:1";
        let output = Command::new(binary()).args(["apply", "--server", server, "-f", path]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let empty = scratch.path().join("empty").display().to_string();
    std::fs::create_dir(&empty).unwrap();
    let cases = [
        (noise.as_str(), "noise.yaml is no text in UTF-8"),
        (&empty, "no *.yaml, *.yml or *.json file in "),
        ("/nowhere.yaml", "/nowhere.yaml: No such file"),
        (&good, "no API server answers at http://127.0.0.1:1"),
    ];
    for (path, says) in cases {
        let (code, told) = apply(path);
        assert_eq!(code, Some(1), "{told}");
        assert!(told.contains(says), "expected {says:?} in {told}");
        assert_eq!(told.matches("error:").count(), 1, "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dangling_reference_is_told_and_costs_only_its_own_route() {
    let bed = Bed::start().await;
    let spec = "{hosts: [web], gateways: [mesh, no-gateway], http: [{match: [{uri: {prefix: /gone}}], \
                route: [{destination: {host: nowhere}}]}, {match: [{uri: {prefix: /v9}}], \
                route: [{destination: {host: web, subset: v9}}]}, {route: [{destination: {host: web}}]}]}";
    bed.mesh.apply(&rule("dangling", spec));
    for (path, expected) in [("/gone", 503), ("/v9", 503), ("/", 200)] {
        // The proxy gives what is missing some seconds to come.
        eventually(path, || async {
            let status = get(bed.client.outbound(), "web", path, &[]).await?.status;
            if status == expected { Ok(()) } else { Err(format!("{status}")) }
        })
        .await;
    }

    let (code, out, err) = bed.mesh.heddle(&["analyze"]);
    assert_eq!(code, 1, "{out}{err}");
    for text in [
        "VirtualService default/dangling spec.gateways[1]: there is no such Gateway (found `no-gateway`",
        "VirtualService default/dangling spec.http[0].route[0].destination.host: no service has this host",
        "VirtualService default/dangling spec.http[1].route[0].destination.subset",
    ] {
        assert!(out.contains(text), "expected {text:?} in {out}");
    }
    eventually("status names what is missing", || async {
        let (_, out, _) = bed.mesh.heddle(&["describe", "virtualservice", "dangling"]);
        let conditions = out.split("Conditions:").nth(1).unwrap_or_default();
        let all = [
            "spec.http[0].route[0].destination: there is no service nowhere",
            "spec.http[1].route[0].destination: ",
        ];
        if all.iter().all(|part| conditions.contains(part)) { Ok(()) } else { Err(out) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_rules_for_one_host_the_older_is_followed_and_the_other_told() {
    let bed = Bed::start().await;
    let fixed = |name: &str, status: u16| {
        rule(name, &format!("{{hosts: [web], http: [{{directResponse: {{status: {status}}}}}]}}"))
    };
    bed.mesh.apply(&fixed("older", 202));
    assert_eq!(bed.ask("web").await.unwrap().status, 202);
    bed.mesh.apply(&fixed("younger", 207));
    assert_eq!(bed.ask("web").await.unwrap().status, 202);
    eventually("status names the one that is followed", || async {
        let (_, out, _) = bed.mesh.heddle(&["describe", "virtualservice", "younger"]);
        if out.contains("older") { Ok(()) } else { Err(out) }
    })
    .await;
    let (_, out, _) = bed.mesh.heddle(&["analyze"]);
    assert!(out.contains("another VirtualService has this host") && out.contains("default/older"), "{out}");
    let (code, ..) = bed.mesh.heddle(&["delete", "virtualservice", "older"]);
    assert_eq!(code, 0);
    eventually("the younger takes over", || async {
        let status = bed.ask("web").await?.status;
        if status == 207 { Ok(()) } else { Err(format!("{status}")) }
    })
    .await;
}

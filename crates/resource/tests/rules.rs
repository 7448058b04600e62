//! The rules of each kind, by small examples: what is refused, with which code, at which field.

use heddle_resource::{Admission, AdmitOptions, Diagnostic, admit, parse_documents};

const ISTIO: &str = "networking.istio.io/v1";
const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

/// The findings on a document with this body.
fn judge(api_version: &str, kind: &str, body: &str) -> Vec<Diagnostic> {
    let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x}}\n{body}\n");
    let document = parse_documents(&text, "x.yaml").remove(0).unwrap_or_else(|e| panic!("{e}"));
    match admit(&document, &AdmitOptions::default()) {
        Admission::Admitted { warnings, .. } => warnings,
        Admission::Refused(errors) => errors,
        Admission::NotOurs(why) => panic!("{why}"),
    }
}

/// Each body gives this code at this field; an empty code means no finding at all.
fn table(api_version: &str, kind: &str, cases: &[(&str, &str, &str)]) {
    for (body, code, field) in cases {
        let findings = judge(api_version, kind, body);
        if code.is_empty() {
            assert!(findings.is_empty(), "{kind} {body}: {findings:?}");
            continue;
        }
        let found = findings.iter().any(|f| f.code == *code && f.field == *field);
        assert!(found, "{kind} {body}: no {code} at {field} in {findings:#?}");
    }
}

#[test]
fn virtual_services() {
    let to = "route: [{destination: {host: a}}]";
    let http = |route: &str| format!("spec: {{hosts: [a], http: [{{{route}}}]}}");
    let cases = [
        (http(to), "", ""),
        (http(&format!("{to}, headers: {{request: {{set: {{x: '50%'}}}}}}")), "", ""),
        (
            "spec: {hosts: ['*'], http: [{route: [{destination: {host: a}}]}]}".into(),
            "HDL0201",
            "spec.hosts[0]",
        ),
        (
            "spec: {hosts: [a, a], http: [{route: [{destination: {host: a}}]}]}".into(),
            "HDL0108",
            "spec.hosts",
        ),
        ("spec: {hosts: [a]}".into(), "HDL0101", "spec"),
        ("spec: {hots: [a]}".into(), "HDL0011", "spec.hots"),
        (http("match: [{uri: {prefix: /}}]"), "HDL0101", "spec.http[0]"),
        (http(&format!("{to}, redirect: {{uri: /x}}")), "HDL0107", "spec.http[0]"),
        (http(&format!("{to}, match: [{{uri: {{regex: '('}}}}]")), "HDL0105", "spec.http[0].match[0].uri"),
        (http(&format!("{to}, match: [{{port: 70000}}]")), "HDL0008", "spec.http[0].match[0].port"),
        (http("route: [{destination: {host: a}, weight: -1}]"), "HDL0104", "spec.http[0].route[0].weight"),
        (
            http("route: [{destination: {host: a}}, {destination: {host: b}}]"),
            "HDL0104",
            "spec.http[0].route",
        ),
        (http(&format!("{to}, timeout: soon")), "HDL0008", "spec.http[0].timeout"),
        (
            http(&format!("{to}, retries: {{attempts: 2, retryOn: never}}")),
            "HDL0109",
            "spec.http[0].retries.retryOn",
        ),
        (
            http(&format!("{to}, fault: {{abort: {{httpStatus: 500, percentage: {{value: 101}}}}}}")),
            "HDL0109",
            "spec.http[0].fault.abort.percentage",
        ),
        (
            http(&format!("{to}, headers: {{request: {{set: {{x: '50% of'}}}}}}")),
            "HDL0110",
            "spec.http[0].headers.request.set[x]",
        ),
        (
            "spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}, {redirect: {uri: /}}]}".into(),
            "HDL0203",
            "spec.http[1]",
        ),
        (
            "spec: {hosts: [a], tls: [{match: [{sniHosts: [b]}], route: [{destination: {host: a}}]}]}".into(),
            "HDL0102",
            "spec.tls[0].match[0].sniHosts[0]",
        ),
    ];
    for (body, code, field) in &cases {
        table(ISTIO, "VirtualService", &[(body, code, field)]);
    }
}

#[test]
fn other_istio_kinds() {
    table(
        ISTIO,
        "DestinationRule",
        &[
            ("spec: {host: a, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}", "", ""),
            (
                "spec: {host: a, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}",
                "HDL0012",
                "spec.trafficPolicy.tls.mode",
            ),
            (
                "spec: {host: a, trafficPolicy: {outlierDetection: {interval: 1s, minHealthPercent: 50}}}",
                "HDL0010",
                "spec.trafficPolicy.outlierDetection.minHealthPercent",
            ),
            (
                "spec: {host: a, trafficPolicy: {loadBalancer: {simple: FASTEST}}}",
                "HDL0008",
                "spec.trafficPolicy.loadBalancer.simple",
            ),
            ("spec: {host: a, subsets: [{name: v1}, {name: v1}]}", "HDL0108", "spec.subsets"),
            (
                "spec: {host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}}",
                "",
                "",
            ),
            ("spec: {subsets: [{name: v1}]}", "HDL0013", "spec.host"),
        ],
    );
    table(
        ISTIO,
        "Gateway",
        &[
            ("spec: {servers: [{hosts: ['*'], port: {number: 80, protocol: HTTP, name: http}}]}", "", ""),
            (
                "spec: {servers: [{hosts: ['*'], port: {number: 443, protocol: HTTPS, name: https}, tls: {mode: ISTIO_MUTUAL}}]}",
                "HDL0012",
                "spec.servers[0].tls.mode",
            ),
            (
                "spec: {servers: [{hosts: ['*'], port: {number: 443, protocol: HTTPS, name: https}}]}",
                "HDL0113",
                "spec.servers[0].tls",
            ),
            (
                "spec: {servers: [{hosts: ['*'], port: {number: 80, protocol: FTP, name: x}}]}",
                "HDL0103",
                "spec.servers[0].port.protocol",
            ),
        ],
    );
    table(
        ISTIO,
        "ServiceEntry",
        &[
            (
                "spec: {hosts: [a.b], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}",
                "",
                "",
            ),
            ("spec: {hosts: ['*.b'], resolution: DNS}", "HDL0102", "spec.hosts"),
            ("spec: {hosts: [a.b], endpoints: [{address: 10.0.0.1}]}", "HDL0107", "spec.endpoints"),
            ("spec: {hosts: [a.b], addresses: [10.0.0.0/40]}", "HDL0111", "spec.addresses[0]"),
        ],
    );
    table(ISTIO, "WorkloadEntry", &[("spec: {address: 'a:80'}", "HDL0111", "spec.address")]);
    table(ISTIO, "WorkloadGroup", &[("spec: {}", "HDL0013", "spec.template")]);
    table(
        ISTIO,
        "Sidecar",
        &[
            ("spec: {egress: [{hosts: ['./*']}]}", "", ""),
            ("spec: {egress: [{hosts: [a]}]}", "HDL0102", "spec.egress[0].hosts[0]"),
            (
                "spec: {workloadSelector: {labels: {a: b}}, ingress: [{port: {number: 90, name: https, protocol: HTTPS}, defaultEndpoint: '127.0.0.1:80', tls: {mode: SIMPLE, credentialName: c}}]}",
                "",
                "",
            ),
            (
                "spec: {ingress: [{port: {number: 90, name: https, protocol: HTTPS}, defaultEndpoint: '127.0.0.1:80', tls: {mode: SIMPLE, credentialName: c}}]}",
                "HDL0113",
                "spec.ingress[0].tls.credentialName",
            ),
            (
                "spec: {ingress: [{port: {number: 90, name: https, protocol: HTTPS}, defaultEndpoint: '127.0.0.1:80', tls: {mode: SIMPLE, serverCertificate: /c}}]}",
                "HDL0101",
                "spec.ingress[0].tls",
            ),
        ],
    );
}

#[test]
fn gateway_api_kinds() {
    table(
        GATEWAY_API,
        "HTTPRoute",
        &[
            ("spec: {rules: [{backendRefs: [{name: a, port: 80}]}]}", "", ""),
            ("spec: {rules: [{backendRefs: [{name: a}]}]}", "HDL0101", "spec.rules[0].backendRefs[0].port"),
            (
                "spec: {rules: [{matches: [{path: {value: x}}]}]}",
                "HDL0115",
                "spec.rules[0].matches[0].path.value",
            ),
            ("spec: {hostnames: [10.0.0.1]}", "HDL0102", "spec.hostnames[0]"),
            ("spec: {rules: [{filters: [{type: CORS}]}]}", "HDL0116", "spec.rules[0].filters[0].cors"),
            (
                "spec: {rules: [{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}], backendRefs: [{name: a, port: 80}]}]}",
                "HDL0107",
                "spec.rules[0]",
            ),
            (
                "spec: {rules: [{timeouts: {request: 1s, backendRequest: 2s}}]}",
                "HDL0109",
                "spec.rules[0].timeouts.backendRequest",
            ),
            ("spec: {rules: [{matches: [{method: FETCH}]}]}", "HDL0008", "spec.rules[0].matches[0].method"),
        ],
    );
    table(
        GATEWAY_API,
        "GRPCRoute",
        &[(
            "spec: {rules: [{matches: [{method: {type: Exact}}]}]}",
            "HDL0101",
            "spec.rules[0].matches[0].method",
        )],
    );
    table(
        GATEWAY_API,
        "Gateway",
        &[
            ("spec: {gatewayClassName: heddle, listeners: [{name: a, port: 80, protocol: HTTP}]}", "", ""),
            ("spec: {gatewayClassName: heddle, listeners: []}", "HDL0109", "spec.listeners"),
            (
                "spec: {gatewayClassName: heddle, listeners: [{name: a, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}], frontendValidation: {caCertificateRefs: [{name: a}]}}}]}",
                "HDL0012",
                "spec.listeners[0].tls.frontendValidation",
            ),
            (
                "spec: {gatewayClassName: heddle, listeners: [{name: a, port: 80, protocol: HTTP}, {name: a, port: 81, protocol: HTTP}]}",
                "HDL0108",
                "spec.listeners",
            ),
        ],
    );
    table(
        GATEWAY_API,
        "ListenerSet",
        &[
            ("spec: {parentRef: {name: edge}, listeners: [{name: a, port: 80, protocol: HTTP}]}", "", ""),
            ("spec: {parentRef: {name: edge}, listeners: []}", "HDL0109", "spec.listeners"),
            (
                "spec: {parentRef: {kind: Service, group: '', name: edge}, listeners: [{name: a, port: 80, protocol: HTTP}]}",
                "HDL0102",
                "spec.parentRef",
            ),
            (
                "spec: {parentRef: {name: edge}, listeners: [{name: a, port: 80, protocol: HTTP, tls: {certificateRefs: [{name: c}]}}]}",
                "HDL0113",
                "spec.listeners[0].tls",
            ),
        ],
    );
    table(GATEWAY_API, "TCPRoute", &[("spec: {rules: []}", "HDL0101", "spec.rules")]);
    table(
        GATEWAY_API,
        "BackendTLSPolicy",
        &[
            (
                "spec: {targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: a.io, wellKnownCACertificates: System}}",
                "",
                "",
            ),
            (
                "spec: {targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: a.io}}",
                "HDL0101",
                "spec.validation",
            ),
            (
                "spec: {targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: '*.io', wellKnownCACertificates: System}}",
                "HDL0102",
                "spec.validation.hostname",
            ),
            (
                "spec: {targetRefs: [{group: '', kind: Service, name: a}], validation: {hostname: a.io, wellKnownCACertificates: System, subjectAltNames: [{type: URI, hostname: a.io}]}}",
                "HDL0116",
                "spec.validation.subjectAltNames[0]",
            ),
            (
                "spec: {targetRefs: [], validation: {hostname: a.io, wellKnownCACertificates: System}}",
                "HDL0109",
                "spec.targetRefs",
            ),
        ],
    );
    table(
        GATEWAY_API,
        "ReferenceGrant",
        &[("spec: {from: [], to: [{group: '', kind: Service}]}", "HDL0109", "spec.from")],
    );
    table(GATEWAY_API, "GatewayClass", &[("spec: {controllerName: x}", "HDL0102", "spec.controllerName")]);
}

#[test]
fn core_kinds() {
    table(
        "v1",
        "Service",
        &[
            ("spec: {ports: [{port: 80}]}", "", ""),
            ("spec: {ports: [{port: 80}, {port: 81}]}", "HDL0101", "spec.ports[0].name"),
            ("spec: {ports: [{port: 0}]}", "HDL0103", "spec.ports[0].port"),
            ("spec: {sessionAffinity: ClientIP, ports: [{port: 80}]}", "HDL0010", "spec.sessionAffinity"),
        ],
    );
    table(
        "v1",
        "Secret",
        &[("data: {a: '%%'}", "HDL0117", "data[a]"), ("type: kubernetes.io/tls", "HDL0101", "data[tls.crt]")],
    );
    table(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        &[("addressType: IPv4\nendpoints: [{addresses: ['::1']}]", "HDL0111", "endpoints[0].addresses[0]")],
    );
}

#[test]
fn a_finding_names_the_line_of_its_field() {
    let text = "# a comment\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: x\nspec:\n  hosts: [a]\n  http:\n  - route:\n    - destination:\n        host: a\n      weight: -5\n";
    let document = parse_documents(text, "x.yaml").remove(0).unwrap();
    let Admission::Refused(errors) = admit(&document, &AdmitOptions::default()) else { panic!("admitted") };
    assert_eq!(errors[0].at, "x.yaml:13");
    assert_eq!(
        errors[0].to_string(),
        "x.yaml:13: VirtualService default/x spec.http[0].route[0].weight: it is negative (found `-5`, expected 0 or more) [HDL0104]"
    );
}

#[test]
fn one_bad_document_leaves_the_others() {
    let text = "kind: Service\napiVersion: v1\nmetadata: {name: a}\nspec: {ports: [{port: 80}]}\n---\nkind: [\n---\n{\"kind\": \"List\", \"apiVersion\": \"v1\", \"items\": [{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"n\"}}]}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n";
    let documents = parse_documents(text, "x.yaml");
    let verdicts: Vec<_> = documents
        .iter()
        .map(|d| match d.as_ref().map(|d| admit(d, &AdmitOptions::default())) {
            Ok(Admission::Admitted { object, .. }) => object.key().to_string(),
            Ok(Admission::NotOurs(_)) => "not ours".to_owned(),
            Ok(Admission::Refused(why)) => why[0].to_string(),
            Err(error) => error.code.to_owned(),
        })
        .collect();
    assert_eq!(verdicts, ["Service default/a", "HDL0002", "Namespace n", "not ours"]);
}

#[test]
fn what_is_not_yaml_is_told_by_its_line_in_the_file() {
    let text = "kind: Service\napiVersion: v1\n---\nkind: x\na: [b\n";
    let broken = parse_documents(text, "x.yaml").pop().unwrap().unwrap_err();
    assert_eq!(
        broken.to_string(),
        "x.yaml:5: not readable as YAML: unclosed bracket '[' at column 4 [HDL0002]"
    );
}

/// The verdict on a document of this kind: its code, and whether it is refused.
fn stranger(api_version: &str, kind: &str) -> (&'static str, bool) {
    let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{}}\n");
    let document = parse_documents(&text, "x.yaml").remove(0).unwrap();
    match admit(&document, &AdmitOptions::default()) {
        Admission::Refused(errors) => (errors[0].code, true),
        Admission::NotOurs(warning) => (warning.code, false),
        Admission::Admitted { .. } => panic!("{kind} is admitted"),
    }
}

#[test]
fn kinds_that_protect_and_are_not_built_are_refused() {
    let protecting = [
        ("security.istio.io/v1", "AuthorizationPolicy"),
        ("security.istio.io/v1beta1", "PeerAuthentication"),
        ("security.istio.io/v1", "RequestAuthentication"),
        ("networking.istio.io/v1alpha3", "EnvoyFilter"),
        ("extensions.istio.io/v1alpha1", "WasmPlugin"),
        ("heddle.dev/v1alpha1", "RateLimit"),
    ];
    for (version, kind) in protecting {
        assert_eq!(stranger(version, kind), ("HDL0014", true), "{kind}");
    }
    for (version, kind) in [("telemetry.istio.io/v1", "Telemetry"), ("networking.istio.io/v1", "ProxyConfig")]
    {
        assert_eq!(stranger(version, kind), ("HDL0015", false), "{kind}");
    }
    assert_eq!(stranger("apps/v1", "Deployment"), ("HDL0004", false));
}

#[test]
fn bombs_are_refused() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        laughs.push_str(&format!("a{level}: &a{level} [{}]\n", vec![before; 10].join(", ")));
    }
    assert!(parse_documents(&laughs, "x.yaml")[0].is_err());
    let deep = "[".repeat(100_000);
    assert!(parse_documents(&deep, "x.yaml")[0].is_err());
    let long = format!("{}{}", "(a{1000}){1000}", "x".repeat(10));
    let body = format!(
        "spec: {{hosts: [a], http: [{{match: [{{uri: {{regex: '{long}'}}}}], redirect: {{uri: /}}}}]}}"
    );
    table(ISTIO, "VirtualService", &[(&body, "HDL0105", "spec.http[0].match[0].uri")]);
}

#[test]
fn a_document_that_is_wrong_throughout_gives_few_findings() {
    let hosts = vec!["'_ _'"; 20_000].join(", ");
    let findings = judge(ISTIO, "Gateway", &format!("spec: {{servers: [{{hosts: [{hosts}]}}]}}"));
    assert!(findings.len() <= 1001, "{}", findings.len());
    let long = "x".repeat(100_000);
    let body = format!("spec: {{hosts: [a], http: [{{route: [{{destination: {{host: 'a {long}'}}}}]}}]}}");
    let findings = judge(ISTIO, "VirtualService", &body);
    assert!(findings[0].to_string().len() < 1000);
}

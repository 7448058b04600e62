//! Certificates and TLS settings of Istio's kinds, compiled.

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::Cluster,
        core::v3::{DataSource, TransportSocket, data_source::Specifier, transport_socket::ConfigType},
        listener::v3::FilterChain,
        route::v3::route::Action,
    },
    extensions::{
        filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy::ClusterSpecifier},
        transport_sockets::tls::v3::{
            DownstreamTlsContext, Secret, UpstreamTlsContext, common_tls_context::ValidationContextType,
            secret::Type,
        },
    },
};
use heddle_xds::{ClientKind, ResourceType};
use prost::Message;
use serde_json::json;

use crate::{
    Compiler,
    kit::{self, Seen, gateway, sidecar, world},
};

const GATEWAY: &str = r"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: shop}
spec:
  selector: {istio: ingress}
  servers: [SERVERS]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: back}
spec:
  hosts: [back.test]
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 90, name: tcp, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 10.0.0.1}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop}
spec:
  hosts: [a.test, b.test, c.test]
  gateways: [shop]
  http: [{route: [{destination: {host: back.test, port: {number: 80}}}]}]
  tls: [{match: [{sniHosts: [c.test]}], route: [{destination: {host: back.test, port: {number: 90}}}]}]
  tcp: [{route: [{destination: {host: back.test, port: {number: 90}}}]}]
---
";

fn text(servers: &str, more: &str) -> String {
    format!("{}{more}", GATEWAY.replace("SERVERS", servers))
}

/// A Secret with a fresh certificate for that name.
pub(crate) fn pair(name: &str) -> String {
    let made = rcgen::generate_simple_self_signed([format!("{name}.test")]).expect("a certificate");
    secret(name, &[("tls.crt", &made.cert.pem()), ("tls.key", &made.signing_key.serialize_pem())])
}

fn authority(name: &str, key: &str) -> String {
    let made = rcgen::generate_simple_self_signed([format!("{name}.test")]).expect("a certificate");
    secret(name, &[(key, &made.cert.pem())])
}

fn secret(name: &str, values: &[(&str, &str)]) -> String {
    let data: serde_json::Map<_, _> =
        values.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let object =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data});
    format!("{object}\n---\n")
}

fn ingress(text: &str) -> Seen {
    gateway(&world(text), json!({"LABELS": {"istio": "ingress"}}))
}

fn chain<'c>(chains: &'c [FilterChain], name: &str) -> &'c FilterChain {
    let by = |chain: &&FilterChain| {
        let names = &chain.filter_chain_match.as_ref().expect("a match").server_names;
        names.iter().any(|own| own == name) || (name == "*" && names.is_empty())
    };
    chains.iter().find(by).unwrap_or_else(|| panic!("no chain for {name}: {chains:#?}"))
}

fn decoded<M: Message + Default>(socket: Option<&TransportSocket>) -> M {
    let Some(ConfigType::TypedConfig(any)) = socket.and_then(|socket| socket.config_type.as_ref()) else {
        panic!("no transport socket")
    };
    M::decode(&*any.value).expect("decodes")
}

fn server(chain: &FilterChain) -> DownstreamTlsContext {
    decoded(chain.transport_socket.as_ref())
}

fn client(cluster: &Cluster) -> UpstreamTlsContext {
    decoded(cluster.transport_socket.as_ref())
}

pub(crate) fn goes_to(chain: &FilterChain) -> String {
    use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
    let Some(ConfigType::TypedConfig(any)) = &chain.filters[0].config_type else { panic!("{chain:?}") };
    match TcpProxy::decode(&*any.value).expect("a TCP proxy").cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => name,
        other => panic!("{other:?}"),
    }
}

/// What is asked for by SDS: certificates, then authorities.
fn asked(context: &DownstreamTlsContext) -> Vec<String> {
    let common = context.common_tls_context.as_ref().expect("a common part");
    let mut names: Vec<_> =
        common.tls_certificate_sds_secret_configs.iter().map(|one| one.name.clone()).collect();
    if let Some(ValidationContextType::CombinedValidationContext(combined)) = &common.validation_context_type
    {
        names.extend(combined.validation_context_sds_secret_config.iter().map(|one| one.name.clone()));
    }
    names
}

fn inline(source: Option<&DataSource>) -> String {
    match source.and_then(|source| source.specifier.clone()) {
        Some(Specifier::InlineBytes(bytes)) => String::from_utf8(bytes).expect("text"),
        other => panic!("{other:?}"),
    }
}

const SIMPLE: &str = "{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.test], tls: {mode: SIMPLE, \
                      credentialName: a}}";

#[test]
fn a_server_ends_tls_with_its_secret() {
    let seen = ingress(&text(SIMPLE, &pair("a")));
    assert_eq!(seen.findings, [""; 0]);
    let listener = seen.listener("0.0.0.0_443");
    assert_eq!(listener.filter_chains.len(), 1);
    let chain = chain(&listener.filter_chains, "a.test");
    assert_eq!(chain.filter_chain_match.as_ref().map(|m| &*m.transport_protocol), Some("tls"));
    let context = server(chain);
    assert_eq!(asked(&context), ["kubernetes://default/a"]);
    assert_eq!(context.require_client_certificate.map(|flag| flag.value), Some(false));
    let common = context.common_tls_context.expect("a common part");
    assert_eq!(common.alpn_protocols, ["h2", "http/1.1"]);
    assert_eq!(common.tls_params.map(|p| p.tls_minimum_protocol_version), Some(3), "TLS 1.2");
    assert_eq!(seen.names(ResourceType::Secret), ["kubernetes://default/a"]);
    let secret = seen.view.get(ResourceType::Secret, "kubernetes://default/a").expect("the secret");
    let Some(Type::TlsCertificate(pair)) = Secret::decode(secret.body.clone()).expect("decodes").r#type
    else {
        panic!("no certificate")
    };
    assert!(inline(pair.certificate_chain.as_ref()).contains("BEGIN CERTIFICATE"));
    assert!(inline(pair.private_key.as_ref()).contains("PRIVATE KEY"));
    let host = seen.host("https.443.0.shop.default", "a.test");
    assert!(matches!(host.routes[0].action, Some(Action::Route(_))));
    assert_eq!(seen.routes("https.443.0.shop.default").virtual_hosts.len(), 1, "only the server's own host");
}

#[test]
fn a_secret_goes_to_nobody_but_the_gateway_that_names_it() {
    let world = world(&text(SIMPLE, &(pair("a") + &pair("other"))));
    let none: [String; 0] = [];
    assert_eq!(sidecar(&world, "default").names(ResourceType::Secret), none);
    assert_eq!(
        gateway(&world, json!({"LABELS": {"istio": "egress"}})).names(ResourceType::Secret),
        none,
        "another gateway"
    );
    let own = gateway(&world, json!({"LABELS": {"istio": "ingress"}}));
    assert_eq!(own.names(ResourceType::Secret), ["kubernetes://default/a"]);
    let elsewhere = kit::node("router", "edge", ClientKind::Envoy, json!({"LABELS": {"istio": "ingress"}}));
    let seen = Seen::of(crate::compile(&world, &kit::scope(&world, &elsewhere)));
    assert_eq!(seen.names(ResourceType::Secret), none, "a gateway in another namespace has its own Secrets");
    assert!(seen.findings[0].contains("spec.servers[0].tls.credentialName: there is no Secret edge/a"));
}

#[test]
fn what_cannot_be_used_is_closed_and_said() {
    let wide = "{port: {number: 443, name: more, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: w}}";
    let servers = format!("{SIMPLE}, {wide}");
    let broken = pair("a").replace("tls.key", "tls.kez");
    let foreign = {
        let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
        let other = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        secret("a", &[("tls.crt", &made.cert.pem()), ("tls.key", &other)])
    };
    for (what, secrets, wanted) in [
        ("missing", String::new(), "there is no Secret default/a"),
        ("without a key", broken, r#"Secret default/a data["tls.key"]: is missing"#),
        ("with another's key", foreign, "the key is not that of the certificate"),
    ] {
        let seen = ingress(&text(&servers, &(secrets + &pair("w"))));
        let said = seen.findings.join("\n");
        assert!(
            said.contains("HDL0407 Gateway default/shop spec.servers[0].tls.credentialName"),
            "{what}: {said}"
        );
        assert!(said.contains(wanted), "{what}: {said}");
        assert!(!said.contains("PRIVATE"), "{said}");
        let listener = seen.listener("0.0.0.0_443");
        let own = chain(&listener.filter_chains, "a.test");
        assert!(own.transport_socket.is_none(), "{what}");
        assert_eq!(goes_to(own), "BlackHoleCluster", "{what}: not served by the server for every name");
        assert_eq!(asked(&server(chain(&listener.filter_chains, "*"))), ["kubernetes://default/w"]);
        assert_eq!(seen.names(ResourceType::Secret), ["kubernetes://default/w"], "{what}");
    }
}

#[test]
fn clients_are_verified_where_a_server_asks() {
    let mutual = |mode: &str, more: &str| {
        format!(
            "{{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [a.test], tls: {{mode: {mode}, \
             credentialName: a{more}}}}}"
        )
    };
    let companion = pair("a") + &authority("a-cacert", "cacert");
    let seen =
        ingress(&text(&mutual("MUTUAL", ", subjectAltNames: [x.test, 'spiffe://t/ns/a']"), &companion));
    assert_eq!(seen.findings, [""; 0]);
    let context = server(&seen.listener("0.0.0.0_443").filter_chains[0]);
    assert_eq!(asked(&context), ["kubernetes://default/a", "kubernetes-ca://default/a"]);
    assert_eq!(context.require_client_certificate.map(|flag| flag.value), Some(true));
    let Some(ValidationContextType::CombinedValidationContext(combined)) =
        context.common_tls_context.expect("a common part").validation_context_type
    else {
        panic!("not verified")
    };
    let names = combined.default_validation_context.expect("names").match_typed_subject_alt_names;
    assert_eq!(names.iter().map(|name| name.san_type).collect::<Vec<_>>(), [2, 3], "DNS and URI");
    assert_eq!(seen.names(ResourceType::Secret), ["kubernetes-ca://default/a", "kubernetes://default/a"]);
    let optional = ingress(&text(&mutual("OPTIONAL_MUTUAL", ""), &companion));
    let context = server(&optional.listener("0.0.0.0_443").filter_chains[0]);
    assert_eq!(context.require_client_certificate.map(|flag| flag.value), Some(false));
    assert_eq!(asked(&context).len(), 2);
    // Without authorities nobody is let in unverified.
    let seen = ingress(&text(&mutual("MUTUAL", ""), &pair("a")));
    assert!(
        seen.findings[0].contains("neither Secret default/a-cacert nor Secret default/a"),
        "{:?}",
        seen.findings
    );
    assert_eq!(goes_to(&seen.listener("0.0.0.0_443").filter_chains[0]), "BlackHoleCluster");
    // Files of the proxy's machine.
    let files = "{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.test], tls: {mode: MUTUAL, \
                 serverCertificate: /c.pem, privateKey: /k.pem, caCertificates: /ca.pem, caCrl: /crl.pem, \
                 minProtocolVersion: TLSV1_3, maxProtocolVersion: TLSV1_3}}";
    let seen = ingress(&text(files, ""));
    assert_eq!(seen.findings, [""; 0]);
    let common =
        server(&seen.listener("0.0.0.0_443").filter_chains[0]).common_tls_context.expect("a common part");
    let Some(ValidationContextType::ValidationContext(by)) = &common.validation_context_type else {
        panic!()
    };
    let path = |source: &Option<DataSource>| source.as_ref().and_then(|source| source.specifier.clone());
    assert_eq!(path(&by.trusted_ca), Some(Specifier::Filename("/ca.pem".into())));
    assert_eq!(path(&by.crl), Some(Specifier::Filename("/crl.pem".into())));
    assert_eq!(path(&common.tls_certificates[0].private_key), Some(Specifier::Filename("/k.pem".into())));
    let params = common.tls_params.expect("parameters");
    assert_eq!((params.tls_minimum_protocol_version, params.tls_maximum_protocol_version), (4, 4));
}

#[test]
fn modes_on_one_port_are_told_apart_by_sni() {
    let servers = "{port: {number: 443, name: a, protocol: HTTPS}, hosts: [a.test], tls: {mode: SIMPLE, credentialName: a}}, \
                   {port: {number: 443, name: b, protocol: TLS}, hosts: [b.test], tls: {mode: SIMPLE, credentialName: b}}, \
                   {port: {number: 443, name: c, protocol: TLS}, hosts: [c.test], tls: {mode: PASSTHROUGH}}, \
                   {port: {number: 443, name: d, protocol: HTTPS}, hosts: [d.test], tls: {mode: ISTIO_MUTUAL}}, \
                   {port: {number: 443, name: e, protocol: TLS}, hosts: [e.test], tls: {mode: AUTO_PASSTHROUGH}}";
    let seen = ingress(&text(servers, &(pair("a") + &pair("b"))));
    let listener = seen.listener("0.0.0.0_443");
    let chains = &listener.filter_chains;
    assert_eq!(asked(&server(chain(chains, "a.test"))), ["kubernetes://default/a"]);
    assert_eq!(asked(&server(chain(chains, "b.test"))), ["kubernetes://default/b"]);
    assert_eq!(goes_to(chain(chains, "b.test")), "outbound|90||back.test");
    assert!(chain(chains, "c.test").transport_socket.is_none());
    assert_eq!(goes_to(chain(chains, "c.test")), "outbound|90||back.test");
    for name in ["d.test", "e.test"] {
        assert_eq!(goes_to(chain(chains, name)), "BlackHoleCluster", "{name}");
    }
    let said = seen.findings.join("\n");
    for field in ["spec.servers[3].tls.mode", "spec.servers[4].tls.mode"] {
        assert!(said.contains(&format!("HDL0402 Gateway default/shop {field}")), "{said}");
    }
}

#[test]
fn a_name_is_answered_by_the_most_specific_server_alone() {
    let guarded = "{port: {number: 443, name: a, protocol: HTTPS}, hosts: [a.test], tls: {mode: MUTUAL, credentialName: a}}";
    let open = "{port: {number: 443, name: all, protocol: HTTPS}, hosts: ['*'], tls: {mode: SIMPLE, credentialName: w}}";
    for (servers, wide, narrow) in
        [(format!("{open}, {guarded}"), 0, 1), (format!("{guarded}, {open}"), 1, 0)]
    {
        let secrets = pair("a") + &pair("w") + &authority("a-cacert", "ca.crt");
        let seen = ingress(&text(&servers, &secrets));
        assert_eq!(seen.findings, [""; 0]);
        let domains = |index: usize| {
            let config = seen.routes(&format!("https.443.{index}.shop.default"));
            config.virtual_hosts.into_iter().flat_map(|host| host.domains).collect::<Vec<_>>()
        };
        assert_eq!(domains(narrow), ["a.test"]);
        assert_eq!(domains(wide), ["b.test", "c.test"], "not what the other server guards");
    }
}

#[test]
fn a_changed_certificate_is_one_changed_resource() {
    let before = world(&text(SIMPLE, &pair("a")));
    let node = kit::node("router", "default", ClientKind::Envoy, json!({"LABELS": {"istio": "ingress"}}));
    let scope = kit::scope(&before, &node);
    let mut compiler = Compiler::default();
    compiler.attach(&before, &scope);
    let old = compiler.view(&scope).expect("a view").clone();
    let counters = compiler.counters();
    let counts = || ResourceType::ALL.map(|kind| (counters.compiled_of(kind), counters.encoded_of(kind)));
    let was = counts();
    let (after, dirty) = before.apply(&kit::puts(&pair("a")));
    assert_eq!(compiler.update(&after, &dirty).len(), 1);
    for ((kind, was), is) in ResourceType::ALL.into_iter().zip(was).zip(counts()) {
        let one = u64::from(kind == ResourceType::Secret);
        assert_eq!(is, (was.0 + one, was.1 + one), "{kind}");
    }
    let new = compiler.view(&scope).expect("a view");
    assert_eq!(new.diff(&old, ResourceType::Secret).len(), 1);
    assert!(
        ResourceType::ALL
            .into_iter()
            .all(|kind| kind == ResourceType::Secret || new.diff(&old, kind).is_empty())
    );
    assert_eq!(*new, *crate::compile(&after, &scope).view, "as from scratch");
    // One that is broken closes the server; the next good one opens it again.
    let (broken, dirty) = after.apply(&kit::puts(&secret("a", &[("tls.crt", "x")])));
    compiler.update(&broken, &dirty);
    assert_eq!(compiler.view(&scope).expect("a view"), crate::compile(&broken, &scope).view);
    assert_eq!(compiler.view(&scope).expect("a view").len(ResourceType::Secret), 0);
    let (again, dirty) = broken.apply(&kit::puts(&pair("a")));
    compiler.update(&again, &dirty);
    assert_eq!(compiler.view(&scope).expect("a view").len(ResourceType::Secret), 1);
}

const RULE: &str = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api}
spec:
  hosts: [api.test]
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 443}, {number: 81, name: grpc, protocol: GRPC}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: api}
spec:
  host: api.test
  trafficPolicy: {tls: TLS}
  subsets:
  - {name: plain, labels: {a: b}, trafficPolicy: {tls: {mode: DISABLE}}}
---
";

#[test]
fn a_destination_rule_originates_tls() {
    let seen = sidecar(&world(&RULE.replace("TLS}", "{mode: SIMPLE}}")), "default");
    assert_eq!(seen.findings, [""; 0]);
    let context = client(&seen.cluster("outbound|80||api.test"));
    assert_eq!(context.sni, "api.test");
    let common = context.common_tls_context.expect("a common part");
    let Some(ValidationContextType::ValidationContext(by)) = common.validation_context_type else { panic!() };
    assert_eq!(by.match_typed_subject_alt_names.len(), 1, "the name is verified");
    assert!(by.trusted_ca.is_none() && by.system_root_certs.is_some(), "{by:?}");
    let grpc = client(&seen.cluster("outbound|81||api.test"));
    assert_eq!(grpc.common_tls_context.expect("a common part").alpn_protocols, ["h2"]);
    assert!(seen.cluster("outbound|80|plain|api.test").transport_socket.is_none());
    let routes = seen.host_routes("http_proxy", "api.test");
    assert!(matches!(routes[0].action, Some(Action::Route(_))), "{routes:?}");
    let own = RULE
        .replace("TLS}", "{mode: SIMPLE, sni: x.test, subjectAltNames: [y.test], caCertificates: /ca.pem}}");
    let context = client(&sidecar(&world(&own), "default").cluster("outbound|80||api.test"));
    assert_eq!(context.sni, "x.test");
    let unverified = RULE.replace("TLS}", "{mode: SIMPLE, insecureSkipVerify: true}}");
    let context = client(&sidecar(&world(&unverified), "default").cluster("outbound|80||api.test"));
    assert!(context.common_tls_context.expect("a common part").validation_context_type.is_none());
}

#[test]
fn a_clients_certificate_is_for_gateways_and_selected_sidecars() {
    let mutual = RULE.replace("TLS}", "{mode: MUTUAL, credentialName: c}}")
        + &pair("c")
        + &authority("c-cacert", "cacert");
    let world = world(&mutual);
    let at_gateway = gateway(&world, json!({}));
    let context = client(&at_gateway.cluster("outbound|80||api.test"));
    let common = context.common_tls_context.expect("a common part");
    assert_eq!(common.tls_certificate_sds_secret_configs[0].name, "kubernetes://default/c");
    assert_eq!(
        at_gateway.names(ResourceType::Secret),
        ["kubernetes-ca://default/c", "kubernetes://default/c"]
    );
    let beside = sidecar(&world, "default");
    assert!(beside.names(ResourceType::Secret).is_empty());
    assert!(beside.cluster("outbound|80||api.test").load_assignment.expect("one").endpoints.is_empty());
    let routes = beside.host_routes("http_proxy", "api.test");
    let Some(Action::DirectResponse(answer)) = &routes[0].action else { panic!("{routes:?}") };
    assert_eq!(answer.status, 503);
    let selected = mutual.replace(
        "  host: api.test\n  traffic",
        "  host: api.test\n  workloadSelector: {matchLabels: {app: w}}\n  traffic",
    );
    let seen = kit::sidecar_with(&kit::world(&selected), "default", json!({"LABELS": {"app": "w"}}));
    assert_eq!(seen.names(ResourceType::Secret).len(), 2);
}

#[test]
fn what_protects_the_way_and_cannot_be_had_denies_it() {
    let rule = |tls: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: back}}\nspec: {{host: \
             back.test, trafficPolicy: {{tls: {tls}}}}}\n"
        )
    };
    for (tls, wanted) in [
        ("{mode: ISTIO_MUTUAL}", "spec.trafficPolicy.tls: ISTIO_MUTUAL needs identities"),
        (
            "{mode: MUTUAL, credentialName: c}",
            "spec.trafficPolicy.tls.credentialName: there is no Secret default/c",
        ),
    ] {
        let servers = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}";
        let seen = ingress(&text(servers, &rule(tls)));
        let said = seen.findings.join("\n");
        assert!(said.contains(&format!("DestinationRule default/back {wanted}")), "{said}");
        let cluster = seen.cluster("outbound|80||back.test");
        assert!(cluster.load_assignment.expect("one").endpoints.is_empty(), "{tls}: nobody is there");
        let routes = seen.host_routes("http.80", "a.test");
        let Some(Action::DirectResponse(answer)) = &routes[0].action else { panic!("{routes:?}") };
        assert_eq!(answer.status, 503, "{tls}");
        let Some(Specifier::InlineString(body)) =
            answer.body.as_ref().and_then(|body| body.specifier.clone())
        else {
            panic!("{answer:?}")
        };
        assert!(body.contains(wanted), "{body}");
    }
}

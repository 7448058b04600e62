//! TLS of Gateway API listeners and backends, compiled.

use envoy_types::pb::envoy::{
    config::{
        cluster::v3::Cluster,
        core::v3::{TransportSocket, transport_socket::ConfigType},
        listener::v3::FilterChain,
        route::v3::route::Action,
    },
    extensions::transport_sockets::tls::v3::{
        DownstreamTlsContext, UpstreamTlsContext, common_tls_context::ValidationContextType,
    },
};
use heddle_xds::{ClientKind, ResourceType};
use prost::Message;
use serde_json::json;

use crate::{
    compile::tls_test::pair,
    kit::{self, Seen, world},
};

const GATEWAY: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec: {gatewayClassName: heddle, FRONTEND listeners: [LISTENERS]}
---
apiVersion: v1
kind: Service
metadata: {name: back}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}, {name: tls, port: 443, appProtocol: https}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: back, port: 443}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: TLSRoute
metadata: {name: through}
spec: {parentRefs: [{name: edge}], hostnames: [p.test], rules: [{backendRefs: [{name: back, port: 443}]}]}
---
";

const POLICY: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: NAME}
spec:
  targetRefs: [{group: '', kind: Service, name: backSECTION}]
  validation: {VALIDATION}
---
";

fn edge(listeners: &str, tls: &str, more: &str) -> Seen {
    let text = GATEWAY.replace("LISTENERS", listeners).replace("FRONTEND", tls);
    let world = world(&(text + more));
    let node = kit::node("router", "default", ClientKind::Envoy, json!({"GATEWAY": "k8s:default/edge"}));
    Seen::of(crate::compile(&world, &kit::scope(&world, &node)))
}

fn config_map(name: &str) -> String {
    let made = rcgen::generate_simple_self_signed([format!("{name}.test")]).expect("a certificate");
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"ca.crt": made.cert.pem()}});
    format!("{object}\n---\n")
}

fn decoded<M: Message + Default>(socket: Option<&TransportSocket>) -> M {
    let Some(ConfigType::TypedConfig(any)) = socket.and_then(|socket| socket.config_type.as_ref()) else {
        panic!("no transport socket")
    };
    M::decode(&*any.value).expect("decodes")
}

/// Names and whether TLS is ended, of each chain.
fn shape(chains: &[FilterChain]) -> Vec<(Vec<String>, bool)> {
    let names =
        |chain: &FilterChain| chain.filter_chain_match.as_ref().expect("a match").server_names.clone();
    chains.iter().map(|chain| (names(chain), chain.transport_socket.is_some())).collect()
}

fn https(name: &str, hostname: &str, secret: &str) -> String {
    format!(
        "{{name: {name}, port: 443, protocol: HTTPS, hostname: {hostname}, tls: {{certificateRefs: [{{name: {secret}}}]}}}}"
    )
}

#[test]
fn https_listeners_share_a_port_by_sni() {
    let listeners =
        [https("a", "a.test", "a"), https("w", "'*.test'", "a"), https("x", "x.test", "none")].join(", ");
    let pass = ", {name: p, port: 443, protocol: TLS, hostname: p.test, tls: {mode: Passthrough}}";
    let seen = edge(&(listeners + pass), "", &pair("a"));
    let chains = seen.listener("0.0.0.0_443").filter_chains;
    let wanted: Vec<(Vec<String>, bool)> =
        [("a.test", true), ("*.test", true), ("p.test", false), ("x.test", false)]
            .map(|(name, ends)| (vec![name.to_owned()], ends))
            .into();
    assert_eq!(shape(&chains), wanted, "the names of the broken listener are closed, not the wider one's");
    assert_eq!(seen.names(ResourceType::Secret), ["kubernetes://default/a"]);
    assert_eq!(seen.names(ResourceType::Route), ["https.443.a.edge.default", "https.443.w.edge.default"]);
    assert_eq!(seen.routes("https.443.a.edge.default").virtual_hosts[0].domains, ["a.test"]);
}

#[test]
fn clients_are_verified_by_port() {
    let tls = "tls: {frontend: {default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}, \
               perPort: [{port: 8443, tls: {validation: {mode: AllowInsecureFallback, caCertificateRefs: [{group: '', \
               kind: ConfigMap, name: other}]}}}]}}, ";
    let listeners = https("a", "a.test", "a") + ", " + &https("b", "a.test", "a").replace("443", "8443");
    let both = pair("a") + &config_map("ca") + &config_map("other");
    let context = |seen: &Seen, port: u16| -> DownstreamTlsContext {
        decoded(seen.listener(&format!("0.0.0.0_{port}")).filter_chains[0].transport_socket.as_ref())
    };
    let asked = |context: &DownstreamTlsContext| -> (String, i32) {
        let common = context.common_tls_context.as_ref().expect("a common part");
        let Some(ValidationContextType::CombinedValidationContext(by)) = &common.validation_context_type
        else {
            panic!("not verified")
        };
        let name = by.validation_context_sds_secret_config.as_ref().expect("authorities").name.clone();
        (name, by.default_validation_context.as_ref().expect("settings").trust_chain_verification)
    };
    let seen = edge(&listeners, tls, &both);
    let strict = context(&seen, 443);
    assert_eq!(asked(&strict), ("ca://configmap/default/ca".to_owned(), 0));
    assert_eq!(strict.require_client_certificate.map(|flag| flag.value), Some(true));
    let lenient = context(&seen, 8443);
    assert_eq!(asked(&lenient), ("ca://configmap/default/other".to_owned(), 1));
    assert_eq!(lenient.require_client_certificate.map(|flag| flag.value), Some(false));
    // Without its authorities a listener lets nobody in unverified.
    let seen = edge(&listeners, tls, &(pair("a") + &config_map("other")));
    assert_eq!(seen.names(ResourceType::Listener), ["0.0.0.0_8443"]);
}

fn policy(name: &str, section: &str, validation: &str) -> String {
    let section = if section.is_empty() { String::new() } else { format!(", sectionName: {section}") };
    POLICY.replace("NAME", name).replace("SECTION", &section).replace("VALIDATION", validation)
}

const CA: &str = "hostname: h.test, caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]";

fn upstream(seen: &Seen, port: u16) -> Option<UpstreamTlsContext> {
    let cluster: Cluster = seen.cluster(&format!("outbound|{port}||back.default.svc.cluster.local"));
    cluster.transport_socket.as_ref().map(|socket| decoded(Some(socket)))
}

#[test]
fn a_policy_protects_the_way_to_a_backend() {
    let plain = "{name: http, port: 80, protocol: HTTP}";
    let more = config_map("ca")
        + &policy("all", "", "hostname: all.test, wellKnownCACertificates: System")
        + &policy("one", "tls", &format!("{CA}, subjectAltNames: [{{type: URI, uri: 'spiffe://t/a'}}]"));
    let seen = edge(plain, "", &more);
    let context = upstream(&seen, 443).expect("TLS");
    assert_eq!(context.sni, "h.test", "the policy that names the port");
    let Some(ValidationContextType::CombinedValidationContext(by)) =
        context.common_tls_context.expect("a common part").validation_context_type
    else {
        panic!("not verified")
    };
    let names = by.default_validation_context.expect("settings").match_typed_subject_alt_names;
    assert_eq!((names.len(), names[0].san_type), (1, 3), "the URI in place of the host name");
    assert_eq!(upstream(&seen, 80).expect("TLS").sni, "all.test");
    assert_eq!(seen.names(ResourceType::Secret), ["ca://configmap/default/ca"]);
    assert!(
        upstream(
            &kit::sidecar(
                &world(&(GATEWAY.replace("LISTENERS", plain).replace("FRONTEND", "") + &more)),
                "default"
            ),
            443
        )
        .is_none(),
        "for gateways"
    );
}

#[test]
fn a_policy_that_cannot_be_had_denies() {
    let plain = "{name: http, port: 80, protocol: HTTP}";
    let seen = edge(plain, "", &policy("one", "tls", CA));
    let routes = seen.host_routes("http.80.edge.default", "*");
    let Some(Action::DirectResponse(answer)) = &routes[0].action else { panic!("{routes:?}") };
    assert_eq!(answer.status, 503);
    let cluster = seen.cluster("outbound|443||back.default.svc.cluster.local");
    assert!(cluster.load_assignment.expect("one").endpoints.is_empty());
}

/// The certificate that a Gateway shows to backends is sent to its proxies; without it nothing is sent.
#[test]
fn a_gateway_shows_its_certificate_to_backends_with_a_policy() {
    let plain = "{name: http, port: 80, protocol: HTTP}";
    let own = |name: &str| format!("tls: {{backend: {{clientCertificateRef: {{name: {name}}}}}}}, ");
    let more = config_map("ca") + &policy("one", "tls", CA) + &pair("mine");
    let shown = |seen: &Seen| -> Vec<String> {
        let common = upstream(seen, 443).expect("TLS").common_tls_context.expect("a common part");
        common.tls_certificate_sds_secret_configs.into_iter().map(|config| config.name).collect()
    };
    let seen = edge(plain, &own("mine"), &more);
    assert_eq!(shown(&seen), ["kubernetes://default/mine"]);
    assert_eq!(seen.names(ResourceType::Secret), ["ca://configmap/default/ca", "kubernetes://default/mine"]);
    assert!(upstream(&seen, 80).is_none(), "nothing protects that port");
    assert!(shown(&edge(plain, "", &more)).is_empty());
    let seen = edge(plain, &own("gone"), &more);
    let routes = seen.host_routes("http.80.edge.default", "*");
    let Some(Action::DirectResponse(answer)) = &routes[0].action else { panic!("{routes:?}") };
    let body = format!("{:?}", answer.body);
    assert!(
        body.contains(
            "Gateway default/edge spec.tls.backend.clientCertificateRef: there is no Secret default/gone"
        ),
        "{body}"
    );
    assert!(seen.cluster("outbound|443||back.default.svc.cluster.local").load_assignment.is_some());
}

/// What a sidecar is sent for TLSRoutes whose parent is a service: names of each chain, and where they lead.
#[test]
fn tls_routes_of_the_mesh_tell_connections_apart_by_sni() {
    let service = |name: &str, ip: u8| {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{clusterIP: 10.0.0.{ip}, ports: \
             [{{name: tls, port: 443}}]}}\n"
        )
    };
    let route = |name: &str, namespace: &str, hostnames: &str, to: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: {{name: {name}, namespace: \
             {namespace}}}\nspec: {{parentRefs: [{{group: '', kind: Service, name: front, namespace: default}}], \
             hostnames: [{hostnames}], rules: [{{backendRefs: [{{name: {to}, namespace: default, port: 443}}]}}]}}\n"
        )
    };
    let base = service("front", 1) + &service("a", 2) + &service("b", 3);
    let chains = |more: &str, client: &str| -> Vec<(Vec<String>, String)> {
        let seen = kit::sidecar(&world(&(base.clone() + more)), client);
        let chains = seen.listener("10.0.0.1_443").filter_chains;
        let goes = |chain: &FilterChain| crate::compile::tls_test::goes_to(chain);
        let names = |chain: &FilterChain| {
            let matched = chain.filter_chain_match.as_ref().expect("a match");
            assert_eq!(matched.transport_protocol, "tls");
            matched.server_names.clone()
        };
        chains.iter().map(|chain| (names(chain), goes(chain))).collect()
    };
    let to = |names: &[&str], cluster: &str| {
        (names.iter().map(ToString::to_string).collect::<Vec<_>>(), cluster.to_owned())
    };
    let two = route("one", "default", "a.test, '*.wide.test'", "a")
        + &route("two", "default", "b.test, a.test", "b");
    let outbound = |name: &str| format!("outbound|443||{name}.default.svc.cluster.local");
    let wanted = [
        to(&["a.test", "*.wide.test"], &outbound("a")),
        to(&["b.test"], &outbound("b")),
        to(&[], "BlackHoleCluster"),
    ];
    assert_eq!(chains(&two, "default"), wanted, "the first has a.test, other names are closed");
    let own = two.clone() + &route("mine", "elsewhere", "a.test", "b");
    assert_eq!(chains(&own, "default"), wanted, "a consumer's route is for its namespace");
    assert_eq!(
        chains(&own, "elsewhere"),
        [to(&["a.test"], &outbound("b")), to(&[], "BlackHoleCluster")],
        "and takes the place of the producer's there"
    );
    let gone = route("one", "default", "a.test", "none");
    assert_eq!(chains(&gone, "default")[0], to(&["a.test"], "BlackHoleCluster"));
    assert!(chains("", "default").is_empty());
}

//! `heddle explain`.

use std::sync::Arc;

use heddle_api::client::Client;
use heddle_control::{Change, MeshConfig, World};
use heddle_resource::Severity;
use http::Method;

use super::documents::Documents;
use crate::{
    cli::ExplainArgs,
    explanation::{Answer, Question, lines},
    output, settings,
};

pub(crate) async fn run(args: &ExplainArgs) -> Result<bool, String> {
    let question = Question {
        method: args.method.to_uppercase(),
        url: args.url.clone(),
        headers: args.headers.iter().map(|h| header(h)).collect::<Result<_, _>>()?,
        from: args.from.clone(),
        labels: settings::labels(&args.labels)?,
        gateway: args.gateway.clone().unwrap_or_default(),
    };
    let answer = if args.files.is_empty() {
        let client =
            Client::new(&settings::server(args.server.server.as_deref())).map_err(|e| e.to_string())?;
        ask(&client, &question).await?
    } else {
        question.ask(&from_files(args)?)?
    };
    if !output::data(args.output, &answer)? {
        lines(&answer).iter().for_each(|line| output::line(line));
    }
    if let Some(proxy) = args.send {
        send(proxy, &question).await?;
    }
    Ok(answer.forwarded)
}

/// Asks the control plane.
async fn ask(client: &Client, question: &Question) -> Result<Answer, String> {
    let body = serde_json::to_value(question).map_err(|e| e.to_string())?;
    let answer =
        client.raw(Method::POST, "/debug/explain", &[], Some(&body)).await.map_err(|e| e.to_string())?;
    serde_json::from_value(answer.value)
        .map_err(|e| format!("the control plane's answer is not readable: {e}"))
}

fn from_files(args: &ExplainArgs) -> Result<World, String> {
    let documents = Documents::read(&args.files, "default")?;
    for finding in documents.findings.iter().filter(|f| f.severity == Severity::Error) {
        output::error(&finding.to_string());
    }
    Ok(world_of(documents))
}

fn world_of(documents: Documents) -> World {
    let changes: Vec<Change> =
        documents.objects.into_iter().map(|o| Change::Put { source: 0, object: Arc::new(o) }).collect();
    World::new(MeshConfig::default()).apply(&changes).0
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_lowercase(), value.trim().to_owned()))
        }
        _ => Err(format!("header `{text}` is not NAME: VALUE")),
    }
}

/// Sends the request through a proxy and shows what came back.
async fn send(proxy: std::net::SocketAddr, question: &Question) -> Result<(), String> {
    use bytes::Bytes;
    use http_body_util::{BodyExt, Full};
    let uri: http::Uri = question.url.parse().map_err(|_| format!("`{}` is no URL", question.url))?;
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    let mut request =
        http::Request::builder().method(question.method.as_str()).uri(path).header("host", authority);
    for (name, value) in &question.headers {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(Bytes::new())).map_err(|e| e.to_string())?;
    let exchange = async {
        let stream = tokio::net::TcpStream::connect(proxy).await.map_err(|e| format!("{proxy}: {e}"))?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(|e| e.to_string())?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|e| format!("through {proxy}: {e}"))?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok::<_, String>((parts, body))
    };
    let limit = std::time::Duration::from_secs(60);
    let (parts, body) =
        tokio::time::timeout(limit, exchange).await.map_err(|_| format!("no answer in {limit:?}"))??;
    output::line(&format!("sent through {proxy}: {}", parts.status));
    for (name, value) in &parts.headers {
        output::line(&format!("  {name}: {}", String::from_utf8_lossy(value.as_bytes())));
    }
    output::line(&String::from_utf8_lossy(&body));
    Ok(())
}

/// The object and field that decide a call of the demo's shop, and where they send it.
///
/// # Errors
/// When the control plane does not answer.
pub(crate) async fn summary(
    client: &Client,
    service: &str,
    namespace: &str,
    workload: &str,
    user: &str,
) -> Result<String, String> {
    let mut headers = Vec::new();
    if !user.is_empty() {
        headers.push(("end-user".to_owned(), user.to_owned()));
    }
    let question = Question {
        method: "GET".to_owned(),
        url: format!("http://{service}/"),
        headers,
        from: format!("{namespace}/{workload}"),
        ..Question::default()
    };
    let answer = ask(client, &question).await?;
    let route = answer.steps.iter().rfind(|s| s.taken && s.what == "route");
    let origin =
        route.and_then(|r| r.origin.clone()).unwrap_or_else(|| "the service's default route".to_owned());
    Ok(format!("{origin}: {}", answer.verdict))
}

#[cfg(test)]
mod explain_test {
    use super::*;

    const SHOP: &str = r"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: shop }
spec:
  servers:
  - port: { number: 8443, name: https, protocol: HTTPS }
    hosts: [a.test]
    tls: { mode: SIMPLE, credentialName: shop }
  - port: { number: 8443, name: more, protocol: HTTPS }
    hosts: [b.test]
    tls: { mode: SIMPLE, credentialName: absent }
  - port: { number: 8443, name: tls, protocol: TLS }
    hosts: [c.test]
    tls: { mode: PASSTHROUGH }
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: back }
spec:
  hosts: [back.test]
  ports: [{ number: 80, name: http, protocol: HTTP }, { number: 90, name: tcp, protocol: TCP }]
  resolution: STATIC
  endpoints: [{ address: 10.0.0.1 }]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop }
spec:
  hosts: [a.test, b.test, c.test]
  gateways: [shop]
  http: [{ route: [{ destination: { host: back.test, port: { number: 80 } } }] }]
  tls: [{ match: [{ sniHosts: [c.test] }], route: [{ destination: { host: back.test, port: { number: 90 } } }] }]
---
";

    fn world() -> World {
        let pair = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
        let encoded = |text: String| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, text);
        let (cert, key) = (encoded(pair.cert.pem()), encoded(pair.signing_key.serialize_pem()));
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata: {{ name: shop }}\ntype: kubernetes.io/tls\ndata: {{ tls.crt: {cert}, tls.key: {key} }}\n"
        );
        let mut documents = Documents::default();
        documents.take(&format!("{SHOP}{secret}"), "shop.yaml", "default");
        assert_eq!(documents.refused, 0, "{:?}", documents.findings);
        world_of(documents)
    }

    #[test]
    fn what_becomes_of_tls_at_a_gateway() {
        let world = world();
        let ask = |url: &str| {
            let question = Question {
                method: "GET".to_owned(),
                url: url.to_owned(),
                gateway: "istio:default/shop".to_owned(),
                ..Question::default()
            };
            let answer = question.ask(&world).unwrap();
            (answer.verdict, answer.forwarded)
        };
        assert_eq!(ask("https://a.test:8443/x"), ("to outbound|80||back.test".to_owned(), true));
        assert_eq!(
            ask("https://c.test:8443/"),
            ("TLS as it comes to outbound|90||back.test".to_owned(), true)
        );
        for (url, why) in [
            ("https://b.test:8443/", "cannot be served"),
            ("https://d.test:8443/", "takes TLS for \"d.test\""),
            ("http://a.test:8443/", "ask with https://"),
        ] {
            let (verdict, forwarded) = ask(url);
            assert!(!forwarded && verdict.contains(why), "{url}: {verdict}");
        }
        let inside = Question { url: "https://a.test/".to_owned(), ..Question::default() };
        assert!(inside.ask(&world).unwrap_err().contains("--gateway"));
    }
}

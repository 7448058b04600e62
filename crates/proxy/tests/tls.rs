//! TLS with clients: by curl, OpenSSL and rustls.

mod kit;

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use heddle_xds::Encoded;
use kit::backend::{Backend, Reply};
use kit::peer::{Folder, find, output};
use kit::tls::{Authority, Leaf, downstream, presenting, requiring, sds, secured, trusting, validated_by};
use kit::{
    Mesh, connection_manager, encoded_cluster, encoded_listener, http_filter, static_cluster, to_cluster,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};

/// An HTTP listener with this context before a backend.
fn https(at: SocketAddr, up: SocketAddr, context: &tls::DownstreamTlsContext) -> Vec<Arc<Encoded>> {
    let manager = connection_manager(vec![to_cluster("/", "up")]);
    vec![
        encoded_listener(&secured(at, http_filter(&manager), context)),
        encoded_cluster(&static_cluster("up", &[up])),
    ]
}

/// A backend that answers with as many bytes as `x-want` says, after the length of what it was sent.
async fn measuring() -> Backend {
    Backend::start(|head, body, _| {
        let want = head.lines().find_map(|line| line.strip_prefix("x-want: "));
        let want: usize = want.map_or(0, |text| text.trim().parse().unwrap());
        let mut out = format!("{};", body.len());
        out.extend((0..want).map(|n| char::from(b'a' + (n % 23) as u8)));
        Reply::Send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{out}", out.len()).into_bytes())
    })
    .await
}

fn curl(program: &Path, at: SocketAddr, ca: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(["-sS", "--fail", "--max-time", "20", "--cacert"]).arg(ca);
    command.args(["--resolve", &format!("www.example.com:{}:127.0.0.1", at.port())]);
    command
}

#[tokio::test]
async fn curl_speaks_both_versions_of_http_over_tls() {
    let Some(program) = find("curl") else { return };
    let (folder, authority, backend) = (Folder::new(), Authority::new("root"), measuring().await);
    let mut common = presenting(&authority.leaf("www.example.com"));
    common.alpn_protocols = vec!["h2".to_owned(), "http/1.1".to_owned()];
    let context = downstream(common);
    let mesh = Mesh::start(1, |at| https(at, backend.address, &context)).await;
    let ca = folder.0.join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let upload = folder.0.join("upload");
    std::fs::write(&upload, vec![7; 3_000_000]).unwrap();
    let url = format!("https://www.example.com:{}/", mesh.address.port());
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let mut command = curl(&program, mesh.address, &ca);
        command.args([flag, "-w", ";%{http_version}", "-H", "x-want: 2000000", "-H", "expect:"]);
        command.arg("--data-binary").arg(format!("@{}", upload.display())).arg(&url);
        let answer = output(command).await;
        assert!(answer.starts_with("3000000;abc"), "{}", &answer[..20]);
        let body = &answer[8..answer.len() - version.len() - 1];
        assert_eq!(body.len(), 2_000_000);
        assert!(body.bytes().enumerate().all(|(n, byte)| byte == b'a' + (n % 23) as u8));
        assert!(answer.ends_with(&format!(";{version}")));
    }
    assert!(backend.heads().iter().all(|head| head.contains("x-forwarded-proto: https")));
    // Another authority vouches for nobody here.
    std::fs::write(&ca, Authority::new("another").pem).unwrap();
    let mut command = curl(&program, mesh.address, &ca);
    command.arg(&url);
    let refused = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert_eq!(refused.status.code(), Some(60), "curl refuses the certificate");
    // curl has gone before its alert is read.
    let counted = async {
        loop {
            let stats = String::from_utf8(mesh.admin("GET", "/stats/prometheus").await).unwrap();
            if stats.contains("envoy_listener_ssl_connection_error 1") {
                break stats;
            }
        }
    };
    let stats = kit::backend::within(counted).await;
    assert!(stats.contains("envoy_listener_ssl_handshake 2"), "{stats}");
}

/// What OpenSSL's client prints; its exit says whether there was a connection.
async fn s_client(at: SocketAddr, args: &[&str]) -> (bool, String) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &at.to_string()]).args(args);
    let run = move || {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A refused client may have gone already.
        let _ =
            child.stdin.take().unwrap().write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn openssl_finds_versions_protocols_names_and_sessions_as_configured() {
    let Some(_) = find("openssl") else { return };
    let (folder, authority, backend) = (Folder::new(), Authority::new("root"), Backend::named("up").await);
    let (first, second) = (authority.leaf("a.example.com"), authority.leaf("*.b.example.com"));
    let mut common = presenting(&first);
    common.tls_certificates.push(second.certificate());
    common.alpn_protocols = vec!["h2".to_owned(), "http/1.1".to_owned()];
    let context = downstream(common);
    let mesh = Mesh::start(2, |at| https(at, backend.address, &context)).await;
    let at = mesh.address;
    let (ok, text) = s_client(at, &["-tls1_1", "-cipher", "ALL@SECLEVEL=0"]).await;
    assert!(!ok && !text.contains("HTTP/1.1 200"), "{text}");
    for (version, suite) in
        [("-tls1_2", "ECDHE-ECDSA-AES128-GCM-SHA256"), ("-tls1_3", "TLS_AES_128_GCM_SHA256")]
    {
        let (ok, text) = s_client(at, &[version, "-ign_eof", "-alpn", "http/1.1"]).await;
        assert!(text.contains(&format!("Cipher is {suite}")), "AES-128 goes first: {text}");
        assert!(ok && text.contains("HTTP/1.1 200 OK") && text.contains("ALPN protocol: http/1.1"), "{text}");
        assert!(!text.contains("unexpected eof"), "it ends with close_notify: {text}");
    }
    let (_, text) = s_client(at, &["-alpn", "h2,http/1.1"]).await;
    assert!(text.contains("ALPN protocol: h2"), "{text}");
    for (name, subject) in
        [("x.b.example.com", "*.b.example.com"), ("a.example.com", "a.example.com"), ("c", "a.example.com")]
    {
        let (_, text) = s_client(at, &["-servername", name, "-ign_eof"]).await;
        assert!(
            text.contains(&format!("CN = {subject}")) || text.contains(&format!("CN={subject}")),
            "{text}"
        );
    }
    let session = folder.0.join("session");
    let session = session.to_str().unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let (_, text) = s_client(at, &[version, "-ign_eof", "-sess_out", session]).await;
        assert!(text.contains("New, TLS"), "{text}");
        // Whichever worker takes it.
        for _ in 0..6 {
            let (ok, text) = s_client(at, &[version, "-ign_eof", "-sess_in", session]).await;
            assert!(ok && text.contains("Reused, TLS") && text.contains("HTTP/1.1 200 OK"), "{text}");
        }
    }
}

/// A client of rustls.
struct Secured(rustls::StreamOwned<rustls::ClientConnection, std::net::TcpStream>);

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

fn client(root: &str, leaf: Option<&Leaf>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(certificates(root));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match leaf {
        None => config.with_no_client_auth(),
        Some(leaf) => config
            .with_client_auth_cert(
                certificates(&leaf.chain),
                PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap(),
            )
            .unwrap(),
    }
}

impl Secured {
    fn connect(at: SocketAddr, config: &rustls::ClientConfig, name: &str) -> Self {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config.clone()), name).unwrap();
        let stream = std::net::TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        Self(rustls::StreamOwned::new(connection, stream))
    }

    /// The response to a GET: its head and what came with it.
    fn get(&mut self) -> std::io::Result<String> {
        self.get_with("")
    }

    fn get_with(&mut self, fields: &str) -> std::io::Result<String> {
        write!(self.0, "GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n")?;
        let mut all = Vec::new();
        while !all.windows(4).any(|four| four == b"\r\n\r\n") || all.ends_with(b"\r\n\r\n") {
            let mut some = [0; 1024];
            let len = self.0.read(&mut some)?;
            if len == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            all.extend_from_slice(&some[..len]);
        }
        Ok(String::from_utf8(all).unwrap())
    }
}

/// What a client with such a configuration is answered.
async fn get(at: SocketAddr, config: rustls::ClientConfig) -> std::io::Result<String> {
    tokio::task::spawn_blocking(move || Secured::connect(at, &config, "www.example.com").get()).await.unwrap()
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_checked() {
    let (authority, other) = (Authority::new("root"), Authority::new("other"));
    let backend = Backend::named("up").await;
    let mut validation = trusting(&authority.pem);
    let uri = tls::subject_alt_name_matcher::SanType::Uri;
    let friend = "spiffe://mesh/ns/a/sa/friend";
    validation.match_typed_subject_alt_names = vec![kit::tls::san(uri, friend)];
    let common = validated_by(presenting(&authority.leaf("www.example.com")), validation);
    let (required, optional) = (requiring(common.clone()), downstream(common));
    let mesh = Mesh::start(1, |at| https(at, backend.address, &required)).await;
    let root = &authority.pem;
    let cases = [
        ("good", Some(authority.leaf(friend)), true),
        ("none", None, false),
        ("of another authority", Some(other.leaf(friend)), false),
        ("of another name", Some(authority.leaf("spiffe://mesh/ns/a/sa/stranger")), false),
        ("expired", Some(authority.expired(friend)), false),
    ];
    for (what, leaf, good) in &cases {
        let answer = get(mesh.address, client(root, leaf.as_ref())).await;
        assert_eq!(answer.is_ok(), *good, "{what}: {answer:?}");
    }
    assert_eq!(backend.heads().len(), 1);
    // Where none is required, a bad one is refused all the same.
    let before = mesh.proxy.snapshot().generation;
    mesh.publish(https(mesh.address, backend.address, &optional));
    mesh.until(|proxy| proxy.snapshot().generation > before).await;
    for (what, leaf, good) in &cases {
        let answer = get(mesh.address, client(root, leaf.as_ref())).await;
        assert_eq!(answer.is_ok(), *good || *what == "none", "{what}: {answer:?}");
    }
}

#[tokio::test]
async fn without_its_secret_a_chain_is_closed_and_never_in_the_clear() {
    let (authority, backend) = (Authority::new("root"), Backend::named("up").await);
    let common =
        tls::CommonTlsContext { tls_certificate_sds_secret_configs: vec![sds("cert")], ..Default::default() };
    let context = downstream(common);
    let up = backend.address;
    // The proxy waits for the secret for 5 s, and then listens without it.
    let mesh = Mesh::start(1, |at| https(at, up, &context)).await;
    let plain = async || {
        let mut client = kit::backend::Client::new(mesh.connect().await);
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        client.rest().await
    };
    assert_eq!(plain().await, "");
    assert!(get(mesh.address, client(&authority.pem, None)).await.is_err());
    let dump = String::from_utf8(mesh.admin("GET", "/config_dump").await).unwrap();
    assert!(dump.contains("the secret cert has not come"), "{dump}");
    let with = |leaf: &Leaf| [https(mesh.address, up, &context), vec![leaf.secret("cert")]].concat();
    let leaf = authority.leaf("www.example.com");
    mesh.publish(with(&leaf));
    mesh.until(|proxy| proxy.snapshot().secrets.len() == 1).await;
    assert!(get(mesh.address, client(&authority.pem, None)).await.unwrap().ends_with("up"));
    assert_eq!(plain().await, "", "nor with it");
    assert_eq!(backend.heads().len(), 1);
    let dump = String::from_utf8(mesh.admin("GET", "/config_dump").await).unwrap();
    assert!(!dump.contains("PRIVATE KEY") && !dump.contains("has not come"), "{dump}");
    // It goes: so does the chain.
    mesh.publish(https(mesh.address, up, &context));
    mesh.until(|proxy| proxy.snapshot().secrets.is_empty()).await;
    assert!(get(mesh.address, client(&authority.pem, None)).await.is_err());
}

#[tokio::test]
async fn a_secret_rotates_under_load_without_a_failure() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let backend = Backend::named("up").await;
    let common =
        tls::CommonTlsContext { tls_certificate_sds_secret_configs: vec![sds("cert")], ..Default::default() };
    let context = downstream(common);
    let up = backend.address;
    let name = "www.example.com";
    let mesh =
        Mesh::start(2, |at| [https(at, up, &context), vec![old.leaf(name).secret("cert")]].concat()).await;
    let at = mesh.address;
    let both = client(&format!("{}{}", old.pem, new.pem), None);
    let mut kept = {
        let config = client(&old.pem, None);
        tokio::task::spawn_blocking(move || {
            let mut kept = Secured::connect(at, &config, name);
            kept.get().unwrap();
            kept
        })
        .await
        .unwrap()
    };
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let load: Vec<_> = (0..2)
        .map(|_| {
            let (config, stop) = (both.clone(), stop.clone());
            tokio::task::spawn_blocking(move || {
                let mut done = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut connection = Secured::connect(at, &config, name);
                    for _ in 0..3 {
                        connection.get().unwrap();
                        done += 1;
                    }
                }
                done
            })
        })
        .collect();
    for round in 0..10 {
        let leaf = if round % 2 == 0 { new.leaf(name) } else { old.leaf(name) };
        let before = mesh.proxy.snapshot().generation;
        mesh.publish([https(at, up, &context), vec![leaf.secret("cert")]].concat());
        mesh.until(|proxy| proxy.snapshot().generation > before).await;
    }
    let before = mesh.proxy.snapshot().generation;
    mesh.publish([https(at, up, &context), vec![new.leaf(name).secret("cert")]].concat());
    mesh.until(|proxy| proxy.snapshot().generation > before).await;
    assert!(get(at, client(&new.pem, None)).await.is_ok(), "new handshakes see the new certificate");
    assert!(get(at, client(&old.pem, None)).await.is_err());
    tokio::task::spawn_blocking(move || kept.get().unwrap()).await.unwrap();
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for client in load {
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn what_is_told_of_a_client_is_what_its_certificate_says() {
    use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
    use hcm::http_connection_manager::{ForwardClientCertDetails as Forward, SetCurrentClientCertDetails};
    let (authority, backend) = (Authority::new("root"), Backend::named("up").await);
    let common =
        validated_by(presenting(&authority.leaf("spiffe://mesh/ns/a/sa/server")), trusting(&authority.pem));
    let context = downstream(common);
    let details = SetCurrentClientCertDetails {
        subject: Some(envoy_types::pb::google::protobuf::BoolValue { value: true }),
        uri: true,
        dns: true,
        ..Default::default()
    };
    let make = |at, forward: Forward| {
        let mut manager = connection_manager(vec![to_cluster("/", "up")]);
        manager.forward_client_cert_details = forward.into();
        manager.set_current_client_cert_details = Some(details);
        vec![
            encoded_listener(&secured(at, http_filter(&manager), &context)),
            encoded_cluster(&static_cluster("up", &[backend.address])),
        ]
    };
    let mesh = Mesh::start(1, |at| make(at, Forward::Sanitize)).await;
    let client_leaf = authority.leaf("spiffe://mesh/ns/a/sa/client");
    let der = certificates(&client_leaf.chain).remove(0);
    let hash = rustls_hash(&der);
    let own = format!(
        "By=spiffe://mesh/ns/a/sa/server;Hash={hash};Subject=\"O=heddle tests,CN=spiffe://mesh/ns/a/sa/client\";URI=spiffe://mesh/ns/a/sa/client"
    );
    let rows = [
        (Forward::Sanitize, None, None),
        (Forward::ForwardOnly, Some("forged".to_owned()), None),
        (Forward::AppendForward, Some(format!("forged,{own}")), None),
        (Forward::SanitizeSet, Some(own.clone()), None),
        (Forward::AlwaysForwardOnly, Some("forged".to_owned()), Some("forged".to_owned())),
    ];
    for (forward, with, without) in rows {
        let before = mesh.proxy.snapshot().generation;
        mesh.publish(make(mesh.address, forward));
        if forward != Forward::Sanitize {
            mesh.until(|proxy| proxy.snapshot().generation > before).await;
        }
        for (leaf, expected) in [(Some(&client_leaf), with), (None, without)] {
            let config = client_any(leaf);
            let at = mesh.address;
            let asked = tokio::task::spawn_blocking(move || {
                let mut connection = Secured::connect(at, &config, "a.example.com");
                connection.get_with("x-forwarded-client-cert: forged\r\n").unwrap();
            });
            asked.await.unwrap();
            let head = backend.heads().pop().unwrap();
            let told = head.lines().find_map(|line| line.strip_prefix("x-forwarded-client-cert: "));
            assert_eq!(told.map(str::to_owned), expected, "{forward:?}");
        }
    }
}

/// SHA-256 as text.
fn rustls_hash(der: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, der);
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A client that believes any server, as the name does not matter here.
fn client_any(leaf: Option<&Leaf>) -> rustls::ClientConfig {
    #[derive(Debug)]
    struct Any;
    impl rustls::client::danger::ServerCertVerifier for Any {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }
    let mut config = client(&Authority::new("nobody").pem, leaf);
    config.dangerous().set_certificate_verifier(Arc::new(Any));
    config
}

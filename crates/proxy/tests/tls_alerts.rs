//! Whoever breaks an established session is told by which alert, as client and as server.

mod kit;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use kit::backend::{Backend, Client, within};
use kit::tls::{Authority, downstream, presenting, secured, socket, trusting, validated_by};
use kit::{
    Mesh, connection_manager, encoded_cluster, encoded_listener, http, http_filter, static_cluster,
    to_cluster,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, ConnectionCommon, SideData, SupportedProtocolVersion};

const NAME: &str = "www.example.com";

/// What is done to the record with the next text, or put in its place.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Its last byte is changed.
    Forged,
    /// It announces more than any version allows.
    TooLong,
    /// A type that nobody knows.
    UnknownType,
    /// A message of the handshake, in the clear.
    InTheClear,
}

impl Fault {
    const ALL: [Self; 4] = [Self::Forged, Self::TooLong, Self::UnknownType, Self::InTheClear];

    fn put(self, record: &mut Vec<u8>) {
        match self {
            Self::Forged => *record.last_mut().unwrap() ^= 1,
            Self::TooLong => *record = vec![23, 3, 3, 0x49, 0, 0],
            Self::UnknownType => *record = vec![99, 3, 3, 0, 1, 0],
            Self::InTheClear => *record = vec![22, 3, 3, 0, 4, 0, 0, 0, 0],
        }
    }

    fn alert(self, version: &SupportedProtocolVersion) -> AlertDescription {
        match self {
            Self::TooLong => AlertDescription::RecordOverflow,
            Self::UnknownType => AlertDescription::UnexpectedMessage,
            // In TLS 1.2 every type may be sealed, and this one was not.
            Self::InTheClear if version.version == rustls::ProtocolVersion::TLSv1_3 => {
                AlertDescription::UnexpectedMessage
            }
            Self::Forged | Self::InTheClear => AlertDescription::BadRecordMac,
        }
    }
}

/// Reads text until it ends with `end`.
fn read_until<C, D>(connection: &mut C, socket: &mut TcpStream, end: &[u8])
where
    C: DerefMut + Deref<Target = ConnectionCommon<D>>,
    D: SideData,
{
    let mut text = Vec::new();
    while !text.ends_with(end) {
        let mut some = [0; 4096];
        let len = rustls::Stream::new(connection, socket).read(&mut some).unwrap();
        assert!(len > 0, "the other side ended early");
        text.extend_from_slice(&some[..len]);
    }
}

/// Sends `text` in a record that is made wrong, and returns the alert that comes back.
fn alert_after<C, D>(
    connection: &mut C,
    socket: &mut TcpStream,
    text: &[u8],
    fault: Fault,
) -> AlertDescription
where
    C: DerefMut + Deref<Target = ConnectionCommon<D>>,
    D: SideData,
{
    let mut record = Vec::new();
    connection.writer().write_all(text).unwrap();
    connection.write_tls(&mut record).unwrap();
    fault.put(&mut record);
    socket.write_all(&record).unwrap();
    loop {
        assert!(connection.read_tls(socket).unwrap() > 0, "{fault:?}: closed without an alert");
        match connection.process_new_packets() {
            Ok(_) => {}
            Err(rustls::Error::AlertReceived(alert)) => return alert,
            Err(error) => panic!("{fault:?}: {error}"),
        }
    }
}

fn closed(socket: &mut TcpStream) -> bool {
    let mut rest = [0; 64];
    matches!(socket.read(&mut rest), Ok(0)) || socket.take_error().unwrap().is_some()
}

fn patient(socket: TcpStream) -> TcpStream {
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_client_that_breaks_its_session_is_told_why() {
    let (authority, backend) = (Authority::new("root"), Backend::named("up").await);
    let context = downstream(presenting(&authority.leaf(NAME)));
    let mesh = Mesh::start(1, |at| {
        let manager = connection_manager(vec![to_cluster("/", "up")]);
        vec![
            encoded_listener(&secured(at, http_filter(&manager), &context)),
            encoded_cluster(&static_cluster("up", &[backend.address])),
        ]
    })
    .await;
    let at = mesh.address;
    for (version, fault) in
        rustls::ALL_VERSIONS.iter().copied().flat_map(|version| Fault::ALL.map(|fault| (version, fault)))
    {
        let pem = authority.pem.clone();
        let alert = tokio::task::spawn_blocking(move || {
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(certificates(&pem));
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            let name = ServerName::try_from(NAME).unwrap();
            let mut connection = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
            let mut socket = patient(TcpStream::connect(at).unwrap());
            let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
            rustls::Stream::new(&mut connection, &mut socket).write_all(request).unwrap();
            read_until(&mut connection, &mut socket, b"up");
            let alert = alert_after(&mut connection, &mut socket, request, fault);
            assert!(closed(&mut socket), "{fault:?}: the connection goes on");
            alert
        });
        assert_eq!(alert.await.unwrap(), fault.alert(version), "{fault:?} in {:?}", version.version);
    }
}

/// A server that breaks the session with its first answer. Returns the alert for it.
fn breaking(listener: &TcpListener, config: Arc<rustls::ServerConfig>, fault: Fault) -> AlertDescription {
    let mut socket = patient(listener.accept().unwrap().0);
    let mut connection = rustls::ServerConnection::new(config).unwrap();
    read_until(&mut connection, &mut socket, b"\r\n\r\n");
    let alert = alert_after(&mut connection, &mut socket, b"HTTP/1.1 204 No Content\r\n\r\n", fault);
    assert!(closed(&mut socket), "{fault:?}: the connection goes on");
    alert
}

#[tokio::test]
async fn a_server_that_breaks_its_session_is_told_why() {
    let authority = Authority::new("root");
    let leaf = authority.leaf(NAME);
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(validated_by(tls::CommonTlsContext::default(), trusting(&authority.pem))),
        sni: NAME.to_owned(),
        ..Default::default()
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            certificates(&leaf.chain),
            PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap(),
        )
        .unwrap();
    let (listener, config) = (Arc::new(TcpListener::bind("127.0.0.1:0").unwrap()), Arc::new(config));
    let up: SocketAddr = listener.local_addr().unwrap();
    let mut cluster = static_cluster("up", &[up]);
    cluster.transport_socket = socket("UpstreamTlsContext", &context);
    let mesh = Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], &[cluster.clone()])).await;
    for fault in Fault::ALL {
        let (listener, config) = (listener.clone(), config.clone());
        let server = tokio::task::spawn_blocking(move || breaking(&listener, config, fault));
        let (head, _) = within(Client::new(mesh.connect().await).get("/")).await;
        assert!(head.starts_with("HTTP/1.1 503"), "{head}");
        assert_eq!(server.await.unwrap(), fault.alert(&rustls::version::TLS13), "{fault:?}");
    }
}

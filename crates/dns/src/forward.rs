//! Asking the resolvers of resolv.conf: one socket per question (its port chosen by the kernel), the
//! answer checked against the question, TCP where it was truncated.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RData, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::{ResolvConf, server_failure};

/// Questions under way at most; beyond it the asker gets SERVFAIL at once rather than a place in a queue.
const IN_FLIGHT: usize = 1024;
/// All attempts together: just below the 5 s after which stub resolvers ask again.
const DEADLINE: Duration = Duration::from_millis(4500);
/// One attempt, unless resolv.conf asks for less.
const ATTEMPT: Duration = Duration::from_secs(2);

/// How long what resolv.conf said is believed without a look at the file.
const RECHECK: Duration = Duration::from_secs(2);

/// Why a question could not be forwarded.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    #[error("no nameserver in {0}; names outside the mesh cannot be resolved")]
    NoServer(PathBuf),
    #[error("cannot read {path}: {error}")]
    ResolvConf { path: PathBuf, error: io::Error },
    #[error("{IN_FLIGHT} questions to the resolvers are under way already")]
    Busy,
    #[error("no resolver answered {question} within {DEADLINE:?}; the last one asked, {server}: {error}")]
    Failed { question: String, server: SocketAddr, error: io::Error },
    #[error("the question cannot be read")]
    Malformed,
    #[error("{0} has no address ({1})")]
    NoAddress(String, hickory_proto::op::ResponseCode),
}

struct Loaded {
    conf: Arc<ResolvConf>,
    modified: Option<SystemTime>,
    looked: Instant,
}

/// A client of the resolvers that a resolv.conf names; the file is read again when it changes.
pub struct Forwarder {
    path: PathBuf,
    /// Our own addresses: a resolv.conf that points at us must not make us ask ourselves.
    own: Vec<SocketAddr>,
    servers: Option<Vec<SocketAddr>>,
    loaded: Mutex<Option<Loaded>>,
    in_flight: Semaphore,
    turn: AtomicUsize,
}

impl Forwarder {
    /// `own`: where we listen ourselves.
    pub fn new(resolv_conf: impl Into<PathBuf>, own: Vec<SocketAddr>) -> Self {
        Self {
            path: resolv_conf.into(),
            own,
            servers: None,
            loaded: Mutex::new(None),
            in_flight: Semaphore::new(IN_FLIGHT),
            turn: AtomicUsize::new(0),
        }
    }

    /// Asks these instead of the servers in resolv.conf (whose options still count): a resolver on a port
    /// of its own.
    pub fn with_servers(mut self, servers: Vec<SocketAddr>) -> Self {
        self.servers = Some(servers);
        self
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file as it is now, without our own addresses among the servers.
    pub async fn conf(&self) -> Result<Arc<ResolvConf>, ForwardError> {
        let now = Instant::now();
        let lock = || self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = &*lock()
            && now.duration_since(loaded.looked) < RECHECK
        {
            return Ok(loaded.conf.clone());
        }
        let modified = tokio::fs::metadata(&self.path).await.and_then(|meta| meta.modified()).ok();
        if let Some(loaded) = &mut *lock()
            && loaded.modified == modified
        {
            loaded.looked = now;
            return Ok(loaded.conf.clone());
        }
        match tokio::fs::read_to_string(&self.path).await {
            Ok(text) => {
                let mut conf = ResolvConf::parse(&text);
                if let Some(servers) = &self.servers {
                    conf.servers.clone_from(servers);
                }
                conf.servers.retain(|server| !self.is_own(server));
                let conf = Arc::new(conf);
                *lock() = Some(Loaded { conf: conf.clone(), modified, looked: now });
                Ok(conf)
            }
            // Being replaced, perhaps: what was read last still stands.
            Err(error) => match &*lock() {
                Some(loaded) => Ok(loaded.conf.clone()),
                None => Err(ForwardError::ResolvConf { path: self.path.clone(), error }),
            },
        }
    }

    fn is_own(&self, server: &SocketAddr) -> bool {
        self.own.iter().any(|own| {
            let same = own.ip() == server.ip() || own.ip().is_unspecified() && server.ip().is_loopback();
            own.port() == server.port() && same
        })
    }

    /// The answer to a packet, whole (from TCP where UDP truncated it), under the packet's id; or a
    /// SERVFAIL and why.
    pub async fn forward(&self, packet: &[u8]) -> Result<Vec<u8>, (Option<Vec<u8>>, ForwardError)> {
        self.ask(packet).await.map_err(|error| (server_failure(packet), error))
    }

    /// The addresses of a full name and the seconds they may be kept. For clusters that are resolved by
    /// name.
    pub async fn lookup(&self, host: &str, kind: RecordType) -> Result<(Vec<IpAddr>, u32), ForwardError> {
        let name = Name::from_ascii(format!("{}.", host.trim_end_matches('.')));
        let mut question = Message::query();
        question.metadata.recursion_desired = true;
        question.add_query(Query::query(name.map_err(|_| ForwardError::Malformed)?, kind));
        let packet = question.to_vec().map_err(|_| ForwardError::Malformed)?;
        let answer = Message::from_vec(&self.ask(&packet).await?).map_err(|_| ForwardError::Malformed)?;
        let address = |data: &RData| match data {
            RData::A(ip) => Some(IpAddr::V4(ip.0)),
            RData::AAAA(ip) => Some(IpAddr::V6(ip.0)),
            _ => None,
        };
        let addresses: Vec<IpAddr> = answer.answers.iter().filter_map(|r| address(&r.data)).collect();
        if addresses.is_empty() {
            return Err(ForwardError::NoAddress(host.to_owned(), answer.metadata.response_code));
        }
        Ok((addresses, answer.answers.iter().map(|record| record.ttl).min().unwrap_or(0)))
    }

    async fn ask(&self, packet: &[u8]) -> Result<Vec<u8>, ForwardError> {
        let _permit = self.in_flight.try_acquire().map_err(|_| ForwardError::Busy)?;
        let conf = self.conf().await?;
        if conf.servers.is_empty() {
            return Err(ForwardError::NoServer(self.path.clone()));
        }
        let question = Question::new(packet).ok_or(ForwardError::Malformed)?;
        let first = if conf.rotate { self.turn.fetch_add(1, Ordering::Relaxed) } else { 0 };
        let attempt = conf.timeout.min(ATTEMPT);
        let mut last = (conf.servers[0], io::Error::from(io::ErrorKind::TimedOut));
        let rounds = async {
            for i in 0..conf.servers.len() * conf.attempts as usize {
                let server = conf.servers[(first + i) % conf.servers.len()];
                let outcome = timeout(attempt, question.put_to(server)).await;
                match outcome.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    Ok(answer) => return Some(answer),
                    Err(error) => last = (server, error),
                }
            }
            None
        };
        let answer = timeout(DEADLINE, rounds).await.ok().flatten();
        answer.ok_or_else(|| {
            let (server, error) = last;
            ForwardError::Failed { question: question.text.clone(), server, error }
        })
    }
}

/// A question as it goes out: the asker's packet under an id of ours.
struct Question {
    packet: Vec<u8>,
    asked_id: [u8; 2],
    query: Query,
    text: String,
}

impl Question {
    fn new(packet: &[u8]) -> Option<Self> {
        let message = Message::from_vec(packet).ok()?;
        let query = message.queries.first()?.clone();
        let mut outgoing = packet.to_vec();
        let asked_id = [*packet.first()?, *packet.get(1)?];
        // hickory draws the id from a cryptographic generator.
        outgoing[..2].copy_from_slice(&Message::query().metadata.id.to_be_bytes());
        let text = format!("{} {}", query.query_type(), query.name());
        Some(Self { packet: outgoing, asked_id, query, text })
    }

    async fn put_to(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        let answer = match self.over_udp(server).await? {
            (_, true) => self.over_tcp(server).await?,
            (answer, false) => answer,
        };
        Ok(self.finish(answer))
    }

    /// The answer, and whether it was truncated.
    async fn over_udp(&self, server: SocketAddr) -> io::Result<(Vec<u8>, bool)> {
        let local: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((local, 0)).await?;
        // Connected: datagrams from elsewhere never reach us, and a closed port is an error, not silence.
        socket.connect(server).await?;
        socket.send(&self.packet).await?;
        let mut buffer = vec![0; 65_536];
        loop {
            let length = socket.recv(&mut buffer).await?;
            // Anything else is a forgery or a late answer: the real one may still come.
            if let Some(message) = self.accepts(&buffer[..length]) {
                return Ok((buffer[..length].to_vec(), message.metadata.truncation));
            }
        }
    }

    async fn over_tcp(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(self.packet.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let framed = [&length.to_be_bytes()[..], &self.packet].concat();
        stream.write_all(&framed).await?;
        let length = stream.read_u16().await?;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        self.accepts(&answer).ok_or_else(|| io::Error::other("the answer does not fit the question"))?;
        Ok(answer)
    }

    fn accepts(&self, answer: &[u8]) -> Option<Message> {
        if answer.get(..2)? != &self.packet[..2] || answer.get(2)? & 0x80 == 0 {
            return None;
        }
        let message = Message::from_vec(answer).ok()?;
        (message.queries.first() == Some(&self.query)).then_some(message)
    }

    fn finish(&self, mut answer: Vec<u8>) -> Vec<u8> {
        if let Some(id) = answer.get_mut(..2) {
            id.copy_from_slice(&self.asked_id);
        }
        answer
    }
}

//! Constant load: keep-alive clients, each with one request at a time, whose every answer is judged.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use heddle_tests::{
    client::{Answer, Connection},
    eventually,
};
use tokio::task::JoinHandle;

/// How many clients there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clients {
    pub(crate) gets: usize,
    pub(crate) posts: usize,
}

/// So many that far more than 16 GETs are under way at each of a few instances.
pub(crate) const MANY: Clients = Clients { gets: 64, posts: 8 };
/// Enough to meet every state of a configuration.
pub(crate) const SOME: Clients = Clients { gets: 24, posts: 4 };

/// How many failures are kept whole.
const KEPT: usize = 12;

/// One kind of request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) host: &'static str,
    pub(crate) path: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

/// Knows which answers are right.
pub(crate) trait Judge: Send + Sync + 'static {
    /// What answers have shown when a request is sent; given back with its answer.
    fn before(&self) -> u64 {
        0
    }

    /// Judges an answer with status 200.
    fn judge(&self, asked: &Asked<'_>, answer: &Answer) -> Result<(), String>;
}

/// A request as it was sent.
pub(crate) struct Asked<'a> {
    pub(crate) ask: &'a Ask,
    pub(crate) at: Instant,
    /// [`Judge::before`] when it was sent.
    pub(crate) before: u64,
}

/// What came of the requests of one method.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) wrong: u64,
    /// How often each kind of failure came.
    kinds: BTreeMap<String, u64>,
    examples: Vec<String>,
}

#[derive(Default)]
struct Tallies {
    gets: Tally,
    posts: Tally,
}

struct Shared {
    asks: Vec<Ask>,
    judge: Arc<dyn Judge>,
    /// Where new connections go.
    to: Mutex<SocketAddr>,
    /// Connections that clients have open, by where they go.
    open: Mutex<BTreeMap<SocketAddr, usize>>,
    stop: AtomicBool,
    in_flight: AtomicU64,
    answered: AtomicU64,
    tallies: Mutex<Tallies>,
    begun: Instant,
}

/// Load that runs until it is finished.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(to: SocketAddr, clients: Clients, asks: &[Ask], judge: Arc<dyn Judge>) -> Self {
        let shared = Arc::new(Shared {
            asks: asks.to_vec(),
            judge,
            to: Mutex::new(to),
            open: Mutex::default(),
            stop: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            tallies: Mutex::default(),
            begun: Instant::now(),
        });
        let client = |number| {
            let method = if number < clients.gets { "GET" } else { "POST" };
            tokio::spawn(Client { shared: shared.clone(), method, number }.run())
        };
        let clients = (0..clients.gets + clients.posts).map(client).collect();
        Self { shared, clients }
    }

    /// From now on new connections go there.
    pub(crate) fn move_to(&self, to: SocketAddr) {
        *self.shared.to.lock().unwrap_or_else(PoisonError::into_inner) = to;
    }

    /// GETs that are under way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.shared.in_flight.load(Relaxed)
    }

    /// Waits until `more` GETs were answered.
    pub(crate) async fn answered(&self, more: u64) {
        let goal = self.shared.answered.load(Relaxed) + more;
        eventually("load goes on", || async {
            let now = self.shared.answered.load(Relaxed);
            if now >= goal { Ok(()) } else { Err(format!("{now} answers of {goal}; {}", self.so_far())) }
        })
        .await;
    }

    /// Waits until no client has a connection there any more.
    pub(crate) async fn has_left(&self, to: SocketAddr) {
        eventually(&format!("the clients leave {to}"), || async {
            let open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
            match open.get(&to) {
                None | Some(0) => Ok(()),
                Some(count) => Err(format!("{count} connections are open; {}", self.so_far())),
            }
        })
        .await;
    }

    fn so_far(&self) -> String {
        let tallies = self.shared.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        format!("GET {} POST {}", tallies.gets, tallies.posts)
    }

    /// Ends the load when every request under way has come to its end.
    pub(crate) async fn finish(self) -> Report {
        self.shared.stop.store(true, Relaxed);
        for client in self.clients {
            client.await.unwrap_or_else(|e| panic!("client: {e}"));
        }
        let mut tallies = self.shared.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let Tallies { gets, posts } = std::mem::take(&mut *tallies);
        Report { gets, posts, lasted: self.shared.begun.elapsed() }
    }
}

/// One client with one connection at a time.
struct Client {
    shared: Arc<Shared>,
    method: &'static str,
    number: usize,
}

/// A connection and where it goes.
struct Open {
    connection: Connection,
    to: SocketAddr,
    used: u32,
    since: Instant,
    shared: Arc<Shared>,
}

impl Open {
    fn new(connection: Connection, to: SocketAddr, shared: &Arc<Shared>) -> Self {
        *shared.open.lock().unwrap_or_else(PoisonError::into_inner).entry(to).or_default() += 1;
        Self { connection, to, used: 0, since: Instant::now(), shared: shared.clone() }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut open = self.shared.open.lock().unwrap_or_else(PoisonError::into_inner);
        *open.entry(self.to).or_insert(1) -= 1;
    }
}

impl Client {
    async fn run(self) {
        let mut open = None;
        let mut turn = self.number;
        while !self.shared.stop.load(Relaxed) {
            let ask = self.shared.asks[turn % self.shared.asks.len()];
            turn += 1;
            open = self.exchange(open, &ask).await;
        }
    }

    /// One request; yields the connection when it can carry another.
    async fn exchange(&self, open: Option<Open>, ask: &Ask) -> Option<Open> {
        let shared = &self.shared;
        let mut open = match open {
            Some(open) => open,
            None => {
                let to = *shared.to.lock().unwrap_or_else(PoisonError::into_inner);
                match Connection::open(to).await {
                    Ok(connection) => Open::new(connection, to, shared),
                    Err(error) => {
                        self.note(ask, to, 0, Err(error));
                        tokio::task::yield_now().await;
                        return None;
                    }
                }
            }
        };
        let body: &[u8] = if self.method == "POST" { &[b'x'; 1024] } else { b"" };
        let get = u64::from(self.method == "GET");
        let asked = Asked { ask, at: Instant::now(), before: shared.judge.before() };
        let idle = open.since.elapsed();
        shared.in_flight.fetch_add(get, Relaxed);
        let outcome = open.connection.send(self.method, ask.host, ask.path, ask.headers, body).await;
        shared.in_flight.fetch_sub(get, Relaxed);
        let goes_on = outcome.as_ref().is_ok_and(|answer| {
            !answer
                .headers
                .get("connection")
                .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"close"))
        });
        let outcome = outcome.map_err(|error| format!("{error} (idle before for {idle:?})")).map(|answer| {
            let verdict = match answer.status {
                200 => shared.judge.judge(&asked, &answer),
                _ => Ok(()),
            };
            (answer, verdict)
        });
        self.note(ask, open.to, open.used, outcome);
        open.used += 1;
        open.since = Instant::now();
        goes_on.then_some(open)
    }

    fn note(
        &self,
        ask: &Ask,
        to: SocketAddr,
        used: u32,
        outcome: Result<(Answer, Result<(), String>), String>,
    ) {
        let mut tallies = self.shared.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = if self.method == "GET" { &mut tallies.gets } else { &mut tallies.posts };
        let (kind, more) = match outcome {
            Ok((answer, Ok(()))) if answer.status == 200 => {
                tally.answered += 1;
                if self.method == "GET" {
                    self.shared.answered.fetch_add(1, Relaxed);
                }
                return;
            }
            Ok((answer, Err(complaint))) => {
                tally.wrong += 1;
                (format!("wrong: {complaint}"), show(&answer))
            }
            Ok((answer, Ok(()))) => {
                tally.failed += 1;
                (format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body)), show(&answer))
            }
            Err(error) => {
                tally.failed += 1;
                let kind = error.split(" (").next().unwrap_or_default().to_owned();
                (kind, error)
            }
        };
        *tally.kinds.entry(kind).or_default() += 1;
        if tally.examples.len() < KEPT {
            tally.examples.push(format!(
                "{:?} after the start: {} {ask:?} to {to}, after {used} requests on the connection: {more}",
                self.shared.begun.elapsed(),
                self.method
            ));
        }
    }
}

fn show(answer: &Answer) -> String {
    format!("{} {:?} {:?}", answer.status, answer.headers, String::from_utf8_lossy(&answer.body))
}

impl Tally {
    /// The first failures, whole.
    pub(crate) fn examples(&self) -> String {
        self.examples.join("\n")
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered, {} failed, {} wrong", self.answered, self.failed, self.wrong)?;
        for (kind, count) in &self.kinds {
            write!(f, "; {count} x {kind}")?;
        }
        Ok(())
    }
}

/// What came of it all.
pub(crate) struct Report {
    pub(crate) gets: Tally,
    pub(crate) posts: Tally,
    lasted: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s: GET {}. POST {}", self.lasted.as_secs_f64(), self.gets, self.posts)
    }
}

impl Report {
    /// Every GET was answered.
    pub(crate) fn no_get_failed(&self) {
        assert!(self.gets.failed == 0, "{self}\n{}", self.gets.examples());
    }

    /// Every POST was answered.
    pub(crate) fn no_post_failed(&self) {
        assert!(self.posts.failed == 0, "{self}\n{}", self.posts.examples());
    }

    /// Every answer was a right one.
    pub(crate) fn nothing_wrong(&self) {
        assert!(self.gets.wrong == 0, "{self}\n{}", self.gets.examples());
        assert!(self.posts.wrong == 0, "{self}\n{}", self.posts.examples());
        assert!(self.gets.answered > 0 && self.posts.answered > 0, "no load: {self}");
    }
}

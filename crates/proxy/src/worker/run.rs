//! The loop of one worker: what it is told between requests, and the sockets it accepts from.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use heddle_runtime::Peers;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::listening::Listening;
use super::{Expected, Worker};
use crate::conn::open::open;
use crate::conn::registry::Leaving;
use crate::overload::Stage;
use crate::snapshot::{Address, Listener, Name};
use crate::telemetry::collect::Collected;
use crate::upstream::count;

/// What a worker can be told.
#[derive(Debug)]
pub(crate) enum Message {
    /// A generation was published; the answer says that this worker runs it.
    Changed(oneshot::Sender<()>),
    /// Accept connections for a listener.
    Accept { listener: Name, address: Address, socket: OwnedFd },
    /// Serve a connection that another worker accepted and that is counted here.
    Serve { listener: Arc<Listener>, stream: std::net::TcpStream, peer: Address, counted: Expected },
    /// Accept no more at this address, after what waits there already and whoever has begun to connect, if that takes no
    /// longer than `handshakes`. `listener` serves them, though the configuration may not have it any more.
    Refuse { address: Address, handshakes: Duration, listener: Arc<Listener> },
    /// Accept no more at this address, where another process accepts from the same sockets: it takes what waits.
    Leave(Address),
    /// Hand out copies of the descriptors that are accepted from.
    Lend(oneshot::Sender<io::Result<Vec<(Address, OwnedFd)>>>),
    /// Ask connections to end, and cut them after a time, if one is given.
    Drain(Leaving, Option<Duration>),
    /// Cut every connection.
    Cut,
    /// Shed so much from now on.
    Pressure(Stage),
    /// Give freed memory back to the system.
    GiveBack,
    /// Say what was counted.
    Collect(oneshot::Sender<Collected>),
    /// End.
    Stop,
}

/// How often idle upstream connections are looked through.
const SWEEP: Duration = Duration::from_secs(2);
/// The pause after the system refused a connection (no file descriptors, no memory).
const BACK_OFF: Duration = Duration::from_millis(50);

/// How often a worker looks whether there is room again.
const FULL: Duration = Duration::from_millis(10);

/// Runs until the channel is closed.
pub(crate) async fn run(
    worker: Rc<Worker>,
    mut messages: mpsc::UnboundedReceiver<Message>,
    peers: Peers<Message>,
) {
    let mut accepting: HashMap<Address, Vec<Accepting>> = HashMap::new();
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            _ = sweep.tick() => {
                worker.sweep();
                continue;
            }
        };
        match message {
            Some(Message::Changed(done)) => {
                worker.snapshot();
                worker.wake();
                let _ = done.send(());
            }
            Some(Message::Accept { listener, address, socket }) => match Listening::of(address, socket) {
                Ok((address, socket)) => {
                    let (end, ending) = oneshot::channel();
                    let socket = Rc::new(socket);
                    let task = accept(worker.clone(), peers.clone(), listener, socket.clone(), ending);
                    let task = tokio::task::spawn_local(task);
                    accepting.entry(address).or_default().push(Accepting { socket, end, task });
                }
                Err(error) => tracing::error!(%listener, %error, "cannot accept connections"),
            },
            Some(Message::Serve { listener, stream, peer, counted }) => {
                match TcpStream::from_std(stream) {
                    Ok(stream) => serve(&worker, listener, stream, peer),
                    Err(error) => {
                        tracing::warn!(listener = %listener.name, %error, "cannot take over a connection");
                    }
                }
                drop(counted);
            }
            Some(Message::Refuse { address, handshakes, listener }) => {
                for Accepting { end, .. } in accepting.remove(&address).unwrap_or_default() {
                    // The task closes the socket. Until then nobody who counts connections finds none.
                    let _ = end.send(Last {
                        until: Instant::now() + handshakes,
                        listener: listener.clone(),
                        _expected: worker.connections.expect(),
                    });
                }
            }
            Some(Message::Leave(address)) => {
                for Accepting { task, .. } in accepting.remove(&address).unwrap_or_default() {
                    task.abort();
                    let _ = task.await;
                }
            }
            Some(Message::Lend(reply)) => {
                let _ = reply.send(copies(&accepting));
            }
            Some(Message::Cut) => worker.connections.cut(),
            Some(Message::Drain(leaving, most)) => {
                worker.connections.drain(&leaving, most);
                if matches!(leaving, Leaving::All) {
                    worker.close_idle();
                }
            }
            Some(Message::Pressure(stage)) => {
                worker.stage.set(stage);
                if stage >= Stage::CloseIdle {
                    worker.close_idle();
                }
                worker.connections.wake_all();
            }
            Some(Message::GiveBack) => worker.give_back(),
            Some(Message::Collect(reply)) => {
                let _ = reply.send(Collected::of(&worker));
            }
            Some(Message::Stop) | None => break,
        }
    }
    worker.logs.close();
}

/// One socket that is accepted from. A worker may have several of one address, after a predecessor with more workers.
struct Accepting {
    socket: Rc<Listening>,
    end: oneshot::Sender<Last>,
    task: JoinHandle<()>,
}

/// What a socket that is to be closed has to wait for.
struct Last {
    until: Instant,
    listener: Arc<Listener>,
    _expected: Expected,
}

fn copies(accepting: &HashMap<Address, Vec<Accepting>>) -> io::Result<Vec<(Address, OwnedFd)>> {
    let all = accepting.iter().flat_map(|(address, sockets)| sockets.iter().map(move |one| (address, one)));
    all.map(|(address, one)| Ok((*address, one.socket.as_fd().try_clone_to_owned()?))).collect()
}

/// Accepts until told to end, and then what the system has accepted already: closing the socket would reset it.
async fn accept(
    worker: Rc<Worker>,
    peers: Peers<Message>,
    name: Name,
    socket: Rc<Listening>,
    mut end: oneshot::Receiver<Last>,
) {
    let mut accepted = None;
    let last = loop {
        // Who waits in the system's queue is accepted when there is room: any worker may make it.
        if worker.full() {
            tokio::select! {
                () = tokio::time::sleep(FULL) => continue,
                last = &mut end => break last,
            }
        }
        let next = tokio::select! {
            next = socket.accept() => next,
            last = &mut end => break last,
        };
        match next {
            Ok((stream, peer)) => match listener_now(&worker, &name, &mut end).await {
                Ok(listener) => place(&worker, &peers, listener, stream, peer),
                Err(last) => {
                    accepted = Some((stream, peer));
                    break last;
                }
            },
            Err(error) => {
                count(&worker.metrics.accept_errors);
                // A connection that was reset before it was accepted says nothing about the next.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tracing::warn!(listener = %name, %error, "cannot accept a connection");
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    };
    // A worker that ends has no time for anybody.
    let Ok(last) = last else { return };
    if let Err(error) = socket.refuse() {
        tracing::warn!(listener = %name, %error, "who connects in this instant may be cut off");
    }
    if let Some((stream, peer)) = accepted {
        serve(&worker, last.listener.clone(), stream, peer);
    }
    while let Ok(Ok((stream, peer))) = timeout_at(last.until, socket.accept()).await {
        serve(&worker, last.listener.clone(), stream, peer);
    }
    while let Some((stream, peer)) = socket.next_waiting() {
        if let Ok(stream) = stream {
            serve(&worker, last.listener.clone(), stream, peer);
        }
    }
}

/// The listener as it is configured. One that has just gone is waited for until the socket is told to end, or it is back:
/// while another process takes over, sockets do not follow the configuration.
async fn listener_now(
    worker: &Worker,
    name: &Name,
    end: &mut oneshot::Receiver<Last>,
) -> Result<Arc<Listener>, Result<Last, oneshot::error::RecvError>> {
    loop {
        if let Some(listener) = worker.snapshot().listeners.get(name) {
            return Ok(listener.clone());
        }
        tokio::select! {
            last = &mut *end => return Err(last),
            () = worker.changed() => {}
        }
    }
}

/// Serves a connection, or lets another worker do it.
fn place(
    worker: &Rc<Worker>,
    peers: &Peers<Message>,
    listener: Arc<Listener>,
    stream: TcpStream,
    peer: Address,
) {
    let Some(counted) = worker.connections.elsewhere() else {
        return serve(worker, listener, stream, peer);
    };
    let Ok(stream) = stream.into_std() else { return };
    let other = counted.worker;
    // A worker that cannot be told anything ends, and so do we.
    let _ = peers.tell(other, Message::Serve { listener, stream, peer, counted });
}

fn serve(worker: &Rc<Worker>, listener: Arc<Listener>, stream: TcpStream, peer: Address) {
    let registered = worker.connections.open(&listener.name);
    tokio::task::spawn_local(open(worker.clone(), listener, stream, peer, registered));
}

impl Worker {
    /// Closes the connections to endpoints that carry nothing.
    fn close_idle(&self) {
        let clusters = self.upstreams.all();
        clusters.iter().flat_map(|cluster| cluster.known()).for_each(|member| member.sweep(None));
    }

    /// Closes what nobody uses any more.
    fn sweep(&self) {
        let snapshot = self.snapshot();
        for state in self.upstreams.all() {
            let cluster = snapshot.cluster(&state.name);
            // Who left the set goes with its idle connections, even if nobody sends anything to the cluster any more.
            if let Some(set) = cluster.and_then(|cluster| snapshot.endpoints(cluster)) {
                state.members(set);
            }
            for member in state.known() {
                member.sweep(cluster.and_then(|cluster| cluster.idle_timeout));
            }
        }
        self.logs.sweep();
        self.upstreams.retain(|name| snapshot.clusters.contains_key(name));
    }
}

#[cfg(test)]
mod run_test {
    use super::*;
    use crate::decide::kit::World;
    use crate::snapshot::Snapshot;
    use crate::worker::Published;

    /// A listener that goes and comes back while sockets are held must not leave its socket without anybody who accepts.
    #[tokio::test(start_paused = true)]
    async fn a_listener_that_is_back_is_found_again_and_one_that_ends_is_told() {
        let world = World::of_routes(Vec::new());
        let (with, listener) = (&world.snapshot, world.downstream.listener.clone());
        let published = Arc::new(Published::new(Arc::default(), 1));
        let without = || Arc::new(Snapshot { generation: with.generation + 1, ..Snapshot::default() });
        published.publish(without());
        let worker = Worker::new(published.clone(), 0, None, 1);
        let (send, mut end) = oneshot::channel();
        let back = async {
            tokio::task::yield_now().await;
            published.publish(with.clone());
            worker.wake();
        };
        let found =
            tokio::time::timeout(Duration::from_secs(1), listener_now(&worker, &listener.name, &mut end));
        let (found, ()) = tokio::join!(found, back);
        assert!(Arc::ptr_eq(&found.expect("in time").unwrap_or_else(|_| panic!("it is back")), &listener));

        published.publish(without());
        let last = Last {
            until: Instant::now(),
            listener: listener.clone(),
            _expected: worker.connections.expect(),
        };
        assert!(send.send(last).is_ok());
        let told = listener_now(&worker, &listener.name, &mut end).await.expect_err("it has gone");
        assert!(Arc::ptr_eq(&told.expect("told").listener, &listener));
    }
}

//! Threads that each own a single-threaded runtime.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

/// How one worker tells another something. It keeps no worker running.
#[derive(Debug)]
pub struct Peers<M>(Arc<[mpsc::WeakUnboundedSender<M>]>);

impl<M> Clone for Peers<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> Peers<M> {
    /// Tells one worker.
    ///
    /// # Errors
    /// The message, when there is no such worker or it has ended.
    pub fn tell(&self, index: usize, message: M) -> Result<(), M> {
        match self.0.get(index).and_then(mpsc::WeakUnboundedSender::upgrade) {
            Some(sender) => sender.send(message).map_err(|unsent| unsent.0),
            None => Err(message),
        }
    }
}

/// The running workers of one data plane. `M` is what they can be told.
#[derive(Debug)]
pub struct Workers<M> {
    senders: Vec<mpsc::UnboundedSender<M>>,
    threads: Vec<JoinHandle<()>>,
}

impl<M: Send + 'static> Workers<M> {
    /// Starts `count` workers. `body(index, messages, peers)` is called on each worker's thread and its future runs there to
    /// completion; it may use `spawn_local`.
    ///
    /// # Errors
    /// When the system refuses a thread or an epoll instance.
    pub fn start<B, F>(name: &str, count: usize, body: B) -> io::Result<Self>
    where
        B: Fn(usize, mpsc::UnboundedReceiver<M>, Peers<M>) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
        let peers = Peers(senders.iter().map(mpsc::UnboundedSender::downgrade).collect());
        let mut threads = Vec::with_capacity(count);
        for (index, receiver) in receivers.into_iter().enumerate() {
            let (body, peers) = (body.clone(), peers.clone());
            let (started, outcome) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name(format!("{name}-{index}")).spawn(move || {
                let runtime = Builder::new_current_thread()
                    .enable_all()
                    .event_interval(127)
                    .build_local(LocalOptions::default());
                match runtime {
                    Ok(runtime) => {
                        let _ = started.send(Ok(()));
                        runtime.block_on(body(index, receiver, peers));
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            })?;
            outcome.recv().map_err(|_| io::Error::other("worker thread ended before it began"))??;
            threads.push(thread);
        }
        Ok(Self { senders, threads })
    }

    /// The number of workers.
    pub fn len(&self) -> usize {
        self.senders.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.senders.is_empty()
    }

    /// Tells one worker; false when it has ended.
    pub fn tell(&self, index: usize, message: M) -> bool {
        self.senders.get(index).is_some_and(|sender| sender.send(message).is_ok())
    }

    /// Tells every worker what `message(index)` makes.
    pub fn tell_all(&self, mut message: impl FnMut(usize) -> M) {
        for (index, sender) in self.senders.iter().enumerate() {
            let _ = sender.send(message(index));
        }
    }

    /// True when every worker's thread has ended.
    pub fn finished(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Closes the workers' channels and waits for their threads. Blocks: call it from a thread that may.
    pub fn join(self) {
        drop(self.senders);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// CPUs that this process may use: its affinity, limited by the quota of its cgroup (version 2), at least 1.
pub fn available_cpus() -> usize {
    // The standard library reads both.
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

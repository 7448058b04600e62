//! From a worker's buffer to a file.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

/// Bytes of lines that a worker collects for a file before it hands them on.
const PIECE: usize = 64 * 1024;
/// Room for the line that makes a piece whole.
const LINE: usize = 4 * 1024;
/// How long a line waits in a worker's buffer at most.
const WAITS: Duration = Duration::from_secs(1);
/// Pieces that wait for a file; what comes when there are so many is dropped.
const PIECES: usize = 16;
/// A write to a pipe of at most so many bytes is not mixed with those of others (POSIX, PIPE_BUF).
const PIPE: usize = 4096;
/// Stack of a thread that only writes, in bytes.
const STACK: usize = 128 * 1024;

/// Counts of all files.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Writes done.
    pub(crate) completed: AtomicU64,
    /// Writes that failed, and files that could not be opened.
    pub(crate) failed: AtomicU64,
    /// Files that could not be opened again.
    pub(crate) reopen_failed: AtomicU64,
    /// Lines that could not be written.
    pub(crate) lost: AtomicU64,
    /// Threads that write.
    threads: AtomicUsize,
}

impl Counts {
    /// By their names.
    pub(crate) fn all(&self) -> [(&'static str, u64); 4] {
        [
            ("filesystem.write_completed", self.completed.load(Relaxed)),
            ("filesystem.write_failed", self.failed.load(Relaxed)),
            ("filesystem.reopen_failed", self.reopen_failed.load(Relaxed)),
            ("access_log.lines_lost", self.lost.load(Relaxed)),
        ]
    }
}

/// The files of this process.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    pub(crate) counts: Arc<Counts>,
    files: Mutex<HashMap<Arc<str>, Weak<Target>>>,
}

/// One file, as those who have lines for it see it. Its thread ends when nobody does.
#[derive(Debug)]
struct Target {
    path: Arc<str>,
    pieces: SyncSender<Vec<u8>>,
    reopen: Arc<AtomicBool>,
}

impl Writers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Weak<Target>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file of that path; its thread is started if there is none. Once per worker and file.
    fn target(&self, path: &Arc<str>) -> io::Result<Arc<Target>> {
        let mut files = self.lock();
        if let Some(target) = files.get(path).and_then(Weak::upgrade) {
            return Ok(target);
        }
        let (pieces, taken) = sync_channel(PIECES);
        let reopen = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            path: path.clone(),
            reopen: reopen.clone(),
            counts: self.counts.clone(),
            file: None,
            told: false,
            torn: false,
        };
        self.counts.threads.fetch_add(1, Relaxed);
        let counts = self.counts.clone();
        let thread = std::thread::Builder::new().name("heddle-log".into()).stack_size(STACK);
        let started = thread.spawn(move || {
            writer.run(&taken);
            counts.threads.fetch_sub(1, Relaxed);
        });
        if let Err(error) = started {
            self.counts.threads.fetch_sub(1, Relaxed);
            return Err(error);
        }
        let target = Arc::new(Target { path: path.clone(), pieces, reopen });
        files.retain(|_, known| known.strong_count() > 0);
        files.insert(path.clone(), Arc::downgrade(&target));
        Ok(target)
    }

    /// Every file is opened again, since it was moved away (`/reopen_logs`, SIGUSR1).
    pub(crate) fn reopen(&self) {
        for target in self.lock().values().filter_map(Weak::upgrade) {
            target.reopen.store(true, Relaxed);
            // Wakes the thread; one with work looks by itself.
            let _ = target.pieces.try_send(Vec::new());
        }
    }

    /// Waits until what the workers handed over is written, for at most so long.
    pub(crate) async fn finish(&self, most: Duration) {
        let done = async {
            while self.counts.threads.load(Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // A disk that is stuck does not keep the process.
        let _ = tokio::time::timeout(most, done).await;
    }
}

/// One worker's lines.
#[derive(Debug)]
pub(crate) struct Logs {
    writers: Arc<Writers>,
    open: RefCell<Vec<Open>>,
    /// Lines put into buffers.
    pub(crate) lines: Cell<u64>,
    /// Lines for which there was no room.
    pub(crate) dropped: Cell<u64>,
}

/// What one worker has for one file.
#[derive(Debug)]
struct Open {
    target: Arc<Target>,
    lines: Vec<u8>,
    /// Somebody will look in [`WAITS`].
    timed: bool,
    /// Something was written since the last look.
    used: bool,
}

impl Open {
    /// False when the thread has too much to do already: the lines stay here.
    fn hand_over(&mut self) -> bool {
        if self.lines.is_empty() {
            return true;
        }
        match self.target.pieces.try_send(std::mem::take(&mut self.lines)) {
            Ok(()) => true,
            Err(full) => {
                let (std::sync::mpsc::TrySendError::Full(lines)
                | std::sync::mpsc::TrySendError::Disconnected(lines)) = full;
                self.lines = lines;
                false
            }
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // Where the disk is stuck, the end of the process is not.
        self.hand_over();
    }
}

impl Logs {
    pub(crate) fn new(writers: Arc<Writers>) -> Rc<Self> {
        Rc::new(Self { writers, open: RefCell::default(), lines: Cell::new(0), dropped: Cell::new(0) })
    }

    /// Appends a line for a file.
    pub(crate) fn write(self: &Rc<Self>, path: &Arc<str>, line: impl FnOnce(&mut Vec<u8>)) {
        let mut all = self.open.borrow_mut();
        let known = all.iter().position(|open| open.target.path == *path);
        let at = match known.map_or_else(|| self.writers.target(path), |at| Ok(all[at].target.clone())) {
            Ok(_) if known.is_some() => known.unwrap_or_default(),
            Ok(target) => {
                all.push(Open { target, lines: Vec::new(), timed: false, used: true });
                all.len() - 1
            }
            Err(error) => {
                tracing::error!(%path, %error, "cannot start the thread that writes the access log");
                return self.dropped.set(self.dropped.get() + 1);
            }
        };
        let open = &mut all[at];
        if open.lines.len() >= PIECE && !open.hand_over() {
            return self.dropped.set(self.dropped.get() + 1);
        }
        if open.lines.capacity() == 0 {
            open.lines.reserve_exact(PIECE + LINE);
        }
        line(&mut open.lines);
        open.used = true;
        self.lines.set(self.lines.get() + 1);
        if open.lines.len() >= PIECE && open.hand_over() {
            return;
        }
        if !std::mem::replace(&mut open.timed, true) {
            tokio::task::spawn_local(self.clone().later(path.clone()));
        }
    }

    /// Hands over what waits for a file, soon.
    async fn later(self: Rc<Self>, path: Arc<str>) {
        loop {
            tokio::time::sleep(WAITS).await;
            let mut all = self.open.borrow_mut();
            let Some(open) = all.iter_mut().find(|open| open.target.path == path) else { return };
            if open.hand_over() {
                open.timed = false;
                return;
            }
        }
    }

    /// Lets go of files that nobody has written to since the last call.
    pub(crate) fn sweep(&self) {
        self.open
            .borrow_mut()
            .retain_mut(|open| std::mem::replace(&mut open.used, false) || open.timed || !open.hand_over());
    }

    /// Hands over all that waits.
    pub(crate) fn close(&self) {
        self.open.borrow_mut().clear();
    }
}

/// The thread of one file.
#[derive(Debug)]
struct Writer {
    path: Arc<str>,
    reopen: Arc<AtomicBool>,
    counts: Arc<Counts>,
    file: Option<Sink>,
    /// That it cannot be written was said.
    told: bool,
    /// The last write ended within a line.
    torn: bool,
}

/// An open file.
#[derive(Debug)]
struct Sink {
    file: File,
    /// At most so many bytes are written at a time.
    most: usize,
    /// It can be opened again.
    named: bool,
}

impl Sink {
    fn open(path: &str) -> io::Result<Self> {
        let own = |fd: BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from);
        let (file, named) = match path {
            // What these name cannot be opened where they are sockets.
            "/dev/stdout" => (own(io::stdout().as_fd())?, false),
            "/dev/stderr" => (own(io::stderr().as_fd())?, false),
            path => (OpenOptions::new().append(true).create(true).open(path)?, true),
        };
        let pipe = file.metadata().is_ok_and(|data| data.file_type().is_fifo());
        Ok(Self { file, most: if pipe { PIPE } else { usize::MAX }, named })
    }

    /// Writes lines; on failure says how many bytes were left.
    fn write(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut left = lines;
        while !left.is_empty() {
            match self.file.write(piece(left, self.most)) {
                Ok(0) => return Err((left.len(), io::ErrorKind::WriteZero.into())),
                Ok(len) => left = &left[len..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let mut ready = [PollFd::new(&self.file, PollFlags::OUT)];
                    if let Err(error) = poll(&mut ready, None) {
                        return Err((left.len(), error.into()));
                    }
                }
                Err(error) => return Err((left.len(), error)),
            }
        }
        Ok(())
    }
}

/// As many whole lines as fit, or one.
fn piece(lines: &[u8], most: usize) -> &[u8] {
    if lines.len() <= most {
        return lines;
    }
    let end = memchr::memrchr(b'\n', &lines[..most]).or_else(|| memchr::memchr(b'\n', lines));
    end.map_or(lines, |end| &lines[..=end])
}

impl Writer {
    fn run(mut self, pieces: &Receiver<Vec<u8>>) {
        while let Ok(lines) = pieces.recv() {
            if self.reopen.swap(false, Relaxed) && self.file.as_ref().is_none_or(|sink| sink.named) {
                match Sink::open(&self.path) {
                    Ok(file) => self.file = Some(file),
                    // The old one is better than none.
                    Err(error) => {
                        self.counts.reopen_failed.fetch_add(1, Relaxed);
                        self.say(&error);
                    }
                }
            }
            if !lines.is_empty() {
                self.put(&lines);
            }
        }
    }

    fn put(&mut self, lines: &[u8]) {
        let outcome = match &mut self.file {
            Some(file) => Ok(file),
            none => Sink::open(&self.path).map(|file| none.insert(file)),
        };
        let written = match outcome {
            Ok(file) => {
                // What comes behind half a line begins a new one.
                let begun = if self.torn { file.write(b"\n") } else { Ok(()) };
                begun.map_err(|(_, error)| (lines.len(), error)).and_then(|()| {
                    self.torn = false;
                    file.write(lines)
                })
            }
            Err(error) => Err((lines.len(), error)),
        };
        match written {
            Ok(()) => {
                self.told = false;
                self.counts.completed.fetch_add(1, Relaxed);
            }
            Err((left, error)) => {
                let (whole, rest) = lines.split_at(lines.len() - left);
                self.torn |= !whole.is_empty() && !whole.ends_with(b"\n");
                let lost = memchr::memchr_iter(b'\n', rest).count();
                self.counts.lost.fetch_add(lost as u64, Relaxed);
                self.counts.failed.fetch_add(1, Relaxed);
                self.say(&error);
            }
        }
    }

    /// Once, until it is better.
    fn say(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!(
                "access log {}: {error}; its lines are lost until it can be written: make room, or change the path or its permissions",
                self.path
            );
        }
    }
}

#[cfg(test)]
#[path = "sink_test.rs"]
mod sink_test;

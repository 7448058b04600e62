use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

/// Waits for what a thread does.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// A directory that is removed at the end.
struct Dir(std::path::PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("heddle-log-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> (std::path::PathBuf, Arc<str>) {
        let path = self.0.join(name);
        let text = path.to_str().unwrap().into();
        (path, text)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn locally<F: Future>(what: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, what)
}

#[test]
fn lines_reach_the_file_soon_and_at_the_end() {
    locally(async {
        let (dir, writers) = (Dir::new("soon"), Arc::new(Writers::default()));
        let (path, text) = dir.file("log");
        let logs = Logs::new(writers.clone());
        logs.write(&text, |out| out.extend_from_slice(b"one\n"));
        until("the timer", || read(&path) == "one\n").await;
        logs.write(&text, |out| out.extend_from_slice(b"two\n"));
        logs.close();
        writers.finish(Duration::from_secs(20)).await;
        assert_eq!(read(&path), "one\ntwo\n");
        assert_eq!((logs.lines.get(), logs.dropped.get()), (2, 0));
    });
}

#[test]
fn a_full_buffer_is_handed_over_at_once_and_lines_stay_whole() {
    locally(async {
        let (dir, writers) = (Dir::new("full"), Arc::new(Writers::default()));
        let (path, text) = dir.file("log");
        let workers = [Logs::new(writers.clone()), Logs::new(writers.clone())];
        let line = |worker: usize| format!("{}\n", worker.to_string().repeat(999));
        for _ in 0..200 {
            for (index, logs) in workers.iter().enumerate() {
                logs.write(&text, |out| out.extend_from_slice(line(index).as_bytes()));
            }
            tokio::task::yield_now().await;
        }
        // Two workers with 200 KB each, before any timer: what fills a buffer is there, and nothing is cut.
        until("full buffers", || read(&path).len() >= 6 * PIECE).await;
        workers.iter().for_each(|logs| logs.close());
        writers.finish(Duration::from_secs(20)).await;
        let all = read(&path);
        assert_eq!(all.len(), 400_000);
        assert!(all.lines().all(|l| l.len() == 999 && l.bytes().all(|b| b == l.as_bytes()[0])));
    });
}

#[test]
fn a_stuck_disk_costs_lines_and_neither_time_nor_memory() {
    locally(async {
        let (dir, writers) = (Dir::new("stuck"), Arc::new(Writers::default()));
        let (path, text) = dir.file("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let logs = Logs::new(writers.clone());
        let line = [b'x'; 1023];
        let started = std::time::Instant::now();
        // 8 MB, while nobody reads the pipe.
        for _ in 0..8192 {
            logs.write(&text, |out| {
                out.extend_from_slice(&line);
                out.push(b'\n');
            });
        }
        assert!(started.elapsed() < Duration::from_secs(5));
        let held = logs.open.borrow()[0].lines.len();
        assert!(held <= PIECE + LINE, "{held}");
        let (written, dropped) = (logs.lines.get(), logs.dropped.get());
        assert_eq!(written + dropped, 8192);
        assert!(written * 1024 <= ((PIECES + 3) * PIECE) as u64, "{written} lines are kept");
        // Once somebody reads, what was kept comes whole.
        let reader = std::thread::spawn(move || std::fs::read(path).unwrap());
        until("room", || logs.open.borrow_mut()[0].hand_over()).await;
        logs.close();
        let all = reader.join().unwrap();
        assert_eq!(all.len() as u64, written * 1024);
        writers.finish(Duration::from_secs(20)).await;
    });
}

#[test]
fn a_moved_file_is_opened_again_when_asked() {
    locally(async {
        let (dir, writers) = (Dir::new("moved"), Arc::new(Writers::default()));
        let (path, text) = dir.file("log");
        let (old, _) = dir.file("log.1");
        let logs = Logs::new(writers.clone());
        let put = |line: &'static str| {
            logs.write(&text, |out| out.extend_from_slice(line.as_bytes()));
            logs.open.borrow_mut()[0].hand_over();
        };
        put("one\n");
        until("the first line", || read(&path) == "one\n").await;
        std::fs::rename(&path, &old).unwrap();
        put("two\n");
        until("the old file", || read(&old) == "one\ntwo\n").await;
        writers.reopen();
        until("the new file, without a line", || path.exists()).await;
        put("three\n");
        until("the new file", || read(&path) == "three\n").await;
        assert_eq!(read(&old), "one\ntwo\n");
    });
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    locally(async {
        let (dir, writers) = (Dir::new("lost"), Arc::new(Writers::default()));
        let (path, text) = dir.file("absent/log");
        let logs = Logs::new(writers.clone());
        logs.write(&text, |out| out.extend_from_slice(b"one\ntwo\n"));
        logs.open.borrow_mut()[0].hand_over();
        until("the failure", || writers.counts.failed.load(Relaxed) == 1).await;
        assert_eq!(writers.counts.lost.load(Relaxed), 2);
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        logs.write(&text, |out| out.extend_from_slice(b"three\n"));
        logs.open.borrow_mut()[0].hand_over();
        until("the file", || read(&path) == "three\n").await;
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o022, 0);
    });
}

#[test]
fn a_full_device_loses_lines() {
    locally(async {
        let writers = Arc::new(Writers::default());
        let logs = Logs::new(writers.clone());
        logs.write(&"/dev/full".into(), |out| out.extend_from_slice(b"one\n"));
        logs.close();
        writers.finish(Duration::from_secs(20)).await;
        assert_eq!((writers.counts.lost.load(Relaxed), writers.counts.completed.load(Relaxed)), (1, 0));
    });
}

#[test]
fn files_that_nobody_uses_are_closed() {
    locally(async {
        let (dir, writers) = (Dir::new("unused"), Arc::new(Writers::default()));
        let (_, text) = dir.file("log");
        let logs = Logs::new(writers.clone());
        logs.write(&text, |out| out.extend_from_slice(b"one\n"));
        logs.sweep();
        assert_eq!(logs.open.borrow().len(), 1);
        until("the timer", || !logs.open.borrow()[0].timed).await;
        logs.sweep();
        assert_eq!(logs.open.borrow().len(), 0);
        writers.finish(Duration::from_secs(20)).await;
        assert_eq!(writers.counts.threads.load(Relaxed), 0);
    });
}

#[test]
fn pieces_end_with_a_line() {
    assert_eq!(piece(b"aa\nbb\ncc\n", 100), b"aa\nbb\ncc\n");
    assert_eq!(piece(b"aa\nbb\ncc\n", 7), b"aa\nbb\n");
    assert_eq!(piece(b"aaaaaaa\nbb\n", 4), b"aaaaaaa\n");
    assert_eq!(piece(b"aaaaaaa", 4), b"aaaaaaa");
}

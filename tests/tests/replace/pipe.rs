//! A Unix socket is handed over like every other, and its file stays for as long as somebody listens there.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};

use super::{BODY, Ground, HOST};

/// A request on a connection of its own.
pub(crate) async fn once(path: &Path) -> Result<(), String> {
    let asked = async {
        let mut stream = UnixStream::connect(path).await?;
        let request = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(20), asked).await.map_err(|e| e.to_string())?;
    let answer = answer.map_err(|e| format!("{}: {e}", path.display()))?;
    if answer.ends_with(BODY) { Ok(()) } else { Err(answer) }
}

/// Clients one after the other until they are told to end; what went wrong.
async fn ask_on(path: PathBuf, end: Arc<AtomicBool>) -> (u64, Vec<String>) {
    let (mut count, mut failed) = (0, Vec::new());
    while !end.load(Ordering::Relaxed) {
        failed.extend(once(&path).await.err());
        count += 1;
    }
    (count, failed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_is_listened_on_throughout_and_goes_with_the_last() {
    let mut ground = Ground::new(2, &[]).await;
    let path = ground.doors().socket;
    let file = || std::fs::metadata(&path).map(|data| data.ino()).ok();
    let (before, end) = (file(), Arc::new(AtomicBool::new(false)));
    assert!(before.is_some());
    let clients: Vec<_> = (0..4).map(|_| tokio::spawn(ask_on(path.clone(), end.clone()))).collect();
    for workers in [1, 3, 2] {
        let mut old = ground.replace(workers);
        assert!(old.ended(Duration::from_secs(30)).await.success(), "{}", old.log());
        assert_eq!(file(), before, "it is one socket all the time");
        once(&path).await.unwrap();
    }
    end.store(true, Ordering::Relaxed);
    for client in clients {
        let (count, failed) = client.await.unwrap();
        assert!(count > 0 && failed.is_empty(), "{} of {count}: {failed:#?}", failed.len());
    }
    let pid = Pid::from_raw(ground.gateway.child.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(ground.gateway.ended(Duration::from_secs(60)).await.success(), "{}", ground.gateway.log());
    assert_eq!(file(), None, "nobody listens there any more");
}

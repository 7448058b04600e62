//! SIGTERM and SIGUSR2.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    time::{Duration, Instant},
};

use heddle_tests::{client::get, eventually, mesh::Role};
use rustix::process::{Pid, Signal, kill_process};

use super::{
    Ground, load,
    streams::{Kind, LongStream},
};

fn signal(role: &Role, signal: Signal) {
    kill_process(Pid::from_raw(role.child.id().cast_signed()).unwrap(), signal).unwrap();
}

/// A GET at a socket in the data directory.
fn ask(path: &Path, page: &str) -> Result<String, String> {
    let mut stream = UnixStream::connect(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let request = format!("GET {page} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(|e| e.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_has_two_stages_and_a_second_signal_ends_it() {
    let mut ground = Ground::new(2, &["--drain-time", "40s"]).await;
    let mut streams = Vec::new();
    for kind in Kind::ALL {
        streams.push(LongStream::open(kind, &ground.doors()).await.unwrap());
    }
    let admin = ground.gateway.address("admin");
    signal(&ground.gateway, Signal::TERM);
    let start = Instant::now();
    eventually("readiness fails", || async {
        let answer = get(admin, "localhost", "/ready", &[]).await?;
        if answer.status == 503 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    // First stage: whoever comes is served.
    load::once(ground.http).await.expect("new connections are still accepted");
    eventually("new connections are refused", || async {
        match load::once(ground.http).await {
            Err(error) if error.starts_with("connect: ") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
    // Second stage: what is open goes on.
    for stream in &streams {
        let before = stream.echoed.load(std::sync::atomic::Ordering::Relaxed);
        eventually("the stream goes on", || async {
            let now = stream.echoed.load(std::sync::atomic::Ordering::Relaxed);
            if now > before { Ok(()) } else { Err(format!("{now} messages")) }
        })
        .await;
    }
    signal(&ground.gateway, Signal::TERM);
    let told = Instant::now();
    let status = ground.gateway.ended(Duration::from_secs(30)).await;
    assert!(status.success() && told.elapsed() < Duration::from_secs(10), "{status} {:?}", told.elapsed());
    assert!(start.elapsed() < Duration::from_secs(40), "the drain time was over: {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_starts_the_successor_and_the_old_one_can_be_looked_at_while_it_drains() {
    let mut ground = Ground::new(1, &[]).await;
    // What systemd would hear. The gateway is started once more, with the socket in its environment.
    let notify = ground.mesh.scratch.path().join("notify");
    let heard = UnixDatagram::bind(&notify).unwrap();
    heard.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let said = || {
        let mut text = [0; 256];
        let len = heard.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..len]).into_owned()
    };
    let (dir, flags) = (ground.gateway.dir.clone(), ground.flags.clone());
    let mut first = ground.gateway;
    first.terminate();
    first.ended(Duration::from_secs(30)).await;
    let flags = super::with_workers(&flags, "2");
    ground.gateway = Role::start_with("gateway", &dir, &flags, &[("NOTIFY_SOCKET", &notify)]);
    let (old, admin) = (ground.gateway.child.id(), ground.gateway.address("admin"));
    assert_eq!(said(), format!("READY=1\nMAINPID={old}"));
    eventually("the gateway serves", || load::once(ground.http)).await;
    let stream = LongStream::open(Kind::WebSocket, &ground.doors()).await.unwrap();

    signal(&ground.gateway, Signal::USR2);
    let ready = said();
    let new: u32 = ready.strip_prefix("READY=1\nMAINPID=").and_then(|pid| pid.parse().ok()).expect(&ready);
    assert_ne!(new, old);
    load::once(ground.http).await.unwrap();
    // The admin port is the successor's; the old one is asked in the data directory.
    let info = get(admin, "localhost", "/server_info", &[]).await.unwrap().json();
    assert_eq!(info["command_line_options"]["restart_epoch"], 1, "{info}");
    let draining = dir.join(format!("draining-{old}.sock"));
    let page = eventually("the old one answers", || async { ask(&draining, "/stats?usedonly") }).await;
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("cx_active: 1\n"), "{page}");

    stream.close().await.unwrap();
    let status = ground.gateway.ended(Duration::from_secs(30)).await;
    assert!(status.success(), "{status}");
    assert!(!draining.exists(), "the socket is taken away");
    let ports = std::fs::read_to_string(dir.join("ports.json")).unwrap();
    assert!(ports.contains(&format!("\"pid\": {new}")), "ports.json is the successor's: {ports}");
    load::once(ground.http).await.unwrap();
    kill_process(Pid::from_raw(new.cast_signed()).unwrap(), Signal::TERM).unwrap();
    eventually("the successor ends", || async {
        if dir.join("ports.json").exists() { Err("ports.json is still there".to_owned()) } else { Ok(()) }
    })
    .await;
}

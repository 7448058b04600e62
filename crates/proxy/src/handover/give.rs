//! The side of the process that is replaced.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use tokio::sync::oneshot;

use super::link::{Door, Link, MOST};
use super::{Answer, GREETING, Handed, Hello, Kind, PROTOCOL, Ready, WAIT, Welcome};
use crate::run::{End, Plane};
use crate::snapshot::Address;
use crate::worker::run::Message;

/// A pause after the system refused a connection.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Answers whoever comes to the door, until a successor has it.
pub(crate) async fn serve(door: Door, plane: Arc<Plane>) {
    let mut end = plane.end.subscribe();
    loop {
        let link = tokio::select! {
            link = door.accept() => link,
            _ = end.wait_for(|end| *end == Some(End::Replaced)) => return,
        };
        match link {
            Ok(link) => {
                let plane = plane.clone();
                tokio::spawn(async move { answer(&link, &plane).await });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection in the data directory");
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

async fn answer(link: &Link, plane: &Arc<Plane>) {
    let Ok(Ok(Some((hello, _)))) = tokio::time::timeout(GREETING, link.receive::<Hello>()).await else {
        return;
    };
    let (pid, version) = (hello.pid, hello.version.as_str());
    let turn = match admit(link, plane, &hello) {
        Ok(turn) => turn,
        Err(reason) => {
            tracing::warn!(pid, version, reason, "refused to be replaced");
            // It hears of it, or it has gone.
            let _ = link.send(&Answer::Refused { protocol: PROTOCOL, reason }, &[]).await;
            return;
        }
    };
    plane.hold_sockets();
    match give(link, plane).await {
        Ok(taken) => {
            tracing::info!(pid, version, "replaced; serving what is open");
            plane.leave_to(&taken).await;
            let _ = link.send(&Answer::Yours, &[]).await;
            // Not before: this process may end at once.
            plane.end.send_replace(Some(End::Replaced));
        }
        Err(error) => {
            tracing::error!(pid, version, %error, "not replaced; serving on");
            plane.follow_again();
        }
    }
    drop(turn);
}

/// The right to take over; there is one.
struct Turn<'p>(&'p Plane);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.successor.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

fn admit<'p>(link: &Link, plane: &'p Plane, hello: &Hello) -> Result<Turn<'p>, String> {
    if !link.is_ours().unwrap_or(false) {
        return Err("only processes of the same user are answered here".to_owned());
    }
    if hello.protocol != PROTOCOL {
        return Err(format!(
            "process {} (heddle {}) hands over by protocol {PROTOCOL}, and process {} (heddle {}) by protocol {}; end the old one and start the new one instead",
            std::process::id(),
            plane.config.version,
            hello.pid,
            hello.version,
            hello.protocol
        ));
    }
    if plane.ending() {
        return Err(format!(
            "process {} was told to end and is draining; start without it",
            std::process::id()
        ));
    }
    let mut successor = plane.successor.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(first) = *successor {
        return Err(format!("process {first} is taking over already; try again when it is ready"));
    }
    *successor = Some(hello.pid);
    Ok(Turn(plane))
}

/// Hands everything over, and waits until the successor accepts; the addresses that it took.
async fn give(link: &Link, plane: &Plane) -> io::Result<Vec<Address>> {
    let welcome = Welcome {
        version: plane.config.version.clone(),
        pid: std::process::id(),
        epoch: plane.epoch,
        uptime: plane.uptime_of_all().as_secs(),
        healthy: plane.healthy.is_open(),
        bound: plane.bound.clone(),
    };
    link.send(&Answer::Welcome(welcome), &[]).await?;
    let everything = everything(plane).await?;
    for some in everything.chunks(MOST) {
        let described = some.iter().map(|(handed, _)| handed.clone()).collect();
        let descriptors: Vec<_> = some.iter().map(|(_, descriptor)| descriptor.as_fd()).collect();
        link.send(&Answer::Sockets(described), &descriptors).await?;
    }
    link.send(&Answer::Done, &[]).await?;
    // Copies that stay open would keep sockets alive that the successor does not want.
    drop(everything);
    let gone = || io::Error::other("the successor has ended before it was ready");
    match tokio::time::timeout(WAIT, link.receive::<Ready>()).await {
        Ok(received) => Ok(received?.ok_or_else(gone)?.0.taken),
        Err(_) => Err(io::Error::other(format!("the successor was not ready after {WAIT:?}"))),
    }
}

async fn everything(plane: &Plane) -> io::Result<Vec<(Handed, OwnedFd)>> {
    let mut all = Vec::new();
    let mut lent = Vec::new();
    plane.workers.tell_all(|_| {
        let (reply, answer) = oneshot::channel();
        lent.push(answer);
        Message::Lend(reply)
    });
    let mut listeners = plane.lock_sockets().lend()?;
    for answer in lent {
        listeners.extend(answer.await.map_err(|_| io::Error::other("a worker has ended"))??);
    }
    for (address, socket) in listeners {
        all.push((Handed { kind: Kind::Listener, address: Some(address) }, socket));
    }
    for (what, socket) in plane.lent.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        let (kind, address) = match what {
            crate::run::Lent::Admin(address) => (Kind::Admin, Some((*address).into())),
            crate::run::Lent::NamesUdp(address) => (Kind::NamesUdp, Some((*address).into())),
            crate::run::Lent::NamesTcp(address) => (Kind::NamesTcp, Some((*address).into())),
            crate::run::Lent::Door => (Kind::Door, None),
        };
        all.push((Handed { kind, address }, socket.try_clone()?));
    }
    if plane.published.load().generation > 0 {
        let ended = || io::Error::other("the configuration in force cannot be had");
        let file = plane.configuration().await.ok_or_else(ended)?;
        let memory = memfd_create("heddle-configuration", MemfdFlags::CLOEXEC)?;
        let mut memory = std::fs::File::from(memory);
        memory.write_all(&file)?;
        all.push((Handed { kind: Kind::Configuration, address: None }, memory.into()));
    }
    Ok(all)
}

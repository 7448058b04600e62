//! One instance of a service, as a process that can be killed: `instance NAME VERSION MILLIS`.
//!
//! Speaks HTTP/1.1 and HTTP/2. Every request takes MILLIS and is answered with the name and the version. Prints `port N` when it listens. Commands
//! by standard input, each answered by one line: `hold N` keeps all answers back and says `holding GETS POSTS` once at
//! least N GETs wait; `finish` says `idle` once nothing waits; `count` says `served GETS POSTS`. Ends with its input.
#![expect(clippy::print_stdout, reason = "its starter reads what it prints")]

use std::{
    convert::Infallible,
    io::BufRead,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};

/// Requests of one method.
#[derive(Clone, Copy, Default)]
struct Count {
    gets: u64,
    posts: u64,
}

impl Count {
    fn of(&mut self, method: &Method) -> &mut u64 {
        if *method == Method::GET { &mut self.gets } else { &mut self.posts }
    }
}

#[derive(Clone, Copy, Default)]
struct Now {
    holding: bool,
    waiting: Count,
    served: Count,
}

struct Instance {
    name: String,
    version: String,
    takes: Duration,
    now: watch::Sender<Now>,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().unwrap_or_default();
    let (name, version) = (next(), next());
    let takes = Duration::from_millis(next().parse().unwrap_or(0));
    let instance = Arc::new(Instance { name, version, takes, now: watch::Sender::new(Now::default()) });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("{error}"));
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await;
        let listener = listener.unwrap_or_else(|error| panic!("{error}"));
        println!("port {}", listener.local_addr().map(|at| at.port()).unwrap_or_default());
        tokio::spawn(serve(instance.clone(), listener));
        obey(&instance).await;
    });
}

/// Does what standard input asks for until it ends.
async fn obey(instance: &Instance) {
    let (lines, mut commands) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.blocking_send(line).is_err() {
                return;
            }
        }
    });
    while let Some(command) = commands.recv().await {
        let mut seen = instance.now.subscribe();
        match command.split_once(' ').unwrap_or((&command, "")) {
            ("hold", least) => {
                let least: u64 = least.parse().unwrap_or(1);
                instance.now.send_modify(|now| now.holding = true);
                if let Ok(now) = seen.wait_for(|now| now.waiting.gets >= least).await {
                    println!("holding {} {}", now.waiting.gets, now.waiting.posts);
                }
            }
            ("finish", _) => {
                if seen.wait_for(|now| now.waiting.gets + now.waiting.posts == 0).await.is_ok() {
                    println!("idle");
                }
            }
            _ => {
                let served = seen.borrow_and_update().served;
                println!("served {} {}", served.gets, served.posts);
            }
        }
    }
}

async fn serve(instance: Arc<Instance>, listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        // A small answer must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let instance = instance.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request| answer(instance.clone(), request));
            let _ =
                auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(
    instance: Arc<Instance>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    if parts.uri.path() == "/healthy" {
        return Ok(Response::new(Full::default()));
    }
    // A body that breaks off was for nobody.
    let _ = body.collect().await;
    instance.now.send_modify(|now| *now.waiting.of(&parts.method) += 1);
    // The time that the service takes.
    tokio::time::sleep(instance.takes).await;
    let mut seen = instance.now.subscribe();
    let _ = seen.wait_for(|now| !now.holding).await;
    instance.now.send_modify(|now| {
        *now.waiting.of(&parts.method) -= 1;
        *now.served.of(&parts.method) += 1;
    });
    let page = serde_json::json!({
        "backend": instance.name, "version": instance.version, "method": parts.method.as_str(),
        "path": parts.uri.path(),
    });
    Ok(Response::new(Full::new(Bytes::from(page.to_string()))))
}

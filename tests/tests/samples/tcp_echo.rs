//! tcp-echo: bytes rather than requests, through a gateway of either language.

use std::{collections::BTreeMap, net::SocketAddr};

use heddle_tests::eventually;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::kit::{Sample, shared};

/// Connections that are counted, in all and at a time.
const CONNECTIONS: usize = 10_000;
const AT_A_TIME: usize = 8;

/// What the sample's image does: every line comes back with the server's word before it.
async fn echo(word: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    stream.write_all(format!("{word} {line}").as_bytes()).await?;
                    line.clear();
                }
                stream.shutdown().await
            });
        }
    });
    address
}

/// The word of the server behind one connection, over which two lines go back and forth.
async fn word(at: SocketAddr) -> Result<String, String> {
    let stream = TcpStream::connect(at).await.map_err(|e| e.to_string())?;
    let mut stream = BufReader::new(stream);
    let mut words = Vec::new();
    for text in ["first", "second"] {
        stream.write_all(format!("{text}\n").as_bytes()).await.map_err(|e| e.to_string())?;
        let mut line = String::new();
        stream.read_line(&mut line).await.map_err(|e| e.to_string())?;
        let word = line.trim_end().strip_suffix(text).ok_or_else(|| format!("{line:?} for {text}"))?;
        words.push(word.trim_end().to_owned());
    }
    if words[0] == words[1] {
        Ok(words.remove(0))
    } else {
        Err(format!("one connection, two servers: {words:?}"))
    }
}

/// How many of `of` connections each server answered.
async fn spread(at: SocketAddr, of: usize) -> BTreeMap<String, usize> {
    let mut tasks = JoinSet::new();
    for _ in 0..AT_A_TIME {
        tasks.spawn(async move {
            let mut words = Vec::with_capacity(of / AT_A_TIME);
            for _ in 0..of / AT_A_TIME {
                words.push(word(at).await.unwrap());
            }
            words
        });
    }
    let mut counts = BTreeMap::new();
    for word in tasks.join_all().await.into_iter().flatten() {
        *counts.entry(word).or_default() += 1;
    }
    counts
}

/// `folder`: of the files of one language; `gateway`: how it names its Gateway.
async fn goes_where_the_files_say(folder: &str, gateway: &str) {
    let Some(sample) = Sample::start(&["tcp-echo/tcp-echo-services.yaml"], &[]).await else { return };
    for (version, word) in [("v1", "one"), ("v2", "two")] {
        sample.register("tcp-echo", version, echo(word).await, Some("tcp"));
    }
    sample.apply(&format!("{folder}/tcp-echo-all-v1.yaml"));
    let Some((_gateway, at)) = sample.gateway(gateway, 31400).await else { return };
    eventually("an echo through the gateway", || word(at)).await;
    assert_eq!(spread(at, 400).await, BTreeMap::from([("one".to_owned(), 400)]), "all to v1");

    sample.apply(&format!("{folder}/tcp-echo-20-v2.yaml"));
    shared(CONNECTIONS, &[("one", 0.8), ("two", 0.2)], async || spread(at, CONNECTIONS).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_echo_is_split_by_its_virtual_service() {
    goes_where_the_files_say("tcp-echo", "istio:default/tcp-echo-gateway").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_echo_is_split_by_its_route() {
    goes_where_the_files_say("tcp-echo/gateway-api", "k8s:default/tcp-echo-gateway").await;
}

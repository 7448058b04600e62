use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3 as proto;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::google::protobuf::{Duration as PbDuration, UInt32Value};
use socket2::{Domain, SockRef, Socket, Type};

use super::{ConnectError, connect};
use crate::snapshot::Cluster;
use crate::snapshot::compile::{cluster::compile, judge::Listed};
use crate::upstream::{Member, Upstreams};

/// The compiled cluster and its member at an address.
fn up(value: &proto::Cluster, at: std::net::SocketAddr) -> (Cluster, Rc<Member>) {
    let cluster = compile(value, &mut Listed::new()).unwrap();
    let member = Upstreams::new(Arc::default(), None).cluster(&cluster).at(at);
    (cluster, member)
}

fn named() -> proto::Cluster {
    proto::Cluster { name: "up".to_owned(), ..Default::default() }
}

#[tokio::test]
async fn keepalive_is_set_as_the_cluster_says() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uint = |value| Some(UInt32Value { value });
    let value = proto::Cluster {
        upstream_connection_options: Some(proto::UpstreamConnectionOptions {
            tcp_keepalive: Some(core::TcpKeepalive {
                keepalive_probes: uint(7),
                keepalive_time: uint(11),
                keepalive_interval: uint(3),
            }),
            ..Default::default()
        }),
        ..named()
    };
    let (cluster, member) = up(&value, listener.local_addr().unwrap());
    let counted = member.room.reserve(None, true).unwrap();
    let (stream, _counted) = connect(&cluster, &member, counted, None).await.unwrap();
    let socket = SockRef::from(&stream);
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(11));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(3));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 7);
}

#[tokio::test]
async fn the_time_to_connect_is_the_clusters() {
    // A listener whose queue is full answers no further connection.
    let full = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    full.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    full.listen(0).unwrap();
    let at = full.local_addr().unwrap().as_socket().unwrap();
    let _queued: Vec<_> = (0..4)
        .map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&at.into());
            client
        })
        .collect();
    let value =
        proto::Cluster { connect_timeout: Some(PbDuration { seconds: 0, nanos: 20_000_000 }), ..named() };
    let (cluster, member) = up(&value, at);
    let counted = member.room.reserve(None, true).unwrap();
    let started = std::time::Instant::now();
    let outcome = connect(&cluster, &member, counted, None).await;
    assert!(matches!(outcome, Err(ConnectError::Timeout)), "{outcome:?}");
    assert!(started.elapsed() < Duration::from_secs(1), "the default of 5 s was waited for");
    assert_eq!(member.connect_failures.get(), 1);
}

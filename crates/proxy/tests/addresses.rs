//! Addresses of every kind: IPv6, and destinations that come with the connection or the request.

mod kit;

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::google::protobuf::UInt32Value;
use kit::backend::{Backend, Client, Reply};
use kit::{Mesh, http, static_cluster, to_cluster};
use tokio::io::AsyncWriteExt;

const LOOPBACK6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(std::net::Ipv6Addr::LOCALHOST), 0);

async fn named6(name: &'static str) -> Backend {
    Backend::start_at(LOOPBACK6, move |_, _, _| {
        Reply::from(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{name}", name.len()).as_str())
    })
    .await
}

#[tokio::test]
async fn both_sides_speak_ipv6() {
    let backend = named6("six").await;
    let mesh = Mesh::start_at(LOOPBACK6, 1, |at| {
        http(at, vec![to_cluster("/", "up")], &[static_cluster("up", &[backend.address])])
    })
    .await;
    assert!(mesh.address.is_ipv6());
    assert_eq!(Client::new(mesh.connect().await).get("/").await.1, "six");
    // And as bytes.
    let mesh = Mesh::start_at(LOOPBACK6, 1, |at| {
        vec![
            kit::encoded_listener(&kit::listener("tcp", at, kit::tcp_filter("up"))),
            kit::encoded_cluster(&static_cluster("up", &[backend.address])),
        ]
    })
    .await;
    assert_eq!(Client::new(mesh.connect().await).get("/").await.1, "six");
}

fn original_dst(change: impl Fn(&mut cluster::cluster::OriginalDstLbConfig)) -> cluster::Cluster {
    let mut config = cluster::cluster::OriginalDstLbConfig::default();
    change(&mut config);
    cluster::Cluster {
        name: "up".to_owned(),
        cluster_discovery_type: Some(cluster::cluster::ClusterDiscoveryType::Type(
            cluster::cluster::DiscoveryType::OriginalDst.into(),
        )),
        lb_policy: cluster::cluster::LbPolicy::ClusterProvided.into(),
        lb_config: Some(cluster::cluster::LbConfig::OriginalDstLbConfig(config)),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_header_names_the_destination_where_the_cluster_heeds_one() {
    let (four, six) = (Backend::named("four").await, named6("six").await);
    let asked = async |cluster: cluster::Cluster, field: String| {
        let mesh =
            Mesh::start(1, |at| http(at, vec![to_cluster("/", "up")], std::slice::from_ref(&cluster))).await;
        let mut client = Client::new(mesh.connect().await);
        client
            .stream
            .write_all(format!("GET / HTTP/1.1\r\nHost: t\r\n{field}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let (head, body) = client.response().await;
        if head.starts_with("HTTP/1.1 200") { body } else { head[..12].to_owned() }
    };
    let default = || original_dst(|config| config.use_http_header = true);
    let own = || {
        original_dst(|config| {
            config.use_http_header = true;
            config.http_header_name = "X-Where".to_owned();
        })
    };
    assert_eq!(asked(default(), format!("x-envoy-original-dst-host: {}", four.address)).await, "four");
    assert_eq!(asked(default(), format!("x-envoy-original-dst-host: {}", six.address)).await, "six");
    assert_eq!(asked(own(), format!("x-where: {}", four.address)).await, "four");
    assert_eq!(asked(own(), format!("x-envoy-original-dst-host: {}", four.address)).await, "HTTP/1.1 503");
    assert_eq!(
        asked(default(), "x-envoy-original-dst-host: example.org:80".to_owned()).await,
        "HTTP/1.1 503"
    );
    // A header that nobody asked for is only a header.
    let deaf = original_dst(|_| {});
    assert_eq!(asked(deaf, format!("x-envoy-original-dst-host: {}", four.address)).await, "HTTP/1.1 503");
    let elsewhere = original_dst(|config| {
        config.use_http_header = true;
        config.upstream_port_override = Some(UInt32Value { value: four.address.port().into() });
    });
    assert_eq!(asked(elsewhere, "x-envoy-original-dst-host: 127.0.0.1:1".to_owned()).await, "four");
}

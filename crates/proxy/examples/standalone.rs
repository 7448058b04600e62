//! A proxy between two addresses with fifty routes that do not match before one that does: for measurements.
//!
//! `standalone LISTEN UPSTREAM [http|h2|tcp|https]`

#![allow(clippy::print_stdout, reason = "a program of its own")]

#[path = "../tests/kit/mod.rs"]
mod kit;

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn absent(index: usize) -> route::Route {
    let mut absent = kit::to_cluster(&format!("/absent{index}/"), "up");
    if let Some(matches) = &mut absent.r#match {
        matches.headers = vec![route::HeaderMatcher {
            name: "x-absent".to_owned(),
            header_match_specifier: Some(route::header_matcher::HeaderMatchSpecifier::StringMatch(
                matcher::StringMatcher {
                    match_pattern: Some(matcher::string_matcher::MatchPattern::Exact(index.to_string())),
                    ..Default::default()
                },
            )),
            ..Default::default()
        }];
    }
    absent
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let listen: SocketAddr = arguments[1].parse().unwrap();
    let upstream: SocketAddr = arguments[2].parse().unwrap();
    let mode = arguments.get(3).map_or("http", String::as_str);
    let routes = std::env::var("ROUTES").ok().and_then(|routes| routes.parse().ok()).unwrap_or(50);
    let mesh = kit::Mesh::start_at(listen, 1, |at| {
        let mut cluster = kit::static_cluster("up", &[upstream]);
        if mode == "h2" {
            cluster = kit::http2(cluster);
        }
        if mode == "tcp" {
            let listener = kit::listener("test", at, kit::tcp_filter("up"));
            return vec![kit::encoded_listener(&listener), kit::encoded_cluster(&cluster)];
        }
        let all = (0..routes).map(absent).chain([kit::to_cluster("/", "up")]);
        if mode == "https" {
            let leaf = kit::tls::Authority::new("root").leaf("www.example.com");
            let context = kit::tls::downstream(kit::tls::presenting(&leaf));
            let manager = kit::connection_manager(all.collect());
            let listener = kit::tls::secured(at, kit::http_filter(&manager), &context);
            return vec![kit::encoded_listener(&listener), kit::encoded_cluster(&cluster)];
        }
        kit::http(at, all.collect(), &[cluster])
    })
    .await;
    println!("listening on {}", mesh.address);
    std::future::pending::<()>().await;
}

//! kube-rs lists, watches and writes: with lists and with streaming lists, on core kinds and custom ones.

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client, Config,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
        PostParams, WatchEvent, WatchParams,
    },
    runtime::watcher,
};
use serde_json::json;

use crate::kit::Served;

fn client(served: &Served) -> Client {
    Client::try_from(Config::new(served.url.parse().unwrap())).unwrap()
}

fn config_map(name: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map
}

#[tokio::test]
async fn lists_watches_and_applies() {
    let served = Served::new();
    let maps: Api<ConfigMap> = Api::namespaced(client(&served), "rs");
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    assert_eq!(maps.list(&ListParams::default().limit(1)).await.unwrap().items.len(), 1);

    let mut events = maps.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    let added = events.try_next().await.unwrap();
    assert!(matches!(added, Some(WatchEvent::Added(m)) if m.metadata.name.as_deref() == Some("a")));
    let config = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "k": "v" } });
    maps.patch("a", &PatchParams::apply("rs").force(), &Patch::Apply(&config)).await.unwrap();
    assert!(matches!(events.try_next().await.unwrap(), Some(WatchEvent::Modified(m)) if m.data.is_some()));
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(matches!(events.try_next().await.unwrap(), Some(WatchEvent::Deleted(_))));
    let absent = maps.get("a").await.unwrap_err();
    assert!(matches!(absent, kube::Error::Api(ref status) if status.code == 404), "{absent}");
}

#[tokio::test]
async fn watchers_follow() {
    let served = Served::new();
    let maps: Api<ConfigMap> = Api::namespaced(client(&served), "rs");
    maps.create(&PostParams::default(), &config_map("a")).await.unwrap();
    for (turn, config) in
        [watcher::Config::default(), watcher::Config::default().streaming_lists()].into_iter().enumerate()
    {
        let mut events = watcher(maps.clone(), config).boxed();
        assert!(matches!(events.try_next().await.unwrap(), Some(watcher::Event::Init)));
        assert!(matches!(events.try_next().await.unwrap(), Some(watcher::Event::InitApply(_))));
        assert!(matches!(events.try_next().await.unwrap(), Some(watcher::Event::InitDone)));
        let change = Patch::Merge(json!({ "data": { "turn": turn.to_string() } }));
        maps.patch("a", &PatchParams::default(), &change).await.unwrap();
        assert!(matches!(events.try_next().await.unwrap(), Some(watcher::Event::Apply(_))));
    }
}

#[tokio::test]
async fn custom_kinds() {
    let served = Served::new();
    let kind = GroupVersionKind::gvk("networking.istio.io", "v1", "VirtualService");
    let resource = ApiResource::from_gvk_with_plural(&kind, "virtualservices");
    let routes: Api<DynamicObject> = Api::namespaced_with(client(&served), "rs", &resource);
    let mut route = DynamicObject::new("v", &resource);
    route.data =
        json!({ "spec": { "hosts": ["a"], "http": [{ "route": [{ "destination": { "host": "a" } }] }] } });
    routes.create(&PostParams::default(), &route).await.unwrap();
    assert_eq!(routes.list(&ListParams::default()).await.unwrap().items.len(), 1);
    let mut events = routes.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    assert!(matches!(events.try_next().await.unwrap(), Some(WatchEvent::Added(_))));
}

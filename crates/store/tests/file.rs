//! What files do that no other store does: break, move, repeat themselves.

mod suite;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use heddle_resource::kind;
use heddle_store::{FileOptions, FileStore, Precondition, Revision, SOURCE_ANNOTATION, Store, StoreError};
use suite::{key, next, value};
use tempfile::TempDir;

struct Fixture {
    directory: TempDir,
    store: FileStore,
}

impl Fixture {
    /// Files by name and content, read by a store that looks only when told or notified.
    async fn new(files: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            write(directory.path(), name, text);
        }
        let store = open([directory.path().to_owned()]).await;
        Self { directory, store }
    }

    async fn write(&self, name: &str, text: &str) {
        write(self.directory.path(), name, text);
        self.store.rescan().await;
    }

    /// `NAME=VALUE` of every ConfigMap.
    async fn objects(&self) -> String {
        let (objects, _) = self.store.list(&kind::CONFIG_MAP, None).await.unwrap();
        let text: Vec<String> = objects.iter().map(|o| format!("{}={}", o.meta.name, value(o))).collect();
        text.join(" ")
    }

    fn diagnostics(&self) -> Vec<String> {
        self.store.diagnostics().borrow().iter().map(ToString::to_string).collect()
    }
}

async fn open(paths: impl IntoIterator<Item = PathBuf>) -> FileStore {
    let options = FileOptions { rescan: Duration::from_secs(3600), ..FileOptions::default() };
    FileStore::open(paths, options).await.unwrap()
}

fn write(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn map(name: &str, value: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\n  namespace: a\ndata:\n  value: \"{value}\"\n"
    )
}

fn maps(documents: &[String]) -> String {
    documents.join("---\n")
}

#[tokio::test]
async fn reads_every_kind_of_file_below_a_directory() {
    let json = suite::config_map("a", "three", "3").json.to_string();
    let fixture = Fixture::new(&[
        ("one.yaml", &maps(&[map("one", "1"), map("two", "2")])),
        ("sub/dir/three.json", &json),
        ("four.yml", &map("four", "4")),
        (".hidden.yaml", &map("hidden", "0")),
        ("..data/copy.yaml", &map("hidden", "0")),
        ("notes.txt", "not ours"),
    ])
    .await;
    assert_eq!(fixture.objects().await, "four=4 one=1 three=3 two=2");
    assert_eq!(fixture.diagnostics(), Vec::<String>::new());
    let two = fixture.store.get(&key("a", "two")).await.unwrap().unwrap();
    let place = format!("{}:9", fixture.directory.path().join("one.yaml").display());
    assert_eq!(two.meta.annotations[SOURCE_ANNOTATION], place);
    assert_eq!(two.json["metadata"]["annotations"][SOURCE_ANNOTATION], place);
    assert_eq!(two.source.as_ref().unwrap().line, 9);
}

#[tokio::test]
async fn one_bad_document_disturbs_no_other_and_its_last_good_version_stays() {
    let fixture =
        Fixture::new(&[("x.yaml", &maps(&[map("one", "1"), map("two", "2"), map("three", "3")]))]).await;
    // A wrong type: refused by name. The third is deleted meanwhile.
    let wrong =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two, namespace: a}\ndata: [1]\n".to_owned();
    fixture.write("x.yaml", &maps(&[map("one", "1 changed"), wrong.clone()])).await;
    assert_eq!(fixture.objects().await, "one=1 changed two=2");
    let found = fixture.diagnostics();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("x.yaml:") && found[0].contains("ConfigMap a/two"), "{found:?}");
    // No YAML at all: nobody knows which object it was, so none is taken for deleted.
    fixture.write("x.yaml", &maps(&[map("one", "1 again"), "{ not: [yaml\n".to_owned()])).await;
    assert_eq!(fixture.objects().await, "one=1 again two=2");
    // Mended.
    fixture.write("x.yaml", &maps(&[map("two", "mended")])).await;
    assert_eq!(fixture.objects().await, "two=mended");
    assert_eq!(fixture.diagnostics(), Vec::<String>::new());
    // In another file, before it by name: a broken repetition takes nothing over.
    fixture.write("a.yaml", &wrong).await;
    assert_eq!(fixture.objects().await, "two=mended");
    assert_eq!(fixture.diagnostics().len(), 1, "{:?}", fixture.diagnostics());
    fixture.write("x.yaml", &maps(&[map("two", "mended again")])).await;
    assert_eq!(fixture.objects().await, "two=mended again");
    fixture.write("a.yaml", "").await;
    fixture.write("x.yaml", &maps(&[map("two", "mended")])).await;
    // Bad from the start: nothing to keep.
    fixture.write("y.yaml", &wrong.replace("two", "new")).await;
    assert_eq!(fixture.objects().await, "two=mended");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_keeps_what_it_said() {
    let fixture = Fixture::new(&[("x.yaml", &map("one", "1")), ("y.yaml", &map("two", "2"))]).await;
    fs::write(fixture.directory.path().join("x.yaml"), b"\xff\xfe not text").unwrap();
    fixture.store.rescan().await;
    assert_eq!(fixture.objects().await, "one=1 two=2");
    assert!(fixture.diagnostics()[0].contains("stays in force"), "{:?}", fixture.diagnostics());
    fs::remove_file(fixture.directory.path().join("x.yaml")).unwrap();
    fixture.store.rescan().await;
    assert_eq!(fixture.objects().await, "two=2");
}

#[tokio::test]
async fn of_an_object_declared_twice_the_first_counts() {
    let fixture = Fixture::new(&[("a.yaml", &map("one", "first")), ("b.yaml", &map("one", "second"))]).await;
    assert_eq!(fixture.objects().await, "one=first");
    let found = fixture.diagnostics();
    assert!(found[0].contains("b.yaml:1") && found[0].contains("a.yaml:1"), "{found:?}");
    fs::remove_file(fixture.directory.path().join("a.yaml")).unwrap();
    let (_, revision) = fixture.store.list(&kind::CONFIG_MAP, None).await.unwrap();
    fixture.store.rescan().await;
    assert_eq!(fixture.objects().await, "one=second");
    assert!(fixture.diagnostics().is_empty());
    let mut watch = fixture.store.watch(&kind::CONFIG_MAP, revision).await.unwrap();
    assert_eq!(next(&mut watch).await, "PUT one second", "replaced, never absent");
    assert_eq!(next(&mut watch).await, "BOOKMARK");
}

#[tokio::test]
async fn what_did_not_change_is_no_event() {
    let fixture = Fixture::new(&[("x.yaml", &maps(&[map("one", "1"), map("two", "2")]))]).await;
    let (_, revision) = fixture.store.list(&kind::CONFIG_MAP, None).await.unwrap();
    fixture.write("x.yaml", &maps(&[map("one", "1"), map("two", "3")])).await;
    fixture.write("x.yaml", &maps(&[map("one", "1"), map("two", "3")])).await;
    let mut watch = fixture.store.watch(&kind::CONFIG_MAP, revision).await.unwrap();
    assert_eq!(next(&mut watch).await, "PUT two 3");
    assert_eq!(next(&mut watch).await, "BOOKMARK");
}

#[tokio::test]
async fn a_directory_that_vanishes_deletes_nothing_and_a_file_that_was_named_does() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "dir/x.yaml", &map("one", "1"));
    write(directory.path(), "named.conf", &map("two", "2"));
    let store = open([directory.path().join("dir"), directory.path().join("named.conf")]).await;
    let fixture = Fixture { directory, store };
    assert_eq!(fixture.objects().await, "one=1 two=2");
    fs::rename(fixture.directory.path().join("dir"), fixture.directory.path().join("elsewhere")).unwrap();
    fs::remove_file(fixture.directory.path().join("named.conf")).unwrap();
    fixture.store.rescan().await;
    assert_eq!(fixture.objects().await, "one=1");
    assert_eq!(fixture.diagnostics().len(), 3, "{:?}", fixture.diagnostics());
    let missing = FileStore::open([PathBuf::from("/nowhere/x.yaml")], FileOptions::default()).await;
    assert!(missing.err().unwrap().to_string().starts_with("/nowhere/x.yaml: "));
}

#[tokio::test]
async fn edits_are_refused_but_status_is_kept() {
    let fixture = Fixture::new(&[("x.yaml", &map("one", "1"))]).await;
    let store = &fixture.store;
    assert!(store.read_only().unwrap().contains("heddle.dev/source"));
    let refused = store.put(suite::config_map("a", "one", "2"), Precondition::Any).await;
    assert!(matches!(refused, Err(StoreError::ReadOnly(_))));
    let refused = store.put(suite::config_map("a", "new", "2"), Precondition::Absent).await;
    assert!(matches!(refused, Err(StoreError::ReadOnly(_))));
    assert!(matches!(store.delete(&key("a", "one"), Precondition::Any).await, Err(StoreError::ReadOnly(_))));
    let nobody = store.delete(&key("a", "new"), Precondition::Any).await;
    assert!(matches!(nobody, Err(StoreError::NotFound { .. })));

    let mut object = (*store.get(&key("a", "one")).await.unwrap().unwrap()).clone();
    let revision = Revision::of(&object).unwrap();
    std::sync::Arc::make_mut(&mut object.json)["status"] = serde_json::json!({"seen": true});
    store.put(object.clone(), Precondition::Revision(revision)).await.unwrap();
    let stale = store.put(object, Precondition::Revision(revision)).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })));
    fixture.write("x.yaml", &map("one", "2")).await;
    let object = store.get(&key("a", "one")).await.unwrap().unwrap();
    assert_eq!((value(&object), &object.json["status"]["seen"]), ("2", &true.into()));
}

#[tokio::test]
async fn changes_are_noticed_without_a_look() {
    let fixture = Fixture::new(&[("x.yaml", &map("one", "1"))]).await;
    let path = fixture.directory.path().to_owned();
    let (_, revision) = fixture.store.list(&kind::CONFIG_MAP, None).await.unwrap();
    let mut watch = fixture.store.watch(&kind::CONFIG_MAP, revision).await.unwrap();
    assert_eq!(next(&mut watch).await, "BOOKMARK");
    write(&path, "x.yaml", &map("one", "2"));
    assert_eq!(next(&mut watch).await, "PUT one 2");
    // As editors do: a new file renamed over the old one.
    write(&path, ".x.yaml.swp", &map("one", "3"));
    fs::rename(path.join(".x.yaml.swp"), path.join("x.yaml")).unwrap();
    assert_eq!(next(&mut watch).await, "PUT one 3");
    write(&path, "new/deep/y.yaml", &map("two", "1"));
    assert_eq!(next(&mut watch).await, "PUT two 1");
    fs::remove_file(path.join("x.yaml")).unwrap();
    assert_eq!(next(&mut watch).await, "DELETE one");

    // A file named by itself, replaced the same way.
    let named = path.join("new/deep/y.yaml");
    let store = open([named.clone()]).await;
    let (_, revision) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    let mut watch = store.watch(&kind::CONFIG_MAP, revision).await.unwrap();
    assert_eq!(next(&mut watch).await, "BOOKMARK");
    write(&path, "new/deep/y.tmp", &map("two", "2"));
    fs::rename(path.join("new/deep/y.tmp"), named).unwrap();
    assert_eq!(next(&mut watch).await, "PUT two 2");
}

#[tokio::test]
async fn the_periodic_look_finds_what_no_notification_told() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    // Changes behind a link are not seen by a watch on the directory.
    write(elsewhere.path(), "x.yaml", &map("one", "1"));
    std::os::unix::fs::symlink(elsewhere.path().join("x.yaml"), directory.path().join("x.yaml")).unwrap();
    let options = FileOptions { rescan: Duration::from_millis(20), ..FileOptions::default() };
    let store = FileStore::open([directory.path().to_owned()], options).await.unwrap();
    let (_, revision) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    let mut watch = store.watch(&kind::CONFIG_MAP, revision).await.unwrap();
    assert_eq!(next(&mut watch).await, "BOOKMARK");
    write(elsewhere.path(), "x.yaml", &map("one", "2"));
    assert_eq!(next(&mut watch).await, "PUT one 2");
}

#[tokio::test]
async fn a_kind_that_is_refused_keeps_no_other_object_alive() {
    let policy =
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: p}\nspec: {}\n";
    let both = format!("{}---\n{}---\n{policy}", map("a", "1"), map("b", "1"));
    let fixture = Fixture::new(&[("all.yaml", &both)]).await;
    assert_eq!(fixture.objects().await, "a=1 b=1");
    assert!(
        fixture.diagnostics().iter().any(|found| found.contains("HDL0014")),
        "{:?}",
        fixture.diagnostics()
    );
    fixture.write("all.yaml", &format!("{}---\n{policy}", map("a", "2"))).await;
    assert_eq!(fixture.objects().await, "a=2");
}

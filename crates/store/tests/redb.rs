//! What only a durable store must do: survive restarts, `kill -9`, full disks and damaged files.

mod suite;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use heddle_resource::kind;
use heddle_store::{Precondition, RedbStore, Revision, Store, StoreError};
use suite::{config_map, key, next, value};

const DIRECTORY: &str = "HEDDLE_TEST_STORE";

fn open(path: &Path) -> RedbStore {
    RedbStore::open_keeping(path, Instant::now(), 64).unwrap()
}

async fn put(store: &dyn Store, name: &str, text: &str) -> Result<Revision, StoreError> {
    let object = store.put(config_map("a", name, text), Precondition::Any).await?;
    Ok(Revision::of(&object).unwrap())
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/er");
    let store = open(&path);
    let one = put(&store, "one", "1").await.unwrap();
    let two = put(&store, "two", "1").await.unwrap();
    store.delete(&key("a", "one"), Precondition::Any).await.unwrap();
    let (before, revision) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    drop(store);

    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let file = fs::metadata(path.join("heddle.redb")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);

    let store = open(&path);
    assert!(store.faults().is_empty());
    let (after, again) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
    assert_eq!(revision, again);
    assert_eq!(before.len(), after.len());
    assert_eq!(before[0].json, after[0].json);
    let mut watch = store.watch(&kind::CONFIG_MAP, one).await.unwrap();
    for expected in ["PUT two 1", "DELETE one", "BOOKMARK"] {
        assert_eq!(next(&mut watch).await, expected, "a watch goes on where it was before the restart");
    }
    let stale = store.put(config_map("a", "two", "2"), Precondition::Revision(one)).await;
    assert!(matches!(stale, Err(StoreError::Conflict { .. })));
    store.put(config_map("a", "two", "2"), Precondition::Revision(two)).await.unwrap();
    assert_eq!(next(&mut watch).await, "PUT two 2");
}

#[tokio::test]
async fn old_events_go_from_the_disk_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let first = put(&store, "x", "0").await.unwrap();
    let mut revisions = Vec::new();
    for i in 1..200 {
        revisions.push(put(&store, "x", &i.to_string()).await.unwrap());
    }
    let size = fs::metadata(directory.path().join("heddle.redb")).unwrap().len();
    drop(store);
    let store = open(directory.path());
    assert!(matches!(store.watch(&kind::CONFIG_MAP, first).await, Err(StoreError::Compacted)));
    let mut watch = store.watch(&kind::CONFIG_MAP, revisions[197]).await.unwrap();
    assert_eq!(next(&mut watch).await, "PUT x 199");
    for i in 0..400 {
        put(&store, "x", &format!("again {i}")).await.unwrap();
    }
    let now = fs::metadata(directory.path().join("heddle.redb")).unwrap().len();
    assert!(now <= size * 2, "the file does not grow with the number of writes: {size} to {now}");
}

#[tokio::test]
async fn a_lease_starts_whole_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let start = Instant::now();
    let store = open(directory.path());
    put(&store, "x", "1").await.unwrap();
    put(&store, "y", "1").await.unwrap();
    let leases = store.leases().unwrap();
    let id = leases.grant(Duration::from_secs(10), start).await.unwrap();
    leases.attach(id, &key("a", "x")).await.unwrap();
    drop(store);

    let later = start + Duration::from_secs(1000);
    let store = RedbStore::open(directory.path(), later).unwrap();
    let leases = store.leases().unwrap();
    assert_eq!(leases.held()[0].keys, [key("a", "x")]);
    assert!(leases.expire(later + Duration::from_secs(9)).await.unwrap().is_empty());
    leases.renew(id, later + Duration::from_secs(9)).await.unwrap();
    assert_eq!(leases.expire(later + Duration::from_secs(19)).await.unwrap().len(), 1);
    assert!(store.get(&key("a", "y")).await.unwrap().is_some());
    drop(store);
    assert!(open(directory.path()).leases().unwrap().held().is_empty());
}

#[tokio::test]
async fn two_processes_do_not_share_a_store() {
    let directory = tempfile::tempdir().unwrap();
    let _store = open(directory.path());
    let second = RedbStore::open(directory.path(), Instant::now()).err().unwrap();
    assert!(second.to_string().contains("in use by another process"), "{second}");
}

/// The writer that the test below kills: eight tasks, each counting up one object, each acknowledged
/// write told on standard output after it was acknowledged.
#[test]
fn child_that_writes() {
    let Some(path) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let store = open(Path::new(&path));
    let write = async |task: usize| {
        let name = format!("x{task}");
        let start = store.get(&key("a", &name)).await.unwrap().map_or(0, |o| value(&o).parse().unwrap());
        for i in start + 1..=u64::MAX {
            put(&store, &name, &i.to_string()).await.unwrap();
            std::io::stdout().write_all(format!("ACK {name} {i}\n").as_bytes()).unwrap();
            std::io::stdout().flush().unwrap();
        }
    };
    runtime.block_on(async { futures_util::future::join_all((0..8).map(write)).await });
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(20);
    let mut acknowledged = BTreeMap::<String, u64>::new();
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut left = random.u32(1..300);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            // The last line may have been cut by the kill.
            let line = line.unwrap_or_default();
            if let Some((name, count)) = line.strip_prefix("ACK ").and_then(|ack| ack.split_once(' ')) {
                acknowledged.insert(name.to_owned(), count.parse().unwrap());
                if left == 1 {
                    child.kill().unwrap();
                }
                left = left.saturating_sub(1);
            }
        }
        child.wait().unwrap();
        assert_eq!(left, 0, "round {round}: the child ended by itself");

        let store = open(directory.path());
        for (name, count) in &acknowledged {
            let object = store.get(&key("a", name)).await.unwrap();
            let stored: u64 = object.map_or(0, |object| value(&object).parse().unwrap());
            assert!(stored >= *count, "round {round}: {name} is {stored}, but {count} was acknowledged");
        }
        // Its watch history is whole, too: every event leads to what is stored.
        let (objects, revision) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
        let newest = objects.iter().filter_map(|object| Revision::of(object)).max();
        assert_eq!(newest, Some(revision));
    }
}

#[tokio::test]
async fn damage_is_an_error_or_nothing_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for i in 0..60 {
        put(&store, &format!("x{i}"), &format!("{i} {}", "y".repeat(i * 40))).await.unwrap();
    }
    drop(store);
    let path = directory.path().join("heddle.redb");
    let good = fs::read(&path).unwrap();
    let mut random = fastrand::Rng::with_seed(4);
    let mut refused = 0;
    for round in 0..80 {
        let mut bad = good.clone();
        match round % 4 {
            0 => bad.truncate(random.usize(1..good.len())),
            1 => bad[random.usize(..good.len())] ^= 1 << random.u8(0..8),
            2 => {
                let start = random.usize(..good.len() - 600);
                bad[start..start + 512].fill_with(|| random.u8(..));
            }
            _ => bad[random.usize(..320)] ^= 1 << random.u8(0..8),
        }
        fs::write(&path, &bad).unwrap();
        match RedbStore::open(directory.path(), Instant::now()) {
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("heddle.redb"), "round {round}: {error}");
            }
            Ok(store) => {
                let (objects, _) = store.list(&kind::CONFIG_MAP, None).await.unwrap();
                assert_eq!(objects.len(), 60, "round {round}: a silent loss");
                for object in objects {
                    let i: usize = object.meta.name[1..].parse().unwrap();
                    assert_eq!(value(&object), format!("{i} {}", "y".repeat(i * 40)), "round {round}");
                }
            }
        }
    }
    assert!(refused > 25, "only {refused} of 80 were noticed");

    fs::remove_file(&path).unwrap();
    let gone = RedbStore::open(directory.path(), Instant::now()).err().unwrap();
    assert!(matches!(&gone, StoreError::Damaged(text) if text.contains("gone")), "{gone}");
    fs::write(&path, b"not a database at all, but long enough to have been one").unwrap();
    let other = RedbStore::open(directory.path(), Instant::now()).err().unwrap();
    assert!(matches!(other, StoreError::Damaged(_)), "{other}");
}

#[tokio::test]
async fn an_older_copy_put_back_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("heddle.redb");
    let store = open(directory.path());
    put(&store, "x", "1").await.unwrap();
    drop(store);
    let old = fs::read(&path).unwrap();
    let store = open(directory.path());
    put(&store, "x", "2").await.unwrap();
    drop(store);
    fs::write(&path, old).unwrap();
    let error = RedbStore::open(directory.path(), Instant::now()).err().unwrap();
    assert!(matches!(&error, StoreError::Damaged(text) if text.contains("had reached")), "{error}");
}

/// Writes until the file-size limit that its starter set.
#[test]
fn child_that_fills() {
    let Some(path) = std::env::var_os(DIRECTORY) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (written, error) = runtime.block_on(fill(&open(Path::new(&path))));
    std::io::stdout().write_all(format!("FULL {written} {error}\n").as_bytes()).unwrap();
}

/// Puts objects of 100 KB until one fails.
async fn fill(store: &dyn Store) -> (usize, StoreError) {
    let mut written = 0;
    loop {
        match put(store, &format!("x{written}"), &"z".repeat(100_000)).await {
            Ok(_) => written += 1,
            Err(error) => return (written, error),
        }
    }
}

#[tokio::test]
async fn past_a_size_limit_the_store_says_full_and_keeps_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    // The shell ignores the signal that the limit would send, and so do its children.
    let script = "trap '' XFSZ; ulimit -f 16000; exec \"$0\" --exact child_that_fills --nocapture";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("FULL ")).unwrap_or_else(|| panic!("{text}")).1;
    let (written, error) = line.split_once(' ').unwrap();
    assert!(error.contains("heddle.redb") && error.contains("Free space"), "{error}");
    let (objects, _) = open(directory.path()).list(&kind::CONFIG_MAP, None).await.unwrap();
    assert_eq!(objects.len(), written.parse::<usize>().unwrap());
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_store_recovers_by_itself() {
    let Some(mount) = Mount::new("a full disk") else { return };
    let data = mount.path().join("data");
    let store = open(&data);
    let filler = mount.path().join("filler");
    fs::write(&filler, vec![0; 2 << 20]).unwrap();
    let (written, error) = fill(&store).await;
    assert!(matches!(&error, StoreError::Full(text) if text.contains("heddle.redb")), "{error:?}");
    assert_eq!(store.list(&kind::CONFIG_MAP, None).await.unwrap().0.len(), written, "reads go on");
    fs::remove_file(&filler).unwrap();
    put(&store, "after", "1").await.unwrap();
    drop(store);
    let (objects, _) = open(&data).list(&kind::CONFIG_MAP, None).await.unwrap();
    assert_eq!(objects.len(), written + 1);
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_named() {
    let error = if rustix::process::geteuid().is_root() {
        // Permissions do not bind root: a read-only mount does.
        let Some(mount) = Mount::new("a read-only disk") else { return };
        mount.make_read_only();
        RedbStore::open(mount.path().join("data"), Instant::now()).err().unwrap()
    } else {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o500)).unwrap();
        RedbStore::open(directory.path().join("data"), Instant::now()).err().unwrap()
    };
    assert!(matches!(&error, StoreError::ReadOnly(text) if text.contains("data")), "{error:?}");
}

/// A file system of 8 MB, for root only.
struct Mount(tempfile::TempDir);

impl Mount {
    #[expect(clippy::print_stdout, reason = "what is left out is said loudly")]
    fn new(what: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let flags = rustix::mount::MountFlags::empty();
        match rustix::mount::mount("tmpfs", directory.path(), "tmpfs", flags, Some(c"size=8m")) {
            Ok(()) => Some(Self(directory)),
            Err(error) => {
                println!("LEFT OUT: the test of {what}: cannot mount a tmpfs ({error})");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn make_read_only(&self) {
        let flags = rustix::mount::MountFlags::RDONLY;
        rustix::mount::mount_remount(self.path(), flags, c"").unwrap();
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

//! The file: its tables, and what is read from them at the start.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use heddle_resource::{Key, Object, kind::Kind};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction,
};
use rustc_hash::FxHashMap;

use super::{
    fault::{damaged, fault, io_fault, open_fault},
    mark::Mark,
};
use crate::{
    Event, LeaseId, LeaseInfo, Revision, StoreError,
    decode::decode,
    ledger::{Change, History, fresh_start},
};

const FILE: &str = "heddle.redb";
const MARK: &str = "heddle.mark";
/// What the tables below hold. A release that changes them reads this one too, and raises it.
const FORMAT: u64 = 1;

/// `format`, `floor` (where the history began), `revision`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// (GROUP/KIND, namespace, name) to JSON.
const OBJECTS: TableDefinition<'_, (&str, &str, &str), &[u8]> = TableDefinition::new("objects");
/// (GROUP/KIND, revision) to `P` or `D` and JSON.
const EVENTS: TableDefinition<'_, (&str, u64), &[u8]> = TableDefinition::new("events");
/// GROUP/KIND to the revision up to which its events are gone.
const FLOORS: TableDefinition<'_, &str, u64> = TableDefinition::new("floors");
/// Lease to its time to live in milliseconds.
const LEASES: TableDefinition<'_, u64, u64> = TableDefinition::new("leases");
/// (GROUP/KIND, namespace, name) to the object's lease.
const ATTACHED: TableDefinition<'_, (&str, &str, &str), u64> = TableDefinition::new("attached");

/// Memory for pages: the objects themselves are in memory already.
const CACHE_BYTES: usize = 8 << 20;

/// The open database.
pub(super) struct Disk {
    path: PathBuf,
    database: Database,
    mark: Mark,
}

/// Everything a store starts from.
pub(super) struct Loaded {
    pub(super) history: History,
    pub(super) leases: Vec<LeaseInfo>,
    pub(super) faults: Vec<String>,
}

/// One row to write.
pub(super) enum Row {
    Put(Arc<Object>),
    Delete(Key),
    Lease(LeaseId, Duration),
    NoLease(LeaseId),
    Attach(Key, LeaseId),
    Detach(Key),
}

impl Disk {
    /// Opens or creates the database and checks all of it.
    pub(super) fn open(directory: &Path) -> Result<Self, StoreError> {
        make_directory(directory).map_err(|error| io_fault(directory, &error))?;
        let path = directory.join(FILE);
        let mark =
            Mark::open(&directory.join(MARK)).map_err(|error| io_fault(&directory.join(MARK), &error))?;
        let existed = fs::metadata(&path).is_ok_and(|meta| meta.len() > 0);
        if !existed && mark.read().is_some() {
            return Err(damaged(&path, "the file is gone, but resources were kept in it"));
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).map_err(|error| io_fault(&path, &error))?;
        Self::with(path, mark, existed, |builder| builder.create_file(file))
    }

    /// Opens a database wherever it is kept, and checks all of it.
    pub(super) fn with(
        path: PathBuf,
        mark: Mark,
        existed: bool,
        create: impl FnOnce(&Builder) -> Result<Database, DatabaseError>,
    ) -> Result<Self, StoreError> {
        // redb checks what it reads, but a header made of noise has been seen to trip its assertions.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut database = create(Database::builder().set_cache_size(CACHE_BYTES))?;
            if existed {
                database.check_integrity()?;
            }
            Ok(database)
        }));
        let database = match opened {
            Ok(opened) => opened.map_err(|error| open_fault(&path, error))?,
            Err(_) => return Err(damaged(&path, "its structure makes no sense")),
        };
        let disk = Self { path, database, mark };
        disk.initialise(existed)?;
        Ok(disk)
    }

    /// Creates the tables, or checks that they are of a format this release reads.
    fn initialise(&self, existed: bool) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        {
            let mut meta = transaction.open_table(META).map_err(|e| fault(&self.path, e))?;
            let read = |name| meta.get(name).map(|v| v.map(|v| v.value())).map_err(|e| fault(&self.path, e));
            match (read("format")?, read("revision")?) {
                (Some(FORMAT), Some(_)) => return Ok(()),
                (Some(format), _) if format != FORMAT => {
                    return Err(damaged(
                        &self.path,
                        &format!("format {format}; this release reads {FORMAT}"),
                    ));
                }
                (None, None) if !existed => {}
                _ => return Err(damaged(&self.path, "it is a database, but not of resources")),
            }
            let start = fresh_start().0;
            for (name, value) in [("format", FORMAT), ("floor", start), ("revision", start)] {
                meta.insert(name, value).map_err(|e| fault(&self.path, e))?;
            }
        }
        transaction.open_table(OBJECTS).map_err(|e| fault(&self.path, e))?;
        transaction.open_table(EVENTS).map_err(|e| fault(&self.path, e))?;
        transaction.open_table(FLOORS).map_err(|e| fault(&self.path, e))?;
        transaction.open_table(LEASES).map_err(|e| fault(&self.path, e))?;
        transaction.open_table(ATTACHED).map_err(|e| fault(&self.path, e))?;
        transaction.commit().map_err(|e| fault(&self.path, e))
    }

    fn begin(&self) -> Result<WriteTransaction, StoreError> {
        let mut transaction = self.database.begin_write().map_err(|e| fault(&self.path, e))?;
        // Two phases: a commit that fails its checksums later is then known to be damage, and never
        // mistaken for a crash half-way, which would silently fall back to the commit before.
        transaction.set_two_phase_commit(true);
        Ok(transaction)
    }

    /// Writes rows and the events of changes as one synced transaction.
    pub(super) fn commit(
        &self,
        revision: Revision,
        rows: &[Row],
        changes: &[(Revision, Change)],
        compacted: &[(&'static Kind, Revision)],
    ) -> Result<(), StoreError> {
        let transaction = self.begin()?;
        self.write(&transaction, revision, rows, changes, compacted).map_err(|e| fault(&self.path, e))?;
        transaction.commit().map_err(|e| fault(&self.path, e))?;
        if let Err(error) = self.mark.write(revision) {
            tracing::debug!(%error, "mark not written");
        }
        Ok(())
    }

    fn write(
        &self,
        transaction: &WriteTransaction,
        revision: Revision,
        rows: &[Row],
        changes: &[(Revision, Change)],
        compacted: &[(&'static Kind, Revision)],
    ) -> Result<(), redb::Error> {
        let mut objects = transaction.open_table(OBJECTS)?;
        let mut leases = transaction.open_table(LEASES)?;
        let mut attached = transaction.open_table(ATTACHED)?;
        for row in rows {
            match row {
                Row::Put(object) => {
                    let (key, json) = (object.key(), json(object));
                    objects.insert(row_key(&kind_id(key.kind), &key), json.as_slice())?;
                }
                Row::Delete(key) => {
                    objects.remove(row_key(&kind_id(key.kind), key))?;
                }
                Row::Lease(id, ttl) => {
                    let millis = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
                    leases.insert(id.0, millis)?;
                }
                Row::NoLease(id) => {
                    leases.remove(id.0)?;
                }
                Row::Attach(key, id) => {
                    attached.insert(row_key(&kind_id(key.kind), key), id.0)?;
                }
                Row::Detach(key) => {
                    attached.remove(row_key(&kind_id(key.kind), key))?;
                }
            }
        }
        let mut events = transaction.open_table(EVENTS)?;
        for (revision, change) in changes {
            let (tag, object) = match change {
                Change::Put(object) => (b'P', object),
                Change::Delete(object) => (b'D', object),
            };
            let mut bytes = vec![tag];
            bytes.extend_from_slice(&json(object));
            events.insert((kind_id(object.kind).as_str(), revision.0), bytes.as_slice())?;
        }
        let mut floors = transaction.open_table(FLOORS)?;
        for (kind, floor) in compacted {
            let id = kind_id(kind);
            let gone = (id.as_str(), 0)..=(id.as_str(), floor.0);
            events.retain_in(gone, |_, _| false)?;
            floors.insert(id.as_str(), floor.0)?;
        }
        let mut meta = transaction.open_table(META)?;
        meta.insert("revision", revision.0)?;
        Ok(())
    }

    /// Reads everything.
    pub(super) fn load(&self) -> Result<Loaded, StoreError> {
        let loaded = self.read().map_err(|error| fault(&self.path, error))?;
        let noted = self.mark.read().unwrap_or_default();
        if noted > loaded.history.revision {
            let what = format!("it ends at revision {}, but had reached {noted}", loaded.history.revision);
            return Err(damaged(&self.path, &what));
        }
        Ok(loaded)
    }

    fn read(&self) -> Result<Loaded, redb::Error> {
        let transaction = self.database.begin_read()?;
        let meta = transaction.open_table(META)?;
        let number = |name: &str| Ok::<_, redb::Error>(Revision(meta.get(name)?.map_or(0, |v| v.value())));
        let (floor, revision) = (number("floor")?, number("revision")?);
        let mut faults = Vec::new();
        let mut objects = Vec::new();
        let mut by_revision: FxHashMap<Revision, Arc<Object>> = FxHashMap::default();
        for row in transaction.open_table(OBJECTS)?.iter()? {
            let (key, value) = row?;
            match decode(value.value()) {
                Ok(object) => {
                    let object = Arc::new(object);
                    by_revision.extend(Revision::of(&object).map(|revision| (revision, object.clone())));
                    objects.push(object);
                }
                Err(why) => {
                    let (kind, namespace, name) = key.value();
                    faults.push(format!(
                        "{kind} {namespace}/{name} is kept in {} but not served: {why}",
                        self.path.display()
                    ));
                }
            }
        }
        let mut events = Vec::new();
        for row in transaction.open_table(EVENTS)?.iter()? {
            let (key, value) = row?;
            let revision = Revision(key.value().1);
            let Some((tag, json)) = value.value().split_first() else { continue };
            // An object's newest event and the object are one value in memory.
            let object = match by_revision.get(&revision) {
                Some(object) => object.clone(),
                None => match decode(json) {
                    Ok(object) => Arc::new(object),
                    Err(_) => continue,
                },
            };
            events.push((revision, if *tag == b'D' { Event::Delete(object) } else { Event::Put(object) }));
        }
        let mut floors = Vec::new();
        for row in transaction.open_table(FLOORS)?.iter()? {
            let (id, floor) = row?;
            floors.extend(find_kind(id.value()).map(|kind| (kind, Revision(floor.value()))));
        }
        let leases = Self::read_leases(&transaction)?;
        let history = History { floor, revision, objects, events, floors };
        Ok(Loaded { history, leases, faults })
    }

    fn read_leases(transaction: &redb::ReadTransaction) -> Result<Vec<LeaseInfo>, redb::Error> {
        let mut leases = Vec::new();
        for row in transaction.open_table(LEASES)?.iter()? {
            let (id, ttl) = row?;
            let ttl = Duration::from_millis(ttl.value());
            leases.push(LeaseInfo { id: LeaseId(id.value()), ttl, keys: Vec::new() });
        }
        for row in transaction.open_table(ATTACHED)?.iter()? {
            let (key, id) = row?;
            let (kind, namespace, name) = key.value();
            let lease = leases.iter_mut().find(|lease| lease.id.0 == id.value());
            if let (Some(kind), Some(lease)) = (find_kind(kind), lease) {
                lease.keys.push(Key::new(kind, namespace, name));
            }
        }
        Ok(leases)
    }
}

/// Makes the directory, readable by its owner alone; one that is there keeps its mode, unless others
/// could read what is in it.
fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let meta = fs::metadata(path)?;
    if meta.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

fn json(object: &Object) -> Vec<u8> {
    // A `Value` always serialises: its keys are strings and its numbers finite.
    serde_json::to_vec(&*object.json).unwrap_or_default()
}

/// `networking.istio.io/VirtualService`, `/Service`.
fn kind_id(kind: &Kind) -> String {
    format!("{}/{}", kind.group, kind.kind)
}

fn find_kind(id: &str) -> Option<&'static Kind> {
    let (group, name) = id.split_once('/')?;
    Kind::find(group, name)
}

fn row_key<'a>(kind: &'a str, key: &'a Key) -> (&'a str, &'a str, &'a str) {
    (kind, &key.namespace, &key.name)
}

//! From paths to documents: which files there are, which of them changed, what they say.

use std::{
    collections::BTreeMap,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use heddle_resource::{
    Admission, AdmitOptions, Diagnostic, Document, Key, Kind, MAX_TEXT_BYTES, Object, Source, admit,
    parse_documents,
};
use serde_json::Value;

use super::{FileOptions, SOURCE_ANNOTATION};

/// Directories deeper than this are a loop of links.
const DEPTH: u32 = 16;
/// A file changed so shortly before it was read may change again within one tick of its time stamp.
const RACY: Duration = Duration::from_secs(2);

/// A file by the path given that led to it, and its own: the order in which declarations count.
pub(super) type FileId = (usize, PathBuf);

/// Everything read so far.
pub(super) struct Files {
    roots: Vec<PathBuf>,
    pub(super) files: BTreeMap<FileId, FileState>,
    /// Problems with paths rather than with a file's content.
    pub(super) faults: Vec<Diagnostic>,
    /// Which file each object in force came from.
    pub(super) owners: BTreeMap<Key, FileId>,
}

/// One file as it was last read.
#[derive(Default)]
pub(super) struct FileState {
    signature: Option<Signature>,
    pub(super) entries: Vec<Entry>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// Something in it could not be read far enough to know which object it is: none of its objects can be
    /// taken for deleted.
    pub(super) obscure: bool,
}

/// One document.
pub(super) enum Entry {
    Good(Box<Object>),
    /// Refused, but known by name.
    Broken(Key),
}

/// What changes when a file does.
#[derive(PartialEq)]
struct Signature {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}

impl Files {
    pub(super) fn new(roots: Vec<PathBuf>) -> Self {
        Self { roots, files: BTreeMap::new(), faults: Vec::new(), owners: BTreeMap::new() }
    }

    /// Reads what is new or changed, and forgets what is gone.
    pub(super) fn look(&mut self, options: &FileOptions) {
        self.faults.clear();
        let mut found = BTreeMap::new();
        for (index, root) in self.roots.iter().enumerate() {
            let mut paths = Vec::new();
            if let Err((path, error)) = list(root, &mut paths, 0) {
                let gone = error.kind() == io::ErrorKind::NotFound && path == *root;
                self.faults.push(unreadable(&path, &error, gone));
                // What cannot be seen is not deleted. A file named by itself that is gone is.
                if !gone || self.files.keys().any(|(i, path)| *i == index && path != root) {
                    let known = self.files.keys().filter(|(i, _)| *i == index);
                    paths.extend(known.map(|(_, path)| path.clone()));
                }
            }
            for path in paths {
                let id = (index, path);
                let old = self.files.remove(&id);
                found.insert(id.clone(), read(&id.1, old, options));
            }
        }
        self.files = found;
    }
}

/// The files of resources at and below a path.
fn list(path: &Path, out: &mut Vec<PathBuf>, depth: u32) -> Result<(), (PathBuf, io::Error)> {
    let fault = |error| (path.to_owned(), error);
    let meta = fs::metadata(path).map_err(fault)?;
    if !meta.is_dir() {
        out.push(path.to_owned());
        return Ok(());
    }
    if depth > DEPTH {
        return Err(fault(io::Error::other("directories are nested too deep (a loop of links?)")));
    }
    let mut entries = Vec::new();
    for entry in fs::read_dir(path).map_err(fault)? {
        entries.push(entry.map_err(fault)?.path());
    }
    entries.sort();
    for entry in entries {
        let name = entry.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with('.') {
            continue;
        }
        let resource = matches!(
            entry.extension().and_then(|extension| extension.to_str()),
            Some("yaml" | "yml" | "json")
        );
        match fs::metadata(&entry) {
            Ok(meta) if meta.is_dir() => list(&entry, out, depth + 1)?,
            Ok(_) if resource => out.push(entry),
            Ok(_) => {}
            // Gone since it was listed, or a link to nothing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) if resource => out.push(entry),
            Err(error) => return Err((entry, error)),
        }
    }
    Ok(())
}

/// The file as it is now; `old` where nothing changed, or where it cannot be read.
fn read(path: &Path, old: Option<FileState>, options: &FileOptions) -> FileState {
    let fresh = || {
        let meta = fs::metadata(path)?;
        let signature = Signature::of(&meta);
        if let Some(old) = &old
            && old.signature.as_ref() == Some(&signature)
        {
            return Ok(None);
        }
        if meta.len() > MAX_TEXT_BYTES as u64 {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{} bytes, of at most {MAX_TEXT_BYTES}", meta.len()),
            ));
        }
        let text = fs::read_to_string(path)?;
        let recent = meta
            .modified()
            .is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age < RACY));
        Ok(Some(parse(path, &text, (!recent).then_some(signature), options)))
    };
    let outcome = fresh();
    let old = old.unwrap_or_default();
    match outcome {
        Ok(Some(state)) => state,
        Ok(None) => old,
        Err(error) => FileState {
            signature: None,
            diagnostics: vec![unreadable(path, &error, false)],
            obscure: true,
            entries: old.entries,
        },
    }
}

fn unreadable(path: &Path, error: &io::Error, gone: bool) -> Diagnostic {
    let file = path.display().to_string();
    let message = if gone {
        format!("{file}: {error}; it was to be read for resources")
    } else {
        format!("{file}: {error}; what was read from it before stays in force")
    };
    Diagnostic::error("HDL0901", message).at(Some(Source { file: file.into(), line: 1 }))
}

fn parse(path: &Path, text: &str, signature: Option<Signature>, options: &FileOptions) -> FileState {
    let mut state = FileState { signature, ..FileState::default() };
    let admit_options = AdmitOptions {
        unknown_fields: options.unknown_fields,
        default_namespace: &options.default_namespace,
    };
    for document in parse_documents(text, &path.display().to_string()) {
        let document = match document {
            Ok(document) => document,
            Err(diagnostic) => {
                state.diagnostics.push(diagnostic);
                state.obscure = true;
                continue;
            }
        };
        match admit(&document, &admit_options) {
            Admission::Admitted { object, warnings } => {
                state.diagnostics.extend(warnings);
                if object.meta.name.is_empty() {
                    state.diagnostics.push(nameless(&object));
                } else {
                    state.entries.push(Entry::Good(Box::new(annotate(object))));
                }
            }
            Admission::Refused(diagnostics) => {
                match key_of(&document, &options.default_namespace) {
                    Some(key) => state.entries.push(Entry::Broken(key)),
                    // A kind that is not built hides no object of another.
                    None => state.obscure |= diagnostics.iter().any(|found| found.code != "HDL0014"),
                }
                state.diagnostics.extend(diagnostics);
            }
            Admission::NotOurs(diagnostic) => state.diagnostics.push(diagnostic),
        }
    }
    state
}

fn nameless(object: &Object) -> Diagnostic {
    let message = "an object in a file needs a name of its own; `generateName` is for the API";
    Diagnostic::error("HDL0903", message).on(object.key(), "metadata.name").at(object.source.clone())
}

/// Which object a refused document would have been.
fn key_of(document: &Document, default_namespace: &str) -> Option<Key> {
    let text = |pointer: &str| document.value.pointer(pointer).and_then(Value::as_str);
    let group = text("/apiVersion")?.rsplit_once('/').map_or("", |(group, _)| group);
    let kind = Kind::find(group, text("/kind")?)?;
    let name = text("/metadata/name").filter(|name| !name.is_empty())?;
    let namespace = match text("/metadata/namespace").filter(|namespace| !namespace.is_empty()) {
        _ if !kind.namespaced => "",
        Some(namespace) => namespace,
        None => default_namespace,
    };
    Some(Key::new(kind, namespace, name))
}

/// Writes the source annotation, in `meta` and `json` alike.
fn annotate(mut object: Object) -> Object {
    let Some(source) = &object.source else { return object };
    let place = format!("{}:{}", source.file, source.line);
    object.meta.annotations.insert(SOURCE_ANNOTATION.to_owned(), place.clone());
    if let Some(Value::Object(metadata)) = Arc::make_mut(&mut object.json).get_mut("metadata") {
        let annotations =
            metadata.entry("annotations").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if !annotations.is_object() {
            *annotations = Value::Object(serde_json::Map::new());
        }
        if let Value::Object(annotations) = annotations {
            annotations.insert(SOURCE_ANNOTATION.to_owned(), place.into());
        }
    }
    object
}

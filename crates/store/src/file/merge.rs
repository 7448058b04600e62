//! From documents to the objects in force: the first declaration counts, the last good version stays.

use std::collections::BTreeMap;

use heddle_resource::{Diagnostic, Key, Object};

use super::{
    scan::{Entry, FileId, Files},
    set_status,
};
use crate::{Precondition, StoreError, ledger::Ledger};

/// Puts what the files say in force and returns everything that is wrong with them.
pub(super) fn apply(files: &mut Files, ledger: &Ledger) -> Vec<Diagnostic> {
    let mut diagnostics = files.faults.clone();
    let (wanted, owners) = choose(files, ledger, &mut diagnostics);
    // New objects before deletions: a rename makes before it breaks.
    for (key, mut object) in wanted {
        if let Some(stored) = ledger.get(&key)
            && object.json.get("status").is_none()
        {
            set_status(&mut object, stored.json.get("status").cloned());
        }
        let source = object.source.clone();
        if let Err(error) = ledger.put(object, Precondition::Any) {
            let message = match error {
                StoreError::TooLarge { size, limit, .. } => {
                    format!("it takes {size} bytes as JSON, more than the {limit} a store keeps; split it")
                }
                error => error.to_string(),
            };
            diagnostics.push(Diagnostic::error("HDL0904", message).on(&key, "").at(source));
        }
    }
    for key in files.owners.keys().filter(|key| !owners.contains_key(*key)) {
        // Absent already when it never was in force (too large).
        let _ = ledger.delete(key, Precondition::Any);
    }
    files.owners = owners;
    diagnostics
}

type Chosen = (BTreeMap<Key, Object>, BTreeMap<Key, FileId>);

fn choose(files: &Files, ledger: &Ledger, diagnostics: &mut Vec<Diagnostic>) -> Chosen {
    let mut wanted: BTreeMap<Key, Object> = BTreeMap::new();
    let mut owners: BTreeMap<Key, FileId> = BTreeMap::new();
    for (id, file) in &files.files {
        diagnostics.extend(file.diagnostics.iter().cloned());
        for entry in &file.entries {
            match entry {
                Entry::Good(object) => {
                    let key = object.key();
                    if let Some(first) = wanted.get(&key) {
                        diagnostics.push(twice(&key, object, first));
                        continue;
                    }
                    wanted.insert(key.clone(), Object::clone(object));
                    owners.insert(key, id.clone());
                }
                Entry::Broken(key) => {
                    // Only what came from this very file: another file's good version is not a last one.
                    if !wanted.contains_key(key)
                        && files.owners.get(key) == Some(id)
                        && let Some(last) = ledger.get(key)
                    {
                        wanted.insert(key.clone(), Object::clone(&last));
                        owners.insert(key.clone(), id.clone());
                    }
                }
            }
        }
    }
    // An object that is gone from a file part of which cannot be read may be in that part.
    for (key, id) in &files.owners {
        let obscure = files.files.get(id).is_some_and(|file| file.obscure);
        if obscure
            && !wanted.contains_key(key)
            && let Some(last) = ledger.get(key)
        {
            wanted.insert(key.clone(), Object::clone(&last));
            owners.insert(key.clone(), id.clone());
        }
    }
    (wanted, owners)
}

fn twice(key: &Key, second: &Object, first: &Object) -> Diagnostic {
    let place = first.source.as_ref().map(|source| format!("{}:{}", source.file, source.line));
    let message = format!(
        "the object is declared already at {}; that one counts. Remove one of the two",
        place.as_deref().unwrap_or("another place")
    );
    Diagnostic::error("HDL0902", message).on(key, "").at(second.source.clone())
}

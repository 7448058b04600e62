//! The name table on disk, so that names outlive the control plane and a restart of the proxy.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use crate::NameTable;

/// The format version is part of the first bytes; another version is refused, not guessed at.
const MAGIC: &[u8; 8] = b"HDLNAME1";
const HEADER: usize = MAGIC.len() + 8;

#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error(
        "{path} is not a name table of this version or is damaged ({what}); it is written anew when the control plane sends names"
    )]
    Damaged { path: PathBuf, what: &'static str },
}

/// Writes the table whole or not at all: a temporary file beside it, synced, then renamed over it.
pub fn save(path: &Path, table: &NameTable) -> Result<(), DiskError> {
    let body = table.encode_to_vec();
    let write = || {
        let temporary = path.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(MAGIC)?;
        file.write_all(&xxh3_64(&body).to_le_bytes())?;
        file.write_all(&body)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| DiskError::Io { path: path.to_owned(), error })
}

/// The table saved last; `None` when there is no file.
pub fn load(path: &Path) -> Result<Option<NameTable>, DiskError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskError::Io { path: path.to_owned(), error }),
    };
    let damaged = |what| DiskError::Damaged { path: path.to_owned(), what };
    let Some((header, body)) = bytes.split_at_checked(HEADER) else { return Err(damaged("too short")) };
    if !header.starts_with(MAGIC) {
        return Err(damaged("other format"));
    }
    if header[MAGIC.len()..] != xxh3_64(body).to_le_bytes() {
        return Err(damaged("checksum"));
    }
    NameTable::decode(body).map(Some).map_err(|_| damaged("not a name table"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NameEntry;

    #[test]
    fn what_was_saved_is_loaded_and_damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("names");
        assert!(load(&path).unwrap().is_none());
        let host = |host: &str| NameEntry { host: host.into(), ..NameEntry::default() };
        let table = NameTable { entries: vec![host("a.example"), host("b.example")], ..Default::default() };
        save(&path, &table).unwrap();
        assert_eq!(load(&path).unwrap(), Some(table));
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            fs::write(&path, &bad).unwrap();
            assert!(matches!(load(&path), Err(DiskError::Damaged { .. })), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(matches!(load(&path), Err(DiskError::Damaged { .. })), "cut at {at}");
        }
        let error = save(Path::new("/nonexistent/names"), &NameTable::default()).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/names: "), "{error}");
    }
}

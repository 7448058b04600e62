//! redb's errors in the words of the store: what failed, on which path, and what to do.

use std::{io, path::Path};

use redb::{DatabaseError, StorageError};

use crate::StoreError;

/// The error for something that failed on `path`.
pub(super) fn fault(path: &Path, error: impl Into<redb::Error>) -> StoreError {
    match error.into() {
        redb::Error::Io(error) => io_fault(path, &error),
        redb::Error::Corrupted(what) => damaged(path, &what),
        redb::Error::UpgradeRequired(version) => {
            damaged(path, &format!("file format {version} is not this release's"))
        }
        redb::Error::DatabaseAlreadyOpen => StoreError::Io(format!(
            "{} is in use by another process; stop that one, or choose another --data-dir",
            path.display()
        )),
        other => StoreError::Io(format!("{}: {other}", path.display())),
    }
}

/// The error for a file operation on `path`.
pub(super) fn io_fault(path: &Path, error: &io::Error) -> StoreError {
    let path = path.display();
    match error.kind() {
        // EFBIG comes from a file-size limit: to the operator it is a disk that is full.
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            StoreError::Full(format!(
                "{path}: {error}; nothing of the change was stored. Free space there (or raise the quota) and repeat it; reads go on"
            ))
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => StoreError::ReadOnly(format!(
            "{path}: {error}; resources are kept there. Make it writable for this user, or choose another --data-dir"
        )),
        // redb says this of a file that does not begin as its own do.
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            damaged_text(&path.to_string(), &error.to_string())
        }
        _ => StoreError::Io(format!("{path}: {error}")),
    }
}

pub(super) fn damaged(path: &Path, what: &str) -> StoreError {
    damaged_text(&path.display().to_string(), what)
}

fn damaged_text(path: &str, what: &str) -> StoreError {
    StoreError::Damaged(format!(
        "{path} is damaged: {what}. Restore it from a backup; to start empty instead, move the directory away"
    ))
}

/// Whether redb must be opened again before it can be used.
pub(super) fn needs_reopen(error: &StoreError) -> bool {
    !matches!(error, StoreError::Conflict { .. } | StoreError::NotFound { .. })
}

/// For the places where redb's types do not convert by themselves.
pub(super) fn open_fault(path: &Path, error: DatabaseError) -> StoreError {
    match error {
        DatabaseError::Storage(StorageError::Io(error)) => io_fault(path, &error),
        error => fault(path, error),
    }
}

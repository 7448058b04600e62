//! A second witness of how far the store has come.
//!
//! The database alone cannot tell that it fell back to an older state (a flipped bit that selects the
//! previous commit, a file put back by a careless copy). The mark is written after each commit, so it is
//! never ahead of what was synced; a database behind its mark has lost something, and says so.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use crate::Revision;

const MAGIC: &[u8; 8] = b"HDLMARK1";

pub(super) struct Mark {
    file: File,
}

impl Mark {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        Ok(Self { file })
    }

    /// The revision last noted; `None` when there is none, or none that can be trusted.
    pub(super) fn read(&self) -> Option<Revision> {
        let mut bytes = [0; 24];
        self.file.read_exact_at(&mut bytes, 0).ok()?;
        let number = |at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
        // The same number twice, once inverted: a half-written mark is no mark.
        (bytes.starts_with(MAGIC) && number(8)? == !number(16)?).then_some(Revision(number(8)?))
    }

    /// Not synced: it must outlive the process, and lags behind after a power loss, which is harmless.
    pub(super) fn write(&self, revision: Revision) -> io::Result<()> {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..16].copy_from_slice(&revision.0.to_le_bytes());
        bytes[16..].copy_from_slice(&(!revision.0).to_le_bytes());
        self.file.write_all_at(&bytes, 0)
    }
}

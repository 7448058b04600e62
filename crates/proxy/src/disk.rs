//! The last good configuration on disk: a proxy starts from it when its control plane is away.

use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use heddle_xds::ResourceType;
use tokio::sync::Notify;

use crate::feed::Held;

/// First bytes of the file: name and version of the format.
const MAGIC: &[u8; 16] = b"heddle-proxy-1\r\n";
/// The largest part that is believed.
const MOST: u32 = 64 << 20;
/// The least time between two writes.
const PAUSE: Duration = Duration::from_secs(1);

/// One resource as kept.
pub(crate) type Kept = (ResourceType, Arc<str>, Arc<str>, Bytes);

/// The writer. Writes happen beside the feed and are merged.
#[derive(Debug)]
pub(crate) struct Disk {
    changed: Arc<Notify>,
    started: bool,
    path: PathBuf,
}

impl Disk {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { changed: Arc::default(), started: false, path }
    }

    /// What is on disk; nothing when there is no file. A damaged file is an error and no reason not to start.
    pub(crate) fn load(&self) -> io::Result<Vec<Kept>> {
        let file = match std::fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        read(&mut io::BufReader::new(file))
    }

    /// Writes what is held, soon.
    pub(crate) fn save(&mut self, held: &Held) {
        if !std::mem::replace(&mut self.started, true) {
            let (changed, held, path) = (self.changed.clone(), held.clone(), self.path.clone());
            tokio::spawn(async move {
                loop {
                    changed.notified().await;
                    let (held, path) = (held.clone(), path.clone());
                    let written = tokio::task::spawn_blocking(move || write(&held, &path)).await;
                    if let Ok(Err(error)) = written {
                        tracing::warn!(%error, "the configuration in force could not be kept on disk; is it full or read-only?");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        self.changed.notify_one();
    }
}

fn write(held: &Held, path: &PathBuf) -> io::Result<()> {
    let mut out = MAGIC.to_vec();
    let mut part = |out: &mut Vec<u8>, bytes: &[u8]| {
        out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(bytes);
    };
    for ((kind, name), (version, body)) in held.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        part(&mut out, kind.url().as_bytes());
        part(&mut out, name.as_bytes());
        part(&mut out, version.as_bytes());
        part(&mut out, body);
    }
    let temporary = path.with_extension("new");
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(&out)?;
    file.sync_data()?;
    std::fs::rename(&temporary, path)
}

fn read(file: &mut impl io::Read) -> io::Result<Vec<Kept>> {
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic)?;
    if magic != *MAGIC {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a configuration of this version"));
    }
    let mut kept = Vec::new();
    while let Some(url) = part(file)? {
        let mut next = || part(file)?.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof));
        let (name, version, body) = (next()?, next()?, next()?);
        let text = |bytes: Vec<u8>| {
            String::from_utf8(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
        };
        if let Some(kind) = ResourceType::from_url(&text(url)?) {
            kept.push((kind, text(name)?.into(), text(version)?.into(), body.into()));
        }
    }
    Ok(kept)
}

/// The next part; `None` at the end of the file.
fn part(file: &mut impl io::Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match file.read(&mut length[..1])? {
        0 => return Ok(None),
        _ => file.read_exact(&mut length[1..])?,
    }
    let length = u32::from_be_bytes(length);
    if length > MOST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a part of impossible size"));
    }
    let mut bytes = Vec::new();
    file.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() as u32 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod disk_test {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let held = Held::default();
        let entry = ("7".into(), Bytes::from_static(b"body"));
        held.lock().unwrap().insert((ResourceType::Cluster, "a".into()), entry);
        let path = std::env::temp_dir().join(format!("heddle-disk-test-{}", std::process::id()));
        write(&held, &path).unwrap();
        let kept = Disk::new(path.clone()).load().unwrap();
        assert_eq!(kept, [(ResourceType::Cluster, "a".into(), "7".into(), Bytes::from_static(b"body"))]);
        let bytes = std::fs::read(&path).unwrap();
        for end in 0..bytes.len() {
            let _ = read(&mut &bytes[..end]);
        }
        std::fs::remove_file(&path).unwrap();
        assert!(Disk::new(path).load().unwrap().is_empty());
    }
}

//! Accepted resources as one file, so that a proxy starts when its control plane is down.
//!
//! Layout, integers little-endian: magic, format version (u32), number of resources (u32), then for each its type (u8),
//! length and bytes of its name (u32), length and bytes of its body (u32); at the end the XXH3 of all before (u64).

use std::io::{self, Write};

use bytes::Bytes;
use heddle_xds::ResourceType;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::{Name, SnapshotBuilder};

const MAGIC: &[u8; 8] = b"heddleSN";

/// Version of the layout. A file of another version is not read.
pub const FORMAT: u32 = 1;

/// A resource from a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResource {
    /// Its type.
    pub kind: ResourceType,
    /// Its name.
    pub name: String,
    /// The value of the `Any`.
    pub body: Bytes,
}

/// What goes into a file: it shares the bodies with the builder.
#[derive(Debug)]
pub struct Kept(Vec<(ResourceType, Name, Bytes)>);

impl Kept {
    /// What a builder has accepted, private keys included: for this machine's disk.
    pub fn of(builder: &SnapshotBuilder) -> Kept {
        Kept::shown(builder, |_, body| Some(body.clone()))
    }

    fn shown(builder: &SnapshotBuilder, shown: fn(ResourceType, &Bytes) -> Option<Bytes>) -> Kept {
        let shown = |(kind, name, raw): (_, &Name, &super::RawResource)| {
            Some((kind, name.clone(), shown(kind, &raw.body)?))
        };
        let mut all: Vec<_> = builder.resources().filter_map(shown).collect();
        all.sort_unstable_by(|(kind, name, _), (other, than, _)| (kind, name).cmp(&(other, than)));
        Kept(all)
    }

    /// Writes the file, piece by piece.
    pub fn write(&self, to: impl Write) -> io::Result<()> {
        let mut to = Summed { to, sum: Xxh3::new() };
        to.write_all(MAGIC)?;
        to.number(FORMAT as usize)?;
        to.number(self.0.len())?;
        for (kind, name, body) in &self.0 {
            to.write_all(&[kind.index() as u8])?;
            to.number(name.as_str().len())?;
            to.write_all(name.as_str().as_bytes())?;
            to.number(body.len())?;
            to.write_all(body)?;
        }
        let sum = to.sum.digest();
        to.to.write_all(&sum.to_le_bytes())
    }

    fn file(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Memory takes everything.
        let _ = self.write(&mut out);
        out
    }
}

/// What is written, and the sum of it.
struct Summed<W> {
    to: W,
    sum: Xxh3,
}

impl<W: Write> Summed<W> {
    fn number(&mut self, number: usize) -> io::Result<()> {
        self.write_all(&(number as u32).to_le_bytes())
    }
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.sum.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The file for what a builder has accepted, private keys included.
pub fn encode(builder: &SnapshotBuilder) -> Vec<u8> {
    Kept::of(builder).file()
}

/// The same without private keys: for those who ask.
pub fn encode_public(builder: &SnapshotBuilder) -> Vec<u8> {
    Kept::shown(builder, super::public::shown).file()
}

/// The resources of a file, in the order in which they are to be applied.
pub fn decode(file: &[u8]) -> Result<Vec<StoredResource>, String> {
    let body_len = file.len().checked_sub(8).ok_or("the file is cut off")?;
    let (body, sum) = file.split_at(body_len);
    if !body.starts_with(MAGIC) {
        return Err("this is no snapshot of a heddle proxy".into());
    }
    if sum != xxh3_64(body).to_le_bytes() {
        return Err("the file is damaged: its checksum does not match".into());
    }
    let mut rest = &body[MAGIC.len()..];
    let version = number(&mut rest)?;
    if version != FORMAT {
        return Err(format!("the file has format {version}, this proxy reads {FORMAT}"));
    }
    let count = number(&mut rest)?;
    let mut out = Vec::new();
    for _ in 0..count {
        let index = usize::from(*take(&mut rest, 1)?.first().ok_or("the file is cut off")?);
        let kind = ResourceType::ALL.get(index).ok_or_else(|| format!("type {index} is unknown"))?;
        let len = number(&mut rest)?;
        let name =
            String::from_utf8(take(&mut rest, len as usize)?.to_vec()).map_err(|error| error.to_string())?;
        let len = number(&mut rest)?;
        let body = Bytes::copy_from_slice(take(&mut rest, len as usize)?);
        out.push(StoredResource { kind: *kind, name, body });
    }
    Ok(out)
}

fn take<'b>(rest: &mut &'b [u8], len: usize) -> Result<&'b [u8], String> {
    let (head, tail) = rest.split_at_checked(len).ok_or("the file is cut off")?;
    *rest = tail;
    Ok(head)
}

fn number(rest: &mut &[u8]) -> Result<u32, String> {
    let bytes = take(rest, 4)?.try_into().map_err(|_| "the file is cut off".to_string())?;
    Ok(u32::from_le_bytes(bytes))
}

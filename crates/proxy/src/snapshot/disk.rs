//! Accepted resources as one file, so that a proxy starts when its control plane is down.
//!
//! Layout, integers little-endian: magic, format version (u32), number of resources (u32), then for each its type (u8),
//! length and bytes of its name (u32), length and bytes of its body (u32); at the end the XXH3 of all before (u64).

use bytes::Bytes;
use heddle_xds::ResourceType;
use xxhash_rust::xxh3::xxh3_64;

use super::SnapshotBuilder;

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

/// The file for what a builder has accepted, private keys included: for this machine's disk.
pub fn encode(builder: &SnapshotBuilder) -> Vec<u8> {
    file_of(builder, |_, body| Some(body.clone()))
}

/// The same without private keys: for those who ask.
pub fn encode_public(builder: &SnapshotBuilder) -> Vec<u8> {
    file_of(builder, super::public::shown)
}

fn file_of(builder: &SnapshotBuilder, shown: fn(ResourceType, &Bytes) -> Option<Bytes>) -> Vec<u8> {
    let shown = |(kind, name, raw): (_, _, &super::RawResource)| Some((kind, name, shown(kind, &raw.body)?));
    let mut all: Vec<_> = builder.resources().filter_map(shown).collect();
    all.sort_by_key(|(kind, name, _)| (*kind, *name));
    let mut out = MAGIC.to_vec();
    let number = |out: &mut Vec<u8>, n: usize| out.extend_from_slice(&(n as u32).to_le_bytes());
    number(&mut out, FORMAT as usize);
    number(&mut out, all.len());
    for (kind, name, body) in all {
        out.push(kind.index() as u8);
        number(&mut out, name.as_str().len());
        out.extend_from_slice(name.as_str().as_bytes());
        number(&mut out, body.len());
        out.extend_from_slice(&body);
    }
    let sum = xxh3_64(&out);
    out.extend_from_slice(&sum.to_le_bytes());
    out
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

//! Fields into header blocks (RFC 7541, 6).

use super::standing;
use super::table::{Queue, Table};
use super::{DEFAULT_TABLE, huffman, integer};

/// Whether a field enters the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Index {
    /// Its value comes again: it is written once and then named by a byte or two.
    Yes,
    /// Its value changes with every message (a date, a path, an identity). One with a name that no table knows may enter
    /// once for the sake of the name.
    No,
    /// It is a secret that nobody on the way may put into a table (6.2.3).
    Never,
}

/// The sending side of one direction of a connection.
#[derive(Debug)]
pub struct Encoder {
    table: Table,
    /// The hashes of the table's entries: of their names, and of the whole.
    names: Queue<u32>,
    fields: Queue<u32>,
    /// How many entries there ever were; an entry is known by how many came before it.
    made: u32,
    /// Messages of a connection resemble each other: the entry behind the one that was named last is likely to be
    /// next, and so is the one with which such a run began.
    next: u32,
    run: u32,
    /// What the next block has to begin with: the smallest size since the last one, and the size from then on.
    resized: Option<(usize, usize)>,
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Encoder {
    /// With a table of [`DEFAULT_TABLE`]. Allocates nothing.
    pub const fn new() -> Self {
        Self {
            table: Table::new(DEFAULT_TABLE),
            names: Queue::new(),
            fields: Queue::new(),
            made: 0,
            next: 0,
            run: 0,
            resized: None,
        }
    }

    /// The peer's SETTINGS_HEADER_TABLE_SIZE. The table is no larger than [`DEFAULT_TABLE`] whatever the peer allows.
    pub fn set_max_table_size(&mut self, size: usize) {
        let size = size.min(DEFAULT_TABLE);
        let lowest = self.resized.map_or(self.table.max(), |(lowest, _)| lowest).min(size);
        let changed = lowest < self.table.max() || size != self.table.max();
        self.resized = changed.then_some((lowest, size));
    }

    /// Begins a header block; every block has to.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        if let Some((lowest, size)) = self.resized.take() {
            if lowest < size {
                self.resize(out, lowest);
            }
            self.resize(out, size);
        }
    }

    /// Appends one field. Names are in lower case, as HTTP/2 wants them.
    pub fn field(&mut self, out: &mut Vec<u8>, name: &[u8], value: &[u8], index: Index) {
        if index == Index::Yes {
            for made in [self.next, self.run] {
                let back = self.back(made);
                if self.is(back, name, value) {
                    self.next = made.wrapping_add(1);
                    return write_index(out, back);
                }
            }
        }
        let name_hash = standing::hash(name, 0);
        let standing = standing::name(name, name_hash);
        if let (Some(first), Index::Yes | Index::No) = (standing, index)
            && let Some(whole) = standing::value(first, value)
        {
            return integer::write(out, 0x80, 7, whole);
        }
        if index == Index::Yes {
            let hash = standing::hash(value, name_hash) as u32;
            if let Some(back) = newest(self.fields.live(), hash, |back| self.is(back, name, value)) {
                self.run = self.made.wrapping_sub(1 + back as u32);
                self.next = self.run.wrapping_add(1);
                return write_index(out, back);
            }
        }
        self.literal(out, (name, value), name_hash, standing, index);
    }

    /// A field that is in no table.
    fn literal(
        &mut self,
        out: &mut Vec<u8>,
        (name, value): (&[u8], &[u8]),
        name_hash: u64,
        standing: Option<usize>,
        index: Index,
    ) {
        let known = standing.or_else(|| {
            let same = |back| self.table.entry(back).is_some_and(|entry| entry.0 == name);
            newest(self.names.live(), name_hash as u32, same).map(|back| standing::COUNT + 1 + back)
        });
        // What takes much of the table would push out what is worth more.
        let keep = match index {
            Index::Yes => self.table.holds(name.len(), value.len(), 2),
            Index::No => known.is_none() && self.table.holds(name.len(), value.len(), 16),
            Index::Never => false,
        };
        let (pattern, bits) = match index {
            _ if keep => (0x40, 6),
            Index::Never => (0x10, 4),
            Index::Yes | Index::No => (0, 4),
        };
        integer::write(out, pattern, bits, known.unwrap_or(0));
        if known.is_none() {
            string(out, name);
        }
        string(out, value);
        if keep {
            self.table.append(name);
            self.table.append(value);
            let lost = self.table.commit(name.len());
            self.forget(lost);
            self.names.push(name_hash as u32);
            self.fields.push(standing::hash(value, name_hash) as u32);
            self.made = self.made.wrapping_add(1);
            self.next = self.made;
        }
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.table.memory() + self.names.memory() + self.fields.memory()
    }

    #[inline]
    fn is(&self, back: usize, name: &[u8], value: &[u8]) -> bool {
        self.table.entry(back).is_some_and(|(n, v)| {
            // Lengths tell most entries apart.
            n.len() == name.len()
                && v.len() == value.len()
                && standing::same(n, name)
                && standing::same(v, value)
        })
    }

    fn resize(&mut self, out: &mut Vec<u8>, size: usize) {
        integer::write(out, 0x20, 5, size);
        let lost = self.table.set_max(size);
        self.forget(lost);
    }

    fn forget(&mut self, lost: usize) {
        self.names.forget(lost);
        self.fields.forget(lost);
    }

    /// How many entries are newer than the one before which `made` were made; a number behind the table if it is gone.
    fn back(&self, made: u32) -> usize {
        self.made.wrapping_sub(made).wrapping_sub(1) as usize
    }
}

fn write_index(out: &mut Vec<u8>, back: usize) {
    integer::write(out, 0x80, 7, standing::COUNT + 1 + back);
}

/// Appends a string (5.2), coded where that is shorter.
fn string(out: &mut Vec<u8>, text: &[u8]) {
    let coded = huffman::coded_len(text);
    if coded < text.len() {
        integer::write(out, 0x80, 7, coded);
        huffman::encode(out, text);
    } else {
        integer::write(out, 0, 7, text.len());
        out.extend_from_slice(text);
    }
}

/// Among entries with the hash `wanted`, the newest that `is` the one: how many are newer. Eight are compared at once.
fn newest(hashes: &[u32], wanted: u32, is: impl Fn(usize) -> bool) -> Option<usize> {
    let (older, eights) = hashes.as_rchunks::<8>();
    let mut back = 0;
    let chunks = eights
        .iter()
        .rev()
        .map(|eight| (eight.as_slice(), eight.iter().fold(false, |any, h| any | (*h == wanted))));
    for (chunk, some) in chunks.chain([(older, true)]) {
        if some {
            let place = chunk.iter().rev().enumerate().find(|(at, hash)| **hash == wanted && is(back + at));
            if let Some((at, _)) = place {
                return Some(back + at);
            }
        }
        back += chunk.len();
    }
    None
}

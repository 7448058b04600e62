//! Header blocks into fields (RFC 7541, 3 and 6).

use super::standing;
use super::table::Table;
use super::{Error, Fault, LARGEST_TABLE, huffman, integer};

/// The receiving side of one direction of a connection.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
    /// The largest size that the peer may choose.
    limit: usize,
    /// The size that the next block has to begin with, at most (RFC 9113, 4.3.1).
    reduced: Option<usize>,
}

/// A part of a literal, before its bytes can be borrowed.
enum Text<'b> {
    Standing(&'static [u8]),
    /// As it stands in the block.
    Block(&'b [u8]),
    /// The name of the entry that is so much older than the newest.
    Entry(usize),
    /// So many bytes of the draft.
    Draft(usize),
}

impl Decoder {
    /// `max_table_size` is what both sides begin with, at most [`LARGEST_TABLE`]; for HTTP/2 that is
    /// [`DEFAULT_TABLE`](super::DEFAULT_TABLE), whatever SETTINGS are on their way. Allocates nothing.
    pub const fn new(max_table_size: usize) -> Self {
        let limit = if max_table_size < LARGEST_TABLE { max_table_size } else { LARGEST_TABLE };
        Self { table: Table::new(limit), limit, reduced: None }
    }

    /// This side's SETTINGS_HEADER_TABLE_SIZE, at most [`LARGEST_TABLE`], from the moment the peer has acknowledged it.
    /// When the table is larger, the next block has to begin with a new size.
    pub fn set_max_table_size(&mut self, size: usize) {
        self.limit = size.min(LARGEST_TABLE);
        if self.limit < self.table.max() {
            self.reduced = Some(self.reduced.map_or(self.limit, |lowest| lowest.min(self.limit)));
        }
    }

    /// Decodes a whole header block. `field` gets each name and value, and whether the field must never enter a table
    /// on its further way (RFC 7541, 6.2.3); once it refuses one it gets no more of this block.
    ///
    /// # Errors
    /// [`Error::Compression`] when the block is broken, after which no other block can be decoded; [`Error::Field`] when
    /// `field` refused one.
    pub fn decode<E>(
        &mut self,
        block: &[u8],
        mut field: impl FnMut(&[u8], &[u8], bool) -> Result<(), E>,
    ) -> Result<(), Error<E>> {
        let mut refused = None;
        let mut give = |name: &[u8], value: &[u8], never| {
            if refused.is_none() {
                refused = field(name, value, never).err();
            }
        };
        let mut input = block;
        self.sizes(&mut input)?;
        while let Some(first) = input.first().copied() {
            if first & 0x80 != 0 {
                let (name, value) = self.indexed(integer::read(&mut input, 7)?)?;
                give(name, value, false);
            } else if first & 0x40 != 0 {
                self.kept(&mut input, &mut give)?;
            } else if first & 0x20 != 0 {
                return Err(Fault::SizePlace.into());
            } else {
                self.passed(&mut input, first & 0x10 != 0, &mut give)?;
            }
        }
        self.table.settle();
        refused.map_or(Ok(()), |error| Err(Error::Field(error)))
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.table.memory()
    }

    /// The changes of the table's size at the beginning of a block (4.2 and 6.3).
    fn sizes(&mut self, input: &mut &[u8]) -> Result<(), Fault> {
        // Two of them: the smallest and the last of several changes between two blocks.
        for _ in 0..2 {
            if input.first().is_none_or(|byte| byte & 0xe0 != 0x20) {
                break;
            }
            let size = integer::read(input, 5)?;
            if size > self.limit {
                return Err(Fault::SizeLimit);
            }
            if self.reduced.take().is_some_and(|lowest| size > lowest) {
                return Err(Fault::SizeMissing);
            }
            self.table.set_max(size);
        }
        if self.reduced.is_some() { Err(Fault::SizeMissing) } else { Ok(()) }
    }

    #[inline]
    fn indexed(&self, index: usize) -> Result<(&[u8], &[u8]), Fault> {
        match index.checked_sub(standing::COUNT + 1) {
            Some(back) => self.table.entry(back),
            None => standing::field(index),
        }
        .ok_or(Fault::Index)
    }

    /// A literal that becomes an entry: it is put together where the entry will stand.
    fn kept(&mut self, input: &mut &[u8], give: &mut impl FnMut(&[u8], &[u8], bool)) -> Result<(), Fault> {
        self.table.throw_away();
        let index = integer::read(input, 6)?;
        if index == 0 {
            self.append(input)?;
        } else if let Some(back) = index.checked_sub(standing::COUNT + 1) {
            self.table.entry(back).ok_or(Fault::Index)?;
            self.table.append_name(back);
        } else {
            let (name, _) = standing::field(index).ok_or(Fault::Index)?;
            self.table.append(name);
        }
        let name_len = self.table.draft().len();
        self.append(input)?;
        let (name, value) = self.table.draft().split_at(name_len);
        give(name, value, false);
        self.table.commit(name_len);
        Ok(())
    }

    /// A literal that does not.
    fn passed(
        &mut self,
        input: &mut &[u8],
        never: bool,
        give: &mut impl FnMut(&[u8], &[u8], bool),
    ) -> Result<(), Fault> {
        self.table.throw_away();
        let index = integer::read(input, 4)?;
        let name = if index == 0 {
            self.text(input)?
        } else if let Some(back) = index.checked_sub(standing::COUNT + 1) {
            self.table.entry(back).ok_or(Fault::Index)?;
            Text::Entry(back)
        } else {
            Text::Standing(standing::field(index).ok_or(Fault::Index)?.0)
        };
        let value = self.text(input)?;
        let (first, second) = match name {
            Text::Draft(len) => self.table.draft().split_at(len),
            _ => (&[][..], self.table.draft()),
        };
        let name = match name {
            Text::Standing(text) | Text::Block(text) => text,
            Text::Entry(back) => self.table.entry(back).ok_or(Fault::Index)?.0,
            Text::Draft(_) => first,
        };
        let value = if let Text::Block(text) = value { text } else { second };
        give(name, value, never);
        Ok(())
    }

    /// A string (5.2), which is copied only when it has to be decoded.
    fn text<'b>(&mut self, input: &mut &'b [u8]) -> Result<Text<'b>, Fault> {
        let (text, coded) = string(input)?;
        if !coded {
            return Ok(Text::Block(text));
        }
        let before = self.table.draft().len();
        huffman::decode(text, self.table.room(huffman::most(text.len())))?;
        Ok(Text::Draft(self.table.draft().len() - before))
    }

    /// Appends a string to the draft.
    fn append(&mut self, input: &mut &[u8]) -> Result<(), Fault> {
        let (text, coded) = string(input)?;
        if coded {
            huffman::decode(text, self.table.room(huffman::most(text.len())))
        } else {
            self.table.append(text);
            Ok(())
        }
    }
}

/// Takes a string off the front: its bytes, and whether they are coded.
fn string<'b>(input: &mut &'b [u8]) -> Result<(&'b [u8], bool), Fault> {
    let coded = input.first().is_some_and(|byte| byte & 0x80 != 0);
    let len = integer::read(input, 7)?;
    let (text, rest) = input.split_at_checked(len).ok_or(Fault::Truncated)?;
    *input = rest;
    Ok((text, coded))
}

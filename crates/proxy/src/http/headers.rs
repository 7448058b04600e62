//! Header fields as ranges of one buffer.

use smallvec::SmallVec;

/// A range of the head's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// The span of `len` bytes at `start`. Heads are limited to 60 KiB, so both fit.
    pub(crate) fn new(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 }
    }

    pub(super) fn of(self, buf: &[u8]) -> &[u8] {
        let start = self.start as usize;
        buf.get(start..start + self.len as usize).unwrap_or(&[])
    }
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
}

/// The header fields of one message, in order of arrival.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    pub(super) buf: Vec<u8>,
    fields: SmallVec<[Field; 16]>,
    /// A bit for each [`mark`] that a field has had: a name whose bit is missing need not be searched.
    marks: u64,
    /// The same of fields that no compressor may remember (RFC 7541, 6.2.3).
    never: u64,
}

/// One of 64 bits by a name's length and ends, whatever its case. A constant where the name is one.
#[inline(always)]
fn mark(name: &[u8]) -> u64 {
    let [first, .., last] = name else { return 1 };
    let ends = u32::from(first & 0x1f) ^ (u32::from(last & 0x1f) << 2);
    1 << ((ends ^ (name.len() as u32).wrapping_mul(11)) & 63)
}

impl Headers {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of fields.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// True when there is no field.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The first value of `name` (which is lower-case), compared without regard to case.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.position(name).map(|index| self.fields[index].value.of(&self.buf))
    }

    /// True when a field of that name (lower-case) exists.
    #[inline]
    pub fn contains(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    /// Every value of `name` (lower-case) in order.
    pub fn get_all<'h, 'n>(&'h self, name: &'n str) -> impl Iterator<Item = &'h [u8]> + use<'h, 'n> {
        let fields = if self.may_have(name) { &self.fields[..] } else { &[] };
        fields.iter().filter(move |field| self.is_named(field, name)).map(|field| field.value.of(&self.buf))
    }

    /// Name (case as received) and value of every field in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &[u8])> + '_ {
        self.fields.iter().map(|field| (field.name.of(&self.buf), field.value.of(&self.buf)))
    }

    /// Writes every field as a line of HTTP/1.1. Lines that lie in the buffer as they are written go out in one piece.
    pub(super) fn write_lines(&self, out: &mut Vec<u8>, lower: bool) {
        let mut at = 0;
        while let Some(field) = self.fields.get(at) {
            let from = field.name.start as usize;
            let (mut to, mut next) = (from, at);
            while let Some(end) = self.fields.get(next).and_then(|field| self.line_at(field, to)) {
                (to, next) = (end, next + 1);
            }
            let begin = out.len();
            if next == at {
                out.extend_from_slice(field.name.of(&self.buf));
                out.extend_from_slice(b": ");
                out.extend_from_slice(field.value.of(&self.buf));
                out.extend_from_slice(b"\r\n");
                next = at + 1;
            } else {
                out.extend_from_slice(self.buf.get(from..to).unwrap_or_default());
            }
            if lower {
                for field in &self.fields[at..next] {
                    let start = begin + (field.name.start as usize - from);
                    if let Some(name) = out.get_mut(start..start + field.name.len as usize) {
                        lower_case(name);
                    }
                }
            }
            at = next;
        }
    }

    /// Where the field's line ends, if it begins at `start` of the buffer and is there byte for byte.
    fn line_at(&self, field: &Field, start: usize) -> Option<usize> {
        let name_end = (field.name.start + field.name.len) as usize;
        let value_end = (field.value.start + field.value.len) as usize;
        let whole = field.name.start as usize == start
            && field.value.start as usize == name_end + 2
            && self.buf.get(name_end..name_end + 2) == Some(b": ")
            && self.buf.get(value_end..value_end + 2) == Some(b"\r\n");
        whole.then_some(value_end + 2)
    }

    /// Adds a field behind the others.
    pub fn append(&mut self, name: &str, value: &[u8]) {
        let name = self.store(name.as_bytes());
        let value = self.store(value);
        self.push_span(name, value);
    }

    /// Makes `value` the only value of `name` (lower-case): the first such field keeps its place and case.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let Some(first) = self.position(name) else {
            self.append(name, value);
            return;
        };
        let span = self.store(value);
        self.fields[first].value = span;
        let (buf, mut index) = (&self.buf, 0);
        self.fields.retain(|field| {
            let keep = index <= first || !field.name.of(buf).eq_ignore_ascii_case(name.as_bytes());
            index += 1;
            keep
        });
    }

    /// [`Headers::set`] with a decimal number.
    pub fn set_number(&mut self, name: &str, value: u64) {
        self.set(name, itoa::Buffer::new().format(value).as_bytes());
    }

    /// Removes every field called `name` (lower-case); true when there was one.
    #[inline]
    pub fn remove(&mut self, name: &str) -> bool {
        self.may_have(name) && self.take_out(name)
    }

    fn take_out(&mut self, name: &str) -> bool {
        if self.search(name).is_none() {
            return false;
        }
        let buf = &self.buf;
        self.fields.retain(|field| !field.name.of(buf).eq_ignore_ascii_case(name.as_bytes()));
        true
    }

    /// Keeps the fields for which `keep(name, value)` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let buf = &self.buf;
        self.fields.retain(|field| keep(field.name.of(buf), field.value.of(buf)));
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.fields.clear();
        (self.marks, self.never) = (0, 0);
    }

    /// Bytes that the fields' names and values take.
    pub fn size(&self) -> usize {
        self.fields.iter().map(|field| (field.name.len + field.value.len) as usize).sum()
    }

    /// Takes over the raw bytes of a head; the fields are then added by [`Headers::push_span`].
    pub(crate) fn load(&mut self, raw: &[u8]) {
        self.clear();
        self.buf.extend_from_slice(raw);
    }

    /// Adds a field whose bytes are in the buffer already.
    pub(crate) fn push_span(&mut self, name: Span, value: Span) {
        self.marks |= mark(name.of(&self.buf));
        self.fields.push(Field { name, value });
    }

    /// Adds a field behind the others; `never`: no compressor may remember it.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8], never: bool) {
        let bit = mark(name);
        self.marks |= bit;
        if never {
            self.never |= bit;
        }
        let (name, value) = (self.store(name), self.store(value));
        self.fields.push(Field { name, value });
    }

    /// Like [`Headers::iter`], with whether a compressor has to forget the field.
    pub(crate) fn iter_marked(&self) -> impl Iterator<Item = (&[u8], &[u8], bool)> + '_ {
        self.iter().map(|(name, value)| (name, value, self.never != 0 && self.never & mark(name) != 0))
    }

    /// Releases memory beyond what an ordinary head needs.
    pub(crate) fn shrink(&mut self) {
        self.clear();
        self.buf.shrink_to(2048);
        self.fields.shrink_to_fit();
    }

    pub(crate) fn store(&mut self, bytes: &[u8]) -> Span {
        let span = Span::new(self.buf.len(), bytes.len());
        self.buf.extend_from_slice(bytes);
        span
    }

    /// False for most of what is not there: a request asks for some forty names, and has a few of them.
    #[inline(always)]
    fn may_have(&self, name: &str) -> bool {
        self.marks & mark(name.as_bytes()) != 0
    }

    #[inline]
    fn position(&self, name: &str) -> Option<usize> {
        if self.may_have(name) { self.search(name) } else { None }
    }

    #[inline(never)]
    fn search(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| self.is_named(field, name))
    }

    fn is_named(&self, field: &Field, name: &str) -> bool {
        debug_assert!(!name.bytes().any(|byte| byte.is_ascii_uppercase()));
        field.name.len as usize == name.len()
            && field.name.of(&self.buf).eq_ignore_ascii_case(name.as_bytes())
    }
}

/// `make_ascii_lowercase` for names: eight bytes at a time, where the library goes by single ones up to 32.
fn lower_case(name: &mut [u8]) {
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    let each = |byte: u8| u64::from_ne_bytes([byte; 8]);
    let eight = |bytes: &mut [u8; 8]| {
        let all = u64::from_ne_bytes(*bytes);
        let low = all & !HIGH;
        let (from_a, behind_z) = (low + each(0x80 - b'A'), low + each(0x7f - b'Z'));
        let upper = (from_a ^ behind_z) & !all & HIGH;
        *bytes = (all | upper >> 2).to_ne_bytes();
    };
    if name.len() < 8 {
        return name.iter_mut().for_each(|byte| *byte = byte.to_ascii_lowercase());
    }
    name.as_chunks_mut::<8>().0.iter_mut().for_each(eight);
    // The rest, and again some of what is in front of it.
    if let Some(last) = name.last_chunk_mut::<8>() {
        eight(last);
    }
}

/// `content-type: application/grpc` or a subtype of it.
pub(crate) fn is_grpc(headers: &Headers) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    headers
        .get("content-type")
        .and_then(|value| value.strip_prefix(TYPE))
        .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

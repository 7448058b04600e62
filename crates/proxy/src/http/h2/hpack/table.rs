//! The dynamic table (RFC 7541, 2.3.2 and 4).

/// The largest table, in the octets of RFC 7541, 4.1.
pub const LARGEST_TABLE: usize = u16::MAX as usize;

/// What an entry counts beside its bytes.
const OVERHEAD: usize = 32;

/// Where an entry stands: `at` counts all bytes ever written, so that moving the buffer changes no entry.
#[derive(Clone, Copy, Debug)]
struct Entry {
    at: u32,
    name: u16,
    value: u16,
}

/// A queue in one piece of memory. What left it is cut off only when room is wanted, so that each item moves about once.
#[derive(Debug)]
pub(super) struct Queue<T> {
    items: Vec<T>,
    first: usize,
}

impl<T> Queue<T> {
    pub(super) const fn new() -> Self {
        Self { items: Vec::new(), first: 0 }
    }

    /// Oldest first.
    pub(super) fn live(&self) -> &[T] {
        &self.items[self.first..]
    }

    pub(super) fn push(&mut self, item: T) {
        if self.items.len() == self.items.capacity() && self.first * 2 >= self.items.len() {
            self.items.drain(..self.first);
            self.first = 0;
        }
        self.items.push(item);
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.items.capacity() * size_of::<T>()
    }

    /// Takes off the `count` oldest.
    pub(super) fn forget(&mut self, count: usize) {
        self.first = (self.first + count).min(self.items.len());
    }
}

/// The entries of one direction of a connection. Behind them is a draft: text that becomes an entry or is thrown away.
#[derive(Debug)]
pub(super) struct Table {
    bytes: Vec<u8>,
    /// How many bytes were cut off in front of `bytes`.
    base: u32,
    /// Where the draft begins in `bytes`.
    draft: usize,
    entries: Queue<Entry>,
    size: usize,
    max: usize,
}

impl Table {
    pub(super) const fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), base: 0, draft: 0, entries: Queue::new(), size: 0, max }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    /// How many entries there are.
    pub(super) fn len(&self) -> usize {
        self.entries.live().len()
    }

    /// Whether an entry of such lengths fits beside others.
    pub(super) fn holds(&self, name: usize, value: usize, share: usize) -> bool {
        (name + value + OVERHEAD) * share <= self.max
    }

    /// The entry that is `back` older than the newest.
    #[inline]
    pub(super) fn entry(&self, back: usize) -> Option<(&[u8], &[u8])> {
        let live = self.entries.live();
        let entry = live.get(live.len().wrapping_sub(back).wrapping_sub(1))?;
        let at = entry.at.wrapping_sub(self.base) as usize;
        let text = self.bytes.get(at..at + usize::from(entry.name) + usize::from(entry.value))?;
        text.split_at_checked(usize::from(entry.name))
    }

    /// Sets the size and returns how many entries that cost.
    pub(super) fn set_max(&mut self, max: usize) -> usize {
        self.max = max.min(LARGEST_TABLE);
        self.evict(0)
    }

    /// The draft so far.
    pub(super) fn draft(&self) -> &[u8] {
        &self.bytes[self.draft..]
    }

    /// Appends to the draft.
    pub(super) fn append(&mut self, text: &[u8]) {
        self.make_room(text.len());
        self.bytes.extend_from_slice(text);
    }

    /// Appends the name of an entry to the draft; nothing when there is no such entry.
    pub(super) fn append_name(&mut self, back: usize) {
        let live = self.entries.live();
        let Some(entry) = live.get(live.len().wrapping_sub(back).wrapping_sub(1)).copied() else { return };
        self.make_room(usize::from(entry.name));
        let at = entry.at.wrapping_sub(self.base) as usize;
        self.bytes.extend_from_within(at..at + usize::from(entry.name));
    }

    /// The buffer, with room for `most` bytes, to append to the draft.
    pub(super) fn room(&mut self, most: usize) -> &mut Vec<u8> {
        self.make_room(most);
        &mut self.bytes
    }

    pub(super) fn throw_away(&mut self) {
        self.bytes.truncate(self.draft);
    }

    /// Makes an entry of the draft, whose name has `name` bytes, and returns how many others that cost. One that is
    /// larger than the table empties it (RFC 7541, 4.4).
    pub(super) fn commit(&mut self, name: usize) -> usize {
        let len = self.bytes.len() - self.draft;
        let size = len + OVERHEAD;
        if size > self.max {
            let lost = self.len();
            self.entries.forget(lost);
            self.size = 0;
            self.throw_away();
            return lost;
        }
        let lost = self.evict(size);
        let at = self.base.wrapping_add(self.draft as u32);
        self.entries.push(Entry { at, name: name as u16, value: (len - name) as u16 });
        self.size += size;
        self.draft = self.bytes.len();
        debug_assert!(self.size <= self.max);
        lost
    }

    /// Ends a block: gives back what a long draft has claimed.
    pub(super) fn settle(&mut self) {
        self.throw_away();
        if self.bytes.capacity() > 2 * self.max.max(DRAFT) {
            self.cut_off();
            self.bytes.shrink_to(self.max.max(DRAFT));
        }
    }

    #[cfg(test)]
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.entries.memory()
    }

    /// Takes off the oldest until `size` more fit.
    fn evict(&mut self, size: usize) -> usize {
        let mut lost = 0;
        for entry in self.entries.live() {
            if self.size + size <= self.max {
                break;
            }
            self.size -= usize::from(entry.name) + usize::from(entry.value) + OVERHEAD;
            lost += 1;
        }
        self.entries.forget(lost);
        lost
    }

    #[inline]
    fn make_room(&mut self, more: usize) {
        if self.bytes.capacity() - self.bytes.len() < more {
            self.grow(more);
        }
    }

    #[cold]
    fn grow(&mut self, more: usize) {
        self.cut_off();
        let wanted = self.bytes.len() + more;
        // A third stays free, so that it takes many fields until the bytes move again.
        if wanted + wanted / 2 > self.bytes.capacity() {
            self.bytes.reserve_exact(more + wanted);
        }
    }

    /// Moves the oldest entry to the front of the buffer.
    fn cut_off(&mut self) {
        let dead = match self.entries.live().first() {
            Some(oldest) => oldest.at.wrapping_sub(self.base) as usize,
            None => self.draft,
        };
        self.bytes.drain(..dead);
        self.draft -= dead;
        self.base = self.base.wrapping_add(dead as u32);
    }
}

/// A draft of this many bytes does not count as long.
const DRAFT: usize = 1024;

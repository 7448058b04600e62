//! Read buffers, lent to connections that have something to read and given back by those that wait.

use std::cell::RefCell;

use super::splice::Pipes;

/// Bytes of an ordinary read buffer: a head and a small body in one read.
pub(crate) const SMALL: usize = 16 * 1024;
/// Bytes of a buffer for bulk transfer; more than the largest head.
pub(crate) const LARGE: usize = 64 * 1024;
/// Bytes of a new buffer for a head that is to be written, and the most that one may have grown to when it is kept.
const HEAD: usize = 768;
const MOST_HEAD: usize = 4096;
/// How many unused buffers of each size a worker keeps.
const KEPT: usize = 32;

/// One worker's unused buffers. Last in, first out: what was just used is still in the cache.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
    /// For heads that are to be written.
    heads: RefCell<Vec<Vec<u8>>>,
    pub(crate) pipes: Pipes,
}

impl Buffers {
    pub(crate) fn take(&self, large: bool) -> Box<[u8]> {
        let (list, size) = self.of(large);
        list.borrow_mut().pop().unwrap_or_else(|| vec![0; size].into_boxed_slice())
    }

    pub(crate) fn give(&self, buffer: Box<[u8]>) {
        if buffer.len() != SMALL && buffer.len() != LARGE {
            return;
        }
        let (list, _) = self.of(buffer.len() == LARGE);
        let mut list = list.borrow_mut();
        if list.len() < KEPT {
            list.push(buffer);
        }
    }

    /// An empty buffer for a head.
    pub(crate) fn take_head(&self) -> Vec<u8> {
        self.heads.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(HEAD))
    }

    pub(crate) fn give_head(&self, mut buffer: Vec<u8>) {
        let mut heads = self.heads.borrow_mut();
        if (HEAD..=MOST_HEAD).contains(&buffer.capacity()) && heads.len() < KEPT {
            buffer.clear();
            heads.push(buffer);
        }
    }

    fn of(&self, large: bool) -> (&RefCell<Vec<Box<[u8]>>>, usize) {
        if large { (&self.large, LARGE) } else { (&self.small, SMALL) }
    }
}

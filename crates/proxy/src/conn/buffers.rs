//! Read buffers, lent to connections that have something to read and given back by those that wait.

use std::cell::RefCell;

use super::splice::Pipes;

/// Bytes of an ordinary read buffer: a head and a small body in one read.
pub(crate) const SMALL: usize = 16 * 1024;
/// Bytes of a buffer for bulk transfer; more than the largest head.
pub(crate) const LARGE: usize = 64 * 1024;
/// How many unused buffers of each size a worker keeps.
const KEPT: usize = 32;

/// One worker's unused buffers. Last in, first out: what was just used is still in the cache.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    small: RefCell<Vec<Box<[u8]>>>,
    large: RefCell<Vec<Box<[u8]>>>,
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

    fn of(&self, large: bool) -> (&RefCell<Vec<Box<[u8]>>>, usize) {
        if large { (&self.large, LARGE) } else { (&self.small, SMALL) }
    }
}

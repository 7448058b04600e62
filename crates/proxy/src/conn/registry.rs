//! The open connections of one worker: to count them, to tell them that the end is near, to cut them.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::task::Waker;
use std::time::Duration;

use crate::snapshot::Name;

/// What a connection is asked to do. Only moves forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wish {
    /// Go on.
    #[default]
    Serve,
    /// End at the next good moment: after this response, or soon when idle.
    Drain,
    /// End now.
    Cut,
}

/// The worker's end of one connection.
#[derive(Debug, Default)]
pub(crate) struct Control {
    wish: Cell<Wish>,
    waker: RefCell<Option<Waker>>,
}

impl Control {
    pub(crate) fn wish(&self) -> Wish {
        self.wish.get()
    }

    /// Remembers whom to wake when the wish changes; nothing to do when it is the same task as before.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut slot = self.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// True when this is news.
    fn ask(&self, wish: Wish) -> bool {
        let news = wish > self.wish.get();
        if news {
            self.wish.set(wish);
            let waker = self.waker.borrow().clone();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        news
    }
}

#[derive(Debug)]
struct Entry {
    control: Rc<Control>,
    listener: Name,
}

/// All open connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: RefCell<Vec<Option<Entry>>>,
    free: RefCell<Vec<usize>>,
    open: Cell<usize>,
    opened: Cell<u64>,
}

/// A registered connection; dropping it is its end.
#[derive(Debug)]
pub(crate) struct Registered {
    registry: Rc<Registry>,
    slot: usize,
    control: Rc<Control>,
}

impl Registry {
    pub(crate) fn open(self: &Rc<Self>, listener: &Name) -> Registered {
        let control = Rc::new(Control::default());
        let entry = Some(Entry { control: control.clone(), listener: listener.clone() });
        let mut entries = self.entries.borrow_mut();
        let slot = match self.free.borrow_mut().pop() {
            Some(slot) => {
                entries[slot] = entry;
                slot
            }
            None => {
                entries.push(entry);
                entries.len() - 1
            }
        };
        self.open.set(self.open.get() + 1);
        self.opened.set(self.opened.get() + 1);
        Registered { registry: self.clone(), slot, control }
    }

    /// Connections open now.
    pub(crate) fn len(&self) -> usize {
        self.open.get()
    }

    /// Connections ever opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// Tells every connection, or those of one listener; those to whom it was news.
    pub(crate) fn ask(&self, wish: Wish, listener: Option<&Name>) -> Vec<Weak<Control>> {
        let entries = self.entries.borrow();
        let meant = entries.iter().flatten().filter(|entry| listener.is_none_or(|l| *l == entry.listener));
        let news = meant.filter(|entry| entry.control.ask(wish));
        news.map(|entry| Rc::downgrade(&entry.control)).collect()
    }

    /// Asks connections to end, and cuts those that have not after `most`: relays of bytes and long streams know no good
    /// moment of their own.
    pub(crate) fn drain(&self, listener: Option<&Name>, most: Duration) {
        let asked = self.ask(Wish::Drain, listener);
        if asked.is_empty() {
            return;
        }
        tokio::task::spawn_local(async move {
            tokio::time::sleep(most).await;
            for control in asked.iter().filter_map(Weak::upgrade) {
                control.ask(Wish::Cut);
            }
        });
    }
}

impl Registered {
    pub(crate) fn control(&self) -> &Rc<Control> {
        &self.control
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.entries.borrow_mut()[self.slot] = None;
        self.registry.free.borrow_mut().push(self.slot);
        self.registry.open.set(self.registry.open.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true, flavor = "local")]
    async fn what_does_not_end_by_itself_is_cut() {
        let registry = Rc::<Registry>::default();
        let (one, two) = (Name::new("one"), Name::new("two"));
        let (asked, other) = (registry.open(&one), registry.open(&two));
        registry.drain(Some(&one), Duration::from_secs(45));
        assert_eq!(asked.control().wish(), Wish::Drain);
        tokio::time::sleep(Duration::from_secs(44)).await;
        registry.drain(Some(&one), Duration::from_secs(45));
        assert_eq!(asked.control().wish(), Wish::Drain);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(asked.control().wish(), Wish::Cut, "45 s after it was asked first");
        assert_eq!(other.control().wish(), Wish::Serve);
    }
}

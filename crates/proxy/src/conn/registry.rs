//! The open connections of one worker: to count them, to tell them that the end is near, to cut them.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use crate::overload::Overload;
use crate::snapshot::{FilterChain, Listener, Name};
use crate::worker::{Expected, Loads};

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

/// Which connections are asked to end.
#[derive(Clone, Debug)]
pub(crate) enum Leaving {
    /// All.
    All,
    /// Those of one listener.
    Listener(Name),
    /// Those that the newest version of their listener would serve otherwise, or not at all.
    Changed(Arc<Listener>),
}

/// The worker's end of one connection.
pub(crate) struct Control {
    wish: Cell<Wish>,
    /// The one it was accepted for, then the one that serves it.
    listener: RefCell<Name>,
    /// [`Listener::ground`], once there is a filter chain.
    ground: Cell<Option<u64>>,
    waker: Cell<Option<Waker>>,
    registry: Rc<Registry>,
    slot: u32,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").field("wish", &self.wish).field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl Control {
    pub(crate) fn wish(&self) -> Wish {
        self.wish.get()
    }

    /// Remembers whom to wake when the wish changes; nothing to do when it is the same task as before.
    pub(crate) fn register(&self, waker: &Waker) {
        let known = self.waker.take();
        let same = known.filter(|known| known.will_wake(waker));
        self.waker.set(Some(same.unwrap_or_else(|| waker.clone())));
    }

    /// Remembers what serves the connection; `now` is the listener's newest version, which may be another already.
    pub(crate) fn stand_on(&self, listener: &Listener, chain: &FilterChain, now: Option<&Arc<Listener>>) {
        let ground = listener.ground(chain);
        self.ground.set(Some(ground));
        if *self.listener.borrow() != listener.name {
            *self.listener.borrow_mut() = listener.name.clone();
        }
        if now.is_none_or(|now| !now.keeps(ground)) {
            self.ask(Wish::Drain);
        }
    }

    /// True when this is news.
    fn ask(&self, wish: Wish) -> bool {
        let news = wish > self.wish.get();
        if news {
            self.wish.set(wish);
            self.wake();
        }
        news
    }

    fn wake(&self) {
        // Kept: who waits for something else by now need not register again.
        let waker = self.waker.take();
        waker.iter().for_each(Waker::wake_by_ref);
        self.waker.set(waker);
    }
}

/// All open connections of one worker.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    entries: RefCell<Vec<Option<Rc<Control>>>>,
    free: RefCell<Vec<u32>>,
    open: Cell<usize>,
    opened: Cell<u64>,
    /// Counts those of all workers.
    overload: Arc<Overload>,
    /// Counts those of each, this one's at `index`.
    loads: Arc<Loads>,
    index: usize,
}

/// A registered connection; dropping it is its end.
#[derive(Debug)]
pub(crate) struct Registered(Rc<Control>);

impl Registry {
    pub(crate) fn new(overload: Arc<Overload>, loads: Arc<Loads>, index: usize) -> Self {
        Self { overload, loads, index, ..Self::default() }
    }

    /// The worker that is to serve a connection accepted here, unless it is this one.
    pub(crate) fn elsewhere(&self) -> Option<Expected> {
        Some(self.loads.expect(self.loads.elsewhere(self.index)?))
    }

    /// There may be one more connection here soon.
    pub(crate) fn expect(&self) -> Expected {
        self.loads.expect(self.index)
    }

    /// Lets every connection look anew at what is asked of it.
    pub(crate) fn wake_all(&self) {
        for control in self.entries.borrow().iter().flatten() {
            control.wake();
        }
    }

    pub(crate) fn open(self: &Rc<Self>, listener: &Name) -> Registered {
        let mut entries = self.entries.borrow_mut();
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            entries.push(None);
            (entries.len() - 1) as u32
        });
        let control = Rc::new(Control {
            wish: Cell::default(),
            listener: RefCell::new(listener.clone()),
            ground: Cell::default(),
            waker: Cell::default(),
            registry: self.clone(),
            slot,
        });
        entries[slot as usize] = Some(control.clone());
        self.open.set(self.open.get() + 1);
        self.opened.set(self.opened.get() + 1);
        self.overload.opened();
        self.loads.add(self.index);
        Registered(control)
    }

    /// Connections open now.
    pub(crate) fn len(&self) -> usize {
        self.open.get()
    }

    /// Connections ever opened.
    pub(crate) fn opened(&self) -> u64 {
        self.opened.get()
    }

    /// Cuts every connection.
    pub(crate) fn cut(&self) {
        for control in self.entries.borrow().iter().flatten() {
            control.ask(Wish::Cut);
        }
    }

    /// Asks connections to end, and cuts those that have not after `most`, if there is such a limit: relays of bytes and
    /// long streams know no good moment of their own.
    pub(crate) fn drain(&self, leaving: &Leaving, most: Option<Duration>) {
        let entries = self.entries.borrow();
        let meant = entries.iter().flatten().filter(|control| leaving.means(control));
        let asked: Vec<_> = meant.filter(|control| control.ask(Wish::Drain)).map(Rc::downgrade).collect();
        let Some(most) = most.filter(|_| !asked.is_empty()) else { return };
        tokio::task::spawn_local(async move {
            tokio::time::sleep(most).await;
            for control in asked.iter().filter_map(Weak::upgrade) {
                control.ask(Wish::Cut);
            }
        });
    }
}

impl Leaving {
    fn means(&self, control: &Control) -> bool {
        match self {
            Self::All => true,
            Self::Listener(name) => *name == *control.listener.borrow(),
            // Who has no filter chain yet is asked when there is one.
            Self::Changed(listener) => {
                listener.name == *control.listener.borrow()
                    && control.ground.get().is_some_and(|ground| !listener.keeps(ground))
            }
        }
    }
}

impl Registered {
    pub(crate) fn control(&self) -> &Rc<Control> {
        &self.0
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let Control { registry, slot, .. } = &*self.0;
        registry.entries.borrow_mut()[*slot as usize] = None;
        registry.free.borrow_mut().push(*slot);
        registry.open.set(registry.open.get() - 1);
        registry.overload.closed();
        registry.loads.take(registry.index);
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
        registry.drain(&Leaving::Listener(one.clone()), Some(Duration::from_secs(45)));
        assert_eq!(asked.control().wish(), Wish::Drain);
        tokio::time::sleep(Duration::from_secs(44)).await;
        registry.drain(&Leaving::Listener(one.clone()), Some(Duration::from_secs(45)));
        assert_eq!(asked.control().wish(), Wish::Drain);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(asked.control().wish(), Wish::Cut, "45 s after it was asked first");
        assert_eq!(other.control().wish(), Wish::Serve);
        registry.drain(&Leaving::All, None);
        tokio::time::sleep(Duration::from_secs(100_000)).await;
        assert_eq!(other.control().wish(), Wish::Drain, "without a limit nothing is cut");
    }
}

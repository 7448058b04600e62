//! What of the code an input reaches, counted by the compiler's own instrumentation (`-C instrument-coverage`).
//!
//! Counters are only ever looked at in a batch: the array is long, and most inputs reach nothing new.

/// Which counters were ever reached.
pub(crate) struct Coverage {
    seen: Vec<bool>,
    reached: usize,
}

impl Coverage {
    /// Begins to count; nothing is counted in a build without instrumentation.
    pub(crate) fn begin() -> Self {
        let counters = counters();
        counters.fill(0);
        Self { seen: vec![false; counters.len()], reached: 0 }
    }

    /// Whether this build counts at all.
    pub(crate) fn counts(&self) -> bool {
        !self.seen.is_empty()
    }

    /// How many counters were reached.
    pub(crate) fn reached(&self) -> usize {
        self.reached
    }

    /// What was reached for the first time since the last call. These counters are set back, so that
    /// [`Coverage::take`] can tell which input it was.
    pub(crate) fn fresh(&mut self) -> Vec<usize> {
        let mut fresh = Vec::new();
        for (place, (counter, seen)) in counters().iter_mut().zip(&mut self.seen).enumerate() {
            if *counter != 0 && !*seen {
                *seen = true;
                *counter = 0;
                fresh.push(place);
            }
        }
        self.reached += fresh.len();
        fresh
    }

    /// Takes those out of `wanted` that were reached meanwhile; how many that were.
    pub(crate) fn take(wanted: &mut Vec<usize>) -> usize {
        let (counters, before) = (counters(), wanted.len());
        wanted.retain(|place| counters.get(*place).is_some_and(|counter| *counter == 0));
        before - wanted.len()
    }

    /// Sets counters back.
    pub(crate) fn clear(places: impl Iterator<Item = usize>) {
        let counters = counters();
        for place in places {
            if let Some(counter) = counters.get_mut(place) {
                *counter = 0;
            }
        }
    }
}

#[cfg(not(instrumented))]
fn counters() -> &'static mut [u64] {
    &mut []
}

#[cfg(instrumented)]
#[expect(unsafe_code, reason = "the counters belong to the compiler's runtime")]
fn counters() -> &'static mut [u64] {
    // SAFETY: the runtime that the instrumentation brings with it defines both.
    unsafe extern "C" {
        safe fn __llvm_profile_begin_counters() -> *mut u64;
        safe fn __llvm_profile_end_counters() -> *mut u64;
    }
    let (begin, end) = (__llvm_profile_begin_counters(), __llvm_profile_end_counters());
    let len = (end as usize - begin as usize) / size_of::<u64>();
    // SAFETY: between the two there are only 64-bit counters, for as long as the process runs. This crate itself is not
    // instrumented, it has one thread, and no caller keeps the slice across a run of a target, so nothing else
    // touches them while it is there.
    unsafe { std::slice::from_raw_parts_mut(begin, len) }
}

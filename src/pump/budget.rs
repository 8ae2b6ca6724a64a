//! How much memory each transfer may take between file and network: less where many run at the same time, so
//! that all of them together stay bounded.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that read or write for a transfer of this process.
static SHARES: AtomicUsize = AtomicUsize::new(0);

/// One thread's part of the memory, as long as it lives.
pub(super) struct Share(());

impl Share {
    /// Counts one thread more.
    pub(super) fn take() -> Self {
        SHARES.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        SHARES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How much a thread may take now: `whole` where it is alone, less where there are others, but no less than
/// `least`.
pub(super) fn portion(whole: usize, least: usize) -> usize {
    portion_of(whole, least, SHARES.load(Ordering::Relaxed))
}

fn portion_of(whole: usize, least: usize, shares: usize) -> usize {
    (whole / shares.max(1)).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_take_less_each_and_never_nothing() {
        assert_eq!([0, 1, 50, 200].map(|shares| portion_of(1000, 10, shares)), [1000, 1000, 20, 10]);
    }
}

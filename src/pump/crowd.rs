//! How many transfers move bytes at the same time, so that what they hold between file and network is bounded
//! together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Threads that read or write for a transfer of this process.
static MEMBERS: AtomicUsize = AtomicUsize::new(0);

/// One that counts as long as it lives.
pub(super) struct Member(());

impl Member {
    pub(super) fn join() -> Self {
        MEMBERS.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        MEMBERS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What each may take of what one alone takes `whole`, but no less than `least`.
pub(super) fn portion(whole: usize, least: usize) -> usize {
    part(whole, least, MEMBERS.load(Ordering::Relaxed))
}

fn part(whole: usize, least: usize, members: usize) -> usize {
    (whole / members.max(1)).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_take_less_each_and_never_nothing() {
        assert_eq!([0, 1, 50, 200].map(|members| part(1000, 10, members)), [1000, 1000, 20, 10]);
    }
}

//! Actors that took a file by a key a moment ago. For their next file no topic is announced until they turn
//! out to want one.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::lock;

/// How long an actor is taken to be what it was; later it may be run by another program.
const MAX_AGE: Duration = Duration::from_secs(60);

/// Actors remembered, of a few dozen bytes each.
const MAX_ACTORS: usize = 1024;

/// When each of them was last seen to be of ours.
#[derive(Debug, Default)]
pub(crate) struct RecentPeers(Mutex<HashMap<String, Instant>>);

impl RecentPeers {
    /// Notes whether an actor that claimed an offer is of ours.
    pub(crate) fn note(&self, actor_id: &str, is_ours: bool) {
        let mut seen = lock(&self.0);
        if !is_ours {
            seen.remove(actor_id);
            return;
        }
        if seen.len() >= MAX_ACTORS {
            seen.retain(|_, at| at.elapsed() < MAX_AGE);
        }
        if seen.len() >= MAX_ACTORS {
            seen.clear();
        }
        seen.insert(actor_id.to_owned(), Instant::now());
    }

    /// Whether an actor was of ours a while ago.
    pub(crate) fn has(&self, actor_id: &str) -> bool {
        lock(&self.0).get(actor_id).is_some_and(|at| at.elapsed() < MAX_AGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_actor_is_known_for_a_while_and_until_it_turns_out_to_be_another() {
        let known = RecentPeers::default();
        known.note("a", true);
        known.note("b", true);
        assert!(known.has("a") && known.has("b") && !known.has("c"));
        known.note("a", false);
        assert!(!known.has("a") && known.has("b"));
        tokio::time::advance(MAX_AGE).await;
        assert!(!known.has("b"));
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_are_remembered_and_no_more() {
        let known = RecentPeers::default();
        for actor in 0..3 * MAX_ACTORS {
            known.note(&actor.to_string(), true);
            assert!(known.has(&actor.to_string()));
        }
        assert!(lock(&known.0).len() <= MAX_ACTORS);
    }
}

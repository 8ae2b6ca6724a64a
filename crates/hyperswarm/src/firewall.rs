//! Who may connect: the application's firewall, and what it has banned.

use std::{fmt, pin::Pin, sync::Arc};

use hyperdht::connect::payload::NoisePayload;
use secret_stream::PublicKey;

use crate::key_set::KeySet;

/// Decides on a peer: before we dial it, where there is no payload yet, and when it dials us, with what it
/// says of itself; its key is not proven then.
///
/// It may take a while. A peer that dials us is held meanwhile and hears nothing; after 20 s it is refused.
/// A peer of npm hyperdht waits 4 s for each node it asks, so an answer within 3 s costs it no attempt.
pub type Firewall = Arc<
    dyn Fn(PublicKey, Option<NoisePayload>) -> Pin<Box<dyn Future<Output = Verdict> + Send>> + Send + Sync,
>;

/// What a [`Firewall`] decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The peer may connect.
    Admit,
    /// Not this time. The firewall is asked again at the next attempt, whoever makes it.
    Refuse,
    /// Never again while the swarm lives: it remembers the peer and does not ask again.
    Ban,
}

/// Refuses ourselves, those who are banned, and those whom the firewall refuses.
#[derive(Clone)]
pub(crate) struct PeerFilter {
    pub(crate) own_key: PublicKey,
    pub(crate) firewall: Option<Firewall>,
    pub(crate) bans: KeySet,
}

impl PeerFilter {
    /// Whether the peer may not connect now. `payload`: what it says of itself, if it dials us.
    pub(crate) async fn refuses(&self, key: PublicKey, payload: Option<NoisePayload>) -> bool {
        if key == self.own_key || self.bans.contains(&key) {
            return true;
        }
        let Some(firewall) = &self.firewall else { return false };
        let verdict = firewall(key, payload).await;
        if verdict == Verdict::Ban {
            self.bans.insert(key);
        }
        verdict != Verdict::Admit
    }
}

impl fmt::Debug for PeerFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerFilter").field("bans", &self.bans).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn who_is_banned_is_not_asked_about_again_and_who_is_refused_is() {
        let verdicts = Mutex::new(vec![Verdict::Ban, Verdict::Admit, Verdict::Refuse]);
        let firewall: Firewall = Arc::new(move |_, _| {
            let verdict = verdicts.lock().unwrap().pop().expect("no more questions");
            Box::pin(async move { verdict })
        });
        let filter = PeerFilter { own_key: [0; 32], firewall: Some(firewall), bans: KeySet::default() };
        assert!(filter.refuses([0; 32], None).await, "ourselves");
        for refused in [true, false, true, true] {
            assert_eq!(filter.refuses([1; 32], None).await, refused);
        }
    }
}

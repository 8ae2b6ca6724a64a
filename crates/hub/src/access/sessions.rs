//! Who has signed in to the page with a key. A browser holds a random id in a cookie and never the key
//! itself, so that what it may lose opens the page alone, for some hours. Sessions are in memory: they end
//! with the hub, and each of them with its key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::keys::Key;
use super::secret::{Hash, Purpose, Secret};
use crate::sync::lock;

/// How long a session holds: a day of work.
const LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);
/// The most sessions of one key; the oldest gives way to a new one.
const MAX_OF_KEY: usize = 32;
/// The most sessions of all; the oldest gives way to a new one.
const MAX_SESSIONS: usize = 4096;

/// All sessions of a hub.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<HashMap<Hash, Session>>>);

/// A session, as who has signed in with which key.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The id of its key.
    pub(crate) key: i64,
    /// The actor that the key speaks for.
    pub(crate) actor: String,
    pub(crate) is_admin: bool,
    until: Instant,
    over: CancellationToken,
}

impl Session {
    /// Waits until it ends, be it by its time or because somebody signs out.
    pub(crate) async fn ended(&self) {
        tokio::select! {
            () = self.over.cancelled() => {}
            () = tokio::time::sleep_until(self.until.into()) => {}
        }
    }
}

impl Sessions {
    /// Begins a session with a key; gives the secret by which it is found.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(crate) fn begin(&self, key: &Key, now: Instant) -> Result<Secret, getrandom::Error> {
        let secret = Secret::generate(Purpose::Session)?;
        let session = Session {
            key: key.id,
            actor: key.actor.clone(),
            is_admin: key.is_admin,
            until: now + LIFETIME,
            over: CancellationToken::new(),
        };
        let mut sessions = self.sessions();
        sessions.retain(|_, session| session.until > now);
        make_room(&mut sessions, MAX_OF_KEY, |session| session.key == key.id);
        make_room(&mut sessions, MAX_SESSIONS, |_| true);
        sessions.insert(secret.hash(), session);
        Ok(secret)
    }

    /// The session of a secret, if it has not ended.
    pub(crate) fn find(&self, secret: &Secret, now: Instant) -> Option<Session> {
        self.sessions().get(&secret.hash()).filter(|session| session.until > now).cloned()
    }

    /// Ends a session, and what is open with it.
    pub(crate) fn end(&self, secret: &Secret) {
        if let Some(session) = self.sessions().remove(&secret.hash()) {
            session.over.cancel();
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Hash, Session>> {
        lock(&self.0)
    }
}

/// Ends the oldest of some sessions until there is room for one more.
fn make_room(sessions: &mut HashMap<Hash, Session>, most: usize, is_among: impl Fn(&Session) -> bool) {
    while sessions.values().filter(|session| is_among(session)).count() >= most {
        let among = sessions.iter().filter(|(_, session)| is_among(session));
        let Some(oldest) = among.min_by_key(|(_, session)| session.until).map(|(hash, _)| hash.clone())
        else {
            return;
        };
        if let Some(session) = sessions.remove(&oldest) {
            session.over.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Millis;

    fn key(id: i64) -> Key {
        Key {
            id,
            actor: format!("actor-{id}"),
            is_admin: false,
            created_at: Millis(0),
            expires_at: None,
            revoked_at: None,
            last_used: None,
        }
    }

    #[test]
    fn a_session_is_found_until_it_ends_or_its_time_is_over() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (first, second) = (sessions.begin(&key(1), now).expect("begun"), sessions.begin(&key(2), now));
        let second = second.expect("begun");
        let found = sessions.find(&first, now).expect("there");
        assert_eq!((found.key, found.actor.as_str()), (1, "actor-1"));
        assert!(sessions.find(&first, now + LIFETIME).is_none());
        sessions.end(&first);
        assert!(found.over.is_cancelled() && sessions.find(&first, now).is_none());
        assert_eq!(sessions.find(&second, now).expect("there").key, 2);
        let stranger = Secret::generate(Purpose::Session).expect("random bytes");
        assert!(sessions.find(&stranger, now).is_none());
    }

    #[test]
    fn a_key_that_signs_in_again_and_again_ends_its_own_oldest_sessions_alone() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let other = sessions.begin(&key(2), now).expect("begun");
        let at = |step: u64| now + Duration::from_secs(step);
        let first = sessions.begin(&key(1), at(1)).expect("begun");
        let held = sessions.find(&first, now).expect("there");
        for step in 0..MAX_OF_KEY as u64 {
            sessions.begin(&key(1), at(2 + step)).expect("begun");
        }
        assert!(held.over.is_cancelled() && sessions.find(&first, now).is_none());
        assert!(sessions.find(&other, now).is_some());
        assert_eq!(sessions.sessions().len(), MAX_OF_KEY + 1);
    }

    #[test]
    fn sessions_that_are_over_are_forgotten_when_another_begins() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        sessions.begin(&key(1), now).expect("begun");
        sessions.begin(&key(2), now + LIFETIME).expect("begun");
        assert_eq!(sessions.sessions().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_end_of_a_session_hears_of_it() {
        let (sessions, now) = (Sessions::default(), tokio::time::Instant::now().into_std());
        let secret = sessions.begin(&key(1), now).expect("begun");
        let session = sessions.find(&secret, now).expect("there");
        let ended = tokio::spawn(async move { session.ended().await });
        sessions.end(&secret);
        ended.await.expect("ended");
        let secret = sessions.begin(&key(1), now).expect("begun");
        sessions.find(&secret, now).expect("there").ended().await;
        assert!(tokio::time::Instant::now().into_std() >= now + LIFETIME);
    }
}

//! How patient the client is.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::error::{AtsError, AtsResult};

/// How patient the client is.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How long one request may take, answer and all.
    pub timeout: Duration,
    /// How long a connection is kept that no request uses: less than servers commonly keep theirs, so that
    /// few requests meet one that is just being closed.
    pub longest_idle: Duration,
    /// How often a request is sent at most, the first time included.
    pub attempts: u32,
    /// The pause before the second attempt; each later one is twice as long.
    pub first_pause: Duration,
    /// The longest of these pauses.
    pub longest_pause: Duration,
    /// The longest wait that the service may ask for; if it asks for more, the error is the caller's.
    pub longest_retry_after: Duration,
    /// The pause before events are subscribed to again; each later one is twice as long.
    pub first_reconnect: Duration,
    /// The longest of these pauses.
    pub longest_reconnect: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            longest_idle: Duration::from_secs(4),
            attempts: 4,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(2),
            longest_retry_after: Duration::from_secs(20),
            first_reconnect: Duration::from_secs(2),
            longest_reconnect: Duration::from_secs(60),
        }
    }
}

/// How much longer than by its policy a client tries to reach a service that is away.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    /// How long each call waits for the service.
    pub(super) limit: Duration,
    /// Ends all waiting, with the error that was met last.
    pub(super) given_up: CancellationToken,
}

/// The attempts of one call.
pub(super) struct Attempts<'a> {
    policy: &'a Policy,
    left: u32,
    backoff: Backoff,
    /// Until when the service is waited for, and what ends that.
    awaited: Option<(Instant, CancellationToken)>,
    /// Ends all waiting, with the client.
    closed: &'a CancellationToken,
}

impl<'a> Attempts<'a> {
    /// The first of them comes at once.
    pub(super) fn new(
        policy: &'a Policy,
        patience: Option<&Patience>,
        closed: &'a CancellationToken,
    ) -> Self {
        let backoff = Backoff::new(policy.first_pause, policy.longest_pause);
        let awaited = patience.map(|patience| (Instant::now() + patience.limit, patience.given_up.clone()));
        Self { policy, left: policy.attempts.saturating_sub(1), backoff, awaited, closed }
    }

    /// The first of them alone.
    pub(super) fn only_one(self) -> Self {
        Self { left: 0, awaited: None, ..self }
    }

    /// Waits before the next attempt, or gives the error back if there is none.
    pub(super) fn pause_after(
        &mut self,
        error: AtsError,
    ) -> impl Future<Output = AtsResult<()>> + Send + use<> {
        let pause = self.next_pause(&error, Instant::now());
        let given_up = self.awaited.as_ref().map(|(_, given_up)| given_up.clone());
        let closed = self.closed.clone();
        async move {
            let Some(pause) = pause else { return Err(error) };
            tracing::debug!("trying again in {pause:?}: {error}");
            let pause = closed.run_until_cancelled(tokio::time::sleep(pause));
            let ended = match given_up {
                Some(given_up) => given_up.run_until_cancelled(pause).await.flatten(),
                None => pause.await,
            };
            ended.ok_or(error)
        }
    }

    fn next_pause(&mut self, error: &AtsError, now: Instant) -> Option<Duration> {
        let awaited = self.awaited.as_ref().filter(|_| error.is_away());
        let left =
            awaited.map(|(until, _)| until.saturating_duration_since(now)).filter(|left| !left.is_zero());
        if !error.is_retryable() || self.left == 0 && left.is_none() {
            return None;
        }
        self.left = self.left.saturating_sub(1);
        let pause = self.backoff.pause(rand::random());
        let asked = error.retry_after().unwrap_or_default();
        match left {
            // The last attempt comes when the time is over.
            Some(left) => Some(asked.max(pause).min(left)),
            None if asked > self.policy.longest_retry_after => None,
            None => Some(asked.max(pause)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, retry_after: Option<u64>) -> AtsError {
        let retry_after = retry_after.map(Duration::from_secs);
        AtsError::Status { url: String::new(), status, message: String::new(), retry_after }
    }

    #[test]
    fn attempts_end_and_follow_what_the_service_asks() {
        let (policy, open) = (Policy::default(), CancellationToken::new());
        let mut attempts = Attempts::new(&policy, None, &open);
        let mut next_pause = |error| attempts.next_pause(&error, Instant::now());
        assert!(next_pause(status(500, None)).is_some_and(|p| p <= policy.first_pause));
        assert_eq!(next_pause(status(429, Some(3))), Some(Duration::from_secs(3)));
        assert_eq!(next_pause(status(400, None)), None);
        assert_eq!(next_pause(status(429, Some(600))), None);
        assert_eq!(next_pause(status(500, None)), None);
    }

    #[test]
    fn a_service_that_is_away_is_waited_for_and_its_faults_are_not() {
        let (policy, open) = (Policy::default(), CancellationToken::new());
        let limit = Duration::from_secs(60);
        let patience = Patience { limit, given_up: CancellationToken::new() };
        let began = Instant::now();
        let mut attempts = Attempts::new(&policy, Some(&patience), &open);
        let mut next_pause = |error, after| attempts.next_pause(&error, began + Duration::from_secs(after));
        for after in 0..20 {
            assert!(
                next_pause(status(503, None), after).is_some_and(|p| p <= policy.longest_pause),
                "{after}"
            );
        }
        assert_eq!(next_pause(status(500, None), 20), None, "all attempts of the policy are used up");
        assert_eq!(next_pause(status(429, Some(30)), 20), Some(Duration::from_secs(30)));
        let last = next_pause(status(429, Some(30)), 50).expect("one more");
        assert!((9..=10).contains(&last.as_secs()), "{last:?}");
        assert_eq!(next_pause(status(503, None), 61), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_waits_no_longer() {
        let (policy, open) = (Policy::default(), CancellationToken::new());
        let patience = Patience { limit: Duration::from_secs(60), given_up: CancellationToken::new() };
        let mut attempts = Attempts::new(&policy, Some(&patience), &open);
        patience.given_up.cancel();
        let began = Instant::now();
        let error = attempts.pause_after(status(503, Some(30))).await.expect_err("given up");
        assert_eq!((error, began.elapsed()), (status(503, Some(30)), Duration::ZERO));
    }
}

//! How patient the client is.

use std::future::Future;
use std::time::Duration;

use super::backoff::Backoff;
use super::error::{AtsError, AtsResult};

/// How patient the client is.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How long one request may take, answer and all.
    pub timeout: Duration,
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
            attempts: 4,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(4),
            longest_retry_after: Duration::from_secs(20),
            first_reconnect: Duration::from_secs(2),
            longest_reconnect: Duration::from_secs(60),
        }
    }
}

/// The attempts of one call.
pub(super) struct Attempts<'a> {
    policy: &'a Policy,
    left: u32,
    backoff: Backoff,
}

impl<'a> Attempts<'a> {
    /// The first of them comes at once.
    pub(super) fn new(policy: &'a Policy) -> Self {
        let backoff = Backoff::new(policy.first_pause, policy.longest_pause);
        Self { policy, left: policy.attempts.saturating_sub(1), backoff }
    }

    /// Waits before the next attempt, or gives the error back if there is none.
    pub(super) fn pause_after(
        &mut self,
        error: AtsError,
    ) -> impl Future<Output = AtsResult<()>> + Send + use<> {
        let pause = self.next_pause(&error);
        async move {
            match pause {
                Some(pause) => {
                    tracing::debug!("trying again in {pause:?}: {error}");
                    tokio::time::sleep(pause).await;
                    Ok(())
                }
                None => Err(error),
            }
        }
    }

    fn next_pause(&mut self, error: &AtsError) -> Option<Duration> {
        if !error.is_retryable() || self.left == 0 {
            return None;
        }
        self.left -= 1;
        let pause = self.backoff.pause(rand::random());
        match error.retry_after() {
            Some(asked) if asked > self.policy.longest_retry_after => None,
            Some(asked) => Some(asked.max(pause)),
            None => Some(pause),
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
        let policy = Policy::default();
        let mut attempts = Attempts::new(&policy);
        assert!(attempts.next_pause(&status(500, None)).is_some_and(|p| p <= policy.first_pause));
        assert_eq!(attempts.next_pause(&status(429, Some(3))), Some(Duration::from_secs(3)));
        assert_eq!(attempts.next_pause(&status(400, None)), None);
        assert_eq!(attempts.next_pause(&status(429, Some(600))), None);
        assert_eq!(attempts.next_pause(&status(500, None)), None);
    }
}

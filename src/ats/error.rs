//! What can go wrong between us and the task service.

use std::time::Duration;

/// A result of this module.
pub(super) type AtsResult<T> = Result<T, AtsError>;

/// An error of the task service or of the way to it.
///
/// The texts are for people: they name the address, what happened and what to do. They hold no key, no
/// query and no credentials, and what the service said in them is escaped and cut.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AtsError {
    /// A setting makes no request possible; nothing was sent.
    #[error("{0}")]
    Settings(String),
    /// No connection came about, so nothing was sent.
    #[error(
        "cannot reach the task service at {url}: {reason}; is it running, and is the address right \
         (ATS_URL, --ats-url)? `npx ats-p2p hub` starts one on this machine"
    )]
    Unreachable {
        /// The address, without credentials and query.
        url: String,
        /// What kept the connection from coming about.
        reason: String,
    },
    /// The proxy on the way was not reached, or lets nobody through; nothing was sent.
    #[error(
        "cannot reach the task service at {url}: the proxy {proxy} ({variable}) {reason}; set {variable} to \
         one that does, with a name and a password if it asks for them, or name the host in NO_PROXY"
    )]
    Proxy {
        /// The address, without credentials and query.
        url: String,
        /// The proxy's, without credentials.
        proxy: String,
        /// The environment variable that names the proxy.
        variable: &'static str,
        /// What it did.
        reason: String,
    },
    /// The service, or what stands in its place, shows a certificate that is not trusted; nothing was sent.
    #[error(
        "the certificate at {url} is not trusted: {reason}; if it is by your company or its proxy, name the \
         file of its authority in NODE_EXTRA_CA_CERTS or ATS_P2P_CA (--ca)"
    )]
    Untrusted {
        /// The address, without credentials and query.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No whole answer came in time.
    #[error("the task service at {url} did not answer within {}; try again later", seconds(*after))]
    Timeout {
        /// The address, without credentials and query.
        url: String,
        /// How long was waited.
        after: Duration,
    },
    /// The connection ended before the answer did.
    #[error("the connection to the task service at {url} broke off: {reason}; try again later")]
    Interrupted {
        /// The address, without credentials and query.
        url: String,
        /// How it ended.
        reason: String,
    },
    /// The service answered with something other than success.
    #[error("the task service at {url} answered {status}: {message}{}", advice(*status))]
    Status {
        /// The address, without credentials and query.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the service said, escaped and cut.
        message: String,
        /// How long the service asked us to wait.
        retry_after: Option<Duration>,
    },
    /// A hub does not take an invitation.
    #[error("the hub at {url} does not take this invitation ({status}): {message}")]
    Invitation {
        /// The address, without credentials and query.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What the hub said, escaped and cut.
        message: String,
    },
    /// The answer is not JSON: most often a web page of something else at that address.
    #[error(
        "what answers at {url} is no task service: it sent {content_type} ({beginning:?}), not JSON; \
         is the address right (ATS_URL, --ats-url), and is it no page of a proxy or of the network you are \
         on?"
    )]
    NotJson {
        /// The address, without credentials and query.
        url: String,
        /// What it calls itself.
        content_type: String,
        /// Its first characters, escaped.
        beginning: String,
    },
    /// The answer is JSON, but does not fit the call.
    #[error("the task service at {url} sent an answer that does not fit: {what}")]
    Unexpected {
        /// The address, without credentials and query.
        url: String,
        /// What is wrong with it.
        what: String,
    },
    /// The answer was longer than any honest one.
    #[error("the task service at {url} sent an answer that is too long; is the address right (ATS_URL)?")]
    TooLarge {
        /// The address, without credentials and query.
        url: String,
    },
    /// The client was closed, because whoever used it has ended.
    #[error("nothing more is asked of the task service: this agent has ended")]
    Closed,
    /// The connection for events ended.
    #[error("the event connection to {url} ended: {reason}")]
    EventsEnded {
        /// The address, without credentials and query.
        url: String,
        /// How it ended.
        reason: String,
    },
}

impl AtsError {
    /// Whether the same call may succeed later without anybody changing anything.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Proxy { .. }
            | Self::Timeout { .. }
            | Self::Interrupted { .. }
            | Self::EventsEnded { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            _ => false,
        }
    }

    /// Whether the service is away, as it is while it is restarted or the network is gone: it was not
    /// reached, or has no time.
    pub fn is_away(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 502..=504),
            other => other.is_retryable(),
        }
    }

    /// Whether the service may have done what was asked all the same.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Settings(_) | Self::Unreachable { .. } | Self::Proxy { .. } | Self::Untrusted { .. } => {
                false
            }
            // A 503 too: some proxies say so where a service that had the request went away.
            Self::Status { status, .. } => *status >= 500,
            _ => true,
        }
    }

    /// Whether the task was claimed by somebody: the refusal that a renewal may meet.
    pub fn is_already_claimed(&self) -> bool {
        match self {
            Self::Status { status: 400..500, message, .. } => {
                let message = message.to_lowercase();
                message.contains("already claimed") || message.contains("in_progress")
            }
            _ => false,
        }
    }

    /// Whether what was named does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self.status(), Some(404 | 410))
    }

    /// Whether the service does not let us in: a missing or wrong key, which no retry mends.
    pub fn is_refused(&self) -> bool {
        matches!(self.status(), Some(401 | 403))
    }

    /// The HTTP status of the answer, if there was one that told of an error.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } | Self::Invitation { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// How long the service asked us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

fn advice(status: u16) -> &'static str {
    match status {
        300..=399 => {
            "; set ATS_URL (--ats-url) to the address it names, or open that in a browser if it is the page \
             where this network asks who you are"
        }
        407 => "; a proxy on the way asks for a name and a password: put them in HTTP_PROXY",
        401 | 403 => "; check the API key (ATS_API_KEY) and the actor id",
        429 => "; too many requests, wait before the next",
        500.. => "; the fault is the service's, try again later",
        _ => "",
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, message: &str) -> AtsError {
        let url = "http://127.0.0.1:8787/tasks".to_owned();
        AtsError::Status { url, status, message: message.into(), retry_after: None }
    }

    #[test]
    fn what_may_pass_by_itself_is_retryable() {
        for code in [408, 425, 429, 500, 502, 503, 599] {
            assert!(status(code, "").is_retryable(), "{code}");
        }
        for code in [301, 400, 401, 404, 409, 413] {
            assert!(!status(code, "").is_retryable(), "{code}");
        }
        assert!(!AtsError::Settings("no".into()).is_retryable());
    }

    #[test]
    fn who_is_away_may_come_back_and_a_fault_of_the_service_stays() {
        for code in [408, 425, 429, 502, 503, 504] {
            assert!(status(code, "").is_away(), "{code}");
        }
        for code in [400, 403, 404, 409, 500, 501, 599] {
            assert!(!status(code, "").is_away(), "{code}");
        }
        assert!(AtsError::Unreachable { url: String::new(), reason: String::new() }.is_away());
        assert!(!AtsError::Settings("no".into()).is_away());
    }

    #[test]
    fn only_a_refusal_before_work_is_certain_not_to_have_happened() {
        assert!(!status(429, "").may_have_happened());
        for code in [500, 502, 503, 504] {
            assert!(status(code, "").may_have_happened(), "{code}");
        }
        let url = String::from("http://h/");
        assert!(!AtsError::Unreachable { url: url.clone(), reason: String::new() }.may_have_happened());
        assert!(AtsError::Timeout { url, after: Duration::from_secs(10) }.may_have_happened());
    }

    #[test]
    fn a_claim_by_another_is_told_from_the_service_message() {
        assert!(status(409, "Task 5 is already claimed by b").is_already_claimed());
        assert!(status(400, "cannot claim a task in state in_progress").is_already_claimed());
        assert!(!status(409, "task is completed").is_already_claimed());
        assert!(!status(500, "already claimed").is_already_claimed());
    }

    #[test]
    fn texts_say_what_to_do() {
        let unreachable =
            AtsError::Unreachable { url: "http://h:1".into(), reason: "connection refused".into() }
                .to_string();
        assert!(unreachable.contains("http://h:1") && unreachable.contains("ATS_URL"), "{unreachable}");
        let refused = status(401, "no key").to_string();
        assert!(refused.contains("401: no key; check the API key"), "{refused}");
    }
}

//! Where a request goes that the service sends to another of its paths.

use reqwest::header::LOCATION;
use reqwest::{Method, Response, StatusCode, Url};
use tracing::debug;

use super::settings::without_credentials;

/// How often a request is sent on to another path before that counts as going in circles.
const MAX_REDIRECTS: usize = 4;

/// Where a request goes next.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) url: Url,
    method: Method,
    moves: usize,
}

impl Destination {
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { url, method, moves: 0 }
    }

    /// Without its query, fit to be shown.
    pub(super) fn shown(&self) -> String {
        shown(&self.url)
    }

    /// Goes where the answer sends the very same request, if it does and that may be followed: to another
    /// path of the same scheme, host and port, where neither the key nor what is asked can go astray. What
    /// would turn a change into a mere look is not followed.
    pub(super) fn follow(&mut self, answer: &Response) -> bool {
        let Some(next) = moved(&self.method, &self.url, answer).filter(|_| self.moves < MAX_REDIRECTS) else {
            return false;
        };
        debug!(from = %self.shown(), to = %shown(&next), "moved");
        self.moves += 1;
        self.url = next;
        true
    }
}

/// An address without its query, fit to be shown.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    without_credentials(url.as_str())
}

fn moved(method: &Method, url: &Url, answer: &Response) -> Option<Url> {
    let is_kept = match answer.status() {
        StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => true,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND | StatusCode::SEE_OTHER => method.is_safe(),
        _ => false,
    };
    let location = answer.headers().get(LOCATION).filter(|_| is_kept)?.to_str().ok()?;
    let mut next = url.join(location).ok()?;
    next.set_fragment(None);
    let is_plain = next.username().is_empty() && next.password().is_none();
    (next.origin() == url.origin() && is_plain).then_some(next)
}

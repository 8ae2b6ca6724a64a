//! The cookie of the page, by which a browser that has signed in is known. No script reads it, no other site
//! has the browser send it, and it opens the page's own calls and the events alone.

use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};

use crate::access::Arrival;
use crate::access::secret::{Purpose, Secret};
use crate::access::sessions::Session;
use crate::error::Refusal;

/// The names of the cookie. Under the first one browsers take it over TLS alone, and for this very host.
const OVER_TLS: &str = "__Host-ats_p2p_session";
const PLAIN: &str = "ats_p2p_session";

/// The session that a request is part of, an extension of every request that was let in.
#[derive(Debug, Clone, Default)]
pub(crate) struct SignedIn(pub(crate) Option<Session>);

/// The secret of a session that a request carries, if any.
///
/// # Errors
/// 403 where another page made the browser send it. The cookie is sent with what a page at another port of
/// the same host asks for, too, and browsers say so.
pub(crate) fn cookie(headers: &HeaderMap, arrival: Arrival) -> Result<Option<Secret>, Refusal> {
    let name = name(arrival);
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.find(|(found, _)| *found == name);
    let Some(secret) = found.and_then(|(_, text)| Secret::parse(text, Purpose::Session)) else {
        return Ok(None);
    };
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(Some(secret)),
        Some(_) => Err(Refusal::forbidden("the hub does not serve the web pages of others")),
    }
}

/// An answer that has the browser keep a session's secret until it is closed, or drop the one that it has.
pub(crate) fn with_cookie(answer: impl IntoResponse, arrival: Arrival, secret: Option<&Secret>) -> Response {
    let (value, age) = match secret {
        Some(secret) => (secret.expose(), ""),
        None => ("", "; Max-Age=0"),
    };
    let secure = if arrival.is_encrypted { "; Secure" } else { "" };
    let line = format!("{}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{age}", name(arrival));
    let mut response = answer.into_response();
    if let Ok(mut line) = HeaderValue::from_str(&line) {
        line.set_sensitive(true);
        response.headers_mut().append(SET_COOKIE, line);
    }
    response
}

fn name(arrival: Arrival) -> &'static str {
    if arrival.is_encrypted { OVER_TLS } else { PLAIN }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(is_encrypted: bool) -> Arrival {
        Arrival { client: [203, 0, 113, 9].into(), is_remote: true, is_encrypted }
    }

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().expect("a header value"));
        }
        headers
    }

    #[test]
    fn the_cookie_that_was_set_is_the_one_that_is_read() {
        for is_encrypted in [false, true] {
            let arrival = arrival(is_encrypted);
            let secret = Secret::generate(Purpose::Session).expect("random bytes");
            let answer = with_cookie((), arrival, Some(&secret));
            let line = answer.headers()[SET_COOKIE].to_str().expect("text").to_owned();
            let (pair, attributes) = line.split_once("; ").expect("attributes");
            let expected = if is_encrypted { "; Secure" } else { "" };
            assert_eq!(attributes, format!("Path=/; HttpOnly; SameSite=Strict{expected}"));
            let sent = headers(&[("cookie", format!("a=b; {pair}")), ("cookie", "c=d".into())]);
            assert_eq!(cookie(&sent, arrival), Ok(Some(secret)));
            // Neither is taken for the other: what came in the clear opens nothing over TLS.
            let other = Arrival { is_encrypted: !is_encrypted, ..arrival };
            assert_eq!(cookie(&sent, other), Ok(None));
        }
        let dropped = with_cookie((), arrival(false), None);
        assert_eq!(
            dropped.headers()[SET_COOKIE],
            "ats_p2p_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
        );
    }

    #[test]
    fn a_cookie_that_another_page_has_the_browser_send_is_refused() {
        let secret = Secret::generate(Purpose::Session).expect("random bytes");
        let from = |site: &str| {
            let pair = format!("{PLAIN}={}", secret.expose());
            let sent = headers(&[("cookie", pair), ("sec-fetch-site", site.into())]);
            cookie(&sent, arrival(false)).map_err(|refusal| refusal.status.as_u16())
        };
        for site in ["same-origin", "none"] {
            assert_eq!(from(site), Ok(Some(secret.clone())), "{site}");
        }
        for site in ["same-site", "cross-site", "x"] {
            assert_eq!(from(site), Err(403), "{site}");
        }
    }

    #[test]
    fn what_is_no_secret_of_a_session_is_none() {
        for text in ["", "ats_p2p_session", "ats_p2p_session=x", "ats_p2p_session=atsp2p_key_00", ";;="] {
            assert_eq!(cookie(&headers(&[("cookie", text.into())]), arrival(false)), Ok(None), "{text}");
        }
    }
}

//! The way to the task service: by which proxy, and whose certificate it shows.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::macros::format_description;
use tokio::time::timeout;
use url::Url;

use super::Finding;
use crate::ats::Client;
use crate::files::display;
use crate::web::{Certificate, Reached, WebError};

/// How long a connection may take: to the proxy, by it to the service, and TLS with both.
const REACH_LIMIT: Duration = Duration::from_secs(10);

/// How long before its end somebody should see to a certificate: those that renew themselves have done so.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// Looks how a connection to the service comes about, such as events and the tunnel need it. Gives what was
/// found of proxies, and of certificates.
pub(super) async fn check(client: &Client) -> [Finding; 2] {
    let Ok(url) = Url::parse(&client.settings().url) else {
        let found = "not looked at, since the task service has no address";
        return ["proxy", "certificate"].map(|check| Finding::skipped(check, found));
    };
    let reached = timeout(REACH_LIMIT, client.web().reach(&url)).await.unwrap_or_else(|_| {
        Err(WebError::Unreachable(format!("no connection within {} s", REACH_LIMIT.as_secs())))
    });
    [proxy(client, &url, &reached), certificate(&url, &reached)]
}

fn proxy(client: &Client, url: &Url, reached: &Result<Reached, WebError>) -> Finding {
    const CHECK: &str = "proxy";
    let host = display(url.host_str().unwrap_or_default());
    let Some(proxy) = client.web().proxy(url) else {
        let found = match client.web().has_proxies() {
            true => {
                format!("{host} is reached without one, as this machine's own addresses and NO_PROXY are")
            }
            false => format!("no variable names one: {host} is reached without"),
        };
        return Finding::ok(CHECK, found);
    };
    let (shown, variable) = (proxy.shown(), proxy.variable);
    let finding = match reached {
        Ok(_) => Finding::ok(CHECK, format!("{shown} ({variable}) lets connections to {host} through")),
        Err(error @ WebError::Proxy { status, .. }) => {
            let finding = Finding::failed(CHECK, error.to_string()).advise(advice(*status, variable, &host));
            status.map_or(finding.clone(), |status| finding.fact("answer", status))
        }
        Err(WebError::Untrusted(_)) => {
            Finding::ok(CHECK, format!("{shown} ({variable}) lets connections to {host} through"))
        }
        Err(error) => Finding::warning(
            CHECK,
            format!("{shown} ({variable}) leads to no connection with {host}: {error}"),
        )
        .advise("see `service`"),
    };
    finding.fact("proxy", shown).fact("variable", variable)
}

fn advice(status: Option<u16>, variable: &str, host: &str) -> String {
    match status {
        Some(407) => format!("put the name and password into {variable}: http://name:password@host:port"),
        Some(_) => format!(
            "have whoever runs the proxy let CONNECT to {host} through, run the hub at port 443, which most \
             allow, or name {host} in NO_PROXY if it is reached without"
        ),
        None => format!("correct {variable}, or name {host} in NO_PROXY if it is reached without a proxy"),
    }
}

fn certificate(url: &Url, reached: &Result<Reached, WebError>) -> Finding {
    const CHECK: &str = "certificate";
    if url.scheme() != "https" {
        return Finding::ok(CHECK, "none: the task service is spoken to over plain HTTP");
    }
    match reached {
        Ok(Reached { certificate: Some(certificate), .. }) => judge(certificate, SystemTime::now()),
        Ok(Reached { certificate: None, .. }) => Finding::ok(CHECK, "trusted"),
        Err(error @ WebError::Untrusted(_)) => Finding::failed(CHECK, error.to_string()).advise(
            "where that authority is your company's or hub's, name the file with its certificate in PEM: \
             NODE_EXTRA_CA_CERTS, ATS_P2P_CA or --ca; else somebody may be in between",
        ),
        Err(_) => Finding::skipped(CHECK, "not seen, since no connection came about"),
    }
}

fn judge(certificate: &Certificate, now: SystemTime) -> Finding {
    const CHECK: &str = "certificate";
    let until = day(certificate.not_after);
    let issuer = &certificate.issuer;
    let found = format!("trusted; it is by {issuer}, and ends on {until}");
    let left = certificate.not_after.duration_since(now).unwrap_or_default();
    let finding = match left < EXPIRES_SOON {
        true => Finding::warning(CHECK, found).advise("have whoever runs the service renew it in time"),
        false => Finding::ok(CHECK, found),
    };
    finding.fact("issuer", issuer.as_str()).fact("until", until)
}

fn day(time: SystemTime) -> String {
    let date = OffsetDateTime::from(time).format(format_description!("[year]-[month]-[day]"));
    date.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_certificate_that_ends_soon_is_a_warning() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let day = Duration::from_secs(24 * 3600);
        let at = |not_after| {
            let issuer = "R3, Let's Encrypt".to_owned();
            judge(&Certificate { issuer, is_self_signed: false, not_after }, now)
        };
        let fresh = at(now + 60 * day);
        assert_eq!(fresh.verdict, Verdict::Ok);
        assert_eq!(fresh.found, "trusted; it is by R3, Let's Encrypt, and ends on 2026-03-02");
        assert_eq!(fresh.facts["until"], "2026-03-02");
        for soon in [now + 6 * day, now, now - day] {
            assert_eq!(at(soon).verdict, Verdict::Warning);
        }
    }

    #[test]
    fn what_a_proxy_answers_says_what_to_do() {
        assert!(advice(Some(407), "HTTPS_PROXY", "h").contains("password into HTTPS_PROXY"));
        assert!(advice(Some(403), "HTTPS_PROXY", "h").contains("CONNECT to h"));
        assert!(advice(None, "ALL_PROXY", "h").contains("correct ALL_PROXY"));
    }
}

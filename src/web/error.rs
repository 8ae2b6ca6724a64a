//! What can be in the way to a server of the web.

use std::error::Error;
use std::io;

use super::certificate::UnknownAuthority;

/// What is in the way. The texts hold no name, password or query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WebError {
    /// A setting makes it impossible; nothing was tried.
    #[error("{0}")]
    Settings(String),
    /// No connection to the server came about.
    #[error("{0}")]
    Unreachable(String),
    /// The proxy was not reached, or lets nobody through.
    #[error("the proxy {proxy} ({variable}) {reason}")]
    Proxy {
        /// Its address.
        proxy: String,
        /// The variable that names it.
        variable: &'static str,
        /// What it did.
        reason: String,
        /// The HTTP status of its refusal, if it gave one.
        status: Option<u16>,
    },
    /// The server's certificate is by nobody who is trusted, or for another server.
    #[error("its certificate is not trusted: {0}")]
    Untrusted(String),
    /// A connection broke off before the answer.
    #[error("{0}")]
    Broken(String),
}

/// What a certificate is refused for, if that is behind an error.
pub(crate) fn distrust(error: &(dyn Error + 'static)) -> Option<String> {
    causes(error).find_map(|cause| match cause.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(error) => Some(reason(error)),
        _ => None,
    })
}

/// The innermost cause of an error.
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(String::new, ToString::to_string)
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        // An error of I/O passes over what it holds.
        let held = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = held.map(|held| held as &(dyn Error + 'static)).or_else(|| cause.source());
        Some(cause)
    })
}

fn reason(error: &rustls::CertificateError) -> String {
    use rustls::CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        Other, UnknownIssuer,
    };
    match error {
        Other(other) if other.0.is::<UnknownAuthority>() => other.to_string(),
        UnknownIssuer => "it is by an authority that this machine does not know".into(),
        Expired | ExpiredContext { .. } => "it has expired, or the clock of this machine is wrong".into(),
        NotValidYet | NotValidYetContext { .. } => {
            "it is not valid yet, or the clock of this machine is wrong".into()
        }
        NotValidForName | NotValidForNameContext { .. } => "it is for another server".into(),
        other => other.to_string(),
    }
}

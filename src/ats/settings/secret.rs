//! What must not be shown.

use std::fmt;

use reqwest::Url;

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Marks a text as one that must not be shown.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself, for the one header that carries it.
    pub(in crate::ats) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// A URL fit to be shown: without what stands before an `@`.
pub(in crate::ats) fn without_credentials(url: &str) -> String {
    match Url::parse(url) {
        Ok(mut parsed) if !parsed.username().is_empty() || parsed.password().is_some() => {
            // These fail only on URLs that have no host, which cannot have credentials either.
            let _ = parsed.set_username("");
            let _ = parsed.set_password(None);
            parsed.into()
        }
        Ok(_) => url.to_owned(),
        // Not a URL, so nobody knows where in it a secret may stand.
        Err(_) if url.contains('@') => "(not a URL)".to_owned(),
        Err(_) => url.to_owned(),
    }
}

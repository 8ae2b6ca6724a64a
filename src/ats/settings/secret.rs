//! What must not be shown.

use std::borrow::Cow;
use std::fmt;

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde_json::Value;

/// What stands in the place of a secret that somebody repeated.
const PLACE: &str = "(secret)";
/// A shorter key is no secret, and stands in texts by chance.
const SHORTEST_IN_TEXT: usize = 4;
/// A shorter key may be a part of ids and names, which must stay as they are.
const SHORTEST_IN_VALUES: usize = 8;

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Marks a text as one that must not be shown.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The header that shows it to a service; `None` if it holds what no header can.
    pub(crate) fn bearer(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The secret itself, for the file that keeps it.
    pub(in crate::ats) fn expose(&self) -> &str {
        &self.0
    }

    /// Takes the secret out of a text that is to be shown.
    pub(in crate::ats) fn redact_text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.0.len() < SHORTEST_IN_TEXT || !text.contains(&self.0) {
            return Cow::Borrowed(text);
        }
        Cow::Owned(text.replace(&self.0, PLACE))
    }

    /// Takes the secret out of what a service said: some repeat the headers of requests.
    pub(in crate::ats) fn redact(&self, value: &mut Value) {
        if self.0.len() >= SHORTEST_IN_VALUES {
            self.redact_all(value);
        }
    }

    fn redact_all(&self, value: &mut Value) {
        match value {
            Value::String(text) if text.contains(&self.0) => *text = text.replace(&self.0, PLACE),
            Value::Array(values) => values.iter_mut().for_each(|value| self.redact_all(value)),
            Value::Object(members) => {
                if members.keys().any(|name| name.contains(&self.0)) {
                    let old = std::mem::take(members);
                    members
                        .extend(old.into_iter().map(|(name, value)| (name.replace(&self.0, PLACE), value)));
                }
                members.values_mut().for_each(|value| self.redact_all(value));
            }
            _ => {}
        }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_repeated_secret_is_taken_out_of_texts_names_and_values() {
        let secret = Secret::new("hush-hush");
        assert_eq!(secret.redact_text("Bearer hush-hush!"), "Bearer (secret)!");
        let mut value = json!({"headers": [{"a hush-hush b": 1}, "hush-hush", "hush"]});
        secret.redact(&mut value);
        assert_eq!(value, json!({"headers": [{"a (secret) b": 1}, "(secret)", "hush"]}));
    }

    #[test]
    fn a_short_key_changes_no_ids() {
        let mut value = json!({"id": "agent-a"});
        Secret::new("agent").redact(&mut value);
        assert_eq!(value, json!({"id": "agent-a"}));
        assert_eq!(Secret::new("agent").redact_text("agent"), "(secret)");
        assert_eq!(Secret::new("").redact_text("agent"), "agent");
    }
}

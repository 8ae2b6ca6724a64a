//! Text from the network, made fit to be shown.

pub(super) use protocol::text::one_line as printable;

use super::settings::Secret;

/// The most characters of a foreign text that an error repeats: two lines of a terminal.
pub(crate) const SHOWN: usize = 200;

/// A foreign text as errors show it: on one line, no longer than `max` characters, and without the secret
/// that its author was told.
pub(crate) fn printable_without(secret: Option<&Secret>, text: &str, max: usize) -> String {
    match secret {
        Some(secret) => printable(&secret.redact_text(text), max),
        None => printable(text, max),
    }
}

//! The names of files that are being received.

use std::ffi::{OsStr, OsString};

/// What such a name has around the transfer's id.
const PREFIX: &str = ".";
const SUFFIX: &str = ".part";

/// Hex digits of a transfer's id in it.
const ID_LEN: usize = 16;

/// The name of the temporary file of the transfer `id`.
pub(super) fn temporary_name(id: &str) -> OsString {
    OsString::from(format!("{PREFIX}{id}{SUFFIX}"))
}

/// Whether a name is one that [`temporary_name`] gives.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    id.is_some_and(|id| id.len() == ID_LEN && id.bytes().all(is_hex))
}

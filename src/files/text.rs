//! Text and paths, escaped for showing.

use std::path::Path;

pub use protocol::text::display;
pub(super) use protocol::text::{characters, is_hidden};

/// A path of this machine in a form that is safe to print; bytes that are not UTF-8 come as U+FFFD.
pub fn display_path(path: &Path) -> String {
    display(&path.to_string_lossy())
}

//! An opened folder, which later changes to its path don't redirect.

#[cfg(not(unix))]
mod portable;
#[cfg(unix)]
mod unix;

#[cfg(not(unix))]
pub(super) use portable::Dir;
#[cfg(unix)]
pub(super) use unix::Dir;

/// What stands at a name in a folder; of a link, the link itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DirEntry {
    /// A regular file.
    File,
    /// A symbolic link, wherever it leads.
    Link,
    /// Something else, in words.
    Other(&'static str),
}

//! Files that are here already.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::{Source, Target, TargetError, TreeOptions, source::what_is, temporary::is_temporary};

/// Entries of a folder that are looked at in search of a file.
const MAX_ENTRIES: usize = 4096;

/// Whether the folder whose archive has `size` bytes and this SHA-256, lower-case hex, and calls it `name`,
/// stands at `path`. Blocks; tells `progress` the bytes read so far.
pub(crate) fn is_folder_there(
    path: &Path,
    name: &str,
    hash: &str,
    size: u64,
    progress: impl FnMut(u64),
    cancel: &CancellationToken,
) -> bool {
    if !std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
        return false;
    }
    let source = Source::open_folder(path, name.to_owned(), &TreeOptions::default(), cancel);
    // Of another one no byte need be read.
    let source = source.ok().filter(|source| source.size() == size);
    source.and_then(|source| source.hash(progress, cancel).ok()).is_some_and(|there| there == hash)
}

/// Whether a file of `size` bytes with this SHA-256, lower-case hex, stands at `path`; false where nothing
/// does. Blocks; tells `progress` the bytes read so far.
///
/// # Errors
/// `AlreadyExists` where another file or a link does, or one that can't be read; `NotAFile`.
pub(crate) fn is_there(
    path: &Path,
    hash: &str,
    size: u64,
    progress: impl FnMut(u64),
    cancel: &CancellationToken,
) -> Result<bool, TargetError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(false) };
    let path = path.to_owned();
    if let Some(what) = what_is(metadata.file_type()).filter(|_| !metadata.is_symlink()) {
        return Err(TargetError::NotAFile { path, what });
    }
    let is_same = || {
        let source = Source::open(&path).ok().filter(|source| source.size() == size)?;
        source.hash(progress, cancel).ok().filter(|there| there == hash)
    };
    match !metadata.is_symlink() && is_same().is_some() {
        true => Ok(true),
        false => Err(TargetError::AlreadyExists { path }),
    }
}

/// The regular files of this size where `target` is to be: in its folder, first the one that has its name; or
/// at its path alone. Blocks.
pub(crate) fn of_size(target: &Target, size: u64) -> Vec<PathBuf> {
    let (named, dir) = match target {
        Target::Exact { path, .. } => (path.clone(), None),
        Target::InFolder { dir, name, .. } => (dir.join(name.as_str()), Some(dir)),
    };
    let entries = dir.and_then(|dir| std::fs::read_dir(dir).ok()).into_iter().flatten().flatten();
    let others = entries.take(MAX_ENTRIES).filter(|entry| !is_temporary(&entry.file_name()));
    let others = others.map(|entry| entry.path()).filter(|path| *path != named);
    let is_it = |path: &PathBuf| {
        std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
    };
    std::iter::once(named.clone()).chain(others).filter(is_it).collect()
}

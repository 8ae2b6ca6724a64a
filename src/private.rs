//! Folders and files that are for this user alone: records, receipts, keys.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Makes a folder that only this user can look into.
pub(crate) fn private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// Opens a file that only this user can read, for reading and writing.
pub(crate) fn private_file() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Writes a file that is whole or not there, whatever becomes of this process; `temporary` is its name until
/// then, in the same folder. What a machine that loses power keeps of it is not said.
pub(crate) fn write_private(path: &Path, temporary: &Path, content: &[u8]) -> io::Result<()> {
    let written = private_file().create(true).truncate(true).open(temporary).and_then(|mut file| {
        file.write_all(content)?;
        fs::rename(temporary, path)
    });
    if written.is_err() {
        let _ = fs::remove_file(temporary);
    }
    written
}

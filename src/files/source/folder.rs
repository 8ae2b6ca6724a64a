//! A folder that is sent, or several files and folders as one, as the archive that is made of it while it is
//! read.

use std::{
    collections::VecDeque,
    io::IoSliceMut,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use tokio_util::sync::CancellationToken;

use super::{
    SourceError,
    file::SourceFile,
    plan::{Located, Plan, Root, Stretch, TreeOptions},
};
use crate::files::archive::TreeSize;
use crate::sync::lock;

/// Files of a folder that are kept open: one for each transfer of it that is under way, of a few at once.
const MAX_OPEN: usize = 4;

/// A folder, and what was seen in it.
#[derive(Debug)]
pub(super) struct SourceFolder {
    /// Where it is, or what is in it.
    paths: Vec<PathBuf>,
    /// How errors call it.
    shown: PathBuf,
    plan: Plan,
    /// Files that are being read, the latest last.
    open: Mutex<VecDeque<(usize, Arc<SourceFile>)>>,
}

impl SourceFolder {
    /// Looks through a folder, which is to be called `name` in its archive. Blocks.
    pub(super) fn open(
        path: &Path,
        name: String,
        options: &TreeOptions,
        cancel: &CancellationToken,
    ) -> Result<Self, SourceError> {
        let path = path.to_owned();
        let plan = Plan::of_folder(Root { path: path.clone(), name }, options, cancel)?;
        Ok(Self { paths: vec![path.clone()], shown: path, plan, open: Mutex::default() })
    }

    /// Looks through what stands at `paths`, which are `roots` of a folder that is to be called `name` in its
    /// archive and is on no disk. Blocks.
    pub(super) fn open_several(
        paths: &[PathBuf],
        roots: Vec<Root>,
        name: &str,
        options: &TreeOptions,
        cancel: &CancellationToken,
    ) -> Result<Self, SourceError> {
        let plan = Plan::of_several(name, roots, options, cancel)?;
        Ok(Self { paths: paths.to_vec(), shown: name.into(), plan, open: Mutex::default() })
    }

    /// The path of a folder, or those of what is in one that is made up.
    pub(super) fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// How errors call it.
    pub(super) fn shown(&self) -> &Path {
        &self.shown
    }

    pub(super) fn size(&self) -> u64 {
        self.plan.size()
    }

    pub(super) fn tree(&self) -> TreeSize {
        self.plan.tree()
    }

    /// Fills all of `buffers` in turn from the byte at `offset` on.
    pub(super) fn read_exact_vectored_at(
        &self,
        mut buffers: &mut [IoSliceMut<'_>],
        mut offset: u64,
    ) -> Result<(), SourceError> {
        loop {
            let len =
                buffers.iter().map(|buffer| u64::try_from(buffer.len()).unwrap_or(u64::MAX)).sum::<u64>();
            if len == 0 {
                return Ok(());
            }
            let located = self.plan.locate(offset);
            if offset >= located.to {
                return Err(self.changed());
            }
            let here = located.to - offset;
            let count = match (&located.stretch, buffers.iter_mut().find(|buffer| !buffer.is_empty())) {
                // A large file is read into many buffers at once.
                (Stretch::Content(index), _) if here >= len => {
                    self.read_file(*index, buffers, offset, &located)?;
                    return Ok(());
                }
                (_, None) => return Ok(()),
                (Stretch::Content(index), Some(buffer)) => {
                    let part = front(buffer, here);
                    let count = part.len();
                    self.read_file(*index, &mut [IoSliceMut::new(part)], offset, &located)?;
                    count
                }
                (Stretch::Header(header), Some(buffer)) => {
                    let into = usize::try_from(offset - located.from).unwrap_or(usize::MAX);
                    let rest = header.get(into..).unwrap_or_default();
                    let part = front(buffer, here);
                    let rest = rest.get(..part.len()).ok_or_else(|| self.changed())?;
                    part.copy_from_slice(rest);
                    part.len()
                }
                (Stretch::Zeros, Some(buffer)) => {
                    let part = front(buffer, here);
                    part.fill(0);
                    part.len()
                }
            };
            offset += u64::try_from(count).unwrap_or(u64::MAX);
            IoSliceMut::advance_slices(&mut buffers, count);
        }
    }

    /// Whether nobody has written to the files that are being read. The others are looked at when they are.
    pub(super) fn check(&self) -> Result<(), SourceError> {
        let open: Vec<_> = lock(&self.open).iter().map(|(_, file)| file.clone()).collect();
        open.iter().try_for_each(|file| check(file))
    }

    fn changed(&self) -> SourceError {
        SourceError::Changed { path: self.shown.clone() }
    }

    /// Fills `buffers` from the byte of the archive at `offset` on, all of which are of the file `index`.
    fn read_file(
        &self,
        index: usize,
        buffers: &mut [IoSliceMut<'_>],
        offset: u64,
        located: &Located,
    ) -> Result<(), SourceError> {
        let file = self.file(index)?;
        let len: usize = buffers.iter().map(|buffer| buffer.len()).sum();
        fill(&file, buffers, offset - located.from, len)?;
        let is_read = offset.saturating_add(u64::try_from(len).unwrap_or(u64::MAX)) >= located.to;
        if is_read {
            lock(&self.open).retain(|(other, _)| *other != index);
            // Of a file that is read to its end all bytes are of one time.
            return check(&file);
        }
        let mut open = lock(&self.open);
        open.retain(|(other, _)| *other != index);
        if open.len() >= MAX_OPEN {
            open.pop_front();
        }
        open.push_back((index, file));
        Ok(())
    }

    fn file(&self, index: usize) -> Result<Arc<SourceFile>, SourceError> {
        if let Some((_, file)) = lock(&self.open).iter().find(|(other, _)| *other == index) {
            return Ok(file.clone());
        }
        let (path, stamp) = self.plan.file(index).ok_or_else(|| self.changed())?;
        match SourceFile::open_again(&path, stamp) {
            Ok(Some(file)) => Ok(Arc::new(file)),
            Ok(None) => Err(SourceError::Changed { path }),
            Err(source) => Err(SourceError::NotReadable { path, source }),
        }
    }
}

/// Fills all of `buffers`, which have `len` bytes, from the byte at `offset` on.
fn fill(
    file: &SourceFile,
    mut buffers: &mut [IoSliceMut<'_>],
    mut offset: u64,
    len: usize,
) -> Result<(), SourceError> {
    if file.is_hole(offset, len) {
        buffers.iter_mut().for_each(|buffer| buffer.fill(0));
        return Ok(());
    }
    while buffers.iter().any(|buffer| !buffer.is_empty()) {
        let path = || file.path().to_owned();
        let count = file.read_vectored_at(buffers, offset);
        let count = count.map_err(|source| SourceError::NotReadable { path: path(), source })?;
        if count == 0 {
            return Err(SourceError::Changed { path: path() });
        }
        offset += u64::try_from(count).unwrap_or(u64::MAX);
        IoSliceMut::advance_slices(&mut buffers, count);
    }
    Ok(())
}

fn check(file: &SourceFile) -> Result<(), SourceError> {
    let path = || file.path().to_owned();
    match file.is_unchanged().map_err(|source| SourceError::NotReadable { path: path(), source })? {
        true => Ok(()),
        false => Err(SourceError::Changed { path: path() }),
    }
}

/// The first bytes of a buffer, at most `len`.
fn front<'a>(buffer: &'a mut IoSliceMut<'_>, len: u64) -> &'a mut [u8] {
    let len = buffer.len().min(usize::try_from(len).unwrap_or(usize::MAX));
    buffer.get_mut(..len).unwrap_or_default()
}

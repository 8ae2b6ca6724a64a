//! What the archive of a folder will hold, and where: looked up once, so that any byte of it can be given.

use std::{
    ffi::OsString,
    fs::{self, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::SystemTime,
};

use ignore::{
    Match,
    gitignore::{Gitignore, GitignoreBuilder},
};
use protocol::offer::Tree;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{
    SourceError,
    file::{Stamp, open_no_link, what_is},
};
use crate::files::archive::{
    TreeSize,
    entry::{ArchiveEntry, END_LEN, EntryKind, MAX_FIELD, padding},
    path::{flaw_of_path, stays_inside},
};

/// Files, folders and links in one archive at most. Each takes some 60 bytes of memory beside its path while
/// it is sent.
const MAX_ENTRIES: usize = Tree::MAX_ENTRIES as usize;

/// Bytes of all patterns of what is left out, which stand in the record of an offer.
const MAX_EXCLUDE_LEN: usize = 16 * 1024;

/// Bytes of a `.gitignore`: a longer one counts as none.
const MAX_IGNORE_LEN: u64 = 1024 * 1024;

/// The permission bits of what does not tell its own: nothing for others.
const PRIVATE_FILE: u16 = 0o600;
const PRIVATE_FOLDER: u16 = 0o700;

/// Links have no rights of their own; this is what systems say.
const LINK: u16 = 0o777;

/// The rights of a folder that is on no disk: the usual ones.
const MADE_UP_FOLDER: u16 = 0o755;

/// Which parts of a folder are sent, and what is told of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TreeOptions {
    /// Patterns as in a `.gitignore` at the top of the folder, of what is left out.
    pub exclude: Vec<String>,
    /// Whether the `.gitignore` files in the folder count, and `.git` is left out.
    pub gitignore: bool,
    /// Leaves out who may do what with the files, and when they were changed.
    pub plain: bool,
}

/// One folder or file, and the path that it has in the archive.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) path: PathBuf,
    pub(super) name: String,
}

/// An archive of one folder, or of several roots in one.
#[derive(Debug)]
pub(super) struct Plan {
    roots: Vec<Root>,
    entries: Vec<PlannedEntry>,
    /// All paths, and behind each that of a link the link's target.
    texts: String,
    size: u64,
    tree: TreeSize,
    plain: bool,
}

/// An entry, as small as it can be kept.
#[derive(Debug)]
struct PlannedEntry {
    /// Where its header is in the archive.
    offset: u64,
    stamp: Stamp,
    /// Where its path is in the texts, and how long that is, and the target behind it.
    text: usize,
    path_len: u16,
    target_len: u16,
    mode: u16,
    kind: PlannedKind,
    root: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlannedKind {
    File,
    Folder,
    Link,
}

/// A stretch of an archive.
pub(super) enum Stretch {
    /// A header, whole.
    Header(Vec<u8>),
    /// Bytes of a file, by the number of its entry.
    Content(usize),
    Zeros,
}

/// Where in an archive something is: from the first byte up to one behind the last.
pub(super) struct Located {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) stretch: Stretch,
}

impl Plan {
    /// Looks through one folder, which is at the top of the archive. Blocks.
    ///
    /// # Errors
    /// `Unfit` names what no archive can hold, or what this user's patterns make no sense of; `NotReadable`,
    /// `NotFound`, `Cancelled`.
    pub(super) fn of_folder(
        root: Root,
        options: &TreeOptions,
        cancel: &CancellationToken,
    ) -> Result<Self, SourceError> {
        let metadata = fs::metadata(&root.path).map_err(|error| SourceError::of_io(&root.path, error))?;
        if root.name.contains('/') {
            return Err(unfit(&root.path, "it is to be called by a path"));
        }
        let mut walk = Walk::new(options, cancel);
        walk.root(root, &metadata)?;
        Ok(walk.finish())
    }

    /// Looks through several folders and files, which are in a folder `name` that is made up for them.
    /// Blocks.
    ///
    /// # Errors
    /// As [`Self::of_folder`], and `NotAFile`.
    pub(super) fn of_several(
        name: &str,
        roots: Vec<Root>,
        options: &TreeOptions,
        cancel: &CancellationToken,
    ) -> Result<Self, SourceError> {
        let top = Path::new(name);
        if name.contains('/') {
            return Err(unfit(top, "it is to be called by a path"));
        }
        let mut found = Vec::with_capacity(roots.len());
        for Root { path, name: below } in roots {
            let metadata = fs::metadata(&path).map_err(|error| SourceError::of_io(&path, error))?;
            if let Some(what) = what_is(metadata.file_type()).filter(|_| !metadata.is_dir()) {
                return Err(SourceError::NotAFile { path, what });
            }
            let slash = if metadata.is_dir() { "/" } else { "" };
            found.push((format!("{below}{slash}"), Root { path, name: format!("{name}/{below}") }, metadata));
        }
        found.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let mut walk = Walk::new(options, cancel);
        // A time that the set has, so that the folder that is received has the same archive.
        let latest = found.iter().filter_map(|(.., metadata)| metadata.modified().ok()).max();
        walk.add(
            top,
            &format!("{name}/"),
            "",
            PlannedKind::Folder,
            (Stamp::of_time(latest), MADE_UP_FOLDER),
        )?;
        for (_, root, metadata) in found {
            walk.root(root, &metadata)?;
        }
        Ok(walk.finish())
    }

    /// Bytes of the archive.
    pub(super) fn size(&self) -> u64 {
        self.size.saturating_add(END_LEN as u64)
    }

    /// What it holds.
    pub(super) fn tree(&self) -> TreeSize {
        self.tree
    }

    /// Where the byte at `offset` belongs.
    pub(super) fn locate(&self, offset: u64) -> Located {
        let index = self.entries.partition_point(|entry| entry.offset <= offset).saturating_sub(1);
        let Some(entry) = self.entries.get(index).filter(|_| offset < self.size) else {
            return Located { from: self.size, to: self.size(), stretch: Stretch::Zeros };
        };
        let next = self.entries.get(index + 1).map_or(self.size, |next| next.offset);
        let size = match entry.kind {
            PlannedKind::File => entry.stamp.size,
            PlannedKind::Folder | PlannedKind::Link => 0,
        };
        let end = next.saturating_sub(padding(size));
        let content = end.saturating_sub(size);
        match offset {
            _ if offset < content => Located {
                from: entry.offset,
                to: content,
                stretch: Stretch::Header(self.entry(entry).encode()),
            },
            _ if offset < end => Located { from: content, to: end, stretch: Stretch::Content(index) },
            _ => Located { from: end, to: next, stretch: Stretch::Zeros },
        }
    }

    /// The path on the disk of the file with this number, and what was seen there.
    pub(super) fn file(&self, index: usize) -> Option<(PathBuf, Stamp)> {
        let entry = self.entries.get(index)?;
        let root = self.roots.get(usize::from(entry.root))?;
        let below = self.path(entry).get(root.name.len()..)?.trim_matches('/');
        let path = if below.is_empty() { root.path.clone() } else { root.path.join(below) };
        Some((path, entry.stamp))
    }

    fn path(&self, entry: &PlannedEntry) -> &str {
        self.texts.get(entry.text..).and_then(|text| text.get(..entry.path_len.into())).unwrap_or_default()
    }

    fn target(&self, entry: &PlannedEntry) -> &str {
        let text = self.texts.get(entry.text + usize::from(entry.path_len)..);
        text.and_then(|text| text.get(..entry.target_len.into())).unwrap_or_default()
    }

    fn entry(&self, entry: &PlannedEntry) -> ArchiveEntry {
        let kind = match entry.kind {
            PlannedKind::File => EntryKind::File(entry.stamp.size),
            PlannedKind::Folder => EntryKind::Folder,
            PlannedKind::Link => EntryKind::Link(self.target(entry).to_owned()),
        };
        let mtime = if self.plain { 0 } else { entry.stamp.modified.map_or(0, seconds) };
        ArchiveEntry { path: self.path(entry).to_owned(), kind, mode: entry.mode, mtime }
    }
}

/// A walk through the roots, one after the other.
struct Walk<'a> {
    plan: Plan,
    options: &'a TreeOptions,
    /// What the caller leaves out.
    exclude: Gitignore,
    /// What the `.gitignore` files on the way leave out.
    ignored: Vec<Gitignore>,
    cancel: &'a CancellationToken,
}

impl<'a> Walk<'a> {
    fn new(options: &'a TreeOptions, cancel: &'a CancellationToken) -> Self {
        let plan = Plan {
            roots: Vec::new(),
            entries: Vec::new(),
            texts: String::new(),
            size: 0,
            tree: TreeSize::default(),
            plain: options.plain,
        };
        Self { plan, options, exclude: Gitignore::empty(), ignored: Vec::new(), cancel }
    }

    fn finish(self) -> Plan {
        let Self { mut plan, .. } = self;
        plan.roots.shrink_to_fit();
        plan.entries.shrink_to_fit();
        plan.texts.shrink_to_fit();
        plan
    }

    /// Adds a root, and of a folder what is in it.
    fn root(&mut self, root: Root, metadata: &Metadata) -> Result<(), SourceError> {
        let (path, name) = (root.path.clone(), root.name.clone());
        self.plan.roots.push(root);
        match metadata.is_dir() {
            true => {
                self.exclude = patterns(&path, &self.options.exclude)?;
                self.folder(&path, format!("{name}/"), metadata)
            }
            // What is named is sent.
            false => self.other(&path, name, metadata),
        }
    }

    /// Adds a folder and what is in it, which comes to lie behind it in the order of the paths' bytes.
    fn folder(&mut self, path: &Path, name: String, metadata: &Metadata) -> Result<(), SourceError> {
        let failed = |error| SourceError::of_io(path, error);
        self.add(path, &name, "", PlannedKind::Folder, seen(metadata))?;
        if self.options.gitignore {
            self.ignored.push(ignored_in(path));
        }
        let mut children = Vec::new();
        let changed = || SourceError::Changed { path: path.to_owned() };
        for child in children_of(path, metadata).map_err(failed)?.ok_or_else(changed)? {
            let (child_name, is_folder) = child.map_err(failed)?;
            let child_path = path.join(&child_name);
            if self.leaves_out(&child_path, is_folder) {
                continue;
            }
            let Ok(child_name) = child_name.into_string() else {
                return Err(unfit(&child_path, "its name is not UTF-8"));
            };
            children.push((format!("{name}{child_name}{}", if is_folder { "/" } else { "" }), child_name));
            self.check(path, children.len())?;
        }
        children.sort_unstable();
        for (name, child_name) in children {
            let path = path.join(child_name);
            let metadata = fs::symlink_metadata(&path).map_err(|error| SourceError::of_io(&path, error))?;
            match (metadata.is_dir(), name.ends_with('/')) {
                (true, true) => self.folder(&path, name, &metadata)?,
                (false, false) => self.other(&path, name, &metadata)?,
                _ => return Err(SourceError::Changed { path }),
            }
        }
        if self.options.gitignore {
            self.ignored.pop();
        }
        // What was looked at by its path since was in this very folder.
        match is_same(metadata, &fs::metadata(path).map_err(failed)?) {
            true => Ok(()),
            false => Err(changed()),
        }
    }

    fn other(&mut self, path: &Path, name: String, metadata: &Metadata) -> Result<(), SourceError> {
        if metadata.is_file() {
            return self.add(path, &name, "", PlannedKind::File, seen(metadata));
        }
        if !metadata.is_symlink() {
            let what = what_is(metadata.file_type()).unwrap_or("no file");
            return Err(unfit(path, &format!("it is {what}")));
        }
        let target = fs::read_link(path).map_err(|error| SourceError::of_io(path, error))?;
        let Some(text) = target.to_str().map(|text| text.replace(std::path::MAIN_SEPARATOR, "/")) else {
            return Err(unfit(path, "it is a link to a name that is not UTF-8"));
        };
        // Of the parts, those of the root and the link itself are not on the way.
        let root = self.plan.roots.last().map_or(0, |root| root.name.split('/').count());
        let depth = name.split('/').count().saturating_sub(root + 1);
        if !stays_inside(depth, &text) {
            let target = super::display_path(&target);
            return Err(unfit(path, &format!("it is a link that leads outside the folder, to {target}")));
        }
        self.add(path, &name, &text, PlannedKind::Link, seen(metadata))
    }

    fn add(
        &mut self,
        path: &Path,
        name: &str,
        target: &str,
        kind: PlannedKind,
        (stamp, mode): (Stamp, u16),
    ) -> Result<(), SourceError> {
        if let Some(flaw) = flaw_of_path(name) {
            return Err(unfit(path, &format!("its path {flaw}")));
        }
        self.check(path, 1)?;
        let plan = &mut self.plan;
        let root = u16::try_from(plan.roots.len().saturating_sub(1));
        let root = root.map_err(|_| unfit(path, "there are too many before it"))?;
        let mode = match (kind, plan.plain) {
            (PlannedKind::Link, _) => LINK,
            (PlannedKind::File, true) => PRIVATE_FILE,
            (PlannedKind::Folder, true) => PRIVATE_FOLDER,
            (_, false) => mode,
        };
        let entry = PlannedEntry {
            offset: plan.size,
            stamp,
            text: plan.texts.len(),
            path_len: u16::try_from(name.len()).unwrap_or(u16::MAX),
            target_len: u16::try_from(target.len()).unwrap_or(u16::MAX),
            mode,
            kind,
            root,
        };
        plan.texts.push_str(name);
        plan.texts.push_str(target);
        let planned = plan.entry(&entry);
        let (header, content) = (planned.encode().len(), planned.content_len());
        let end = u64::try_from(header)
            .ok()
            .and_then(|header| {
                plan.size.checked_add(header)?.checked_add(content)?.checked_add(padding(content))
            })
            .filter(|end| i64::try_from(*end).is_ok());
        plan.size = end.ok_or_else(|| unfit(path, "all files together are too large"))?;
        plan.tree.entries += 1;
        plan.tree.bytes += content;
        plan.entries.push(entry);
        Ok(())
    }

    /// Whether there is room for so many more.
    fn check(&self, path: &Path, more: usize) -> Result<(), SourceError> {
        if self.cancel.is_cancelled() {
            return Err(SourceError::Cancelled { path: path.to_owned() });
        }
        match self.plan.entries.len() + more <= MAX_ENTRIES {
            true => Ok(()),
            false => {
                Err(unfit(path, &format!("there are more than {MAX_ENTRIES} files and folders with it")))
            }
        }
    }

    fn leaves_out(&self, path: &Path, is_folder: bool) -> bool {
        match self.exclude.matched(path, is_folder) {
            Match::Ignore(_) => return true,
            Match::Whitelist(_) => return false,
            Match::None => {}
        }
        if self.options.gitignore && path.file_name().is_some_and(|name| name == ".git") {
            return true;
        }
        let said = self.ignored.iter().rev().map(|ignored| ignored.matched(path, is_folder));
        said.into_iter().find(|said| !said.is_none()).is_some_and(|said| said.is_ignore())
    }
}

/// The caller's patterns, which count from the top of a root.
fn patterns(root: &Path, exclude: &[String]) -> Result<Gitignore, SourceError> {
    let mut builder = GitignoreBuilder::new(root);
    let invalid = |pattern: &str| SourceError::Pattern { pattern: pattern.to_owned() };
    if exclude.iter().map(String::len).sum::<usize>() > MAX_EXCLUDE_LEN {
        return Err(invalid("what is longer than 16 KiB in all"));
    }
    for pattern in exclude {
        builder.add_line(None, pattern).map_err(|_| invalid(pattern))?;
    }
    builder.build().map_err(|_| invalid(&exclude.join(", ")))
}

/// What the `.gitignore` in a folder leaves out. As git does it, one that is no file counts as none, nor is a
/// link followed to one, and a line that makes no sense is passed over.
fn ignored_in(folder: &Path) -> Gitignore {
    let read = || -> io::Result<Option<String>> {
        let file = open_no_link(&folder.join(".gitignore"))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() > MAX_IGNORE_LEN {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(MAX_IGNORE_LEN).read_to_end(&mut bytes)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    };
    let Ok(Some(text)) = read() else { return Gitignore::empty() };
    let mut builder = GitignoreBuilder::new(folder);
    for line in text.trim_start_matches('\u{feff}').lines() {
        let _ = builder.add_line(None, line);
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

/// The names of what is in the folder that was `seen` at this path, and which of them are folders; `None`
/// where another one is there by now.
#[cfg(unix)]
fn children_of(
    path: &Path,
    seen: &Metadata,
) -> io::Result<Option<impl Iterator<Item = io::Result<(OsString, bool)>>>> {
    use std::os::unix::ffi::OsStrExt as _;

    use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat};

    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let folder = fs::File::from(openat(CWD, path, flags, Mode::empty())?);
    if !is_same(seen, &folder.metadata()?) {
        return Ok(None);
    }
    let entries = Dir::read_from(&folder)?;
    let child = move |name: &std::ffi::CStr, kind: FileType| {
        let kind = match kind {
            FileType::Unknown => {
                FileType::from_raw_mode(statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
            }
            kind => kind,
        };
        Ok((std::ffi::OsStr::from_bytes(name.to_bytes()).to_owned(), kind == FileType::Directory))
    };
    Ok(Some(entries.filter_map(move |entry| match entry {
        Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => None,
        Ok(entry) => Some(child(entry.file_name(), entry.file_type())),
        Err(error) => Some(Err(error.into())),
    })))
}

/// What tells one folder from another is not to be had here.
#[cfg(not(unix))]
fn children_of(
    path: &Path,
    _seen: &Metadata,
) -> io::Result<Option<impl Iterator<Item = io::Result<(OsString, bool)>>>> {
    let child = |entry: io::Result<fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name(), entry.file_type()?.is_dir()))
    };
    Ok(Some(fs::read_dir(path)?.map(child)))
}

/// Whether two are of one folder.
#[cfg(unix)]
fn is_same(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;

    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn is_same(_one: &Metadata, _other: &Metadata) -> bool {
    true
}

/// What an entry says of what is on the disk.
fn seen(metadata: &Metadata) -> (Stamp, u16) {
    (Stamp::of(metadata), mode_of(metadata))
}

fn unfit(path: &Path, why: &str) -> SourceError {
    SourceError::Unfit { path: path.to_owned(), why: why.to_owned() }
}

/// Seconds since 1970, as far as an archive holds them.
fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()).min(MAX_FIELD)
}

#[cfg(unix)]
fn mode_of(metadata: &Metadata) -> u16 {
    u16::try_from(std::os::unix::fs::MetadataExt::mode(metadata) & 0o777).unwrap_or(PRIVATE_FILE)
}

/// Who may open a file stands in lists here that mean nothing elsewhere.
#[cfg(not(unix))]
fn mode_of(metadata: &Metadata) -> u16 {
    match (metadata.is_dir(), metadata.permissions().readonly()) {
        (true, _) => 0o755,
        (false, true) => 0o444,
        (false, false) => 0o644,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn looked_through(path: &Path, exclude: &[&str]) -> Result<Vec<String>, SourceError> {
        let exclude = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
        let options = TreeOptions { exclude, gitignore: true, plain: false };
        let root = Root { path: path.to_owned(), name: "a".to_owned() };
        let plan = Plan::of_folder(root, &options, &CancellationToken::new())?;
        Ok(plan.entries.iter().map(|entry| plan.path(entry).to_owned()).collect())
    }

    #[test]
    fn what_is_no_gitignore_file_of_sane_length_counts_as_none() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let dir = tempfile::tempdir().unwrap();
        let ignore = dir.path().join(".gitignore");
        fs::write(dir.path().join("seen"), "").unwrap();
        fs::write(dir.path().join("elsewhere"), "seen").unwrap();
        let is_ignored = || {
            let there = looked_through(dir.path(), &[".gitignore", "elsewhere"]).unwrap();
            assert_eq!(there[0], "a/");
            there[1..] != ["a/seen"]
        };
        for target in ["/dev/zero", "elsewhere", "nowhere"] {
            symlink(target, &ignore).unwrap();
            assert!(!is_ignored(), "{target}");
            fs::remove_file(&ignore).unwrap();
        }
        mknodat(CWD, &ignore, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(!is_ignored());
        fs::remove_file(&ignore).unwrap();
        fs::create_dir(&ignore).unwrap();
        assert!(!is_ignored());
        fs::remove_dir(&ignore).unwrap();
        let most = usize::try_from(MAX_IGNORE_LEN).unwrap();
        for (text, counts) in [
            ("\u{feff}seen\n".to_owned(), true),
            ("[\nseen\n".to_owned(), true),
            (format!("seen\n{}", "#".repeat(most - 5)), true),
            (format!("seen\n{}", "#".repeat(most - 4)), false),
        ] {
            fs::write(&ignore, &text).unwrap();
            assert_eq!(is_ignored(), counts, "{} bytes", text.len());
        }
    }

    #[test]
    fn another_folder_in_the_place_of_one_that_was_seen_is_not_looked_through() {
        let dir = tempfile::tempdir().unwrap();
        let [seen, other] = ["seen", "other"].map(|name| dir.path().join(name));
        fs::create_dir(&seen).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("secret"), "secret").unwrap();
        let metadata = fs::symlink_metadata(&seen).unwrap();
        fs::remove_dir(&seen).unwrap();
        symlink(&other, &seen).unwrap();
        let (options, cancel) = (TreeOptions::default(), CancellationToken::new());
        let mut walk = Walk::new(&options, &cancel);
        let walked = walk.folder(&seen, "a/".to_owned(), &metadata);
        assert!(matches!(walked, Err(SourceError::Changed { path }) if path == seen));
        assert_eq!(walk.plan.entries.len(), 1);
        // One that the caller names may be a link.
        assert_eq!(looked_through(&seen, &[]).unwrap(), ["a/", "a/secret"]);
    }
}

//! Folders: sent as archives, unpacked as those come.

use std::{
    fs,
    io::{self, IoSlice},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use ats_p2p::files::{
    OfferedTree, Partial, PartialTree, Preserved, Source, SourceError, Target, TargetError, TreeOptions,
    TreeSize, sweep,
};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::archives::header;
use super::{ID, TEMPORARY, exact, hash, in_folder, names};

fn kept() -> Preserved {
    Preserved::of_sent(None, None)
}

fn offered_as(archive: &[u8], holds: TreeSize) -> OfferedTree {
    OfferedTree { size: archive.len() as u64, holds, preserved: kept() }
}

/// A folder `tree` to send, a folder `in` to receive in, and one that nothing may reach.
struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        for name in ["tree", "in", "outside"] {
            fs::create_dir(dir.path().join(name)).expect("made");
        }
        Self { dir }
    }

    fn tree(&self) -> PathBuf {
        self.dir.path().join("tree")
    }

    fn inbox(&self) -> PathBuf {
        self.dir.path().join("in")
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.tree().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, content).expect("written");
    }

    fn open(&self, options: &TreeOptions) -> Result<Source, SourceError> {
        Source::open_any(&self.tree(), options, &CancellationToken::new())
    }

    fn archive(&self) -> (Vec<u8>, TreeSize) {
        let source = self.open(&TreeOptions::default()).expect("opened");
        (bytes_of(&source), source.tree().expect("a tree"))
    }

    /// Unpacks an archive that comes in pieces of `len` bytes.
    fn unpack(&self, archive: &[u8], offered: TreeSize, len: usize) -> Result<PathBuf, TargetError> {
        self.unpack_to(&in_folder(&self.inbox(), "tree"), archive, offered, len)
    }

    fn unpack_to(
        &self,
        target: &Target,
        archive: &[u8],
        offered: TreeSize,
        len: usize,
    ) -> Result<PathBuf, TargetError> {
        let mut tree = PartialTree::create(target, ID, offered_as(archive, offered))?;
        for piece in archive.chunks(len) {
            tree.write_all_vectored(&[IoSlice::new(piece)])?;
        }
        assert_eq!(tree.hash(), hex::encode(Sha256::digest(archive)));
        tree.commit()
    }

    /// Nothing of a refused archive is left, and nothing stands where it should not.
    fn assert_untouched(&self, what: &str) {
        assert_eq!(names(&self.inbox()), [] as [&str; 0], "{what}");
        assert_eq!(names(&self.dir.path().join("outside")), [] as [&str; 0], "{what}");
        assert_eq!(names(self.dir.path()), ["in", "outside", "tree"], "{what}");
    }
}

fn bytes_of(source: &Source) -> Vec<u8> {
    let mut bytes = vec![1; usize::try_from(source.size()).expect("small")];
    source.read_exact_at(&mut bytes, 0).expect("read");
    bytes
}

fn set_time(path: &Path, seconds: u64) {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::open(path).and_then(|file| file.set_modified(at)).expect("set");
}

/// All that a folder holds, as it should be after a transfer.
fn listing(folder: &Path) -> Vec<String> {
    fn add(folder: &Path, below: &str, lines: &mut Vec<String>) {
        for name in names(folder) {
            let (path, below) = (folder.join(&name), format!("{below}/{name}"));
            let metadata = fs::symlink_metadata(&path).expect("there");
            let (mode, mtime) = (metadata.mode() & 0o7777, metadata.mtime());
            if metadata.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                lines.push(format!("{below} -> {} {mtime}", target.display()));
            } else if metadata.is_dir() {
                lines.push(format!("{below}/ {mode:o} {mtime}"));
                add(&path, &below, lines);
            } else {
                let hash = hex::encode(Sha256::digest(fs::read(&path).expect("read")));
                lines.push(format!("{below} {mode:o} {mtime} {hash}"));
            }
        }
    }
    let mut lines = Vec::new();
    add(folder, "", &mut lines);
    lines
}

/// A tree of everything that an archive can hold.
fn fill(lab: &Lab) {
    lab.write("a.txt", b"text");
    lab.write("a/b/c", &[7; 5000]);
    lab.write("a-b", b"");
    lab.write("größe 🦀.txt", b"x");
    lab.write(&format!("long/{}/{}", "d".repeat(120), "f".repeat(240)), b"long");
    lab.write("run", b"#!/bin/sh\n");
    fs::set_permissions(lab.tree().join("run"), fs::Permissions::from_mode(0o750)).expect("set");
    fs::set_permissions(lab.tree().join("a.txt"), fs::Permissions::from_mode(0o600)).expect("set");
    fs::create_dir(lab.tree().join("empty")).expect("made");
    fs::set_permissions(lab.tree().join("empty"), fs::Permissions::from_mode(0o700)).expect("set");
    symlink("a.txt", lab.tree().join("link")).expect("made");
    symlink("../../a.txt", lab.tree().join("a/b/up")).expect("made");
    symlink("nothing", lab.tree().join("dangling")).expect("made");
    fs::hard_link(lab.tree().join("a.txt"), lab.tree().join("hard")).expect("made");
    let sparse = fs::File::create(lab.tree().join("sparse")).expect("made");
    sparse.set_len(8 << 20).expect("grown");
    io::Write::write_all(&mut &sparse, b"begins").expect("written");
    for (at, name) in
        ["a.txt", "a/b/c", "run", "empty", "a/b", "a", "long", "sparse", "."].into_iter().enumerate()
    {
        set_time(&lab.tree().join(name), 1_600_000_000 + at as u64);
    }
}

#[test]
fn a_folder_arrives_as_it_was_in_any_pieces() {
    let lab = Lab::new();
    fill(&lab);
    let (archive, offered) = lab.archive();
    for (number, len) in [archive.len(), 65_531, 511].into_iter().enumerate() {
        let path = lab.unpack(&archive, offered, len).expect("unpacked");
        let name = if number == 0 { "tree".to_owned() } else { format!("tree ({number})") };
        assert_eq!(path, lab.inbox().join(name));
        assert_eq!(listing(&path), listing(&lab.tree()));
        assert_eq!(fs::metadata(&path).expect("there").mtime(), 1_600_000_008);
        let blocks = fs::metadata(path.join("sparse")).expect("there").blocks();
        assert!(blocks < 1024, "{blocks} blocks of 512 bytes");
    }
    assert_eq!(names(&lab.inbox()), ["tree", "tree (1)", "tree (2)"]);
}

#[test]
fn a_folder_has_one_archive_however_it_is_read() {
    let lab = Lab::new();
    fill(&lab);
    let (archive, offered) = lab.archive();
    let unpacked = lab.unpack(&archive, offered, 4096).expect("unpacked");
    let again =
        Source::open_folder(&unpacked, "tree".into(), &TreeOptions::default(), &CancellationToken::new());
    assert_eq!(bytes_of(&again.expect("opened")), archive);
    let source = lab.open(&TreeOptions::default()).expect("opened");
    assert_eq!((source.name(), source.local_name()), ("tree.tar", "tree"));
    assert_eq!(hash(&source).expect("hashed"), hex::encode(Sha256::digest(&archive)));
    for at in (0..archive.len() - 900).step_by(409) {
        let (mut one, mut two) = (vec![1; 300], vec![1; 600]);
        let mut buffers = [io::IoSliceMut::new(&mut one), io::IoSliceMut::new(&mut two)];
        source.read_exact_vectored_at(&mut buffers, at as u64).expect("read");
        assert!([one, two].concat() == archive[at..at + 900], "at {at}");
        if at > 40_000 && at < archive.len() - 40_000 {
            // Within a large file.
            break;
        }
    }
    assert!(source.read_exact_at(&mut [0; 2], source.size() - 1).is_err());
}

#[test]
fn a_folder_keeps_its_rights_where_its_owner_may_not_write_to_it() {
    let lab = Lab::new();
    lab.write("locked/x", b"x");
    for name in ["locked", "."] {
        fs::set_permissions(lab.tree().join(name), fs::Permissions::from_mode(0o555)).expect("set");
    }
    let (archive, offered) = lab.archive();
    let path = lab.unpack(&archive, offered, 512).expect("unpacked");
    assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o555);
    assert_eq!(listing(&path), listing(&lab.tree()));
    // A refused one goes whatever its rights.
    lab.unpack(&archive, TreeSize { bytes: 2, ..offered }, 512).expect_err("refused");
    assert_eq!(names(&lab.inbox()), ["tree"]);
}

#[test]
fn what_is_left_out_is_not_in_the_archive() {
    let lab = Lab::new();
    for name in [
        "keep.js",
        "a.map",
        "deep/b.map",
        "deep/c.js",
        "node_modules/x/y",
        ".git/HEAD",
        "build/out",
        "deep/keep.map",
    ] {
        lab.write(name, b"x");
    }
    lab.write(".gitignore", b"build/\n*.map\n");
    lab.write("deep/.gitignore", b"!keep.map\n");
    let listed = |exclude: &[&str], gitignore| {
        let exclude = exclude.iter().map(|pattern| (*pattern).to_owned()).collect();
        let source = lab.open(&TreeOptions { exclude, gitignore, plain: false }).expect("opened");
        let path = lab.unpack(&bytes_of(&source), source.tree().expect("a tree"), 4096).expect("unpacked");
        let lines = listing(&path).into_iter().filter(|line| !line.contains("/ "));
        lines.map(|line| line.split(' ').next().expect("a path").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&[], false).len(), 10);
    assert_eq!(
        listed(&["node_modules", "*.map", "!keep.map", "/.git"], false),
        ["/.gitignore", "/build/out", "/deep/.gitignore", "/deep/c.js", "/deep/keep.map", "/keep.js"]
    );
    assert_eq!(
        listed(&["node_modules"], true),
        ["/.gitignore", "/deep/.gitignore", "/deep/c.js", "/deep/keep.map", "/keep.js"]
    );
    let invalid = TreeOptions { exclude: vec!["{a".into()], ..TreeOptions::default() };
    assert!(matches!(lab.open(&invalid), Err(SourceError::Pattern { .. })));
}

fn make_pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("made");
}

#[test]
fn what_no_archive_can_hold_is_refused_by_name() {
    use std::ffi::OsStr;
    use std::os::unix::{ffi::OsStrExt as _, net::UnixListener};

    type Make = fn(&Path);
    let outside: [(&str, Make); 6] = [
        ("pipe", |path| make_pipe(path)),
        ("socket", |path| drop(UnixListener::bind(path).expect("made"))),
        ("absolute", |path| symlink("/etc/passwd", path).expect("made")),
        ("up", |path| symlink("../outside", path).expect("made")),
        ("around", |path| symlink("sub/../../outside", path).expect("made")),
        ("odd", |path| fs::write(path.with_file_name(OsStr::from_bytes(b"odd\xff")), "x").expect("made")),
    ];
    for (name, make) in outside {
        let lab = Lab::new();
        fs::create_dir(lab.tree().join("sub")).expect("made");
        let made = lab.tree().join("sub").join(name);
        make(&made);
        // A link one folder down may lead up by one.
        if name == "up" {
            fs::rename(&made, lab.tree().join(name)).expect("moved");
        }
        let error = lab.open(&TreeOptions::default()).expect_err(name);
        assert!(matches!(error, SourceError::Unfit { .. }) && error.to_string().contains(name), "{error}");
        let exclude = vec![format!("{name}*")];
        lab.open(&TreeOptions { exclude, ..TreeOptions::default() }).expect("left out");
    }
    let lab = Lab::new();
    lab.write(&format!("{}x", "d/".repeat(64)), b"");
    let error = lab.open(&TreeOptions::default()).expect_err("too deep");
    assert!(error.to_string().contains("64 folders deep"), "{error}");
}

#[test]
fn a_file_that_changes_meanwhile_is_named() {
    let changes: [fn(&Path); 5] = [
        |path| fs::write(path, "longer than before").expect("written"),
        |path| set_time(path, 1),
        |path| fs::remove_file(path).expect("removed"),
        |path| {
            fs::remove_file(path).expect("removed");
            symlink("/etc/passwd", path).expect("made");
        },
        |path| {
            fs::remove_file(path).expect("removed");
            fs::create_dir(path).expect("made");
        },
    ];
    for change in changes {
        let lab = Lab::new();
        lab.write("a", b"a");
        lab.write("sub/b", b"b");
        let source = lab.open(&TreeOptions::default()).expect("opened");
        hash(&source).expect("hashed");
        let path = lab.tree().join("sub/b");
        change(&path);
        let mut bytes = vec![0; usize::try_from(source.size()).expect("small")];
        match source.read_exact_at(&mut bytes, 0) {
            Err(SourceError::Changed { path: named }) => assert_eq!(named, path),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_path_that_is_taken_is_refused_and_an_empty_folder_gives_way() {
    let lab = Lab::new();
    lab.write("x", b"x");
    let (archive, offered) = lab.archive();
    let path = lab.inbox().join("here");
    let unpack = || lab.unpack_to(&exact(&path, true), &archive, offered, 512);
    fs::create_dir(&path).expect("made");
    assert_eq!(unpack().expect("unpacked"), path);
    assert_eq!(listing(&path), listing(&lab.tree()));
    assert!(matches!(unpack(), Err(TargetError::AlreadyExists { .. })));
    fs::remove_dir_all(&path).expect("removed");
    fs::write(&path, "mine").expect("written");
    assert!(matches!(unpack(), Err(TargetError::AlreadyExists { .. })));
    fs::remove_file(&path).expect("removed");
    symlink("../outside", &path).expect("made");
    assert!(matches!(unpack(), Err(TargetError::AlreadyExists { .. })));
    fs::remove_file(&path).expect("removed");
    // What takes the name while it comes is not replaced either.
    let mut tree =
        PartialTree::create(&exact(&path, true), ID, offered_as(&archive, offered)).expect("created");
    tree.write_all_vectored(&[IoSlice::new(&archive)]).expect("written");
    fs::create_dir(&path).expect("made");
    fs::write(path.join("mine"), "mine").expect("written");
    assert!(matches!(tree.commit(), Err(TargetError::AlreadyExists { .. })));
    assert_eq!((names(&lab.inbox()), names(&path)), (vec!["here".to_owned()], vec!["mine".to_owned()]));
}

#[test]
fn a_folder_that_comes_is_private_and_goes_when_it_is_given_up() {
    let lab = Lab::new();
    fill(&lab);
    let (archive, offered) = lab.archive();
    let create = || {
        let target = in_folder(&lab.inbox(), "tree");
        PartialTree::create(&target, ID, offered_as(&archive, offered))
    };
    let mut tree = create().expect("created");
    tree.write_all_vectored(&[IoSlice::new(&archive[..archive.len() / 2])]).expect("written");
    let mode = fs::metadata(lab.inbox().join(TEMPORARY)).expect("there").mode();
    assert_eq!(mode & 0o777, 0o700);
    assert!(matches!(create(), Err(TargetError::Busy { .. })));
    assert_eq!(sweep(&lab.inbox(), Duration::ZERO).expect("swept"), 0);
    // From the first byte on again.
    tree.clear().expect("cleared");
    assert_eq!(tree.written(), 0);
    tree.write_all_vectored(&[IoSlice::new(&archive)]).expect("written");
    assert_eq!(listing(&tree.commit().expect("unpacked")), listing(&lab.tree()));
    fs::remove_dir_all(lab.inbox().join("tree")).expect("removed");
    let mut tree = create().expect("created");
    tree.write_all_vectored(&[IoSlice::new(&archive[..5000])]).expect("written");
    drop(tree);
    lab.assert_untouched("dropped");
}

#[test]
fn what_a_process_that_died_has_left_of_a_folder_is_removed() {
    let lab = Lab::new();
    lab.write("x", b"x");
    let (archive, offered) = lab.archive();
    let leave = || {
        fs::create_dir_all(lab.inbox().join(TEMPORARY).join("tree/sub")).expect("made");
        fs::write(lab.inbox().join(TEMPORARY).join("tree/sub/file"), "half").expect("written");
        symlink("../../outside", lab.inbox().join(TEMPORARY).join("tree/link")).expect("made");
    };
    leave();
    let path = lab.unpack(&archive, offered, 512).expect("unpacked");
    assert_eq!(listing(&path), listing(&lab.tree()));
    leave();
    assert_eq!(sweep(&lab.inbox(), Duration::from_secs(60)).expect("swept"), 0);
    assert_eq!(sweep(&lab.inbox(), Duration::ZERO).expect("swept"), 1);
    leave();
    ats_p2p::files::Partial::discard(&in_folder(&lab.inbox(), "tree"), ID, &lab.dir.path().join("none"));
    assert_eq!(names(&lab.inbox()), ["tree"]);
}

#[test]
fn a_folder_that_another_process_swaps_for_a_link_leads_nothing_elsewhere() {
    let lab = Lab::new();
    lab.write("sub/a", b"a");
    lab.write("sub/b", b"b");
    let (archive, offered) = lab.archive();
    let target = in_folder(&lab.inbox(), "tree");
    let mut tree = PartialTree::create(&target, ID, offered_as(&archive, offered)).expect("created");
    // Two folders, the first file and its byte.
    tree.write_all_vectored(&[IoSlice::new(&archive[..4 * 512])]).expect("written");
    let half = lab.inbox().join(TEMPORARY).join("tree");
    fs::rename(half.join("sub"), half.join("gone")).expect("moved");
    symlink(lab.dir.path().join("outside"), half.join("sub")).expect("made");
    tree.write_all_vectored(&[IoSlice::new(&archive[4 * 512..])]).expect("written");
    assert_eq!(names(&lab.dir.path().join("outside")), [] as [&str; 0]);
    drop(tree);
    lab.assert_untouched("swapped");
}

fn file(path: &str, content: &str) -> Vec<u8> {
    let mut bytes = header(path.as_bytes(), b'0', content.len(), b"").to_vec();
    bytes.extend(content.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn folder(path: &str) -> Vec<u8> {
    header(path.as_bytes(), b'5', 0, b"").to_vec()
}

fn link(path: &str, target: &str) -> Vec<u8> {
    header(path.as_bytes(), b'2', 0, target.as_bytes()).to_vec()
}

fn whole(entries: &[Vec<u8>]) -> (Vec<u8>, TreeSize) {
    let mut bytes = entries.concat();
    let content = entries.iter().map(|entry| entry.len() / 512 - 1).sum::<usize>();
    bytes.resize(bytes.len() + 1024, 0);
    // Each content here is one byte long.
    (bytes, TreeSize { entries: entries.len() as u64, bytes: content as u64 })
}

#[test]
fn an_archive_that_leads_elsewhere_or_makes_no_sense_leaves_nothing() {
    let escape = "../outside/x";
    let hostile: [(&str, Vec<Vec<u8>>); 22] = [
        ("a step up", vec![folder("d/"), file("d/../../outside/x", "x")]),
        ("a step up at the top", vec![file(escape, "x")]),
        ("an absolute path", vec![folder("/"), file("/tmp/ats-p2p-escaped", "x")]),
        ("no name", vec![folder("d/"), file("d//x", "x")]),
        ("a file at the top", vec![file("x", "x")]),
        ("a link at the top", vec![link("x", "y")]),
        ("two folders at the top", vec![folder("a/"), folder("b/")]),
        ("a file beside the folder", vec![folder("a/"), file("b", "x")]),
        ("a file without its folder", vec![folder("d/"), file("d/e/f", "x")]),
        ("a file in a file", vec![folder("d/"), file("d/e", "x"), file("d/e/f", "x")]),
        ("a file in a link", vec![folder("d/"), link("d/e", "."), file("d/e/f", "x")]),
        (
            "a folder in place of a link",
            vec![folder("d/"), link("d/e", "."), folder("d/e/"), file("d/e/f", "x")],
        ),
        ("a folder in place of a file", vec![folder("d/"), file("d/e", "x"), folder("d/e/")]),
        ("the same file twice", vec![folder("d/"), file("d/e", "x"), file("d/e", "x")]),
        ("another order", vec![folder("d/"), file("d/b", "x"), file("d/a", "x")]),
        ("two names that are one here", vec![folder("d/"), file("d/a:", "x"), file("d/a?", "x")]),
        ("a link to elsewhere", vec![folder("d/"), link("d/e", "/etc/passwd")]),
        ("a link up", vec![folder("d/"), link("d/e", "../outside")]),
        ("a link up by a link", vec![folder("d/"), link("d/e", "f/../../outside")]),
        ("a link without a target", vec![folder("d/"), link("d/e", "")]),
        ("a hard link", vec![folder("d/"), header(b"d/e", b'1', 0, b"d/f").to_vec()]),
        ("a device", vec![folder("d/"), header(b"d/e", b'3', 0, b"").to_vec()]),
    ];
    let lab = Lab::new();
    for (what, entries) in hostile {
        let (archive, offered) = whole(&entries);
        for len in [archive.len(), 100] {
            let refused = lab.unpack(&archive, offered, len);
            assert!(matches!(refused, Err(TargetError::Archive { .. })), "{what}: {refused:?}");
            lab.assert_untouched(what);
        }
    }
    assert!(!Path::new("/tmp/ats-p2p-escaped").exists());
    // What they are made of is right.
    let entries = [folder("d/"), link("d/e", "f"), file("d/f", "x")];
    let (archive, offered) = whole(&entries);
    let path = lab.unpack(&archive, offered, 512).expect("unpacked");
    assert_eq!(fs::read_to_string(path.join("e")).expect("read"), "x");
}

#[test]
fn names_that_deceive_become_safe_ones_and_links_follow_them() {
    let lab = Lab::new();
    let entries = [
        folder("d/"),
        link("d/-l", "./.npmrc"),
        file("d/.npmrc", "x"),
        folder("d/a:/"),
        link("d/a:/up", "../CON"),
    ];
    let (archive, offered) = whole(&entries);
    let path = lab.unpack(&archive, offered, 512).expect("unpacked");
    assert_eq!(names(&path), ["_l", "_npmrc", "a_"]);
    assert_eq!(fs::read_link(path.join("_l")).expect("a link"), Path::new("./_npmrc"));
    assert_eq!(fs::read_link(path.join("a_/up")).expect("a link"), Path::new("../_CON"));
}

/// Paths of which some lie between a folder and what is in it.
const PATHS: &str = "([a-c]([.! -]?[a-cä]){0,2}/){0,3}[a-c]([.! -]?[a-cä]){0,3}";

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_arrives_as_it_was(
        entries in prop::collection::vec((PATHS, 0..3_u8, 0..1500_usize), 0..12),
        len in 1..3000_usize,
    ) {
        let lab = Lab::new();
        for (path, kind, size) in entries {
            let path = lab.tree().join(path);
            // Some are taken, or lead through a file.
            let _ = fs::create_dir_all(path.parent().expect("a folder"));
            let _ = match kind {
                0 => fs::write(&path, vec![7; size]),
                1 => fs::create_dir(&path),
                _ => symlink("x", &path),
            };
        }
        let (archive, offered) = lab.archive();
        let path = lab.unpack(&archive, offered, len).expect("unpacked");
        prop_assert_eq!(listing(&path), listing(&lab.tree()));
    }

    #[test]
    fn whatever_is_changed_in_an_archive_nothing_stands_elsewhere(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        fixes_sums in any::<bool>(),
        len in 1..3000_usize,
    ) {
        let lab = Lab::new();
        let entries =
            [folder("d/"), file("d/a", "x"), folder("d/b/"), link("d/b/c", "../a"), file("d/b/d", "x")];
        let (mut archive, offered) = whole(&entries);
        for (at, with) in changes {
            let at = at.index(archive.len());
            archive[at] = with;
        }
        if fixes_sums {
            for block in archive.chunks_mut(512).filter(|block| block[257..262] == *b"ustar") {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        if let Ok(path) = lab.unpack(&archive, offered, len) {
            prop_assert_eq!(&path, &lab.inbox().join("tree"));
            fs::remove_dir_all(path).expect("removed");
        }
        lab.assert_untouched("changed");
    }
}

/// What one process leaves and another finds.
mod left {
    use super::*;

    /// A folder on its way.
    struct Way {
        lab: Lab,
        archive: Vec<u8>,
        offered: TreeSize,
    }

    /// Every kind of entry behind every other, in folders that end one, two and three at a time.
    fn way() -> Way {
        let lab = Lab::new();
        lab.write("a/b/c/deep", &[7; 700]);
        lab.write("a/b/first", b"");
        lab.write("a/z", &[1; 512]);
        lab.write("b", &[[3; 5000], [0; 5000]].concat());
        lab.write("c", b"");
        lab.write("locked/x", b"x");
        lab.write("read-only", &[9; 1500]);
        lab.write(&format!("w/{}", "ü".repeat(80)), b"long");
        fs::create_dir(lab.tree().join("d")).expect("made");
        fs::create_dir(lab.tree().join("e")).expect("made");
        symlink("../a/z", lab.tree().join("e/link")).expect("made");
        symlink("b", lab.tree().join("z")).expect("made");
        for (name, mode) in [("locked", 0o555), ("read-only", 0o444), ("a/b", 0o750)] {
            fs::set_permissions(lab.tree().join(name), fs::Permissions::from_mode(mode)).expect("set");
        }
        for (at, name) in ["a/b/c/deep", "a/b/c", "a/b", "a", "b", "locked", "."].into_iter().enumerate() {
            set_time(&lab.tree().join(name), 1_600_000_000 + at as u64);
        }
        Way::of(lab)
    }

    impl Way {
        fn of(lab: Lab) -> Self {
            let (archive, offered) = lab.archive();
            Self { lab, archive, offered }
        }

        fn memory(&self) -> PathBuf {
            self.lab.dir.path().join("memory")
        }

        /// The topmost folder, as long as it is in the temporary one.
        fn part(&self) -> PathBuf {
            self.lab.inbox().join(TEMPORARY).join("tree")
        }

        fn target(&self) -> Target {
            in_folder(&self.lab.inbox(), "tree")
        }

        fn resume_as(&self, preserved: Preserved) -> Result<PartialTree, TargetError> {
            let offered = OfferedTree { preserved, ..offered_as(&self.archive, self.offered) };
            let cancel = CancellationToken::new();
            PartialTree::resume(&self.target(), ID, offered, &self.memory(), |_, _| {}, &cancel)
        }

        fn resume(&self) -> PartialTree {
            let tree = self.resume_as(kept()).expect("resumed");
            let written = usize::try_from(tree.written()).expect("small");
            assert_eq!(tree.hash(), hex::encode(Sha256::digest(&self.archive[..written])));
            tree
        }

        /// A process goes on up to a byte, with a checkpoint at each of these, and dies.
        fn die_after(&self, checkpoints: &[usize]) {
            let mut tree = self.resume();
            for len in checkpoints {
                let written = usize::try_from(tree.written()).expect("small");
                if let Some(more) = self.archive.get(written..*len) {
                    tree.write_all_vectored(&[IoSlice::new(more)]).expect("written");
                    tree.settle();
                }
            }
        }

        /// Another one goes on, and brings all of it to its place; from where it did.
        fn finish(&self) -> usize {
            let mut tree = self.resume();
            let written = usize::try_from(tree.written()).expect("small");
            tree.write_all_vectored(&[IoSlice::new(&self.archive[written..])]).expect("written");
            let path = tree.commit().expect("committed");
            assert_eq!(listing(&path), listing(&self.lab.tree()));
            assert_eq!(
                fs::metadata(&path).expect("there").mtime(),
                fs::metadata(self.lab.tree()).expect("there").mtime()
            );
            assert!(!self.memory().exists());
            let_write(&path.join("locked"));
            fs::remove_dir_all(path).expect("removed");
            self.lab.assert_untouched("finished");
            written
        }

        /// Where in the archive the entry of a path begins.
        fn at(&self, path: &str) -> usize {
            let path = format!("tree/{path}\0");
            let block = self.archive.chunks(512).position(|block| block.starts_with(path.as_bytes()));
            block.expect("an entry") * 512
        }
    }

    #[test]
    fn a_folder_is_gone_on_with_from_any_byte() {
        let way = way();
        let blocks = (0..=way.archive.len()).step_by(512);
        for cut in blocks.flat_map(|at| [at.saturating_sub(1), at, at + 1, at + 200]) {
            let cut = cut.min(way.archive.len());
            way.die_after(&[cut / 2, cut]);
            assert_eq!(way.finish(), cut);
        }
    }

    #[test]
    fn what_came_behind_the_last_checkpoint_is_removed_and_comes_again() {
        let way = way();
        for cut in (600..way.archive.len()).step_by(900) {
            let mut tree = way.resume();
            tree.write_all_vectored(&[IoSlice::new(&way.archive[..cut])]).expect("written");
            tree.settle();
            tree.write_all_vectored(&[IoSlice::new(&way.archive[cut..])]).expect("written");
            tree.remember();
            drop(tree);
            assert_eq!(way.finish(), cut);
        }
    }

    #[test]
    fn a_checkpoint_is_due_every_64_kib() {
        let lab = Lab::new();
        for number in 0..200 {
            lab.write(&format!("{number:03}"), &[7; 1000]);
        }
        let way = Way::of(lab);
        let mut tree = way.resume();
        for piece in way.archive[..200_000].chunks(10_000) {
            tree.write_all_vectored(&[IoSlice::new(piece)]).expect("written");
            tree.remember();
        }
        drop(tree);
        assert_eq!(way.finish(), 140_000);
    }

    #[test]
    fn only_what_the_disk_still_holds_of_a_folder_counts() {
        type Change = fn(&Path);
        let changes: [(&str, &str, Change); 11] = [
            ("a byte", "a/b/c/deep", |at| {
                fs::write(at, [[7; 699].as_slice(), b"x"].concat()).expect("written")
            }),
            ("a shorter file", "a/z", |at| fs::write(at, [1; 511]).expect("written")),
            ("a longer file", "a/z", |at| fs::write(at, [1; 513]).expect("written")),
            ("an empty file that is not", "c", |at| fs::write(at, "x").expect("written")),
            ("no file", "b", |at| fs::remove_file(at).expect("removed")),
            ("a link in place of a file", "b", |at| {
                let there = at.with_file_name("a/there");
                fs::rename(at, &there).expect("moved");
                symlink(there, at).expect("made");
            }),
            ("a file of two names", "b", |at| fs::hard_link(at, at.with_file_name("d/b")).expect("made")),
            ("a folder in place of a file", "c", |at| {
                fs::remove_file(at).expect("removed");
                fs::create_dir(at).expect("made");
            }),
            ("no folder", "d/", |at| fs::remove_dir(at).expect("removed")),
            ("a link in place of a folder", "a/", |at| {
                let there = at.with_file_name("there");
                fs::rename(at, &there).expect("moved");
                symlink(there, at).expect("made");
            }),
            ("another link", "e/link", |at| {
                fs::remove_file(at).expect("removed");
                symlink("/etc/passwd", at).expect("made");
            }),
        ];
        for (what, path, change) in changes {
            let way = way();
            let at = way.at(path);
            let end = way.archive.len() - 1024;
            way.die_after(&[at, at + 512 + 100, end]);
            change(&way.part().join(path.trim_end_matches('/')));
            // Of a file that was cut or grew the first bytes are right.
            let written = way.finish();
            assert!(written == at || written == at + 512 + 100, "{what}: {written} of {at}");
        }
    }

    #[test]
    fn what_somebody_put_into_a_folder_meanwhile_is_not_in_it_in_the_end() {
        let way = way();
        let cut = way.at("e/");
        way.die_after(&[cut]);
        for at in ["a/b/c/x", "a/x", "locked/.x", "x", "d/x/y/z"] {
            let at = way.part().join(at);
            let_write(at.parent().expect("a folder"));
            fs::create_dir_all(at.parent().expect("a folder")).expect("made");
            fs::write(at, "x").expect("written");
        }
        symlink("/etc/passwd", way.part().join("d/link")).expect("made");
        fs::create_dir(way.part().join("a/b/c/folder")).expect("made");
        fs::set_permissions(way.part().join("a/b"), fs::Permissions::from_mode(0o777)).expect("set");
        assert_eq!(way.finish(), cut);
    }

    #[test]
    fn another_folder_in_its_place_or_one_that_others_can_open_is_not_gone_on_with() {
        let (way, outside) = (way(), "../outside");
        let (temporary, cut) = (way.lab.inbox().join(TEMPORARY), 10_000);
        way.die_after(&[cut]);
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o755)).expect("set");
        assert_eq!(way.finish(), 0);
        way.die_after(&[cut]);
        fs::rename(&temporary, way.lab.inbox().join("moved")).expect("moved");
        fs::create_dir(&temporary).expect("made");
        fs::set_permissions(&temporary, fs::Permissions::from_mode(0o700)).expect("set");
        fs::rename(way.lab.inbox().join("moved/tree"), way.part()).expect("moved");
        fs::remove_dir(way.lab.inbox().join("moved")).expect("removed");
        assert_eq!(way.finish(), 0);
        way.die_after(&[cut]);
        fs::remove_dir_all(&temporary).expect("removed");
        symlink(outside, &temporary).expect("made");
        assert_eq!(way.finish(), 0);
    }

    #[test]
    fn a_folder_whose_rights_are_kept_otherwise_now_is_begun_anew() {
        let way = way();
        way.die_after(&[10_000]);
        let tree = way.resume_as(Preserved::within_sent(None)).expect("resumed");
        assert_eq!(tree.written(), 0);
    }

    #[test]
    fn what_is_remembered_of_a_folder_goes_with_it() {
        let way = way();
        let mut tree = way.resume();
        tree.write_all_vectored(&[IoSlice::new(&way.archive[..9000])]).expect("written");
        tree.settle();
        assert!(matches!(way.resume_as(kept()), Err(TargetError::Busy { .. })));
        Partial::discard(&way.target(), ID, &way.memory());
        assert!(way.part().exists(), "who lives keeps it");
        // From the first byte on again.
        tree.clear().expect("cleared");
        drop(tree);
        assert_eq!(way.resume().written(), 0);
        way.die_after(&[9000]);
        Partial::discard(&way.target(), ID, &way.memory());
        assert!(!way.memory().exists());
        way.lab.assert_untouched("discarded");
        way.die_after(&[9000]);
        fs::create_dir(way.lab.inbox().join("tree")).expect("made");
        let mut tree = way.resume();
        tree.write_all_vectored(&[IoSlice::new(&way.archive[9000..10_000])]).expect("written");
        assert!(matches!(tree.commit(), Err(TargetError::Archive { .. })));
        assert!(!way.memory().exists());
        assert_eq!(names(&way.lab.inbox()), ["tree"]);
    }

    #[test]
    fn a_folder_that_came_on_lately_is_not_swept_away() {
        let way = way();
        let hour = Duration::from_secs(3600);
        let age = || {
            let opened = fs::File::open(way.lab.inbox().join(TEMPORARY)).expect("opened");
            opened.set_modified(SystemTime::now() - 2 * hour).expect("set");
        };
        way.die_after(&[5000]);
        age();
        way.die_after(&[9000]);
        assert_eq!(sweep(&way.lab.inbox(), hour).expect("swept"), 0);
        assert_eq!(way.resume().written(), 9000);
        age();
        assert_eq!(sweep(&way.lab.inbox(), hour).expect("swept"), 1);
        assert_eq!(way.finish(), 0);
    }

    /// Has its owner write to what is at a path, if anything is: the superuser may in any case.
    fn let_write(path: &Path) {
        if let Ok(metadata) = fs::symlink_metadata(path)
            && !metadata.is_symlink()
        {
            let mode = metadata.mode() & 0o777 | 0o200;
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("set");
        }
    }

    /// One of the files, folders and links below a folder.
    fn any_below(folder: &Path, which: &prop::sample::Index) -> Option<PathBuf> {
        fn add(folder: &Path, paths: &mut Vec<PathBuf>) {
            for name in names(folder) {
                let path = folder.join(name);
                if fs::symlink_metadata(&path).expect("there").is_dir() {
                    add(&path, paths);
                }
                paths.push(path);
            }
        }
        let mut paths = Vec::new();
        add(folder, &mut paths);
        (!paths.is_empty()).then(|| paths[which.index(paths.len())].clone())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn whatever_becomes_of_a_folder_meanwhile_it_arrives_as_it_was(
            lives in prop::collection::vec(
                (
                    prop::collection::vec(any::<prop::sample::Index>(), 1..4),
                    0..8_u8,
                    any::<prop::sample::Index>(),
                    any::<u8>(),
                ),
                1..4,
            ),
        ) {
            let way = way();
            for (cuts, change, which, with) in lives {
                let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(way.archive.len() + 1)).collect();
                cuts.sort_unstable();
                way.die_after(&cuts);
                if change < 2 {
                    let mut memory = fs::read(way.memory()).expect("read");
                    let at = which.index(memory.len());
                    match change {
                        0 => memory.truncate(at),
                        _ => memory[at] = with,
                    }
                    fs::write(way.memory(), memory).expect("written");
                    continue;
                }
                let Some(path) = any_below(&way.lab.inbox().join(TEMPORARY), &which) else { continue };
                let metadata = fs::symlink_metadata(&path).expect("there");
                let_write(path.parent().expect("a folder"));
                if metadata.is_dir() {
                    let_write(&path);
                    let_write(&path.join("locked"));
                }
                match change {
                    2 | 3 if metadata.is_file() => {
                        let content = fs::read(&path).expect("read");
                        let mut changed = content.clone();
                        match changed.get_mut(usize::from(with)) {
                            Some(byte) if change == 2 => *byte ^= 1,
                            _ => changed.truncate(with.into()),
                        }
                        if changed != content {
                            let_write(&path);
                            fs::write(&path, changed).expect("written");
                        }
                    }
                    4 if metadata.is_dir() => fs::remove_dir_all(&path).expect("removed"),
                    5 if metadata.is_dir() => fs::write(path.join("stranger"), "x").expect("written"),
                    6 => {
                        let moved = path.with_file_name("moved");
                        fs::rename(&path, &moved).expect("moved");
                        symlink(&moved, &path).expect("made");
                    }
                    _ if metadata.is_dir() => fs::create_dir(path.join("stranger")).expect("made"),
                    _ => fs::remove_file(&path).expect("removed"),
                }
            }
            way.finish();
        }
    }
}

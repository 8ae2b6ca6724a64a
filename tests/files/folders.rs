//! Folders: sent as archives, unpacked as those come.

use std::{
    fs,
    io::{self, IoSlice},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use ats_p2p::files::{
    PartialTree, Preserved, Source, SourceError, Target, TargetError, TreeOptions, TreeSize, sweep,
};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use super::archives::header;
use super::{ID, TEMPORARY, exact, hash, in_folder, names};

fn kept() -> Preserved {
    Preserved::of_sent(None, None)
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
        let mut tree = PartialTree::create(target, ID, archive.len() as u64, offered, kept())?;
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
        PartialTree::create(&exact(&path, true), ID, archive.len() as u64, offered, kept()).expect("created");
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
        PartialTree::create(&target, ID, archive.len() as u64, offered, kept())
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
    let mut tree = PartialTree::create(&target, ID, archive.len() as u64, offered, kept()).expect("created");
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
